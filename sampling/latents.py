"""Random people (paper section 3.1): latents z of subjects and their variations, decoded to Faces by the four VAEs."""

from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

import config
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import without_tf32
from dnnlib.tflib.runner import GraphRunner
from dnnlib.util import UserError
from renderer import factors
from sampling.faces import Face
from vae.model import Decoders


class Subject(NamedTuple):
    """One person: latents [1 + variations, 179] float64, the first row is the subject's own; noise [noise_dim]."""

    index: int
    latents: np.ndarray
    noise: np.ndarray


def moving_factors(factor: Union[int, str]) -> Tuple[str, ...]:
    """Names of the factors that move within a subject, by number or name: 1 or 'expression' gives ('exp',)."""
    words = [word for word, _ in factors.FACTOR_CHOICES]
    if factor in words:
        factor = words.index(factor)
    if factor not in range(len(words)):
        expected = ', '.join(f'{i} ({word})' for i, word in enumerate(words))
        raise UserError(f'factor {factor!r} is unknown: expected one of {expected}')
    return factors.FACTOR_CHOICES[factor][1]


def draw_subjects(seed: int, subjects: int, variations: int, factor: Union[int, str] = 0,
                  noise_dim: int = factors.NOISE_DIM,
                  wanted: Optional[Callable[[int], bool]] = None) -> Iterator[Subject]:
    """Yield a Subject for each index below `subjects`; float64 latents and noise in the order the release draws them.

    Per subject 179 and noise_dim normals, per variation always 51: expression, lighting, pose, whatever moves.
    wanted: index -> bool; the others are drawn and dropped, so that those left are the same as in a whole run.
    """
    rng = np.random.RandomState(seed)
    moving = [factors.BY_NAME[name].latents for name in moving_factors(factor)]
    first_varied = factors.BY_NAME['id'].latents.stop
    per_variation = factors.NUM_LATENTS - first_varied
    for index in range(subjects):
        normals = rng.standard_normal(factors.NUM_LATENTS + noise_dim + variations * per_variation)
        if wanted is not None and not wanted(index):
            continue
        own, noise, rest = np.split(normals, [factors.NUM_LATENTS, factors.NUM_LATENTS + noise_dim])
        fresh = np.tile(own, [variations, 1])
        fresh[:, first_varied:] = rest.reshape(variations, per_variation)
        latents = np.tile(own, [1 + variations, 1])
        for where in moving:
            latents[1:, where] = fresh[:, where]
        yield Subject(index, latents, noise)


def draw_by_seed(seeds: Iterable[int], variations: int, factor: Any = 0,
                 noise_dim: int = factors.NOISE_DIM) -> Iterator[Subject]:
    """Yield a Subject for each seed, with the seed as its index: the first of `draw_subjects` of that seed."""
    for seed in seeds:
        yield next(draw_subjects(seed, 1, variations, factor, noise_dim))._replace(index=seed)


class LatentDecoder(GraphRunner):
    """The four VAEs' decoders: latents -> coefficients -> Faces. They are loaded when first asked for.

    vae_weights: folder of the VAEs; None: config.VAE_WEIGHTS_DIR. noise_dim: length of a Face's noise vector.
    Coefficients are computed in float32 whatever `precision` is: people keep them.
    """

    def __init__(self, vae_weights=None, noise_dim=factors.NOISE_DIM, threads=None, precision='float32'):
        super().__init__(threads, precision)
        self.vae_weights, self.noise_dim = vae_weights or config.VAE_WEIGHTS_DIR, noise_dim
        self.names: Optional[Callable[[], Dict[str, Any]]] = None       # of the world that the VAEs are of
        self._decoders = None
        self._float32 = self.session if precision != 'bfloat16' else tfutil.create_session(threads, self.graph)

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """z [N, 179] (order id, exp, gamma, rot) -> lambda [N, 254] (order id, exp, rot, gamma), float32."""
        with without_tf32(), self.active(), self._float32.as_default():
            if self._decoders is None:
                decoders = Decoders(self.vae_weights)
                decoders.restore()
                self._decoders = decoders
            return self._decoders.run(latents)

    def decode_tensor(self, latents: Any) -> Any:
        """`decode` as a tensor of this graph, of a tensor [N, 179]."""
        self.decode(np.zeros([1, factors.NUM_LATENTS]))         # loads the VAEs
        with self.active():
            return self._decoders.lambda_from_latents(latents)

    def close(self) -> None:
        """Give back memory and devices; closing twice is harmless."""
        self._float32.close()
        super().close()

    def faces_from_latents(self, latents: np.ndarray, noise: Optional[np.ndarray] = None) -> List[Face]:
        """List of N Faces decoded from z [N, 179]. noise: [N, noise_dim], [noise_dim] or None (zeros)."""
        latents = np.asarray(latents, np.float32)
        noise = np.zeros(self.noise_dim) if noise is None else noise
        noise = np.broadcast_to(noise, [len(latents), self.noise_dim])
        return [Face(np.concatenate([coeffs, n]), z, self.names)
                for coeffs, n, z in zip(self.decode(latents), noise, latents)]

    def random_face(self, seed: Any = None) -> Face:
        """A random Face; the same for the same seed (int, or RandomState to draw from)."""
        return self.random_faces(1, seed)[0]

    def random_faces(self, count: int, seed: Any = None) -> List[Face]:
        """List of `count` random Faces; the first is `random_face(seed)`."""
        rng = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
        normals = rng.standard_normal([count, factors.NUM_LATENTS + self.noise_dim])
        return self.faces_from_latents(normals[:, :factors.NUM_LATENTS], normals[:, factors.NUM_LATENTS:])

    def mean_face(self) -> Face:
        """The Face of zero latents and zero noise: the middle of the training data."""
        return self.faces_from_latents(np.zeros([1, factors.NUM_LATENTS]))[0]

    def subject_faces(self, subjects: Sequence[Subject], own: bool = False) -> List[List[Face]]:
        """The Faces of the variations of each Subject: a list of lists. own: of the subject itself, one each.

        What does not move within a subject is exactly the same number in all of its faces.
        """
        decoded = self.decode(np.concatenate([subject.latents for subject in subjects]))
        ends = np.cumsum([len(subject.latents) for subject in subjects])
        if own:
            return [[Face(np.concatenate([rows[0], subject.noise]), subject.latents[0].astype(np.float32), self.names)]
                    for subject, rows in zip(subjects, np.split(decoded, ends[:-1]))]
        return [_variations(subject, rows, self.names) for subject, rows in zip(subjects, np.split(decoded, ends[:-1]))]


def _variations(subject, rows, names):
    """Faces of a Subject's variations: its own numbers (rows[0]), and rows[i] for the factors that move."""
    own, faces = subject.latents[0], []
    for z, decoded in zip(subject.latents[1:], rows[1:]):
        face = Face(np.concatenate([rows[0], subject.noise]), z.astype(np.float32), names)
        for factor in factors.FACTORS:
            if not np.array_equal(z[factor.latents], own[factor.latents]):
                face.coeffs[factor.coeffs] = decoded[factor.coeffs]
        faces.append(face)
    return faces
