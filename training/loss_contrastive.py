"""Contrastive losses (paper section 3.3, and more of ours): of two fakes that differ in one factor, the rest must stay.

Plain functions of tensors. Pictures are [P, 3, R, R] RGB in [-1, 1], masks [P, 1, R, R], P pairs, any R; picture k of
the first batch and picture k of the second are a pair. Each loss is a scalar, averaged over the pairs.
"""

from collections import OrderedDict, namedtuple

from dnnlib.tflib import images
from dnnlib.tflib.compat import tf
from dnnlib.util import EasyDict
from renderer import camera
from training.loss_imitative import cosine, surface_loss

TERMS = ('exp_warp', 'hair', 'id', 'lm')

# Ours, not the paper's: what else must stay. Name -> the factor in which the two fakes of the pair differ, what stays.
Constancy = namedtuple('Constancy', 'factor what')
CONSTANCY = OrderedDict([
    ('light_hair', Constancy('gamma', 'hair')), ('light_background', Constancy('gamma', 'background')),
    ('pose_hair', Constancy('rot', 'hair')), ('pose_background', Constancy('rot', 'background')),
    ('pose_exp', Constancy('rot', 'exp')), ('id_exp', Constancy('id', 'exp'))])
LIT_BRIGHTNESS = 0.25           # see `hair_color_loss`
ENOUGH_HAIR = 0.02              # of the picture: with less its colour counts for less than half
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


# ---- ours, not the paper's

def constancy_terms(names, pictures, experts, landmarks_of, expression=None, lamp=None):
    """The terms `names` of CONSTANCY, ours, not the paper's -> OrderedDict of scalars; others are not built.

    pictures: {factor: the two fakes of its pairs}, [P, 3, R, R] each, for the factors of `names`. landmarks_of: as for
    `lighting_terms`. expression: `renderer.surface.quantity` of that name (what 'exp'). lamp: see `hair_color_loss`
    (light_hair). A background needs a parser that tells it, see `perception.experts.tells_background`.
    """
    terms = OrderedDict()
    for factor, (fake1, fake2) in pictures.items():
        wanted = OrderedDict((CONSTANCY[name].what, name) for name in names if CONSTANCY[name].factor == factor)
        estimate = experts.reconstruct(tf.concat([fake1, fake2], axis=0))
        if 'exp' in wanted:
            terms[wanted['exp']] = surface_loss(*tf.split(estimate, 2), expression)
        if 'hair' in wanted or 'background' in wanted:
            landmarks = landmarks_of(estimate) * (camera.RENDER_SIZE / camera.RECON_SIZE)
            colors, found = experts.regions(tf.concat([fake1, fake2], axis=0), landmarks)
            colors, found = tf.split(colors, 2), {what: tf.split(share, 2) for what, share in found.items()}
            if 'hair' in wanted:
                lit = factor == 'gamma'
                terms[wanted['hair']] = hair_color_loss(*colors, *found['hair'], lamp=lamp if lit else None,
                                                        brightness=LIT_BRIGHTNESS if lit else 1.0)
            if 'background' in wanted:
                terms[wanted['background']] = background_loss(*colors, *found['background'])
    return OrderedDict((name, terms[name]) for name in names)


def hair_color_loss(colors1, colors2, hair1, hair2, lamp=None, brightness=1.0):
    """Distance of the hair's mean colours, ours, not the paper's. colors: [P, S, S, 3], 0-1; hair: [P, S, S], 0-1.

    lamp: [P, 3], the light on the second over the light on the first, which the hair must follow; None: the same.
    brightness: weight of the part along the mean of both colours; the part across is hue and always counts.

    The same lamp lights hair and face, so the colour in the picture has to change with the light: what must stay is
    what remains when the lamp is divided out. Photos keep that to a level of 255 in hue but, since hair looks
    elsewhere than the face, only to 13 in brightness; people differ by 14 and 50. Hence LIT_BRIGHTNESS. When the pose
    moves, photos keep hue to half a level and brightness to 4. The masks say where, no gradient goes through them.
    """
    hair1, hair2 = tf.stop_gradient(hair1), tf.stop_gradient(hair2)
    mean1, mean2 = _mean_color(colors1, hair1), _mean_color(colors2, hair2)
    if lamp is not None:
        mean1, mean2 = mean1 * tf.sqrt(lamp), mean2 / tf.sqrt(lamp)
    direction = tf.stop_gradient(tf.nn.l2_normalize(mean1 + mean2, axis=1))
    along = tf.reduce_sum((mean1 - mean2) * direction, axis=1, keepdims=True)
    across = mean1 - mean2 - along * direction
    squares = tf.reduce_sum(tf.square(across), axis=1) + tf.square(brightness * along[:, 0])
    area = tf.minimum(*[tf.reduce_mean(hair, axis=[1, 2]) for hair in (hair1, hair2)])
    return tf.reduce_mean(tf.sqrt(squares + 1e-8) * area / (area + ENOUGH_HAIR))


def _mean_color(colors, share):
    """[P, 3]: mean colour where the share says."""
    return (tf.reduce_sum(colors * share[..., None], axis=[1, 2])
            / (tf.reduce_sum(share, axis=[1, 2])[:, None] + 1e-3))


def background_loss(colors1, colors2, background1, background2):
    """Mean length of the colour difference where both pictures are background, ours, not the paper's.

    colors: [P, S, S, 3], 0-1; background: [P, S, S], 0-1. Both a little blurred, as for `warp_loss`: every picture has
    its own grain. Photos have no light of the face on their background, and it does not turn with the head, so it
    is compared pixel by pixel. The masks say where, no gradient goes through them.
    """
    both = tf.stop_gradient(background1 * background2)[..., None]
    difference = images.gaussian_blur((colors1 - colors2) * both, *blur_at(colors1.shape.as_list()[1]))
    distance = tf.sqrt(tf.reduce_sum(tf.square(difference), axis=3) + 1e-8) - 1e-4      # 0 where none is common
    return tf.reduce_sum(distance) / (tf.reduce_sum(both) + 1e-3)
