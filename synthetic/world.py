"""The synthetic world's parts: a head that needs no licence, its VAEs, its perception networks, its photos."""

import os
import zlib

import numpy as np

import config
from renderer import factors
from synthetic import face_model
from worlds import real
from worlds.parts import EXPERTS_TABLE, Parts, register


def _face_model(folder=None):
    from renderer.face_model import load_face_model
    return load_face_model(folder) if folder else face_model.load_model()


def _template(folder=None):
    return real.load_template(folder) if folder else face_model.template()


class ScenePhotographer:
    """Photos of a generator's input: the noise vector decides hair, clothes and background. Close it."""

    def __init__(self, size):
        from synthetic.photos import Photographer
        self._photographer = Photographer(size)

    def pictures(self, coeffs, seed=None, batch=8):
        """uint8 [N, size, size, 3] RGB of lambda and noise vector [N, 254 + noise_dim].

        seed: two integers for the camera's noise; None: none.
        """
        from synthetic import prior
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
    """{name: (factor, vector, lowest, highest)} of the head's named bases, one of which is each coefficient's."""
    from synthetic import prior
    limits = {name: (low, high) for name, low, high in prior.EXPRESSIONS}
    found = {}
    for part, start, end, word in (('shape', 0, 160, 'identity'), ('texture', 80, 160, 'identity'),
                                   ('expression', 0, 64, 'expression')):
        for i, name in enumerate(face_model.head()[2][part]):
            usual = prior.LOWEST.get(name, -prior.IDENTITY_LIMIT), prior.IDENTITY_LIMIT
            found[name] = (word, np.eye(end)[start + i]) + limits.get(name, usual)
    return found


register(face_model.WORLD, Parts(
    face_model=_face_model, template=_template, vae_weights=os.path.join(config.DEMO_DIR, 'vae'),
    experts=os.path.join(config.ROOT, 'synthetic', 'weights', EXPERTS_TABLE), resolution=64,
    photographer=ScenePhotographer, names=_names))
