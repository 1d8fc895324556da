"""Imitative losses (paper section 3.2): a fake must look like the render of the coefficients it was made from.

Plain functions of tensors. Pictures are [N, 3, R, R] RGB in [-1, 1], masks [N, 1, R, R] in [0, 1] (fractional while a
resolution fades in), any N and R. Each loss is a scalar and is averaged over the batch on its own.
"""

from dnnlib.tflib.compat import tf
from dnnlib.util import EasyDict
from renderer import camera, factors, surface

TERMS = ('l1', 'skin', 'lm', 'gamma', 'id')     # every term there is, unweighted
L1_TERMS = ('l1',)                              # while the pictures are small: up to 32 pixels in the paper's set-up
FULL_TERMS = ('skin', 'lm', 'gamma', 'id')      # from 64 pixels on
SURFACE_TERMS = {'shape': 'shape', 'albedo': 'albedo', 'exp': 'expression'}     # ours: names in renderer.surface
SAME_IDENTITY = 0.3                             # 1 - cosine below which two faces count as one person


def imitative_terms(names, fake, render, mask, experts=None, coeff=None, landmarks_256=None, landmarks_of=None,
                    model=None):
    """The terms `names` of TERMS and SURFACE_TERMS -> EasyDict of scalars; what no term needs may stay None.

    fake, render, mask: see above. experts: perception.experts.Experts (all but l1, skin). coeff: [N, 254 or more], what
    the render was made from (gamma, SURFACE_TERMS). landmarks_256: [N, 68, 2] of the render, pixels of a 256 picture,
    y UP (lm). landmarks_of: function from reconstruction vectors [N, 257] to landmarks of the 224 picture [N, 68, 2]
    (lm). model: renderer.face_model.FaceModel (SURFACE_TERMS).
    """
    unknown = sorted(set(names) - set(TERMS) - set(SURFACE_TERMS))
    if unknown:
        raise ValueError(f'imitative terms {unknown}: some of {TERMS + tuple(SURFACE_TERMS)} expected')
    terms = EasyDict()
    if 'l1' in names:
        terms.l1 = l1_loss(render, fake, mask)
    if 'skin' in names:
        terms.skin = skin_loss(render, fake, mask)
    on_surface = [name for name in SURFACE_TERMS if name in names]
    if 'lm' in names or 'gamma' in names or on_surface:
        estimate = experts.reconstruct(fake)
        if 'lm' in names:
            terms.lm = landmark_loss(landmarks_of(estimate), landmarks_256)
        if 'gamma' in names:
            terms.gamma = lighting_loss(estimate, coeff)
        for name in on_surface:
            terms[name] = surface_loss(estimate, coeff, surface.quantity(model, SURFACE_TERMS[name]))
    if 'id' in names:
        terms.id = identity_loss(experts.identity(fake, mask), experts.identity(render))
    return terms


def l1_loss(render, fake, mask):
    """Mean over the mask, of the whole batch at once, of the length of the colour difference."""
    distance = tf.sqrt(tf.reduce_sum(tf.square(render - fake), axis=1, keepdims=True) + 1e-8)
    return tf.reduce_sum(distance * mask) / tf.reduce_sum(mask)


def skin_loss(render, fake, mask):
    """Distance of the mean colours inside the mask."""
    area = tf.reduce_sum(mask, axis=[2, 3])
    difference = tf.reduce_sum((fake - render) * mask, axis=[2, 3]) / area          # [N, 3]
    return tf.reduce_mean(tf.sqrt(tf.reduce_sum(tf.square(difference), axis=1) + 1e-8))


def landmark_loss(estimated_224, landmarks_256):
    """Mean squared distance per coordinate, in units of the picture's width.

    estimated_224: [N, 68, 2] pixels of the 224 picture; landmarks_256: [N, 68, 2] pixels of the 256 render. The two
    cameras are not scaled copies of each other; the paper's system compares them all the same, and so do we.
    """
    target = landmarks_256 * (camera.RECON_SIZE / camera.RENDER_SIZE)
    return tf.reduce_mean(tf.square((estimated_224 - target) / camera.RECON_SIZE))


def lighting_loss(estimate, coeff):
    """Mean difference of the 27 lighting coefficients. estimate, coeff: [N, 254 or more], reconstruction vectors."""
    return tf.reduce_mean(tf.abs(estimate[:, factors.LIGHTING] - coeff[:, factors.LIGHTING]))


def identity_loss(embedding_fake, embedding_render):
    """Mean of 1 - cosine, held at 0.3 from below: a person's photo and render never agree fully. [N, E] each."""
    return tf.reduce_mean(tf.maximum(SAME_IDENTITY, 1.0 - cosine(embedding_fake, embedding_render)))


def surface_loss(estimate, coeff, quantity):
    """Mean distance of two faces in one quantity, ours, not the paper's: millimetres, or levels of 255 for albedo.

    estimate, coeff: [N, 254 or more], reconstruction vectors. quantity: one of `renderer.surface.quantities`. The
    distance of two faces is the root mean square over the drawn surface. Coefficients alone would count what nobody
    sees as much as an open mouth; landmarks see neither cheeks nor skin.
    """
    difference = estimate[:, quantity.coeffs] - coeff[:, quantity.coeffs]
    moved = tf.matmul(difference, tf.constant(quantity.matrix.T, tf.float32))
    return tf.reduce_mean(tf.sqrt(tf.reduce_sum(tf.square(moved), axis=1) + 1e-8))


def cosine(a, b):
    """Cosine of the angle between embeddings, [N, E] each -> [N]."""
    return tf.reduce_sum(tf.nn.l2_normalize(a, axis=1) * tf.nn.l2_normalize(b, axis=1), axis=1)
