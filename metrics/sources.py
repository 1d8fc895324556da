"""Where pictures come from: a generator, or what it imitates (renders, the world's photos) made from the same numbers.

A source has: title, facts (what decides its pictures), resolution, active_resolution (pixels that carry something,
less than resolution while a network grows), noise_dim, latents z -> lambda by `decode`, `pictures` of coefficients.
"""

from typing import Optional, Sequence

import numpy as np

from dnnlib.hashes import files_digest
from dnnlib.tflib import checkpoints, images
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from renderer import factors
from renderer.face_renderer import FaceRenderer
from sampling.generator import FaceGenerator
from sampling.latents import LatentDecoder
from vae.model import find_checkpoint

_LAYERS = 64        # numbers that each picture has for itself: its layers add their own to them


def noise_seeds(seed: Sequence[int], count: int) -> np.ndarray:
    """[count, 2] int64 for G_synthesis: pictures seed[1], seed[1] + 1, ... of draw seed[0]; no two maps are equal."""
    return np.stack([np.full(count, seed[0]), (seed[1] + np.arange(count)) * _LAYERS], axis=1).astype(np.int64)


class GeneratorSource:
    """A trained generator, used as generate_images.py uses it: z -> VAE decoders -> lambda, noise vector, mapping,
    truncation of identity, synthesis. model, vae_weights, average_w, threads: as for FaceGenerator. Close it.
    """

    def __init__(self, model=None, vae_weights=None, average_w=None, threads=None):
        self._faces = faces = FaceGenerator(model, vae_weights, average_w, threads)
        self.title, self.resolution, self.noise_dim = faces.path, faces.resolution, faces.noise_dim
        self.decode = faces.decode
        with faces.active():
            lod = float(faces.Gs.components.synthesis.get_var('lod'))
            self._w = tf.placeholder(tf.float32, [None, faces.num_layers, faces.dlatent_size])
            self._seeds = tf.placeholder(tf.int64, [None, 2])
        self.active_resolution = self.resolution >> int(np.floor(lod))
        self.facts = dict(faces.identify(), kind='generator')
        self._fresh = self._float = None        # built when first asked for

    def load(self, rate: float) -> None:
        """Load the VAEs and, unless rate is 1, the average of w, so that what is wrong with them is said first."""
        self._faces.load_all(rate)

    def pictures(self, coeffs: np.ndarray, rate: float = 1.0, seed: Optional[Sequence[int]] = None,
                 batch: int = 8) -> np.ndarray:
        """uint8 [N, R, R, 3] RGB of coefficients [N, 254 + noise_dim].

        seed: two integers for fresh noise maps: which draw, and the number of the first picture; the maps of a
        picture follow from the draw and its own number, whatever the batch. None: the stored ones. UserError when a
        picture is not finite.
        """
        if seed is None:
            pictures, finite = self._faces.images_and_health(coeffs, rate, batch)
            self._check(finite.all())
            return pictures
        if self._fresh is None:
            x = self._faces.synthesize(self._w, randomize_noise=True, noise_seed=self._seeds)
            with self._faces.active():
                # floor(127.5 x + 128), as the released system's own FID; what is not finite stays so until it is found.
                rounded = images.clip_255(tf.floor(x * 127.5 + 128.0))
                self._fresh = images.nchw_to_nhwc(tf.where(tf.is_finite(x), rounded, x))
        w = self._faces.dlatents(coeffs, None if rate == 1 else rate)
        seeds = noise_seeds(seed, len(w))
        parts = []
        for i in range(0, len(w), batch):
            part = self._faces.session.run(self._fresh, {self._w: w[i:i + batch], self._seeds: seeds[i:i + batch]})
            self._check(np.isfinite(part).all())
            parts.append(part.astype(np.uint8))
        return np.concatenate(parts)

    def dlatents(self, coeffs: np.ndarray) -> np.ndarray:
        """w [N, num_layers, dlatent_size] of coefficients, not truncated."""
        return self._faces.dlatents(coeffs)

    def float_pictures(self, w: np.ndarray) -> np.ndarray:
        """float32 [N, R, R, 3], 0-255, neither rounded nor clipped, of w; the stored noise maps. One run: N is small.

        UserError when a picture is not finite.
        """
        if self._float is None:
            x = self._faces.synthesize(self._w, randomize_noise=False)
            with self._faces.active():
                self._float = images.nchw_to_nhwc(images.to_255(x))
        pictures = self._faces.session.run(self._float, {self._w: w})
        self._check(np.isfinite(pictures).all())
        return pictures

    def _check(self, finite):
        if not finite:
            raise UserError(f'{self.title}: its pictures hold NaN or infinity, so nothing can be measured')

    def close(self) -> None:
        """Free the session."""
        self._faces.close()


class _Drawn(LatentDecoder):
    """What sources without a generator share. world: worlds.parts.World. resolution: of pictures, pixels."""

    def __init__(self, world, resolution, threads=None):
        if resolution < 8 or resolution & (resolution - 1):
            raise UserError(f'pictures of {resolution} pixels: a power of two from 8 on is expected')
        super().__init__(world.vae_weights, threads=threads)
        self.resolution = self.active_resolution = resolution
        weights = [path for factor in factors.FACTORS
                   for path in checkpoints.data_files(find_checkpoint(factor.name, world.vae_weights))]
        self.facts = dict(kind=self.kind, world=world.name, resolution=resolution, vae_weights=files_digest(weights))

    def load(self, rate: float) -> None:
        """Load the VAEs, so that what is wrong with them is said first."""
        self.mean_face()


class RenderSource(_Drawn):
    """The face model's own pictures of the coefficients: bare faces before black, the best that imitation can do."""

    kind, title = 'renders', 'renders'

    def __init__(self, world, resolution, threads=None):
        super().__init__(world, resolution, threads)
        with self.building():
            self._coeff = tf.placeholder(tf.float32, [None, factors.NUM_COEFFS])
            self._image = FaceRenderer(world.face_model()).render(self._coeff, self.resolution).image

    def pictures(self, coeffs: np.ndarray, rate: float = 1.0, seed: Optional[Sequence[int]] = None,
                 batch: int = 8) -> np.ndarray:
        """As GeneratorSource.pictures; there is neither truncation nor noise."""
        rows = np.asarray(coeffs, np.float32)[:, :factors.NUM_COEFFS]
        return np.rint(self.run(self._image, {self._coeff: rows}, batch)).astype(np.uint8)


class PhotoSource(_Drawn):
    """Photos that the world itself can draw; the noise vector decides what coefficients do not describe, as hair."""

    kind, title = 'photos', 'photos of the world'

    def __init__(self, world, resolution, threads=None):
        if world.photographer is None:
            raise UserError(f'--source photos: the {world.name} world draws no photos; use --source renders')
        super().__init__(world, resolution, threads)
        self._photographer = world.photographer(resolution)

    def pictures(self, coeffs: np.ndarray, rate: float = 1.0, seed: Optional[Sequence[int]] = None,
                 batch: int = 8) -> np.ndarray:
        """As GeneratorSource.pictures; there is no truncation. seed: two integers for the camera's noise; None: none.
        """
        return self._photographer.pictures(np.asarray(coeffs, np.float32), seed, batch)

    def close(self) -> None:
        """Free the sessions."""
        self._photographer.close()
        super().close()
