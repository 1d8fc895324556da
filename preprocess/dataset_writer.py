"""Images from a folder, a zip file or HDF5 -> a dataset of TFRecord files, one per resolution (StyleGAN's format).

Threads decode, shrink, frame and write on all cores: OpenCV, zlib and NumPy work outside Python's lock. Records come in
the order of the images. No TensorFlow.
"""

import collections
import contextlib
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from tqdm import tqdm

from dnnlib import places, tfrecords
from dnnlib.util import UserError, listed, shown
from preprocess import picture_files
from preprocess.workers import keep_memory
from worlds import label

CHUNK = 16                  # images a worker does at a time
_SAMPLE = 64                # headers looked at to learn the size of a dataset's images
ORDER_SEED = 123            # of the shuffled order; fixed, so that labels made elsewhere still fit


# ------------------------------------------------------------------------------------------- where images come from

class ImageFiles:
    """The pictures of a folder and the folders in it, or of a zip file, sorted by name. Raises UserError.

    Of a folder that preprocess_data.py made, those in its img/. leave_out: a folder below whose files do not count.
    """

    def __init__(self, path, leave_out=None):
        self.path, self._zip = path, None
        names = self._list(leave_out)
        self.names = [name for name in names if picture_files.is_picture(name)]
        self.ignored = [name for name in names if not picture_files.is_picture(name)]
        if not self.names:
            raise UserError(f'{path}: No input images found; a folder or zip file of pictures was expected: '
                            f'{picture_files.EXPECTED}')

    def _list(self, leave_out):
        if os.path.isfile(self.path):
            try:
                self._zip = zipfile.ZipFile(self.path)
            except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
                raise UserError(f'{self.path}: cannot be read as a zip file ({error})')
            return sorted(name for name in self._zip.namelist()
                          if not name.endswith('/') and not os.path.basename(name).startswith('.'))
        if not os.path.isdir(self.path):
            raise UserError(f'{self.path}: No input images found; no such folder or zip file')
        if label.read(self.path) and os.path.isdir(os.path.join(self.path, 'img')):     # beside it masks may lie
            self.path = os.path.join(self.path, 'img')
        return picture_files.list_files(self.path, [leave_out] if leave_out else [])

    def _open(self, name):
        """What picture_files reads: a path, or the content."""
        if self._zip is None:
            return os.path.join(self.path, name)
        try:
            if self._zip.getinfo(name).file_size > picture_files.MAX_BYTES:
                raise UserError(f'unpacks to more than {picture_files.MAX_BYTES >> 20} MB')
            return self._zip.read(name)
        except UserError:
            raise
        except Exception as error:      # zipfile and zlib raise many types for a damaged archive
            raise UserError(f'cannot be read from the zip file ({error})')

    def __len__(self):
        return len(self.names)

    def name(self, index):
        """Name of image `index` for messages."""
        return self.names[index]

    def shape(self, index):
        """(channels, height, width) from the header; None when unreadable."""
        try:
            return picture_files.shape(self._open(self.names[index]))
        except UserError:               # reported when the image is read
            return None

    def read(self, index, shape):
        """Image `index` as [H, W, C] uint8, `shape` (C, H, W); grey becomes RGB. UserError with the reason alone.

        A picture of another size is not decoded.
        """
        try:
            picture = picture_files.read(self._open(self.names[index]), shape[:0:-1]).pixels
        except picture_files.OtherSize as error:
            raise _misfit(error.shape, shape)
        return np.repeat(picture, 3, axis=2) if shape[0] == 3 and picture.shape[2] == 1 else picture


class Hdf5Images:
    """The images of an HDF5 file: the array `data*` of the largest last axis, [n, C, H, W] uint8. Raises UserError."""

    ignored = ()

    def __init__(self, path):
        self.path, self._file, self._key = path, None, None
        self._count, *self._shape = self._array().shape

    def _array(self):
        if self._file is None:
            try:
                import h5py
            except ImportError:
                raise UserError('create_from_hdf5 needs the package h5py: pip install h5py')
            try:
                self._file = h5py.File(self.path, 'r')
            except OSError as error:
                raise UserError(f'{self.path}: cannot be read as an HDF5 file ({error})')
            self._key = self._largest()
        return self._file[self._key]

    def _largest(self):
        shapes = {key: getattr(self._file.get(key), 'shape', None) or () for key in self._file}     # groups have none
        found = [key for key, shape in shapes.items() if key.startswith('data') and len(shape) == 4]
        if not found:
            raise UserError(f'{self.path}: holds no array data* of images [n, C, H, W]; it holds '
                            f'{listed(sorted(self._file)) or "nothing"}')
        largest = max(found, key=lambda key: shapes[key][-1])
        if not all(shapes[largest]):
            raise UserError(f'{self.path}: its array {shown(largest)} of shape {list(shapes[largest])} holds no images')
        return largest

    def __len__(self):
        return self._count

    def name(self, index):
        """Name of image `index` for messages."""
        return f'{self._key}[{index}]'

    def shape(self, index):
        """(channels, height, width)."""
        return tuple(self._shape)

    def read(self, index, shape):
        """Image `index` as [H, W, C] uint8; all have the same shape."""
        try:
            image = self._array()[index]
        except OSError as error:
            raise UserError(f'cannot be read from the HDF5 file ({error})')
        if image.dtype != np.uint8:
            raise UserError(f'values of type {image.dtype}, expected uint8')
        return image.transpose(1, 2, 0)


# ------------------------------------------------------------------------------------------------ writing

def write_dataset(folder, source, shuffle, workers, labels=None, world_name=None):
    """Write all images of `source` into the dataset `folder`, which appears complete or not at all.

    An older dataset there is replaced if it was made here; a link or a mount point stays one. shuffle: in the fixed
    shuffled order. labels: [len(source), size] or None. Returns ([name: reason] of images left out, number written).
    Raises UserError.
    """
    places.check_apart({'the pictures': source.path}, {'the dataset': folder})
    ours = _made_before(folder)
    places.check_fillable(folder, ours)
    shape = common_shape(source)
    order = np.arange(len(source))
    if shuffle:
        np.random.RandomState(ORDER_SEED).shuffle(order)
    name = os.path.basename(os.path.abspath(folder))
    with places.filling(folder, ours) as temporary:
        skipped, kept = _write_levels(temporary, name, source, order, shape, workers)
        if not kept:
            raise UserError(f'{source.path}: none of its {len(source)} images can be used; the first: {skipped[0]}')
        _write_extras(temporary, name, labels, kept, world_name)
    return skipped, len(kept)


def _write_levels(folder, name, source, order, shape, workers):
    """The files of all levels -> ([name: reason] of images left out, indices of the others)."""
    skipped, kept, places_kept = [], [], []
    with contextlib.ExitStack() as stack:
        levels = [Level(stack.enter_context(open(tfrecords.level_path(folder, log2, name), 'w+b')))
                  for log2 in range(shape[1].bit_length() - 1, 1, -1)]
        for place, (index, reason) in enumerate(_convert(source, order, shape, levels, workers)):
            if reason is None:
                kept.append(index)
                places_kept.append(place)
            else:
                skipped.append(f'{source.name(index)}: {reason}')
        for level in levels:
            level.close_up(places_kept)
    return skipped, kept


class Level:
    """A file of records of one size, which threads write into their places in any order."""

    def __init__(self, file):
        self._file, self._lock, self._size = file, threading.Lock(), 0

    def write(self, place, images):
        """Images [n, C, H, W] into the places from `place` on."""
        records = tfrecords.frame_images(images)
        with self._lock:
            self._size = len(records) // len(images)
            self._file.seek(place * self._size)
            self._file.write(records)

    def close_up(self, places_kept):
        """Move the records of these places, ascending, to the front: the others are empty."""
        for place, kept in enumerate(places_kept):
            if place != kept:
                self._file.seek(kept * self._size)
                record = self._file.read(self._size)
                self._file.seek(place * self._size)
                self._file.write(record)
        self._file.truncate(len(places_kept) * self._size)


def _write_extras(folder, name, labels, kept, world_name):
    if labels is not None:
        with open(tfrecords.label_path(folder, name), 'wb') as file:
            np.save(file, np.asarray(labels)[kept].astype(np.float32))
    if world_name is not None:
        label.write(folder, world_name)
    files = {file: _size(os.path.join(folder, file)) for file in os.listdir(folder)}
    places.Record(folder).adopt({'dataset': places.Made(files, {}, {})})


def _size(path):
    """What tells a file of a dataset: they are large, so its size."""
    return f'{os.path.getsize(path)} bytes'


def _made_before(folder):
    """name -> bool: whether a file in the folder is as this program made it there, so that it may be replaced."""
    known = places.Record(folder).made.get('dataset')
    files = dict(known.files) if known else {}

    def ours(name):
        path = os.path.join(folder, name)
        return name == places.RECORD and bool(files) or os.path.isfile(path) and files.get(name) == _size(path)
    return ours


def common_shape(source):
    """(C, H, W) that most images have, by a sample of their headers. Raises UserError unless square, a power of two."""
    sample = np.unique(np.linspace(0, len(source) - 1, _SAMPLE).round().astype(int))
    shapes = collections.Counter(shape for shape in map(source.shape, sample.tolist()) if shape is not None)
    if not shapes:
        raise UserError(f'{source.path}: none of the images can be read')
    sizes = collections.Counter()
    for (_, height, width), count in shapes.items():
        sizes[height, width] += count
    height, width = sizes.most_common(1)[0][0]
    if height != width:
        raise UserError(f'{source.path}: Input images must have the same width and height; most are {width}x{height}')
    if height < 4 or height & (height - 1):
        raise UserError(f'{source.path}: Input image resolution must be a power-of-two, at least 4; it is {height}')
    if height * width > picture_files.MAX_PIXELS:
        raise UserError(f'{source.path}: images of {width}x{height} pixels are too large for a dataset')
    channels = max(shape[0] for shape in shapes if shape[1:] == (height, width))
    if channels not in (1, 3):
        raise UserError(f'{source.path}: Input images must be stored as RGB or grayscale; not {channels} channels')
    return channels, height, width


def _convert(source, order, shape, levels, workers):
    """Write all images; yield (index, None or the reason why it was left out) in the order given."""
    chunks = [(start, order[start:start + CHUNK].tolist()) for start in range(0, len(order), CHUNK)]
    running = collections.deque()
    keep_memory()
    with ThreadPoolExecutor(workers) as pool, tqdm(total=len(order), unit='image', dynamic_ncols=True) as bar:
        try:
            for start, indices in chunks:
                running.append((indices, pool.submit(_convert_chunk, source, start, indices, shape, levels)))
                if len(running) > 2 * workers:
                    yield from _finished(*running.popleft(), bar)
            while running:
                yield from _finished(*running.popleft(), bar)
        finally:
            for _, future in running:
                future.cancel()


def _finished(indices, future, bar):
    reasons = future.result()
    bar.update(len(indices))
    return zip(indices, reasons)


def _convert_chunk(source, start, indices, shape, levels):
    """Write images into the places from `start` on -> None or the reason why not, for each."""
    reasons, pyramids, places_of = [], [], []
    for place, index in enumerate(indices, start):
        try:
            pyramids.append(_convert_image(source, index, shape))
            places_of.append(place)
            reasons.append(None)
        except UserError as error:
            reasons.append(str(error))
        except MemoryError:
            reasons.append('too large for the memory')
    for level, images in zip(levels, zip(*pyramids)):
        if len(images) == len(indices):
            level.write(start, np.stack(images))
        else:
            for place, image in zip(places_of, images):
                level.write(place, image[None])
    return reasons


def _convert_image(source, index, expected):
    """Image -> its levels, see `pyramid`. Raises UserError with the reason why it cannot be used."""
    picture = source.read(index, expected)
    shape = picture.shape[2], picture.shape[0], picture.shape[1]
    if shape != expected:
        raise _misfit(shape, expected)
    return pyramid(picture)


def _misfit(shape, expected):
    kind = lambda channels: {1: 'grey', 3: 'RGB'}.get(channels, f'{channels} channels')
    return UserError(f'{shape[2]}x{shape[1]} {kind(shape[0])}, but the dataset is {expected[2]}x{expected[1]} '
                     f'{kind(expected[0])}')


def pyramid(picture):
    """[H, W, C] uint8 -> [C, H, W] uint8 and its halvings down to 4 x 4.

    Each level is the mean of 2 x 2 pixels of the unrounded level above, rounded half to even. Sums are whole numbers:
    below 2^16 down to a sixteenth of the size.
    """
    level = np.ascontiguousarray(picture.transpose(2, 0, 1) if picture.shape[2] == 1 else np.stack(cv2.split(picture)))
    levels, sums, bits = [level], level, 0
    while levels[-1].shape[1] > 4:
        bits += 2
        sums = _sums_of_four(sums, np.uint16 if bits <= 8 else np.uint32)
        halves_less_one = (sums >> bits & 1) + sums.dtype.type((1 << bits - 1) - 1)
        levels.append((sums + halves_less_one >> bits).astype(np.uint8))
    return levels


def _sums_of_four(values, kind):
    """[C, H, W] -> [C, H / 2, W / 2] of the type `kind`."""
    rows = np.add(values[:, 0::2], values[:, 1::2], dtype=kind)
    return rows[:, :, 0::2] + rows[:, :, 1::2]
