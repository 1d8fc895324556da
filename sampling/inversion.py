"""Photos into the generator (paper section 4): a search for the w+, a row for each layer, that draws the photo.

    from sampling.inversion import Inverter
    inverter = Inverter(faces, specs)                               # a FaceGenerator; specs of perception networks
    inversion = inverter.invert(photos, [Face.load('me.mat')])[0]   # minutes, once

What is done with an inversion: sampling/editing.py.
"""

import io
import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from dnnlib import places
from dnnlib.tflib import images as image_ops
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError, pace
from perception.experts import Experts
from renderer import coefficient_files, factors
from sampling.faces import Face
from sampling.options import STEPS, W_ID

_NOISE_SHARE = 0.25     # of the steps, at the beginning, which move only the noise vector
_W_OFFSET = 0.05        # mean square of the offset of w, in units of w's spread: freer ones copy better, obey less
_W_NOISE = 0.01         # mean square of the noise vector, which is N(0, 1) in training
_SPREAD_FACES = 256     # random faces that tell w's spread
_RATES = (0.05, 0.08)   # of Adam, noise vector and offset; they fall to 0 over the second half of each search
_SMALLEST = 8           # pixels; of the halved pictures that are compared too


def fit_photo(photo: np.ndarray, resolution: int) -> np.ndarray:
    """A square photo [S, S, 3] uint8 RGB in the generator's size: [resolution, resolution, 3]. UserError: not square.

    Averages where it gets smaller, as training pictures are made, else bicubic.
    """
    height, width = photo.shape[:2]
    if height != width:
        raise UserError(f'{width} x {height} pixels: a square, aligned picture was expected, as preprocess_data.py '
                        'makes it')
    smaller = resolution < width
    resized = Image.fromarray(photo).resize((resolution, resolution), Image.BOX if smaller else Image.BICUBIC)
    return np.asarray(resized)


class Inversion:
    """A photo as the generator knows it.

    face: Face, its coefficients and the noise vector that was found. w: float32 [num_layers, dlatent_size].
    error: mean absolute difference between photo and picture, of 255. likeness: cosine of their identities.
    """

    def __init__(self, face: Face, w: np.ndarray, error: float, likeness: float) -> None:
        self.face, self.w = face, np.asarray(w, np.float32)
        self.error, self.likeness = float(error), float(likeness)

    def encoded(self) -> bytes:
        """The bytes of an .npz file."""
        file = io.BytesIO()
        np.savez(file, w=self.w, error=self.error, likeness=self.likeness, **self.face.arrays())
        return file.getvalue()

    @classmethod
    def load(cls, path: str) -> 'Inversion':
        """Read such a file. UserError when it is damaged, or another program's."""
        arrays = coefficient_files.read_arrays(path, ('w', 'error', 'likeness'))
        try:
            w = coefficient_files.numbers(arrays, 'w', None, path).reshape(np.shape(arrays['w']))
            return cls(Face.load(path), w, arrays['error'], arrays['likeness'])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f'{path}: no inversion of a photo; remove it and it is made again') from error


class Inverter:
    """Searches for photos in a FaceGenerator's w+; the search is built into the generator's graph.

    specs: of the perception networks (perception.Experts), of which the identity network is used; w_id 0 does without.
    batch: photos searched for together. UserError when the identity network's weights are missing.
    """

    def __init__(self, faces: Any, specs: Optional[Dict[str, Any]] = None, w_id: float = W_ID, batch: int = 4) -> None:
        self._faces, self._w_id, self._batch = faces, w_id, batch
        with faces.active():
            self._experts = Experts(specs, names=('id',)) if w_id else None
            self._build_pictures()
            if self._experts:
                self._experts.restore()

    def _build_pictures(self):
        """Variables: noise vector and offset of w; everything else is fed."""
        faces, batch, size = self._faces, self._batch, self._faces.resolution
        self._photos_in = tf.placeholder(tf.uint8, [batch, size, size, 3])
        self._coeffs_in = tf.placeholder(tf.float32, [batch, factors.NUM_COEFFS])
        self._rate_in = tf.placeholder(tf.float32, [])
        with tf.variable_scope('inversion'):
            self._noise = tf.Variable(tf.zeros([batch, faces.noise_dim]), trainable=False)
            self._offset = tf.Variable(tf.zeros([batch, faces.num_layers, faces.dlatent_size]), trainable=False)
        coeffs = tf.concat([self._coeffs_in, self._noise], axis=1)
        offset = self._offset * self._spread_of_w()
        self._w = faces.Gs.components.mapping.get_output_for(coeffs, None) + offset     # [batch, layers, dlatent_size]
        fakes = faces.synthesize(self._w, randomize_noise=False)
        photos = image_ops.from_255(image_ops.nhwc_to_nchw(tf.cast(self._photos_in, tf.float32)))
        self._build_losses(photos, fakes)

    def _spread_of_w(self):
        """Standard deviation of w over random faces, so that one step means the same in every generator."""
        w = self._faces.dlatents(self._faces.random_faces(_SPREAD_FACES, seed=0))
        return np.float32(max(w.std(axis=0).mean(), 1e-6))

    def _build_losses(self, photos, fakes):
        """Loss of each photo [batch], and a step for each of the two searches."""
        shown = tf.clip_by_value(fakes, -1.0, 1.0)
        self._error = tf.reduce_mean(tf.abs(shown - photos), axis=[1, 2, 3]) * 127.5
        self._likeness = self._identity_likeness(photos, fakes)
        loss = pyramid_l1(photos, fakes) + self._w_id * (1.0 - self._likeness)
        loss += _W_OFFSET * tf.reduce_mean(tf.square(self._offset), axis=[1, 2])
        loss += _W_NOISE * tf.reduce_mean(tf.square(self._noise), axis=1)
        self._searches, variables = [], [self._noise, self._offset]
        for variable in (self._noise, self._offset):
            adam = tf.train.AdamOptimizer(self._rate_in, beta1=0.9, beta2=0.99)
            step = adam.minimize(tf.reduce_sum(loss), var_list=[variable])      # a sum: photos do not meet
            self._searches.append(step)
            variables += adam.variables()
        self._start = tf.variables_initializer(variables)

    def _identity_likeness(self, photos, fakes):
        if not self._experts:
            return tf.ones([self._batch])
        a, b = (tf.nn.l2_normalize(self._experts.identity(x), axis=1) for x in (photos, fakes))
        return tf.reduce_sum(a * b, axis=1)

    def invert(self, photos: np.ndarray, faces: Sequence[Any], steps: int = STEPS,
               progress: Optional[Callable[[], Any]] = None) -> List[Optional[Inversion]]:
        """Inversions of up to `batch` photos; a search of `steps` steps from the coefficients' own picture.

        None in place of those that end in NaN or infinity.
        photos: uint8 [N, R, R, 3] RGB, R the generator's resolution; faces: list of N Faces, or arrays [254], the
        reconstruction network's estimates. progress: called after each step. UserError on wrong sizes.
        """
        photos = np.asarray(photos)
        coeffs = self._checked(photos, faces)
        full = np.minimum(np.arange(self._batch), len(photos) - 1)      # the last photo fills a batch
        feed = {self._photos_in: photos[full], self._coeffs_in: coeffs[full]}
        session = self._faces.session
        session.run(self._start)
        first = int(round(steps * _NOISE_SHARE))
        for step, rate, length in zip(self._searches, _RATES, (first, steps - first)):
            for i in range(length):
                feed[self._rate_in] = rate * min(1.0, 2.0 - 2.0 * i / length)
                session.run(step, feed)
                if progress:
                    progress()
        found = session.run([self._noise, self._w, self._error, self._likeness], feed)
        return [_inversion(*numbers) for numbers in zip(coeffs, *found)]

    def _checked(self, photos, faces):
        """The coefficients [N, 254] of the faces; UserError where photos or faces have other sizes."""
        size = self._faces.resolution
        if photos.dtype != np.uint8 or photos.shape[1:] != (size, size, 3) or not 1 <= len(photos) <= self._batch:
            raise UserError(f'photos: 1 to {self._batch} of [{size}, {size}, 3] uint8 were expected, '
                            f'{photos.dtype} {list(photos.shape)} given')
        rows = [face.coeffs if isinstance(face, Face) else np.asarray(face, np.float32) for face in faces]
        if len(rows) != len(photos) or any(len(row) < factors.NUM_COEFFS for row in rows):
            raise UserError(f'faces: {len(photos)}, as many as photos, of {factors.NUM_COEFFS} numbers or more were '
                            'expected')
        return np.stack([row[:factors.NUM_COEFFS] for row in rows])


def _inversion(coeffs, noise, w, error, likeness):
    if not (np.isfinite(noise).all() and np.isfinite(w).all() and np.isfinite(error)):
        return None
    return Inversion(Face(np.concatenate([coeffs, noise])), w, error, likeness)


def pyramid_l1(a_nchw: Any, b_nchw: Any) -> Any:
    """Mean absolute difference of pictures [N, C, R, R] at all sizes from R down to 8 pixels, summed: [N].

    Small sizes give far-off features, such as a head that should turn, a gradient; pixels alone do not.
    """
    a, b = image_ops.nchw_to_nhwc(a_nchw), image_ops.nchw_to_nhwc(b_nchw)
    total, size = 0.0, a.shape.as_list()[1]
    while True:
        total += tf.reduce_mean(tf.abs(a - b), axis=[1, 2, 3])
        if size // 2 < _SMALLEST:
            return total
        size //= 2
        a, b = (tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'VALID') for x in (a, b))


# ---- many photos

class Photo(NamedTuple):
    """A photo to be inverted: picture uint8 [R, R, 3], Face of its coefficients, the files both come from."""

    name: str
    picture: np.ndarray
    face: Face
    files: Dict[str, str]               # {what: path}, for the record
    contents: Dict[str, places.Content]     # what the files held when they were read


class Kept:
    """Inversions in a folder, `<name>.npz`, with a record of what each was made from.

    made_with: {what: text}, what inversions depend on besides the photos. UserError when a file is in the way that is
    not as it was made here.
    """

    def __init__(self, folder: str, photos: List[Photo], made_with: Dict[str, str]) -> None:
        self._record, self._made_with, self._folder = places.Record(folder), made_with, folder
        self.todo = [photo for photo in photos if self._record.why_again(photo.name, photo.files, made_with)]
        for photo in photos:
            path = self.path(photo.name)
            if os.path.lexists(path) and not self._record.owns(photo.name + '.npz'):
                raise UserError(f'{path}: there already, and not as an inversion was written here; move it away, or '
                                'choose another --inversions')

    def path(self, name: str) -> str:
        """Path of the inversion of photo `name`."""
        return os.path.join(self._folder, name + '.npz')

    def save(self, photo: Photo, inversion: Inversion) -> None:
        """Write one."""
        self._record.put(photo.name, {photo.name + '.npz': inversion.encoded()}, photo.contents, self._made_with)


def invert_photos(inverter: Callable[[], Inverter], photos: List[Photo], kept: Kept, steps: int = STEPS,
                  batch: int = 4) -> Dict[str, Optional[Inversion]]:
    """{name: Inversion} of Photos: those that are kept, and the others searched for and written.

    None for those whose search ends in NaN or infinity. inverter: makes the Inverter; called when there is work.
    Batch by batch, with a bar: what is written is not done again after an interruption.
    """
    missing = {photo.name for photo in kept.todo}
    found: Dict[str, Optional[Inversion]] = {photo.name: Inversion.load(kept.path(photo.name)) for photo in photos
                                             if photo.name not in missing}
    if not missing:
        return found
    searcher = inverter()
    with tqdm(total=-(-len(missing) // batch) * steps, desc='inversion', unit='step', mininterval=pace()) as bar:
        for start in range(0, len(kept.todo), batch):
            group = kept.todo[start:start + batch]
            inversions = searcher.invert(np.stack([photo.picture for photo in group]), [photo.face for photo in group],
                                         steps, bar.update)
            for photo, inversion in zip(group, inversions):
                found[photo.name] = inversion
                if inversion:
                    kept.save(photo, inversion)
    return found
