"""Real photos into the generator and out again, changed (paper section 4: embedding in w+, editing by coefficients).

    from sampling.editing import PhotoEditor
    editor = PhotoEditor(faces, specs)                              # a FaceGenerator; specs of perception networks
    embedding = editor.embed(photos, [Face.load('me.mat')])[0]      # minutes, once
    turned = embedding.face.copy()
    turned.yaw = 0.4                                                # radians
    editor.images([Edit(embedding, turned)])

The search finds w, one row for each layer, with which the generator draws the photo. An edit then moves w by
mapping(changed coefficients) - mapping(the photo's own coefficients), the same noise vector in both.
"""

from collections import namedtuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from dnnlib.tflib import images as image_ops
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError, atomic_path, pace
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


def fit_photo(photo, resolution):
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


class Embedding:
    """A photo as the generator knows it.

    face: Face, its coefficients and the noise vector that was found. w: float32 [num_layers, dlatent_size].
    error: mean absolute difference between photo and picture, of 255. likeness: cosine of their identities.
    """

    def __init__(self, face, w, error, likeness):
        self.face, self.w = face, np.asarray(w, np.float32)
        self.error, self.likeness = float(error), float(likeness)

    def save(self, path, tag=''):
        """Write an .npz file. tag: what the embedding was made of, see `load`."""
        with atomic_path(path) as temporary:
            np.savez(temporary, w=self.w, error=self.error, likeness=self.likeness, tag=tag, **self.face.arrays())

    @classmethod
    def load(cls, path, tag=None):
        """Read what `save` wrote; None where that is not to be had, or was made of something else than `tag`."""
        try:
            arrays = coefficient_files.read_arrays(path, ('tag', 'w', 'error', 'likeness'))
            if tag is not None and str(arrays.get('tag')) != tag:
                return None
            w = coefficient_files.numbers(arrays, 'w', None, path).reshape(np.shape(arrays['w']))
            return cls(Face.load(path), w, arrays['error'], arrays['likeness'])
        except (UserError, KeyError, TypeError, ValueError):        # damaged, or another program's: it is made again
            return None


class Edit(namedtuple('Edit', 'embedding face')):
    """A picture to be drawn: an Embedding, and the Face (coefficients) it shall have."""

    def save(self, path):
        """Write the coefficients, see Face.save."""
        self.face.save(path)


class PhotoEditor:
    """Embeds photos into a FaceGenerator's w+ and draws them with other coefficients.

    faces: FaceGenerator; the search is built into its graph. specs: of the perception networks (perception.Experts),
    of which the identity network is used; w_id 0 does without. batch: photos searched for together.
    """

    def __init__(self, faces, specs=None, w_id=W_ID, batch=4):
        self._faces, self._specs, self._w_id, self._batch = faces, specs, w_id, batch
        self._searches = None           # built when first asked for: drawing what is embedded already needs none
        self._restored = False          # the networks of the search

    # ---- the search

    def _prepare(self):
        """The graph of the search and its networks' weights, each unless it is there."""
        with self._faces.graph.as_default(), self._faces.session.as_default():
            if self._searches is None:
                self._experts = Experts(self._specs, names=('id',)) if self._w_id else None
                self._build_pictures()
            if self._experts and not self._restored:
                self._experts.restore()
                self._restored = True

    def _build_pictures(self):
        """Variables: noise vector and offset of w; everything else is fed."""
        faces, batch, size = self._faces, self._batch, self._faces.resolution
        self._photos_in = tf.placeholder(tf.uint8, [batch, size, size, 3])
        self._coeffs_in = tf.placeholder(tf.float32, [batch, factors.NUM_COEFFS])
        self._rate_in = tf.placeholder(tf.float32, [])
        with tf.variable_scope('photo_editor'):
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
        self._searches = []
        for variable in (self._noise, self._offset):
            adam = tf.train.AdamOptimizer(self._rate_in, beta1=0.9, beta2=0.99)
            step = adam.minimize(tf.reduce_sum(loss), var_list=[variable])      # a sum: photos do not meet
            self._searches.append((step, adam.variables()))
        self._start = tf.variables_initializer(
            [self._noise, self._offset] + [v for _, slots in self._searches for v in slots])

    def _identity_likeness(self, photos, fakes):
        if not self._experts:
            return tf.ones([self._batch])
        a, b = (tf.nn.l2_normalize(self._experts.identity(x), axis=1) for x in (photos, fakes))
        return tf.reduce_sum(a * b, axis=1)

    def embed(self, photos, faces, steps=STEPS, progress=None):
        """Embeddings of up to `batch` photos; a search of `steps` steps from the coefficients' own picture.

        None in place of those that end in NaN or infinity.
        photos: uint8 [N, R, R, 3] RGB, R the generator's resolution; faces: list of N Faces, or arrays [254], the
        reconstruction network's estimates. progress: called after each step. UserError on wrong sizes, and when the
        identity network's weights are missing.
        """
        photos, count = np.asarray(photos), len(photos)
        size = self._faces.resolution
        if photos.dtype != np.uint8 or photos.shape[1:] != (size, size, 3) or not 1 <= count <= self._batch:
            raise UserError(f'photos: 1 to {self._batch} of [{size}, {size}, 3] uint8 were expected, '
                            f'{photos.dtype} {list(photos.shape)} given')
        rows = [face.coeffs if isinstance(face, Face) else np.asarray(face, np.float32) for face in faces]
        if len(rows) != count or any(len(row) < factors.NUM_COEFFS for row in rows):
            raise UserError(f'faces: {count}, as many as photos, of {factors.NUM_COEFFS} numbers or more were expected')
        self._prepare()
        full = np.minimum(np.arange(self._batch), count - 1)        # the last photo fills a batch
        feed = {self._photos_in: photos[full],
                self._coeffs_in: np.stack([row[:factors.NUM_COEFFS] for row in rows])[full]}
        session = self._faces.session
        session.run(self._start)
        first = int(round(steps * _NOISE_SHARE))
        for (step, _), rate, length in zip(self._searches, _RATES, (first, steps - first)):
            for i in range(length):
                feed[self._rate_in] = rate * min(1.0, 2.0 - 2.0 * i / length)
                session.run(step, feed)
                if progress:
                    progress()
        found = session.run([self._noise, self._w, self._error, self._likeness], feed)
        return [Embedding(Face(np.concatenate([row[:factors.NUM_COEFFS], noise])), w, error, likeness)
                if np.isfinite(noise).all() and np.isfinite(w).all() and np.isfinite(error) else None
                for row, noise, w, error, likeness in zip(rows, *found)]

    # ---- pictures

    def dlatents(self, edits):
        """w of Edits, float32 [N, num_layers, dlatent_size]: the embedding's, moved by the change of coefficients."""
        own = np.stack([edit.embedding.face.coeffs for edit in edits])
        new = own.copy()
        new[:, :factors.NUM_COEFFS] = [edit.face.coeffs[:factors.NUM_COEFFS] for edit in edits]
        move = self._faces.dlatents(new) - self._faces.dlatents(own)
        return np.stack([edit.embedding.w for edit in edits]) + move

    def images(self, edits, batch=8):
        """Pictures of Edits: uint8 [N, H, W, 3] RGB."""
        return self._faces.images_from_dlatents(self.dlatents(edits), batch)

    def images_and_health(self, edits, rate=1.0, batch=8):
        """`images`, and for each whether all its values were finite: what sampling.generate asks for. No truncation."""
        return self._faces.images_and_health_from_dlatents(self.dlatents(edits), batch)


def pyramid_l1(a_nchw, b_nchw):
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


# Many photos

Photo = namedtuple('Photo', 'name picture face path tag')     # what is to be embedded, where to, what it is made of


def embed_photos(editor, photos, steps=STEPS, batch=4):
    """Embeddings of Photos, {name: Embedding}: those on disk, and the others searched for and written.

    None for those whose search ends in NaN or infinity.
    Batch by batch, with a bar: what is written is not done again after an interruption.
    """
    found = {photo.name: Embedding.load(photo.path, photo.tag) for photo in photos}
    todo = [photo for photo in photos if found[photo.name] is None]
    with tqdm(total=-(-len(todo) // batch) * steps, desc='embedding', unit='step', mininterval=pace(),
              disable=not todo) as bar:
        for start in range(0, len(todo), batch):
            group = todo[start:start + batch]
            embeddings = editor.embed(np.stack([photo.picture for photo in group]), [photo.face for photo in group],
                                      steps, bar.update)
            for photo, embedding in zip(group, embeddings):
                found[photo.name] = embedding
                if embedding:
                    embedding.save(photo.path, photo.tag)
    return found
