"""Where pictures come from: a generator, or what it imitates (renders, synthetic photos) made from the same numbers.

A source has: title, facts (what decides its pictures), resolution, active (pixels that carry something, less than
resolution while a network grows), noise_dim, latents z -> lambda by `decode`, and `pictures` of coefficients.
"""

import contextlib
import zlib

import numpy as np

from dnnlib.tflib import checkpoints, images, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from metrics.store import files_digest
from renderer import factors
from training.sampling import FaceGenerator
from vae.model import Decoders, find_checkpoint


class GeneratorSource:
    """A trained generator, used as generate_images.py uses it: z -> VAE decoders -> lambda, noise vector, mapping,
    truncation of identity, synthesis. model, vae_weights, average_w, threads: as for FaceGenerator. Close it.
    """

    def __init__(self, model=None, vae_weights=None, average_w=None, threads=None):
        self._faces = faces = FaceGenerator(model, vae_weights, average_w, threads)
        self.title, self.resolution, self.noise_dim = faces.path, faces.resolution, faces.noise_dim
        self.decode = faces.decode
        with faces.graph.as_default(), faces.session.as_default():
            lod = float(faces.Gs.components.synthesis.get_var('lod'))
            self._w = tf.placeholder(tf.float32, [None, faces.num_layers, faces.dlatent_size])
            self._seed = tf.placeholder(tf.int64, [2])
        self.active = self.resolution >> int(np.floor(lod))
        self.facts = dict(faces.identify(), kind='generator')
        self._fresh = self._float = None        # built when first asked for

    def prepare(self, rate):
        """Load the VAEs and, unless rate is 1, the average of w, so that what is wrong with them is said first."""
        self._faces.prepare(rate)

    def pictures(self, coeffs, rate=1.0, seed=None, batch=8):
        """uint8 [N, R, R, 3] RGB of coefficients [N, 254 + noise_dim].

        seed: two integers for fresh noise maps; None: the stored ones. UserError when a picture is not finite.
        """
        if seed is None:
            pictures, finite = self._faces.images_and_health(coeffs, rate, batch)
            self._check(finite.all())
            return pictures
        if self._fresh is None:
            x = self._faces.synthesize(self._w, randomize_noise=True, noise_seed=self._seed)
            with self._faces.graph.as_default():
                # floor(127.5 x + 128), as the released system's own FID; what is not finite stays so until it is found.
                rounded = images.clip_255(tf.floor(x * 127.5 + 128.0))
                self._fresh = images.nchw_to_nhwc(tf.where(tf.is_finite(x), rounded, x))
        w = self._faces.dlatents(coeffs, None if rate == 1 else rate)
        parts = []
        for i in range(0, len(w), batch):
            feed = {self._w: w[i:i + batch], self._seed: [seed[0], seed[1] + i]}
            part = self._faces.session.run(self._fresh, feed)
            self._check(np.isfinite(part).all())
            parts.append(part.astype(np.uint8))
        return np.concatenate(parts)

    def dlatents(self, coeffs):
        """w [N, num_layers, dlatent_size] of coefficients, not truncated."""
        return self._faces.dlatents(coeffs)

    def float_pictures(self, w):
        """float32 [N, R, R, 3], 0-255, neither rounded nor clipped, of w; the stored noise maps. One run: N is small.

        UserError when a picture is not finite.
        """
        if self._float is None:
            x = self._faces.synthesize(self._w, randomize_noise=False)
            with self._faces.graph.as_default():
                self._float = images.nchw_to_nhwc(images.to_255(x))
        pictures = self._faces.session.run(self._float, {self._w: w})
        self._check(np.isfinite(pictures).all())
        return pictures

    def _check(self, finite):
        if not finite:
            raise UserError(f'{self.title}: its pictures hold NaN or infinity, so nothing can be measured')

    def close(self):
        """Free the session."""
        self._faces.close()


class _Drawn:
    """What sources without a generator share: the VAE decoders."""

    noise_dim = factors.NOISE_DIM

    def __init__(self, world, resolution, threads):
        if resolution < 8 or resolution & (resolution - 1):
            raise UserError(f'pictures of {resolution} pixels: a power of two from 8 on is expected')
        self.resolution = self.active = resolution
        weights = [path for factor in factors.FACTORS
                   for path in checkpoints.data_files(find_checkpoint(factor.name, world.vae_weights))]
        self.facts = dict(kind=self.kind, world=world.name, resolution=resolution, vae_weights=files_digest(weights))
        self._graph = tf.Graph()
        self.session = tfutil.create_session(threads, self._graph)
        with self._active():
            self._decoders = Decoders(world.vae_weights)
            self._build(world)
            self._decoders.restore()

    def _build(self, world):
        pass

    @contextlib.contextmanager
    def _active(self):
        with self._graph.as_default(), self.session.as_default():
            yield

    def prepare(self, rate):
        """Nothing more to load."""

    def decode(self, latents):
        """z [N, 179] -> lambda [N, 254], float32."""
        with self._active():
            return self._decoders.run(latents)

    def close(self):
        """Free the session."""
        self.session.close()


class RenderSource(_Drawn):
    """The face model's own pictures of the coefficients: bare faces before black, the best that imitation can do."""

    kind, title = 'renders', 'renders'

    def _build(self, world):
        from renderer.face_renderer import FaceRenderer
        self._coeff = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS])
        self._image = FaceRenderer(world.face_model()).render(self._coeff, self.resolution).image

    def pictures(self, coeffs, rate=1.0, seed=None, batch=8):
        """As GeneratorSource.pictures; there is neither truncation nor noise."""
        rows = np.asarray(coeffs, np.float32)[:, :factors.NUM_COEFFS]
        parts = [self.session.run(self._image, {self._coeff: rows[i:i + batch]}) for i in range(0, len(rows), batch)]
        return np.rint(np.concatenate(parts)).astype(np.uint8)


class PhotoSource(_Drawn):
    """Photos of the synthetic world; the noise vector decides hair, clothes and background. Synthetic world only."""

    kind, title = 'photos', 'synthetic photos'

    def _build(self, world):
        if world.name != 'synthetic':
            raise UserError(f'--source photos draws the synthetic world, but the model is of the {world.name} one; use '
                            '--source renders')
        from synthetic.photos import Photographer
        self._photographer = Photographer(self.resolution)

    def pictures(self, coeffs, rate=1.0, seed=None, batch=8):
        """As GeneratorSource.pictures; there is no truncation. seed: two integers for the camera's noise; None: none.
        """
        from synthetic import prior
        coeffs = np.asarray(coeffs, np.float32)
        recon = np.zeros([len(coeffs), factors.NUM_RECON], np.float32)
        recon[:, :factors.NUM_COEFFS] = coeffs[:, :factors.NUM_COEFFS]
        noise = [np.ascontiguousarray(row).tobytes() for row in coeffs[:, factors.NUM_COEFFS:]]
        scenes = [prior.scene(np.random.RandomState(zlib.crc32(row))) for row in noise]
        randoms = None if seed is None else [np.random.RandomState([seed[0], seed[1] + i]) for i in range(len(coeffs))]
        parts = []
        for i in range(0, len(coeffs), batch):
            chosen = slice(i, i + batch)
            photos, _, _ = self._photographer.draw(recon[chosen], scenes[chosen], randoms and randoms[chosen])
            parts.append(photos)
        return np.concatenate(parts)

    def close(self):
        """Free the sessions."""
        self._photographer.close()
        super().close()
