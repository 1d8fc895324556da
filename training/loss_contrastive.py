"""Contrastive losses (paper section 3.3): of two fakes that differ in one factor, everything else must stay.

Plain functions of tensors. Pictures are [P, 3, R, R] RGB in [-1, 1], masks [P, 1, R, R], P pairs, any R; picture k of
the first batch and picture k of the second are a pair. Each loss is a scalar, averaged over the pairs.
"""

from dnnlib.tflib import images
from dnnlib.tflib.compat import tf
from dnnlib.util import EasyDict
from renderer import camera
from training.loss_imitative import cosine

TERMS = ('exp_warp', 'hair', 'id', 'lm')
LIGHTING_WEIGHTS = {'hair': 1.0, 'id': 2.0, 'lm': 1000.0}   # of the parts of the lighting loss


def expression_terms(fake1, fake2, flow, mask1, mask2):
    """Two fakes that differ in expression alone -> EasyDict(exp_warp).

    flow: [P, R, R, 2] drawn on the second face, in pixels of a 256 picture: what is at (row, column) of the second was
    at (row + flow[0], column + flow[1]) of the first (FaceRenderer.flow). mask1, mask2: of the two renders.
    """
    return EasyDict(exp_warp=warp_loss(fake1, fake2, flow, mask1, mask2))


def warp_loss(fake1, fake2, flow, mask1, mask2):
    """The first fake, warped by the flow, must equal the second, both blurred a little.

    Not counted where the first face was and the second is not: what comes to light there is nobody's fault.
    """
    resolution = fake1.shape.as_list()[2]
    warped = images.warp_by_flow(images.nchw_to_nhwc(fake1), flow * (resolution / camera.RENDER_SIZE))
    size, sigma = blur_at(resolution)
    difference = (images.gaussian_blur(images.nchw_to_nhwc(fake2), size, sigma)
                  - images.gaussian_blur(warped, size, sigma))
    distance = tf.sqrt(tf.reduce_sum(tf.square(difference), axis=3) + 1e-8)             # [P, R, R]
    counted = tf.cast((mask1 - mask2)[:, 0] <= 0.0, tf.float32)
    return tf.reduce_sum(distance * counted) / tf.reduce_sum(counted)


def blur_at(resolution):
    """(size, sigma) of the blur: 5, 2.0 at 256 pixels, in proportion elsewhere; 3, 0.7 at the least."""
    sigma = max(2.0 * resolution / camera.RENDER_SIZE, 0.7)
    return 2 * max(int(round(sigma)), 1) + 1, sigma


def lighting_terms(fake1, fake2, experts, landmarks_of):
    """Two fakes that differ in lighting alone -> EasyDict(hair, id, lm, gamma_change = their weighted sum).

    landmarks_of: function from reconstruction vectors [N, 257] to landmarks of the 224 picture [N, 68, 2].
    """
    fakes = tf.concat([fake1, fake2], axis=0)
    pairs = fake1.shape.as_list()[0] or tf.shape(fake1)[0]
    landmarks = landmarks_of(experts.reconstruct(fakes)) * (camera.RENDER_SIZE / camera.RECON_SIZE)
    hair, embeddings = experts.hair(fakes, landmarks), experts.identity(fakes)
    terms = EasyDict(hair=hair_loss(hair[:pairs], hair[pairs:]),
                     id=identity_consistent_loss(embeddings[:pairs], embeddings[pairs:]),
                     lm=landmark_consistent_loss(landmarks[:pairs], landmarks[pairs:]))
    terms.gamma_change = tf.add_n([terms[name] * weight for name, weight in LIGHTING_WEIGHTS.items()])
    return terms


def hair_loss(hair1, hair2):
    """Mean squared difference of two hair maps [P, S, S]."""
    return tf.reduce_mean(tf.square(hair1 - hair2))


def identity_consistent_loss(embedding1, embedding2):
    """Mean of 1 - cosine of embeddings [P, E]; not held from below, for both come from the same generator."""
    return tf.reduce_mean(1.0 - cosine(embedding1, embedding2))


def landmark_consistent_loss(landmarks1_256, landmarks2_256):
    """Mean squared difference of landmarks [P, 68, 2] in pixels of a 256 picture, divided by 224 squared.

    The paper's system divides 256-pixel distances by 224; the loss weights were tuned with it, so it stays.
    """
    return tf.reduce_mean(tf.square((landmarks1_256 - landmarks2_256) / camera.RECON_SIZE))
