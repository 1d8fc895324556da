"""Faces from a trained generator (paper section 4): coefficients, truncation that keeps the attributes, pictures.

    from sampling import FaceGenerator
    faces = FaceGenerator('model.pkl')          # the default model when omitted
    face = faces.random_face(seed=3)            # coefficients by name
    face.yaw = 0.4                              # radians
    faces.render(face, 'face.png')
"""

import os
import zlib
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from dnnlib import pictures
from dnnlib.hashes import files_digest
from dnnlib.tflib import checkpoints, layers
from dnnlib.tflib import images as image_ops
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from renderer import factors
from sampling import pretrained, truncation
from sampling.controls import Controls
from sampling.faces import Face
from sampling.latents import LatentDecoder
from sampling.options import RATE
from training import snapshots
from vae.model import find_checkpoint
from worlds import label, parts

Faces = Union[Face, Sequence[Face], np.ndarray]     # an array: coefficients [N, 254 + noise_dim]
_BATCH = 1000               # of the networks that cost next to nothing


class FaceGenerator(LatentDecoder):
    """A trained generator with its VAEs, in a graph and session of its own: several may live side by side.

    model: path of a snapshot; None: see `pretrained.find_model`.
    vae_weights: folder of the four VAEs; None: the one beside the model, else the one of its world.
    average_w: path of the average of w over identities; None: the one beside the model, computed once where missing.
    threads: of TensorFlow; None: one for each core. precision: 'bfloat16' is faster on some CPUs and changes pictures
    by a few levels of 255, 'tf32' on some GPUs: tfutil.check_precision. noise_mode: 'const', the stored noise maps;
    'random', each picture its own, which follow from its coefficients; 'none', none.

    Attributes: path, Gs (Network), resolution (pixels), num_layers and dlatent_size (of w), noise_dim, num_coeffs
    (254 + noise_dim); tensors of its graph: coeffs_in [N, num_coeffs], w [N, num_layers, dlatent_size]. Pictures are
    uint8 RGB [N, H, W, 3]. UserError for files that are missing or do not fit.
    Use as a context manager, or call `close`.
    """

    def __init__(self, model: Optional[str] = None, vae_weights: Optional[str] = None, average_w: Optional[str] = None,
                 threads: Optional[int] = None, precision: str = 'float32', noise_mode: str = 'const') -> None:
        self.path = pretrained.find_model(model, vae_weights)
        facts = label.read_model(self.path)
        parts.check_part('vae_weights', vae_weights, facts['world'])
        self._labelled, self._vaes_named = os.path.exists(label.path_of_model(self.path)), vae_weights is not None
        self._own_vaes = vae_weights is None and bool(facts.get('vae_weights'))
        if self._own_vaes:
            vae_weights = os.path.join(os.path.dirname(os.path.abspath(self.path)), facts['vae_weights'])
        own = vae_weights or parts.World(facts['world']).vae_weights
        super().__init__(os.path.abspath(own), threads=threads, precision=precision)
        self.names, self._noise_mode = self._world_names, noise_mode
        self._average_path, self._average = average_w, None
        self._controls: Optional[Controls] = None
        with self.building():
            self.Gs = snapshots.load_generator(self.path)
            self._check_generator()
            self._check_company()
            self._build()

    def _check_generator(self):
        """UserError unless this is a generator driven by coefficients."""
        parts = self.Gs.components
        if 'mapping' not in parts or 'synthesis' not in parts:
            raise UserError(f'{self.path}: holds a network {self.Gs.build_func_name}; expected a generator, with a '
                            'mapping and a synthesis part')
        self.num_coeffs = self.Gs.input_shapes[0][1]
        self.noise_dim = self.num_coeffs - factors.NUM_COEFFS
        self.num_layers, self.dlatent_size = parts.synthesis.input_shapes[0][1:]
        _, channels, self.resolution, _ = parts.synthesis.output_shapes[0]
        if self.noise_dim < 0 or channels != 3:
            raise UserError(f'{self.path}: takes {self.num_coeffs} numbers and gives {channels} channels; expected a '
                            f'face generator: {factors.NUM_COEFFS} coefficients and the noise vector behind them '
                            f'({factors.NUM_COEFFS + factors.NOISE_DIM} in all), 3 channels')

    def _check_company(self):
        """UserError for a snapshot of this project that was copied without what says which VAEs are its own."""
        if not self._labelled and not self._vaes_named and 'coeff_scale' in self.Gs.static_kwargs:
            raise UserError(f'{self.path}: trained by this project, but copied alone: {self._company()} (or name '
                            'its own VAEs with --vae_weights); the released VAEs are another world\'s')

    def _company(self):
        stem = os.path.splitext(os.path.basename(self.path))[0]
        return (f'copy {stem}-world.json and, if it is there, the folder {snapshots.VAE_FOLDER} along from where the '
                'snapshot lay')

    def decode(self, latents: np.ndarray) -> np.ndarray:
        """As LatentDecoder; when VAEs are missing the UserError says what belongs beside a snapshot."""
        try:
            return super().decode(latents)
        except UserError as error:
            if self._vaes_named or pretrained.has_vaes(self.vae_weights):
                raise
            if self._own_vaes:
                raise UserError(f'{self.vae_weights}: the VAEs that belong to {self.path} are not there; '
                                f'{self._company()}') from error
            raise UserError(f'{error}; if {self.path} was trained by this project, {self._company()}') from error

    def _build(self):
        """The way from coefficients to pictures as one graph, so that a batch is one session run."""
        self.coeffs_in = coeffs = tf.placeholder(tf.float32, [None, self.num_coeffs])
        self._rate_in = tf.placeholder(tf.float32, [])
        self._average_in = average = tf.placeholder(tf.float32, [self.num_layers, self.dlatent_size])
        self.w, self._w_identity, self._w_truncated = self._dlatents(coeffs, average, self._rate_in)
        self._seeds_in = tf.placeholder_with_default(np.zeros([1, 2], np.int64), [None, 2])
        images = self.synthesize(self._w_truncated, **self._noise_options())
        self._images, self._images_255, self._finite = _pictures(images)

    def _dlatents(self, coeffs, average, rate):
        """w, w of the identity alone and truncated w, each [N, num_layers, dlatent_size], of a tensor of coefficients.
        """
        mapping = self.Gs.components.mapping
        w = mapping.get_output_for(coeffs, None)
        w_identity = mapping.get_output_for(truncation.identity_only(coeffs), None)
        return w, w_identity, truncation.truncate(w, w_identity, average, rate)

    def _noise_options(self):
        if self._noise_mode == 'const':
            return dict(randomize_noise=False)
        if self._noise_mode == 'none':
            return dict(use_noise=False)
        return dict(randomize_noise=True, noise_seed=self._seeds_in)

    def _world_names(self):
        return parts.of_model(self.path).names()

    @property
    def controls(self) -> Controls:
        """Values by name, with the range that training saw."""
        if self._controls is None:
            def draw(count):
                return self.decode(np.random.RandomState(0).standard_normal([count, factors.NUM_LATENTS]))
            self._controls = Controls(draw, self._world_names(), label.read_model(self.path)['world'])
        return self._controls

    def synthesize(self, w: Any, growing: str = 'auto', **noise: Any) -> Any:
        """Pictures [N, 3, R, R], RGB, [-1, 1], of w [N, num_layers, dlatent_size], both tensors of this graph.

        growing: the structure of G_synthesis for a network that is not finished. noise: its options about noise.
        """
        synthesis = self.Gs.components.synthesis
        with self.active():
            # A finished network (lod 0) needs none of the switches between resolutions: half the graph, a faster start.
            structure = 'fixed' if synthesis.get_var('lod') <= 0 else growing
            return synthesis.get_output_for(w, structure=structure, **noise)

    def portable_images(self, coeffs: Any, rate: float = RATE, data_format: str = 'NHWC') -> Any:
        """`images` as a tensor of this graph, uint8 [N, H, W, 3], of a tensor of coefficients [N, num_coeffs].

        For export: without conditions, and whatever this machine is, in data_format between the layers: 'NHWC', which
        TensorFlow runs anywhere, or 'NCHW'. Not of 'random' noise.
        """
        average = np.zeros([self.num_layers, self.dlatent_size], np.float32) if rate == 1 else self.average_w
        with self.active(), layers.use_data_format(data_format), layers.use_ops(False):
            w = self._dlatents(coeffs, average, np.float32(rate))[2]
            return _pictures(self.synthesize(w, 'linear', **self._noise_options()))[0]

    def _stack(self, faces):
        """[N, num_coeffs] of Faces, or of an array that is that already; UserError when the lengths do not fit."""
        if isinstance(faces, Face):
            faces = [faces]
        rows = [face.coeffs if isinstance(face, Face) else np.asarray(face, np.float32) for face in faces]
        wrong = [row.shape for row in rows if row.shape != (self.num_coeffs,)]
        if wrong or not rows:
            raise UserError(f'{self.path} takes faces of {self.num_coeffs} numbers ({factors.NUM_COEFFS} coefficients, '
                            f'{self.noise_dim} of noise); got ' + (f'shape {list(wrong[0])}' if rows else 'none'))
        return np.stack(rows)

    # ---- pictures

    def images(self, faces: Faces, rate: float = RATE, batch: int = 8) -> np.ndarray:
        """Pictures of Faces (or of coefficients [N, num_coeffs]): uint8 [N, H, W, 3], whatever the batch."""
        return self.images_and_health(faces, rate, batch)[0]

    def images_and_health(self, faces: Faces, rate: float = RATE, batch: int = 8) -> Tuple[np.ndarray, np.ndarray]:
        """`images`, and for each whether all its values were finite: bool [N]. NaN becomes black."""
        return self._run([self._images, self._finite], self._stack(faces), rate, batch)

    def images_float(self, faces: Faces, rate: float = RATE, batch: int = 8) -> np.ndarray:
        """`images` before the rounding: float32 in 0-255."""
        return self._run([self._images_255], self._stack(faces), rate, batch)[0]

    def render(self, face: Faces, path: Union[None, str, Sequence[str]] = None, rate: float = RATE,
               batch: int = 8) -> np.ndarray:
        """The picture of a Face: uint8 [H, W, 3]; of a list of them: [N, H, W, 3]. Written to `path` too, if given.

        path: file name ending in .png or .jpg; for a list of Faces a list of them.
        """
        drawn = self.images(face, rate, batch)
        if isinstance(face, Face):
            if path is not None:
                pictures.save_image(drawn[0], path)
            return drawn[0]
        if isinstance(path, str) or path is not None and len(path) != len(drawn):
            raise UserError(f'render: {len(drawn)} faces want a list of {len(drawn)} file names')
        for picture, name in zip(drawn, path or []):
            pictures.save_image(picture, name)
        return drawn

    def dlatents(self, faces: Faces, rate: Optional[float] = None, batch: int = _BATCH) -> np.ndarray:
        """w [N, num_layers, dlatent_size] of Faces or coefficients; truncated with `rate` unless that is None."""
        tensor = self.w if rate is None else self._w_truncated
        return self._run([tensor], self._stack(faces), 1.0 if rate is None else rate, batch)[0]

    def identity_dlatents(self, faces: Faces, batch: int = _BATCH) -> np.ndarray:
        """w of the identity alone, the other coefficients and the noise zero."""
        return self._run([self._w_identity], self._stack(faces), 1.0, batch)[0]

    def images_from_dlatents(self, w: np.ndarray, batch: int = 8) -> np.ndarray:
        """Pictures of w [N, num_layers, dlatent_size]: uint8 [N, H, W, 3]."""
        return self.images_and_health_from_dlatents(w, batch)[0]

    def images_and_health_from_dlatents(self, w: np.ndarray, batch: int = 8) -> Tuple[np.ndarray, np.ndarray]:
        """`images_from_dlatents`, and for each whether all its values were finite: bool [N]. NaN becomes black."""
        w = np.asarray(w, np.float32)
        if w.ndim != 3 or w.shape[1:] != (self.num_layers, self.dlatent_size):
            raise UserError(f'w of shape {list(w.shape)}: {self.path} takes [N, {self.num_layers}, '
                            f'{self.dlatent_size}]')
        return self.run([self._images, self._finite], self._with_noise({self._w_truncated: w}, w), batch)

    def _run(self, tensors, coeffs, rate, batch):
        """`tensors` for all coefficients, `batch` at a time."""
        average = np.zeros([self.num_layers, self.dlatent_size]) if rate == 1 else self.average_w
        return self.run(tensors, self._with_noise({self.coeffs_in: coeffs}, coeffs), batch,
                        same={self._rate_in: rate, self._average_in: average})

    def _with_noise(self, arrays, rows):
        """Of 'random' noise: each picture has maps of its own, which follow from what it is drawn from."""
        if self._noise_mode == 'random':
            arrays[self._seeds_in] = np.array([[zlib.crc32(row.tobytes()), 0] for row in rows], np.int64)
        return arrays

    # ---- what it was made of

    @property
    def average_w(self) -> np.ndarray:
        """Mean of w over 50000 random identities, float32 [num_layers, dlatent_size]; found, or computed and kept."""
        if self._average is None:
            self._average = truncation.find_average(self, self._average_path)
        return self._average

    def load_all(self, rate: float = RATE) -> None:
        """Load the VAEs and, unless rate is 1, the average of w now, so that what is wrong with them is said first."""
        self.mean_face()
        if rate != 1:
            self.average_w      # noqa: B018

    def average_tag(self) -> str:
        """What the average of w depends on, as a digest: the model and the identity VAE."""
        return files_digest([self.path] + _checkpoint_files('id', self.vae_weights))

    def identify(self) -> Dict[str, Optional[str]]:
        """{'model', 'vae_weights', 'average_w'}: digests of the files that decide how pictures look.

        average_w is None where it is the one computed of this model. And 'precision', where it is another than float32.
        """
        weights = [path for factor in factors.FACTORS for path in _checkpoint_files(factor.name, self.vae_weights)]
        average = truncation.stored_digest(self, self._average_path)
        made_of = {'model': files_digest([self.path]), 'vae_weights': files_digest(weights), 'average_w': average}
        if self._noise_mode != 'const':
            made_of['noise_mode'] = self._noise_mode
        return made_of if self.precision == 'float32' else dict(made_of, precision=self.precision)


def _pictures(images):
    """Images [N, 3, H, W] in [-1, 1] -> uint8 [N, H, W, 3], the same as float32 in 0-255, which are finite [N]."""
    finite = tf.is_finite(images)
    images_255 = image_ops.nchw_to_nhwc(image_ops.clip_255(image_ops.to_255(images)))
    zeros = tf.zeros_like(images_255)           # NaN has no defined integer
    pictures = tf.cast(tf.where(image_ops.nchw_to_nhwc(finite), images_255, zeros), tf.uint8)
    return pictures, images_255, tf.reduce_all(finite, axis=[1, 2, 3])


def _checkpoint_files(name, weights):
    return checkpoints.data_files(find_checkpoint(name, weights))
