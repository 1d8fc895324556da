"""What each of a world's small experts is taught and how it is measured: pictures, targets, loss.

A lesson has: name, network (its name in perception.experts), build(options), batch(album, random, options) of NumPy
arrays, feed(batch), loss, shown (tensors) with describe(their means), statistics(album), measure(specs, album).
"""

from collections import namedtuple

import numpy as np

from dnnlib.tflib.compat import tf
from dnnlib.tflib.runner import GraphRunner
from perception import experts, networks_small
from renderer import factors, surface
from renderer.face_decoder import FaceDecoder, project_224

IDENTITY = factors.BY_NAME['id'].coeffs
GROUPS = (('shape', factors.SHAPE, 1.0), ('texture', factors.TEXTURE, 1.0), ('expression', factors.EXPRESSION, 1.5),
          ('pose', factors.ANGLES, 2.0), ('lighting', factors.LIGHTING, 1.5), ('translation', factors.TRANSLATION, 1.0))
SEEN = {'shape': 'mesh moved by identity', 'albedo': 'albedo', 'expression': 'mesh moved by expression'}

World = namedtuple('World', 'photos model')     # what is taught: the world's module expert_photos, its FaceModel

EVEN = 0.2                  # part of a loss in which coefficients count alike; the rest by how much they change
LANDMARK_UNIT = 3.0         # pixels of 224: an error of this counts as much as a coefficient off by its spread
TEMPERATURE = 0.12          # of the cosines between people


class Lesson:
    """What lessons share."""

    name = network = None

    def __init__(self, world):
        self.world = world

    def network_variables(self):
        """Variables of the network alone, without those that only training needs."""
        return [v for v in tf.global_variables()
                if v.op.name.startswith(self.network + '/') and 'Adam' not in v.op.name]

    def statistics(self, album):
        """{variable: array} to set before training."""
        return {}

    def feed(self, batch):
        """batch: arrays in the order of `inputs`."""
        return dict(zip(self.inputs, batch))


def active(spread):
    """Which coefficients vary at all, [257] bool; the others of the head are always zero."""
    return spread > 1e-6


def seen_statistics(photos, album):
    """Mean and deviation [257] of the coefficients of what the experts see, translation by the windows included."""
    random = np.random.RandomState(0)
    rows = np.arange(min(len(album.coeff), 4096))
    seen = np.stack([photos.windowed_coeff(album.coeff[i], photos.random_window(random, i))
                     for i in rows]).astype(np.float64)
    spread = seen.std(axis=0)
    return seen.mean(axis=0), np.where(active(spread), spread, 0.0)


# ------------------------------------------------------------------------------------------------ reconstruction

class Recon(Lesson):
    """All 257 coefficients, in units of their spread, and where the landmarks come to lie."""

    name, network = 'recon', 'small_recon'

    def build(self, options):
        """Placeholders, network, loss: squared errors in units of the spread, group by group, and landmarks."""
        images = tf.placeholder(tf.float32, [None, options.size, options.size, 3])
        coeff = tf.placeholder(tf.float32, [None, factors.NUM_RECON])
        points = tf.placeholder(tf.float32, [None, 68, 2])
        self.inputs = (images, coeff, points)
        estimate = networks_small.small_recon(images, options.width, trainable=True)
        self._mean, self._spread = [next(v for v in tf.global_variables() if v.op.name == 'small_recon/output/' + leaf)
                                    for leaf in ('mean', 'std')]
        counts = tf.cast(self._spread > 0, tf.float32)
        errors = tf.square((estimate - coeff) / tf.maximum(self._spread, 1e-6))                 # [N, 257]
        seen = tf.square(self._spread) * tf.constant(importance(self.world.model), tf.float32)
        weights = counts * (EVEN + (1 - EVEN) * seen)
        terms = [tf.reduce_sum(errors[:, where] * weights[where]) / tf.reduce_sum(weights[where])
                 for _, where, _ in GROUPS]
        self._group_errors = tf.stack(terms) / tf.cast(tf.shape(images)[0], tf.float32)
        distance = landmarks_224(self.world.model, estimate) - points
        landmark = tf.reduce_mean(tf.reduce_sum(tf.square(distance), axis=2))
        group_weights = tf.constant([weight for _, _, weight in GROUPS])
        self.loss = tf.reduce_sum(self._group_errors * group_weights) + landmark / LANDMARK_UNIT ** 2
        self.shown = [tf.reduce_mean(tf.norm(distance, axis=2))] + tf.unstack(self._group_errors)

    def describe(self, means):
        """Means of `shown` in words."""
        groups = ' '.join(f'{name[:3]} {value:.2f}' for (name, _, _), value in zip(GROUPS, means[1:]))
        return f'landmarks {means[0]:.2f} px, {groups}'

    def statistics(self, album):
        """The spread of the album, for the network and the loss."""
        mean, spread = seen_statistics(self.world.photos, album)
        return {self._mean: mean, self._spread: spread}

    def batch(self, album, random, options):
        """Pictures [N, S, S, 3], coefficients [N, 257] and landmarks [N, 68, 2] of what they show."""
        rows = [self._example(album, random, int(i), options.size)
                for i in random.randint(len(album.coeff), size=options.batch)]
        return [np.stack(column) for column in zip(*rows)]

    def _example(self, album, random, index, size):
        photos = self.world.photos
        window = photos.random_window(random, index)
        kind = random.randint(8) if photos.has_render(index) else 7
        picture = photos.picture_of(album, index, ('render', 'masked')[kind] if kind < 2 else 'photo', window, size)
        return (photos.degrade(random, picture), photos.windowed_coeff(album.coeff[index], window),
                photos.windowed_landmarks(album.landmarks[index], window))

    def measure(self, specs, album):
        """Mean landmark error in pixels of 224, and R2 of each group of coefficients, for three kinds of picture."""
        photos, index, out = self.world.photos, np.arange(len(album.coeff)), {}
        bare = photos.has_render(index)
        with Frozen(specs, self.name) as recon:
            for title, kind, chosen, window in (('crop', 'photo', index[bare], photos.CROP),
                                                ('render', 'render', index[bare], photos.CROP),
                                                ('free photo', 'photo', index[~bare], photos.WIDE)):
                estimate = recon([photos.picture_of(album, i, kind, window, recon.size) for i in chosen])
                coeff = np.stack([photos.windowed_coeff(album.coeff[i], window) for i in chosen])
                points = np.stack([photos.windowed_landmarks(album.landmarks[i], window) for i in chosen])
                distance = np.linalg.norm(landmarks_of(self.world.model, estimate) - points, axis=2)
                out[f'{title}: landmark error, pixels of 224'] = round(float(distance.mean()), 3)
                out.update({f'{title}: R2 of {what}': value
                            for what, value in _explained(self.world.model, estimate, coeff)})
        return out


def _seen(model):
    """What the coefficients do to mesh and colours: renderer.surface.Quantity of each name in SEEN."""
    return [quantity for quantity in surface.quantities(model) if quantity.name in SEEN]


def importance(model):
    """[257]: how much the mean square of mesh or colour changes with each coefficient, 1 on average in a group."""
    weights = np.ones(factors.NUM_RECON)
    for quantity in _seen(model):
        squares = np.square(quantity.matrix).sum(axis=0)
        weights[quantity.coeffs] = squares / squares[squares > 0].mean()
    return weights


def _explained(model, estimate, coeff):
    """(name, R2) of mesh and albedo as they are seen; of each group that varies, mean over its coefficients; the pose's
    angles and translation apart.
    """
    for quantity in _seen(model):
        truth, found = quantity.of(coeff), quantity.of(estimate)
        unexplained = np.square(found - truth).sum() / np.square(truth - truth.mean(axis=0)).sum()
        yield SEEN[quantity.name], round(1 - float(unexplained), 3)
    parts = [(name, where) for name, where, _ in GROUPS if name not in ('pose', 'translation')]
    parts += [(name, slice(factors.ANGLES.start + i, factors.ANGLES.start + i + 1))
              for i, name in enumerate(('pitch', 'yaw', 'roll'))]
    parts += [(f'translation {name}', slice(factors.TRANSLATION.start + i, factors.TRANSLATION.start + i + 1))
              for i, name in enumerate('xyz')]
    for name, where in parts:
        varies = active(coeff[:, where].std(axis=0))
        if varies.any():
            residual = np.square(estimate - coeff)[:, where].mean(axis=0)[varies]
            yield name, round(float(np.mean(1 - residual / coeff[:, where].var(axis=0)[varies])), 3)


def landmarks_224(model, coeff):
    """Tensor [N, 257] -> landmarks [N, 68, 2] in R_Net's picture, y UP. model: FaceModel."""
    return project_224(FaceDecoder(model, model.landmarks).points(coeff))


def landmarks_of(model, coeff):
    """`landmarks_224` of an array."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(landmarks_224(model, tf.constant(coeff, tf.float32)))


# ------------------------------------------------------------------------------------------------ identity

class Identity(Lesson):
    """Pictures of one person point the same way, of different people apart; and the embedding tells the coefficients
    of identity, by a layer that only training has."""

    name, network = 'id', 'small_id'

    def build(self, options):
        """Placeholders, network, loss: who is whose partner by the cosines, and the coefficients."""
        images = tf.placeholder(tf.float32, [None, options.size, options.size, 3])      # pairs: 0 and 1, 2 and 3, ...
        coeff = tf.placeholder(tf.float32, [None, factors.NUM_RECON])
        self.inputs = (images, coeff)
        embedding = networks_small.small_id(images, options.width, trainable=True)
        direction = tf.nn.l2_normalize(embedding, axis=1)
        self._mean, self._spread = [tf.get_variable('identity_' + leaf, [160], trainable=False)
                                    for leaf in ('mean', 'spread')]
        kernel = tf.get_variable('identity_kernel', [networks_small.EMBEDDING, 160],
                                 initializer=tf.random_normal_initializer(0, 0.1))
        counts = tf.cast(self._spread > 0, tf.float32)
        target = (coeff[:, IDENTITY] - self._mean) / tf.maximum(self._spread, 1e-6) * counts
        told = tf.reduce_sum(tf.square(tf.matmul(direction * 10, kernel) - target) * counts, axis=1)
        told = tf.reduce_mean(told) / tf.reduce_sum(counts)
        cosines = tf.matmul(direction, direction, transpose_b=True)                     # [N, N]
        batch = tf.shape(images)[0]
        partner = tf.range(batch) + 1 - 2 * (tf.range(batch) % 2)
        logits = cosines / TEMPERATURE - 1e9 * tf.eye(batch)
        apart = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=partner, logits=logits))
        pairs = tf.one_hot(partner, batch)
        same = tf.reduce_sum(cosines * pairs) / tf.cast(batch, tf.float32)
        self.loss = apart + told + 0.5 * (1 - same)
        self.shown = [apart, told, same]

    def describe(self, means):
        """Means of `shown` in words."""
        return f'contrast {means[0]:.3f}, coefficients {means[1]:.3f}, cosine of a person {means[2]:.3f}'

    def statistics(self, album):
        """Mean and spread of the coefficients of identity."""
        mean, spread = seen_statistics(self.world.photos, album)
        return {self._mean: mean[IDENTITY], self._spread: spread[IDENTITY]}

    def batch(self, album, random, options):
        """Pictures [N, S, S, 3], neighbours of one person, and coefficients [N, 257]."""
        photos = self.world.photos
        people = random.choice(len(album.coeff) // photos.PER_PERSON, options.batch // 2, replace=False)
        pictures, rows = [], []
        for person in people:
            for index in self._pair(random, int(person) * photos.PER_PERSON):
                kind = ('photo', 'masked', 'render')[random.randint(3)] if photos.has_render(index) else 'photo'
                window = photos.random_window(random, index)
                pictures.append(photos.degrade(random, photos.picture_of(album, index, kind, window, options.size)))
                rows.append(album.coeff[index])
        return [np.stack(pictures), np.stack(rows)]

    def _pair(self, random, first):
        """Two different photos of the person whose first is `first`; at least one has a render."""
        one = random.randint(self.world.photos.WITH_RENDER)
        other = random.choice([i for i in range(self.world.photos.PER_PERSON) if i != one])
        return first + one, first + other

    def measure(self, specs, album):
        """How well cosines tell who is who, when everything but the person differs."""
        photos = self.world.photos
        first = np.arange(0, len(album.coeff), photos.PER_PERSON)
        with Frozen(specs, self.name) as identity:
            see = lambda offset, kind: _unit(identity(
                [photos.picture_of(album, i + offset, kind, photos.CROP, identity.size) for i in first]))
            seen = {'photo': see(0, 'photo'), 'masked photo': see(0, 'masked'), 'render': see(1, 'render'),
                    'other photo': see(1, 'photo'), 'render of the same picture': see(0, 'render')}
        out = {}
        for one, other in (('photo', 'other photo'), ('masked photo', 'render'),
                           ('masked photo', 'render of the same picture')):
            out.update({f'{one} / {other}: {what}': value for what, value in verification(seen[one], seen[other])})
        return out


def _unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def verification(one, other):
    """(what, number) of unit embeddings [n, E] of the same n people in two pictures each.

    Accuracy: of "the same person or not" at the best threshold, as many pairs of each kind counted alike.
    """
    cosines = one @ other.T
    same, different = np.diag(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    thresholds = np.linspace(-1, 1, 401)
    accuracy = max(((same >= t).mean() + (different < t).mean()) / 2 for t in thresholds)
    yield 'accuracy', round(float(accuracy), 4)
    yield 'cosine, same person', round(float(same.mean()), 3)
    yield 'cosine, others', round(float(different.mean()), 3)
    yield 'found first among all', round(float((cosines.argmax(axis=1) == np.arange(len(one))).mean()), 3)


# ------------------------------------------------------------------------------------------------ parsing

class Parser(Lesson):
    """Face as it is drawn, the rest of the person, hair, background: shares of each pixel, so that edges are learnt as
    they are.
    """

    name, network = 'parser', 'small_parser'

    def build(self, options):
        """Placeholders, network, loss: cross-entropy of the shares."""
        images = tf.placeholder(tf.float32, [None, options.size, options.size, 3])
        shares = tf.placeholder(tf.float32, [None, options.size, options.size, networks_small.CLASSES])
        self.inputs = (images, shares)
        logits = networks_small.small_parser_logits(images, options.width, trainable=True)
        self.loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=shares, logits=logits))
        right = tf.equal(tf.argmax(logits, axis=3), tf.argmax(shares, axis=3))
        self.shown = [self.loss, tf.reduce_mean(tf.cast(right, tf.float32))]

    def describe(self, means):
        """Means of `shown` in words."""
        return f'loss {means[0]:.3f}, right {100 * means[1]:.1f}%'

    def batch(self, album, random, options):
        """Pictures [N, S, S, 3] and shares of the classes [N, S, S, classes]."""
        photos = self.world.photos
        rows = np.arange(len(album.coeff))
        rows = random.choice(rows[photos.has_render(rows)], options.batch)
        pictures, shares = [], []
        for index in rows:
            window = photos.random_window(random, index)
            picture = photos.picture_of(album, index, 'photo', window, options.size)
            pictures.append(photos.degrade(random, picture, color=3.0))
            shares.append(photos.shares(album, index, window, options.size))
        return [np.stack(pictures), np.stack(shares)]

    def measure(self, specs, album):
        """Overlap of what is hair with what is found to be hair: intersection over union, of all photos together; the
        same of the background.
        """
        photos, rows = self.world.photos, np.arange(len(album.coeff))
        rows = rows[photos.has_render(rows)]
        with Frozen(specs, self.name) as parser:
            found = parser([photos.picture_of(album, i, 'photo', photos.CROP, parser.size) for i in rows])
        true = np.stack([photos.shares(album, i, photos.CROP, found.shape[1]) for i in rows])
        out = {}
        for what, channel in (('hair', networks_small.HAIR), ('background', networks_small.BACKGROUND)):
            is_found, is_true = found[..., channel] > 0.5, true[..., channel] > 0.5
            overlap = (is_found & is_true).sum() / (is_found | is_true).sum()
            difference = np.abs(found[..., channel] - true[..., channel]).mean()
            out[what + ': intersection over union'] = round(float(overlap), 4)
            out[what + ': mean difference of the share'] = round(float(difference), 4)
        return out


# ------------------------------------------------------------------------------------------------ measuring

class Frozen(GraphRunner):
    """An expert as written, restored from its table: list of [S, S, 3] pictures -> array. Use it in `with`."""

    def __init__(self, specs, name, batch=64):
        super().__init__()
        self._batch = batch
        with self.building():
            frozen = experts.Experts(specs, (name,))
            self.size = frozen.kinds[name].size
            self._images = tf.placeholder(tf.float32, [None, self.size, self.size, 3])
            self._output = frozen.apply(name, self._images)
            frozen.restore()

    def __call__(self, pictures):
        return self.run(self._output, {self._images: np.asarray(pictures)}, self._batch)


LESSONS = {lesson.name: lesson for lesson in (Recon, Identity, Parser)}
