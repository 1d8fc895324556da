"""THE layout of every vector in the system (paper sections 3.1 and 3.2): which numbers mean what, and in which order.

Three vectors, three orders:
  reconstruction vector (257)    shape, texture, expression, pose angles, lighting, translation
  generator input (254 + noise)  id = shape and texture, exp, rot, gamma: the first 254 of the above; then noise
  latents z (179)                id, exp, gamma, rot: LIGHTING BEFORE POSE, the other way round than above
"""

from collections import namedtuple

# coeffs: where the factor lies in the first 254 coefficients; latents: where in z; width: of its VAE's hidden layers.
Factor = namedtuple('Factor', 'name word coeffs latents width')

FACTORS = (                                             # in the order of z
    Factor('id',    'identity',   slice(0, 160),   slice(0, 128),   512),   # 80 of shape, 80 of texture
    Factor('exp',   'expression', slice(160, 224), slice(128, 160), 256),
    Factor('gamma', 'lighting',   slice(227, 254), slice(160, 176), 128),   # 3 colour channels x 9 harmonics
    Factor('rot',   'pose',       slice(224, 227), slice(176, 179), 32),    # pitch, yaw, roll in radians
)
BY_NAME = {factor.name: factor for factor in FACTORS}
BY_COEFFS = tuple(sorted(FACTORS, key=lambda factor: factor.coeffs.start))    # in the order of the generator input

NUM_COEFFS = 254            # lambda: what the generator is steered by
NUM_LATENTS = 179           # z: what the VAEs turn into lambda
NOISE_DIM = 32              # default length of the noise vector behind lambda; it has no VAE

# Reconstruction vector, 257 numbers: the `coeff` of a .mat file.
NUM_RECON = 257
SHAPE = slice(0, 80)
TEXTURE = slice(80, 160)
EXPRESSION = slice(160, 224)
ANGLES = slice(224, 227)        # pitch, yaw, roll in radians
LIGHTING = slice(227, 254)      # 3 colour channels x 9 spherical harmonics, channel by channel
TRANSLATION = slice(254, 257)   # x, y, z in the face model's unit (decimetres)

# Factor numbers of `generate_images.py --factor`: which factors vary within a subject.
FACTOR_CHOICES = (
    ('all',        ('exp', 'gamma', 'rot')),
    ('expression', ('exp',)),
    ('lighting',   ('gamma',)),
    ('pose',       ('rot',)),
)


def num_coeffs(name):
    """Number of coefficients of factor `name`, e.g. 64 for 'exp'."""
    return BY_NAME[name].coeffs.stop - BY_NAME[name].coeffs.start


def num_latents(name):
    """Number of latents of factor `name`, e.g. 32 for 'exp'."""
    return BY_NAME[name].latents.stop - BY_NAME[name].latents.start
