"""One face as the generator sees it: named coefficients (paper section 3.1) that can be read, changed, mixed and saved.

Needs NumPy and, for .mat, SciPy; no TensorFlow.
"""

import io
import os
from typing import Any, Callable, Dict, Optional

import numpy as np

from dnnlib.util import UserError, write_atomic
from renderer import coefficient_files, factors
from sampling import controls
from sampling.part_names import FILE_KINDS, PARTS, part_name


def _part(name, doc):
    def read(self):
        return self.coeffs[PARTS[name]]

    def write(self, value):
        self._write(name, PARTS[name], value)
    return property(read, write, doc=doc)


def _angle(index, name):
    at = factors.ANGLES.start + index

    def read(self):
        return float(self.coeffs[at])

    def write(self, value):
        self._write(name, slice(at, at + 1), value)
    return property(read, write, doc=f'{name}, a pose angle in radians (float).')


class Face:
    """A generator input with named parts: `face.yaw = 0.4`, `face.expression[:] = 0`, `face.lighting = other.lighting`.

    coeffs: float32 [254 + noise_dim], the generator's own layout. The parts are views into it, so changing one changes
    the face. `latents`: the z [179] it was decoded from, or None; it is not kept up to date. `names`: gives what the
    generator's world calls by name, for `set`; None: nothing.
    """

    identity = _part('identity', '160 numbers: 80 of shape, 80 of texture (a view).')
    expression = _part('expression', '64 numbers (a view).')
    pose = _part('pose', '3 angles in radians: pitch, yaw, roll (a view).')
    lighting = _part('lighting', '27 numbers: 3 colour channels x 9 spherical harmonics (a view).')
    noise = _part('noise', 'noise_dim numbers, usually 32: what the face model does not describe (a view).')
    pitch, yaw, roll = _angle(0, 'pitch'), _angle(1, 'yaw'), _angle(2, 'roll')

    def __init__(self, coeffs: Any, latents: Optional[np.ndarray] = None,
                 names: Optional[Callable[[], Dict[str, Any]]] = None) -> None:
        coeffs = np.array(coeffs, np.float32)
        if coeffs.ndim != 1 or coeffs.size < factors.NUM_COEFFS or not np.isfinite(coeffs).all():
            raise UserError(f'coefficients of shape {list(coeffs.shape)}: expected {factors.NUM_COEFFS} finite numbers '
                            'and the noise vector behind them')
        self.coeffs = coeffs
        self.latents = latents
        self.names = names

    def __repr__(self):
        return f'Face(pitch={self.pitch:.3f}, yaw={self.yaw:.3f}, roll={self.roll:.3f}, noise_dim={self.noise.size})'

    def __setattr__(self, name, value):
        """Refuse misspelt parts: `face.jaw = 0.4` would change nothing."""
        if name not in ('coeffs', 'latents', 'names') and not isinstance(getattr(type(self), name, None), property):
            raise AttributeError(f'a Face has no part {name!r}: it has {", ".join(PARTS)}, pitch, yaw, roll')
        super().__setattr__(name, value)

    def _write(self, name, where, value):
        value = np.asarray(value, np.float32)
        room = self.coeffs[where]
        if value.size not in (1, room.size) or not np.isfinite(value).all():
            raise UserError(f'{name}: expected {room.size} finite numbers, got an array of shape {list(value.shape)}')
        room[...] = value.reshape(-1)

    def copy(self) -> 'Face':
        """Another Face with the same numbers."""
        return Face(self.coeffs, self.latents, self.names)

    def set(self, name: str, value: float) -> 'Face':
        """Set a value by name, such as 'yaw' (radians), 'light_left', 'expression[3]' or, of a generator whose world
        names them, 'smile'; returns this Face. See sampling.controls. UserError for an unknown name.
        """
        self._direction(name).put(self.coeffs, float(value))
        return self

    def get(self, name: str) -> float:
        """The value that `set` sets."""
        return float(self._direction(name).value(self.coeffs))

    def _direction(self, name):
        try:
            return controls.find(name)
        except UserError:
            if self.names is None:
                raise
            return controls.find(name, self.names())

    def transfer(self, source: 'Face', *parts: str) -> 'Face':
        """A new Face: this one with the named parts of `source`, e.g. `face.transfer(other, 'expression', 'pose')`."""
        result = Face(self.coeffs, names=self.names)
        for name in parts:
            word = part_name(name)
            result._write(word, PARTS[word], source.coeffs[PARTS[word]])
        return result

    def changed(self, changes: Any) -> 'Face':
        """A new Face: this one with [(Direction, value)] of sampling.controls put one after the other."""
        return Face(controls.apply(self.coeffs, changes), names=self.names)

    def lerp(self, other: 'Face', t: float) -> 'Face':
        """A new Face on the straight line from this one (t = 0) to `other` (t = 1)."""
        return Face(self.coeffs + (other.coeffs - self.coeffs) * np.float32(t), names=self.names)

    def arrays(self) -> Dict[str, np.ndarray]:
        """What files hold of a face, by name: `coeff` [257] (translation zero), `noise` and, if known, `z` [179]."""
        recon = np.zeros(factors.NUM_RECON, np.float32)
        recon[:factors.NUM_COEFFS] = self.coeffs[:factors.NUM_COEFFS]
        arrays = {'coeff': recon, 'noise': self.noise}
        if self.latents is not None:
            arrays['z'] = np.asarray(self.latents, np.float32)
        return arrays

    def encoded(self, kind: str) -> bytes:
        """`arrays` as the bytes of a file: 'npz', or 'mat' (then [1, n])."""
        file = io.BytesIO()
        if kind == 'npz':
            np.savez(file, **self.arrays())
        else:
            # Here, for most runs do without.
            import scipy.io
            scipy.io.savemat(file, {name: array[np.newaxis] for name, array in self.arrays().items()})
        return file.getvalue()

    def save(self, path: str) -> None:
        """Write `arrays` as .npz or .mat, whole or not at all."""
        kind = os.path.splitext(path)[1].lower()[1:]
        if kind not in FILE_KINDS:
            raise UserError(f'{path}: faces are saved as .npz or .mat')
        write_atomic(path, self.encoded(kind))

    @classmethod
    def load(cls, path, noise_dim=None):
        """Read a Face from .npz or .mat: what `save` wrote, or a reconstruction's (coefficient_files), zero noise.

        noise_dim: of the generator that shall draw it, UserError if the file has another; None: what the file has.
        """
        arrays = coefficient_files.read_arrays(path, coefficient_files.NAMES + ('noise', 'z'))
        recon = coefficient_files.reconstruction_vector(arrays, path)
        noise = np.zeros(factors.NOISE_DIM if noise_dim is None else noise_dim, np.float32)
        if 'noise' in arrays:
            noise = coefficient_files.numbers(arrays, 'noise', noise_dim, path)
        z = coefficient_files.numbers(arrays, 'z', factors.NUM_LATENTS, path) if 'z' in arrays else None
        return cls(np.concatenate([recon[:factors.NUM_COEFFS], noise]), z)
