"""The human world's parts: a head of free measurements, its names, its photos, its networks."""

import os
import zlib

import numpy as np

from renderer import factors
from worlds import real
from worlds.parts import EXPERTS_TABLE, Parts, register

_FOLDER = os.path.dirname(os.path.abspath(__file__))


def _face_model(folder=None):
    from human import face_model
    from renderer.face_model import load_face_model
    return load_face_model(folder) if folder else face_model.load_model()


def _template(folder=None):
    from human import face_model
    return real.load_template(folder) if folder else face_model.template()


class ScenePhotographer:
    """Photos of a generator's input: the noise vector decides hair, clothes and background. Close it."""

    def __init__(self, size):
        from human.photos import Photographer
        self._photographer = Photographer(size)

    def pictures(self, coeffs, seed=None, batch=8):
        """uint8 [N, size, size, 3] RGB of lambda and noise vector [N, 254 + noise_dim].

        seed: two integers for the camera's noise; None: none.
        """
        from human import prior
        recon = np.zeros([len(coeffs), factors.NUM_RECON], np.float32)
        recon[:, :factors.NUM_COEFFS] = coeffs[:, :factors.NUM_COEFFS]
        parts = []
        for start in range(0, len(coeffs), batch):
            rows = range(start, min(start + batch, len(coeffs)))
            noise = [np.ascontiguousarray(coeffs[i, factors.NUM_COEFFS:]).tobytes() for i in rows]
            scenes = [prior.scene(np.random.RandomState(zlib.crc32(row))) for row in noise]
            randoms = None if seed is None else [np.random.RandomState([seed[0], seed[1] + i]) for i in rows]
            parts.append(self._photographer.draw(recon[start:start + batch], scenes, randoms)[0])
        return np.concatenate(parts)

    def close(self):
        """Free the session."""
        self._photographer.close()


def _names():
    """{name: (factor, vector, lowest, highest)}: expressions under ARKit's names, age, sex, nose and the like."""
    from human import names
    return {name: (factors.BY_NAME[direction.factor].word,) + tuple(direction)[1:]
            for name, direction in names.directions().items()}


register('human', Parts(
    face_model=_face_model, template=_template, vae_weights=os.path.join(_FOLDER, 'weights', 'vae'),
    experts=os.path.join(_FOLDER, 'weights', EXPERTS_TABLE), resolution=128, photographer=ScenePhotographer,
    names=_names))
