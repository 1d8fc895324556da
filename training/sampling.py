"""Faces from a trained generator (paper section 4): coefficients, truncation that keeps the attributes, pictures.

    from training.sampling import FaceGenerator
    faces = FaceGenerator('model.pkl')          # the default model when omitted
    face = faces.random_face(seed=3)            # coefficients by name
    face.yaw = 0.4                              # radians
    faces.render(face, 'face.png')
"""

import contextlib
import hashlib
import os
import subprocess
import sys
from collections import namedtuple

import numpy as np
from tqdm import tqdm

import config
from dnnlib import download
from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib import images as image_ops
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError, atomic_path, pace
from renderer import factors
from training import grids, snapshots, worlds
from training.faces import Face
from training.sampling_options import RATE
from vae.model import Decoders, find_checkpoint

TRUNCATED_ROWS = 8          # the first rows of w, up to 32 pixels: form, not colour
AVERAGE_COUNT = 50000       # identities in the average of w
AVERAGE_SEED = 1
ANSWER_SECONDS = 7          # how long the download server may take to answer
_IDENTITY = factors.BY_NAME['id'].coeffs
_BATCH = 1000               # of the networks that cost next to nothing


# Truncation

def truncated_rows(num_layers):
    """Which rows of w truncation changes: float32 [num_layers, 1] of 1 and 0."""
    return (np.arange(num_layers) < TRUNCATED_ROWS).astype(np.float32)[:, np.newaxis]


def truncate(w, w_identity, average_w, rate=RATE):
    """Truncated w [N, num_layers, dlatent_size]: moved as the identity alone would move towards the average.

    w: of the face; w_identity: of `identity_only` of its coefficients; average_w: [num_layers, dlatent_size].
    Arrays or tensors, float32.
    """
    return w + (average_w - w_identity) * (truncated_rows(int(average_w.shape[0])) * (1 - rate))


def identity_only(coeffs):
    """Coefficients [N, 254 + noise_dim] with everything but identity set to zero, noise too; arrays or tensors."""
    mask = np.zeros(int(coeffs.shape[-1]), np.float32)
    mask[_IDENTITY] = 1
    return coeffs * mask


# Random latents

# latents: [1 + variations, 179], the first row is the subject's own; noise: [noise_dim].
Subject = namedtuple('Subject', 'index latents noise')


def moving_factors(factor):
    """Names of the factors that move within a subject, by number or name: 1 or 'expression' gives ('exp',)."""
    words = [word for word, _ in factors.FACTOR_CHOICES]
    if factor in words:
        factor = words.index(factor)
    if factor not in range(len(words)):
        raise UserError(f'factor {factor!r} is unknown: expected one of '
                        + ', '.join(f'{i} ({word})' for i, word in enumerate(words)))
    return factors.FACTOR_CHOICES[factor][1]


def draw_subjects(seed, subjects, variations, factor=0, noise_dim=factors.NOISE_DIM, wanted=None):
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


# The default model

def embedded_model():
    """Path of the small model that comes with the project in the folder demo, None where there is none."""
    path = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    return path if os.path.isfile(path) else None


def find_model(path=None, vae_weights=None):
    """Path of a model: `path`, else the released model from the cache or the network, else the embedded one.

    Waits at most ANSWER_SECONDS for a server that does not answer, and asks none when the released model could not be
    used: its VAEs (in vae_weights, default config.VAE_WEIGHTS_DIR) do not come with it. UserError where there is no
    model at all.
    """
    if path:
        if not os.path.isfile(path):
            raise UserError(f'--model {path}: no such file; expected a network-snapshot-*.pkl')
        return path
    found = snapshots.find_default_model()
    if found:
        return found
    try:
        if embedded_model() and not _has_vaes(vae_weights):
            raise UserError(f'the released model and its VAEs are not in {config.CACHE_DIR} and '
                            f'{vae_weights or config.VAE_WEIGHTS_DIR}')
        _check_server_answers()
        return snapshots.fetch_default_model()
    except UserError as error:
        if embedded_model():
            print(f'{error}: put {snapshots.MODEL_NAME} there; using the small model {embedded_model()}',
                  file=sys.stderr)
            return embedded_model()
        raise UserError(f'no model: {error}; put {snapshots.MODEL_NAME} into {config.CACHE_DIR} (and '
                        f'{snapshots.AVERAGE_NAME} into {config.CACHE1_DIR}), or name another with --model')


def _has_vaes(folder):
    try:
        return all(find_checkpoint(factor.name, folder) for factor in factors.BY_COEFFS)
    except UserError:
        return False


def _check_server_answers():
    """UserError when Google Drive does not answer soon. In a child: a name look-up cannot be stopped otherwise."""
    code = ('import sys, urllib.error, urllib.request\n'
            'try: urllib.request.urlopen("https://drive.google.com", timeout=float(sys.argv[1])).close()\n'
            'except urllib.error.HTTPError: pass\n'
            'except Exception: sys.exit(1)\n')
    try:
        done = subprocess.run([sys.executable, '-c', code, str(ANSWER_SECONDS)], timeout=ANSWER_SECONDS,
                              stdin=subprocess.DEVNULL).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        raise UserError(f'the released model is not in {config.CACHE_DIR}, Google Drive does not answer')


# The generator

class FaceGenerator:
    """A trained generator with its VAEs, in a graph and session of its own: several may live side by side.

    model: path of a snapshot; None: see `find_model`.
    vae_weights: folder of the four VAEs; None: the one that belongs to the model's world, else config.VAE_WEIGHTS_DIR.
    average_w: path of the average of w over identities; None: the one beside the model, computed once where missing.
    threads: of TensorFlow; None: one for each core. precision: 'bfloat16' is faster on some CPUs, see
    tfutil.session_config, and changes pictures by a few levels of 255.

    Attributes: path, Gs (Network), resolution (pixels), num_layers and dlatent_size (of w), noise_dim, num_coeffs
    (254 + noise_dim). Pictures are uint8 RGB [N, H, W, 3]. UserError for files that are missing or do not fit.
    Use as a context manager, or call `close`.
    """

    def __init__(self, model=None, vae_weights=None, average_w=None, threads=None, precision='float32'):
        self.path = find_model(model, vae_weights)
        worlds.check_part('vae_weights', vae_weights, snapshots.read_world(self.path)['world'])
        self.vae_weights = os.path.abspath(vae_weights or _world_weights(self.path) or config.VAE_WEIGHTS_DIR)
        self._average_path, self._average, self._decoders = average_w, None, None
        self.graph = tf.Graph()
        self.precision = precision
        self.session = tfutil.create_session(threads, self.graph, precision=precision)
        # Coefficients and the average of w are float32 in any case: people keep them.
        self._decoder_session = self.session if precision == 'float32' else tfutil.create_session(threads, self.graph)
        try:
            with self._active():
                self.Gs = snapshots.load_generator(self.path)
                self._check_generator()
                self._build()
        except BaseException:
            self.close()
            raise

    def _check_generator(self):
        """UserError unless this is a generator driven by coefficients."""
        parts = self.Gs.components
        if 'mapping' not in parts or 'synthesis' not in parts:
            raise UserError(f'{self.path}: holds a network {self.Gs.build_func_name}; expected a generator, with a '
                            'mapping and a synthesis part')
        self.num_coeffs = self.Gs.input_shapes[0][1]
        self.num_labels = self.Gs.input_shapes[1][1]
        self.noise_dim = self.num_coeffs - factors.NUM_COEFFS
        self.num_layers, self.dlatent_size = parts.synthesis.input_shapes[0][1:]
        _, channels, self.resolution, _ = parts.synthesis.output_shapes[0]
        if self.noise_dim < 0 or channels != 3:
            raise UserError(f'{self.path}: takes {self.num_coeffs} numbers and gives {channels} channels; expected a '
                            f'face generator: {factors.NUM_COEFFS} coefficients and the noise vector behind them '
                            f'({factors.NUM_COEFFS + factors.NOISE_DIM} in all), 3 channels')

    def _build(self):
        """The way from coefficients to pictures as one graph, so that a batch is one session run."""
        self._coeffs_in = coeffs = tf.placeholder(tf.float32, [None, self.num_coeffs])
        self._rate_in = tf.placeholder(tf.float32, [])
        self._average_in = average = tf.placeholder(tf.float32, [self.num_layers, self.dlatent_size])
        mapping = self.Gs.components.mapping
        self._w = mapping.get_output_for(coeffs, None)                          # [N, num_layers, dlatent_size]
        self._w_identity = mapping.get_output_for(identity_only(coeffs), None)
        self._w_truncated = truncate(self._w, self._w_identity, average, self._rate_in)
        pictures = self.synthesize(self._w_truncated, randomize_noise=False)
        finite = tf.is_finite(pictures)
        self._images_255 = image_ops.nchw_to_nhwc(image_ops.clip_255(image_ops.to_255(pictures)))
        zeros = tf.zeros_like(self._images_255)         # NaN has no defined integer
        self._images = tf.cast(tf.where(image_ops.nchw_to_nhwc(finite), self._images_255, zeros), tf.uint8)
        self._finite = tf.reduce_all(finite, axis=[1, 2, 3])

    def synthesize(self, w, **noise):
        """Pictures [N, 3, R, R], RGB, [-1, 1], of w [N, num_layers, dlatent_size], both tensors of this graph.

        noise: options of G_synthesis about its noise.
        """
        synthesis = self.Gs.components.synthesis
        with self._active():
            # A finished network (lod 0) needs none of the switches between resolutions: half the graph, a faster start.
            structure = 'fixed' if synthesis.get_var('lod') <= 0 else 'auto'
            return synthesis.get_output_for(w, structure=structure, **noise)

    @contextlib.contextmanager
    def _active(self):
        """Make this generator's graph and session the default ones, whatever is open outside."""
        if self.session is None:
            raise RuntimeError('this FaceGenerator is closed')
        with self.graph.as_default(), self.session.as_default():
            yield

    def close(self):
        """Give back memory and devices; closing twice is harmless."""
        if self.session is not None:
            self._decoder_session.close()
            self.session.close()
            self.session = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    # ---- coefficients

    def decode(self, latents):
        """z [N, 179] (order id, exp, gamma, rot) -> lambda [N, 254] (order id, exp, rot, gamma), float32."""
        with self._active(), self._decoder_session.as_default():
            if self._decoders is None:
                decoders = Decoders(self.vae_weights)
                decoders.restore()
                self._decoders = decoders
            return self._decoders.run(latents)

    def faces_from_latents(self, latents, noise=None):
        """List of N Faces decoded from z [N, 179]. noise: [N, noise_dim], [noise_dim] or None (zeros)."""
        latents = np.asarray(latents, np.float32)
        noise = np.zeros(self.noise_dim) if noise is None else noise
        noise = np.broadcast_to(noise, [len(latents), self.noise_dim])
        return [Face(np.concatenate([coeffs, n]), z) for coeffs, n, z in zip(self.decode(latents), noise, latents)]

    def random_face(self, seed=None):
        """A random Face; the same for the same seed (int, or RandomState to draw from)."""
        return self.random_faces(1, seed)[0]

    def random_faces(self, count, seed=None):
        """List of `count` random Faces; the first is `random_face(seed)`."""
        rng = seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)
        normals = rng.standard_normal([count, factors.NUM_LATENTS + self.noise_dim])
        return self.faces_from_latents(normals[:, :factors.NUM_LATENTS], normals[:, factors.NUM_LATENTS:])

    def mean_face(self):
        """The Face of zero latents and zero noise: the middle of the training data."""
        return self.faces_from_latents(np.zeros([1, factors.NUM_LATENTS]))[0]

    def subject_faces(self, subjects):
        """The Faces of the variations of each Subject: a list of lists.

        What does not move within a subject is exactly the same number in all of its faces.
        """
        decoded = np.split(self.decode(np.concatenate([subject.latents for subject in subjects])),
                           np.cumsum([len(subject.latents) for subject in subjects])[:-1])
        return [[self._varied(subject, rows, i) for i in range(1, len(rows))]
                for subject, rows in zip(subjects, decoded)]

    @staticmethod
    def _varied(subject, rows, i):
        """Face of variation i (from 1): the subject's own numbers, and rows[i] for the factors that move."""
        z, own = subject.latents[i], subject.latents[0]
        face = Face(np.concatenate([rows[0], subject.noise]), z.astype(np.float32))
        for factor in factors.FACTORS:
            if not np.array_equal(z[factor.latents], own[factor.latents]):
                face.coeffs[factor.coeffs] = rows[i, factor.coeffs]
        return face

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

    def images(self, faces, rate=RATE, batch=8):
        """Pictures of Faces (or of coefficients [N, num_coeffs]): uint8 [N, H, W, 3], whatever the batch."""
        return self.images_and_health(faces, rate, batch)[0]

    def images_and_health(self, faces, rate=RATE, batch=8):
        """`images`, and for each whether all its values were finite: bool [N]. NaN becomes black."""
        return self._run([self._images, self._finite], self._stack(faces), rate, batch)

    def images_float(self, faces, rate=RATE, batch=8):
        """`images` before the rounding: float32 in 0-255."""
        return self._run([self._images_255], self._stack(faces), rate, batch)[0]

    def render(self, face, path=None, rate=RATE, batch=8):
        """The picture of a Face: uint8 [H, W, 3]; of a list of them: [N, H, W, 3]. Written to `path` too, if given.

        path: file name ending in .png or .jpg; for a list of Faces a list of them.
        """
        pictures = self.images(face, rate, batch)
        if isinstance(face, Face):
            pictures = pictures[0]
            if path is not None:
                grids.save_image(pictures, path)
        elif path is not None:
            if isinstance(path, str) or len(path) != len(pictures):
                raise UserError(f'render: {len(pictures)} faces want a list of {len(pictures)} file names')
            for picture, name in zip(pictures, path):
                grids.save_image(picture, name)
        return pictures

    def dlatents(self, faces, rate=None, batch=_BATCH):
        """w [N, num_layers, dlatent_size] of Faces or coefficients; truncated with `rate` unless that is None."""
        tensor = self._w if rate is None else self._w_truncated
        return self._run([tensor], self._stack(faces), 1.0 if rate is None else rate, batch)[0]

    def identity_dlatents(self, faces, batch=_BATCH):
        """w of the identity alone, the other coefficients and the noise zero."""
        return self._run([self._w_identity], self._stack(faces), 1.0, batch)[0]

    def images_from_dlatents(self, w, batch=8):
        """Pictures of w [N, num_layers, dlatent_size]: uint8 [N, H, W, 3]."""
        return self.images_and_health_from_dlatents(w, batch)[0]

    def images_and_health_from_dlatents(self, w, batch=8):
        """`images_from_dlatents`, and for each whether all its values were finite: bool [N]. NaN becomes black."""
        w = np.asarray(w, np.float32)
        if w.ndim != 3 or w.shape[1:] != (self.num_layers, self.dlatent_size):
            raise UserError(f'w of shape {list(w.shape)}: {self.path} takes [N, {self.num_layers}, '
                            f'{self.dlatent_size}]')
        parts = [self.session.run([self._images, self._finite], {self._w_truncated: w[i:i + batch]})
                 for i in range(0, len(w), batch)]
        return [np.concatenate(part) for part in zip(*parts)]

    def _run(self, tensors, coeffs, rate, batch):
        """`tensors` for all coefficients, `batch` at a time."""
        if self.session is None:
            raise RuntimeError('this FaceGenerator is closed')
        average = np.zeros([self.num_layers, self.dlatent_size]) if rate == 1 else self.average_w
        parts = [self.session.run(tensors, {self._coeffs_in: coeffs[i:i + batch], self._rate_in: rate,
                                            self._average_in: average}) for i in range(0, len(coeffs), batch)]
        return [np.concatenate(part) if len(part) > 1 else part[0] for part in zip(*parts)]

    # ---- average of w

    @property
    def average_w(self):
        """Mean of w over 50000 random identities, float32 [num_layers, dlatent_size]; found, or computed and kept."""
        if self._average is None:
            self._average = self._find_average()
        return self._average

    def _find_average(self):
        if self._average_path:
            return self._load_average(self._average_path)
        tag = self._average_tag()
        kept = snapshots.find_average_w(self.path)
        for path in [kept, self._spare_average_path(tag)]:
            if path and os.path.isfile(path):
                if _stored_tag(path) in (None, tag):        # no tag: another program's, e.g. the downloaded one
                    return self._load_average(path)
                print(f'{path}: belongs to another model or other VAEs; computing it again', file=sys.stderr)
        average = self.compute_average_w()
        self._keep_average(average, tag)
        return average

    def _load_average(self, path):
        average = snapshots.load_average_w(path)
        if average.shape != (self.num_layers, self.dlatent_size):
            raise UserError(f'{path}: holds {list(average.shape)} numbers; the average of w of {self.path} is '
                            f'[{self.num_layers}, {self.dlatent_size}]; remove the file and it is computed again')
        return average

    def compute_average_w(self, count=None):
        """Mean of w over `count` (50000) random identities, float32; expression, lighting, pose zero, noise random."""
        count = count or AVERAGE_COUNT
        rng = np.random.RandomState(AVERAGE_SEED)
        total = np.zeros([self.num_layers, self.dlatent_size])
        mapping = self.Gs.components.mapping
        with self._active(), tfutil.float32_session(mapping.vars.values()), \
                tqdm(total=count, desc='average of w', unit='id', mininterval=pace(), leave=False) as bar:
            for start in range(0, count, _BATCH):
                normals = rng.standard_normal([min(_BATCH, count - start), factors.NUM_LATENTS + self.noise_dim])
                coeffs = np.zeros([len(normals), self.num_coeffs], np.float32)
                coeffs[:, _IDENTITY] = self.decode(normals[:, :factors.NUM_LATENTS])[:, _IDENTITY]
                coeffs[:, factors.NUM_COEFFS:] = normals[:, factors.NUM_LATENTS:]
                total += tfutil.run(self._w, {self._coeffs_in: coeffs}).sum(axis=0, dtype=np.float64)
                bar.update(len(normals))
        return (total / count).astype(np.float32)

    def _average_tag(self):
        """What the average depends on, as a digest: the model and the identity VAE."""
        return _digest([self.path] + _checkpoint_files('id', self.vae_weights))

    def _spare_average_path(self, tag):
        stem = os.path.splitext(os.path.basename(self.path))[0]
        return os.path.join(config.AVERAGE_CACHE_DIR, f'{stem}-{tag[:12]}{snapshots.AVERAGE_SUFFIX}')

    def _keep_average(self, average, tag):
        """Beside the model; in the user's cache folder where that cannot be written; a line on stderr says so."""
        errors = []
        for path in (snapshots.average_w_path(self.path), self._spare_average_path(tag)):
            try:
                with atomic_path(path) as temporary:
                    np.savetxt(temporary, average, header=f'average of w over {AVERAGE_COUNT} identities {tag}')
                if errors:
                    print(f'{errors[0]}; the average of w is kept as {path}', file=sys.stderr)
                return
            except UserError as error:
                errors.append(error)
        print(f'{errors[-1]}; the average of w is not kept and will be computed again', file=sys.stderr)

    # ---- what it was made of

    def prepare(self, rate=RATE):
        """Load the VAEs and, unless rate is 1, the average of w now, so that what is wrong with them is said first."""
        self.mean_face()
        if rate != 1:
            self.average_w      # noqa: B018

    def identify(self):
        """{'model', 'vae_weights', 'average_w'}: digests of the files that decide how pictures look.

        And 'precision', where it is another than float32.
        """
        weights = [path for factor in factors.FACTORS for path in _checkpoint_files(factor.name, self.vae_weights)]
        average = _digest([self._average_path]) if self._average_path else None
        made_of = {'model': _digest([self.path]), 'vae_weights': _digest(weights), 'average_w': average}
        return made_of if self.precision == 'float32' else dict(made_of, precision=self.precision)


def _world_weights(model):
    """Folder of the VAEs that the model's world names, relative to the model; None: the usual one."""
    folder = snapshots.read_world(model).get('vae_weights')
    return os.path.join(os.path.dirname(os.path.abspath(model)), folder) if folder else None


def _checkpoint_files(name, weights):
    return checkpoints.data_files(find_checkpoint(name, weights))


def _digest(paths):
    """SHA-256 of files' contents together."""
    return hashlib.sha256(' '.join(download.sha256(path) for path in paths).encode()).hexdigest()


def _stored_tag(path):
    """The digest in the first line of an average of w that `FaceGenerator` wrote, None in others."""
    with open(path, encoding='utf-8', errors='replace') as file:
        words = file.readline(1000).split()
    return words[-1] if words[:1] == ['#'] and len(words[-1]) == 64 else None


# A check of the first pictures

def find_trouble(images, finite=None):
    """One line that says why pictures (uint8 [N, H, W, 3]) look broken, None when they look like pictures.

    finite: bool [N] as from `images_and_health`. Broken: NaN, almost one colour, or noise without form: GPUs that an
    old TensorFlow does not know were seen to give such.
    """
    hint = 'a wrong --model, a training that failed, or a GPU this TensorFlow does not know; compare with the CPU ' \
           '(CUDA_VISIBLE_DEVICES=-1)'
    if finite is not None and not np.all(finite):
        return f'{np.sum(~np.asarray(finite))} of {len(finite)} pictures hold NaN or infinity: {hint}'
    grey = np.asarray(images, np.float32).mean(axis=3)
    spread = np.median(grey.std(axis=(1, 2)))
    if spread < 2.0:
        return f'pictures are almost one colour (standard deviation {spread:.1f} of 255): {hint}'
    likeness = np.median([_neighbour_correlation(image) for image in grey])
    if likeness < 0.2:
        return f'pictures look like noise (correlation of neighbouring pixels {likeness:.2f}): {hint}'
    return None


def _neighbour_correlation(grey):
    """Correlation of horizontally and vertically neighbouring pixels, the smaller of the two; [H, W] -> float."""
    x = grey - grey.mean()
    power = max(float(np.mean(x * x)), 1e-6)
    return min(float(np.mean(x[:, 1:] * x[:, :-1])), float(np.mean(x[1:] * x[:-1]))) / power


# Many pictures

Job = namedtuple('Job', 'name face')        # a picture to be made: file name without extension, Face


def picture_name(subject, variation):
    """'003_01' for subject 3, variation 1; wider where the numbers are."""
    return f'{subject:03d}_{variation:02d}'


def subject_jobs(faces, subjects, has):
    """Yield the Jobs of Subjects, without those whose picture name is already there. has: name -> bool."""
    for block in _chunks(subjects, 32):
        for subject, variations in zip(block, faces.subject_faces(block)):
            for i, face in enumerate(variations):
                if not has(picture_name(subject.index, i)):
                    yield Job(picture_name(subject.index, i), face)


def generate(faces, jobs, folder, total, rate=RATE, batch=8):
    """Make the pictures of `jobs` (iterable of Job) with a FaceGenerator and put them into an ImageFolder.

    A PhotoEditor serves as well; then each Job's face is an Edit.
    total: number of jobs, for the bar. Returns the number of pictures that hold NaN. Warns once on stderr when the
    first pictures look broken, and goes on.
    """
    broken, first = 0, True
    with folder, tqdm(total=total, unit='img', mininterval=pace(), disable=not total) as bar:
        for chunk in _chunks(jobs, batch):
            pictures, finite = faces.images_and_health([job.face for job in chunk], rate, batch)
            trouble = find_trouble(pictures, finite) if first else None
            if trouble:
                bar.write(f'warning: {trouble}', file=sys.stderr)
            for job, picture in zip(chunk, pictures):
                folder.save(job.name, picture, job.face)
            broken, first = broken + int(np.sum(~finite)), False
            bar.update(len(chunk))
    return broken


def _chunks(items, size):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
