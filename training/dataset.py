"""Training images from TFRecords through tf.data, one file per resolution (progressive growing needs every level).

Images are uint8 NCHW, 0-255, RGB or grey; mirroring, fading and the mapping to [-1, 1] are the caller's.
"""

import collections

import numpy as np

from dnnlib import tfrecords
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tfrecords import dataset_folder
from dnnlib.util import UserError

_MEMORY_SHARE = 0.25        # of the free memory for the shuffle window
_PREFETCH_SHARE = 0.05
# Time and memory of the start shall not grow with the dataset: dataset_tool.py has shuffled it as a whole already.
_MOST_SHUFFLED = 8192       # images in the window
_MOST_AHEAD = 16            # minibatches


class TFRecordDataset:
    """A dataset made by dataset_tool.py as an endless (or single) stream of minibatches.

    After construction call `configure(minibatch, lod)`; it selects the level of resolution and may be called again at
    any time. Attributes: shape [C, H, W] of the finest level, levels, num_images (of all shards), label_size.
    """

    def __init__(self,
                 tfrecord_dir,              # folder, also below the project's root or config.DATASET_DIR
                 resolution=None,           # of the finest level used; None: the largest there
                 label_file=None,           # NumPy array [images, size]; None: the dataset's own -rxx.labels
                 max_label_size=0,          # 0: no labels; 'full': all components; n: the first n
                 repeat=True,               # False: one pass, then tf.errors.OutOfRangeError
                 shuffle_mb=4096,           # window of images, 8192 at most; 0: the file's order
                 prefetch_mb=2048,          # minibatches prepared ahead, 16 at most
                 buffer_mb=16,              # read buffer, which TensorFlow fills before the first image
                 num_threads=2,             # parser threads
                 num_shards=1,              # of hosts that share the dataset
                 shard_index=0,             # which of them this is
                 seed=None,                 # of the order; None: TensorFlow's graph seed, or by chance
                 shuffle_bytes=None):       # the window to the byte, of a run that goes on; the memory is not asked
        if not 0 <= shard_index < num_shards:
            raise ValueError(f'shard_index {shard_index}: 0 to {num_shards - 1} expected')
        self.tfrecord_dir = dataset_folder(tfrecord_dir)
        self.levels = tfrecords.read_levels(self.tfrecord_dir, resolution)
        self.shape = list(self.levels[0].shape)
        self.num_images = self.levels[0].count
        self.labels = self._load_labels(label_file, max_label_size)
        self.label_size = self.labels.shape[1]
        self.repeat, self.num_threads = repeat, num_threads
        self._shards = num_shards, shard_index
        self._num_mine = len(range(shard_index, self.num_images, num_shards))
        if self.num_images < num_shards:
            raise UserError(f'{self.tfrecord_dir}: {self.num_images} images cannot be shared by {num_shards} hosts')
        free = free_memory()
        window = min(shuffle_mb << 20, free * _MEMORY_SHARE) if shuffle_bytes is None else shuffle_bytes
        self.shuffle_bytes = int(window)
        self.prefetch_bytes = int(min(prefetch_mb << 20, free * _PREFETCH_SHARE))
        self.buffer_bytes = int(min(buffer_mb << 20, free * _PREFETCH_SHARE))
        self._order_seed = np.random.RandomState(tf.get_default_graph().seed if seed is None else seed).randint(1 << 30)
        self._level = self._minibatch = None
        self._build()

    def _load_labels(self, label_file, max_label_size):
        """[n, label_size] float32; [n, 0] when labels are not wanted or there are none."""
        labels = tfrecords.read_labels(self.tfrecord_dir, label_file) if max_label_size != 0 else None
        if labels is None:
            if max_label_size not in (0, 'full'):
                raise UserError(f'{self.tfrecord_dir}: labels were asked for, but there is no -rxx.labels file')
            return np.zeros([self.num_images, 0], np.float32)
        if len(labels) < self.num_images:
            raise UserError(f'{label_file or self.tfrecord_dir}: {len(labels)} labels for {self.num_images} images')
        return labels[:self.num_images, :None if max_label_size == 'full' else max_label_size]

    # -------------------------------------------------------------------------------------------- graph

    def _build(self):
        """One iterator; each level's initialiser starts it on that level's file."""
        with tf.name_scope('Dataset'), tf.device('/cpu:0'), tf.control_dependencies(None):
            self._minibatch_in = tf.placeholder(tf.int64, [], name='minibatch_in')
            self._position_in = tf.placeholder(tf.int64, [], name='position_in')
            labels = tf.data.Dataset.from_tensor_slices(tf.constant(self.labels, name='labels'))
            streams = [self._stream(level, labels) for level in self.levels]
            self._iterator = tf.data.Iterator.from_structure(
                (tf.uint8, tf.float32), ([None, self.shape[0], None, None], [None, self.label_size]))
            self._starts = [self._iterator.make_initializer(stream) for stream in streams]
        self._next = None

    def _stream(self, level, labels):
        """Pass after pass over a level, from the fed position on."""
        image_bytes = int(np.prod(level.shape))
        records = tf.data.Dataset.zip((tf.data.TFRecordDataset(level.path, buffer_size=self.buffer_bytes), labels))
        if self._shards[0] > 1:
            records = records.shard(*self._shards)
        first = self._position_in // self._num_mine
        passes = tf.data.Dataset.range(first, np.iinfo(np.int64).max if self.repeat else first + 1)
        stream = passes.flat_map(lambda number: self._one_pass(records, number, self.shuffle_bytes // image_bytes))
        # Skipped before they are decoded: a resumed run reads, at most, one pass.
        stream = stream.skip(self._position_in % self._num_mine)
        stream = stream.map(lambda record, label: (_parse(record, level.shape), label),
                            num_parallel_calls=self.num_threads)
        ahead = self.prefetch_bytes // image_bytes // self._minibatch_in
        return stream.batch(self._minibatch_in).prefetch(tf.clip_by_value(ahead, 1, _MOST_AHEAD))

    def _one_pass(self, records, number, window):
        """All records once; the order follows from the seed and the number of the pass alone."""
        window = min(window, self._num_mine, _MOST_SHUFFLED)
        if window <= 1:
            return records
        return records.shuffle(window, seed=self._order_seed + number, reshuffle_each_iteration=False)

    def configure(self, minibatch, lod=0, restart=False, position=0):
        """Deliver `minibatch` images at a time of the level for `lod`: resolution / 2^floor(lod).

        The stream starts anew only when something changes, or with `restart`; then as if `position` images had been
        taken before: images and their order follow from the position, the seed and the graph's seed. Returns
        whether it did: the next minibatch may take long then. Needs a default session.
        """
        level = int(np.floor(lod))
        if minibatch < 1 or not 0 <= level < len(self.levels):
            raise ValueError(f'minibatch {minibatch}, lod {lod}: at least 1, and 0 to {len(self.levels) - 1} expected')
        anew = restart or (level, minibatch) != (self._level, self._minibatch)
        if anew:
            tfutil.run(self._starts[level], {self._minibatch_in: minibatch, self._position_in: position})
            self._level, self._minibatch = level, minibatch
        return anew

    def get_minibatch_tf(self):
        """Tensors (images [N, C, H, W] uint8, labels [N, label_size] float32); every call is a place of its own in the
        graph that takes the next minibatch, e.g. one per GPU.
        """
        with tf.device('/cpu:0'):
            return self._iterator.get_next()

    def get_minibatch_np(self, minibatch, lod=0):
        """The next minibatch as arrays, after `configure(minibatch, lod)`. UserError naming a corrupt file."""
        self.configure(minibatch, lod)
        if self._next is None:
            with tf.name_scope('Dataset'):
                self._next = self.get_minibatch_tf()
        try:
            return tfutil.run(self._next)
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
            raise self.explain(error) from error

    def explain(self, error):
        """A UserError that names the file and the record behind a TensorFlow error of this stream (else `error`)."""
        try:
            for level in self.levels:
                collections.deque(tfrecords.read_images(level.path), maxlen=0)
        except UserError as reason:
            return reason
        return error


def _parse(record, shape):
    """A serialised tf.train.Example -> [C, H, W] uint8.

    By its bytes: TensorFlow 1.15 crashes in its own parser where an Example is broken.
    """
    pixels = int(np.prod(shape))
    layouts = tfrecords.encodings(tuple(shape))
    whole = tf.Assert(tf.equal(tf.strings.length(record), len(layouts[0][0] + layouts[0][1]) + pixels),
                      ['a record that holds no image of shape', list(shape)])
    with tf.control_dependencies([whole]):
        part = lambda start, length: tf.strings.substr(record, start, length)
        fits = [tf.logical_and(tf.equal(part(0, len(before)), before),
                               tf.equal(part(len(before) + pixels, len(after)), after)) for before, after in layouts]
        known = tf.Assert(tf.reduce_any(fits), ['a record that holds no image of shape', list(shape)])
    with tf.control_dependencies([known]):
        start = tf.where(fits[0], len(layouts[0][0]), len(layouts[1][0]))
        return tf.reshape(tf.decode_raw(tf.strings.substr(record, start, pixels), tf.uint8), shape)


def free_memory():
    """Bytes of memory this process may still take: the machine's free memory within the limit of its control group."""
    free = 4 << 30
    try:
        with open('/proc/meminfo', encoding='ascii') as file:
            facts = dict(line.split(':', 1) for line in file)
        free = int(facts['MemAvailable'].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        pass                                            # not Linux: the guess above
    for limit, usage in (('memory.max', 'memory.current'),
                         ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes')):
        try:
            with open('/sys/fs/cgroup/' + limit) as a, open('/sys/fs/cgroup/' + usage) as b:
                free = min(free, max(int(a.read()) - int(b.read()), 0))
        except (OSError, ValueError):
            pass                                        # no such limit
    return free
