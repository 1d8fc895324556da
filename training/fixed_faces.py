"""The same people at every snapshot: fixed latents and noise vectors, what the generator makes of them, renders."""

import numpy as np

from dnnlib import pictures
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from renderer.factors import NUM_COEFFS, NUM_LATENTS

BATCH = 32


class FixedFaces:
    """Pictures fakesKKKKKK.png of a run; adds to the graph when made and at the first `save`.

    Gs: the network. decoders, faces: vae.model.Decoders and FaceRenderer. grid_size: (columns, rows), None: what fits
    a screen. seed: of latents and noise vectors.
    """

    def __init__(self, Gs, decoders, faces, noise_dim, grid_size=None, seed=0):
        resolution = Gs.output_shapes[0][2]
        self.grid_size = tuple(grid_size or pictures.screen_grid_size(resolution, resolution))
        count, random = self.grid_size[0] * self.grid_size[1], np.random.RandomState(seed)
        coeff = decoders.run(random.standard_normal([count, NUM_LATENTS]))
        self._Gs = Gs
        self._inputs = np.concatenate([coeff, random.standard_normal([count, noise_dim])], axis=1)
        self._renders = _render(faces, coeff, resolution)

    def save(self, path):
        """Write fakes beside renders, with the generator's own noise maps."""
        fakes = self._Gs.run(self._inputs, None, minibatch_size=BATCH, is_validation=True, randomize_noise=False)
        pictures.save_image_grid(pictures.side_by_side(fakes, self._renders), path, self.grid_size, layout='NHWC')


def _render(faces, coeff, resolution):
    """uint8 [N, R, R, 3] renders of coefficients [N, 254]."""
    coeff_in = tf.placeholder(tf.float32, [None, NUM_COEFFS])
    image = tf.cast(faces.render(coeff_in, resolution).image, tf.uint8)
    return np.concatenate([tfutil.run(image, {coeff_in: coeff[i:i + BATCH]}) for i in range(0, len(coeff), BATCH)])
