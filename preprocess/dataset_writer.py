"""Images from a folder, a zip file or HDF5 -> a dataset of TFRecord files, one per resolution (StyleGAN's format).

All cores decode, shrink and frame; the order of the records is that of the images. No TensorFlow.
"""

import collections
import contextlib
import io
import os
import zipfile
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from dnnlib import tfrecords
from dnnlib.util import UserError, atomic_path, listed, shown
from preprocess import photos
from preprocess.workers import start as start_workers
from worlds import label

CHUNK = 16                  # images a worker does at a time
_SAMPLE = 64                # headers looked at to learn the size of a dataset's images
ORDER_SEED = 123            # of the shuffled order; fixed, so that labels made elsewhere still fit


# ------------------------------------------------------------------------------------------- where images come from

class ImageFiles:
    """The pictures of a folder (not of its sub-folders) or of a zip file, sorted by name. Raises UserError."""

    def __init__(self, path):
        self.path = path
        self.is_zip = os.path.isfile(path)
        self.names, self.ignored = self._list()
        if not self.names:
            raise UserError(f'{path}: No input images found; a folder or zip file of pictures was expected')
        self._zip = None

    def _list(self):
        known = Image.registered_extensions()
        if self.is_zip:
            try:
                with zipfile.ZipFile(self.path) as file:
                    names = [name for name in file.namelist() if not name.endswith('/')]
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(f'{self.path}: cannot be read as a zip file ({error})')
        elif os.path.isdir(self.path):
            names = os.listdir(self.path)
        else:
            raise UserError(f'{self.path}: No input images found; no such folder or zip file')
        names = sorted(name for name in names if not os.path.basename(name).startswith('.'))
        images = [name for name in names if os.path.splitext(name)[1].lower() in known and not self._is_folder(name)]
        return images, sorted(set(names) - set(images))

    def _is_folder(self, name):
        return not self.is_zip and os.path.isdir(os.path.join(self.path, name))

    def _open(self, name):
        if not self.is_zip:
            return os.path.join(self.path, name)
        if self._zip is None:
            self._zip = zipfile.ZipFile(self.path)
        try:
            return io.BytesIO(self._zip.read(name))
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
            with Image.open(self._open(self.names[index])) as image:
                return photos.channels(image), image.size[1], image.size[0]
        except Exception:               # reported when the image is read
            return None

    def read(self, index, channels):
        """Image `index` as [H, W, C] uint8; grey becomes RGB where `channels` is 3. UserError with the reason alone."""
        picture = photos.read_picture(self._open(self.names[index]))
        return np.repeat(picture, 3, axis=2) if channels == 3 and picture.shape[2] == 1 else picture

    def __getstate__(self):
        return dict(self.__dict__, _zip=None)


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

    def read(self, index, channels):
        """Image `index` as [H, W, C] uint8."""
        try:
            image = self._array()[index]
        except OSError as error:
            raise UserError(f'cannot be read from the HDF5 file ({error})')
        if image.dtype != np.uint8:
            raise UserError(f'values of type {image.dtype}, expected uint8')
        return image.transpose(1, 2, 0)

    def __getstate__(self):
        return dict(self.__dict__, _file=None)


# ------------------------------------------------------------------------------------------------ writing

def write_dataset(folder, source, shuffle, workers, labels=None, world_name=None):
    """Write all images of `source` into the dataset `folder`, which appears complete or not at all.

    shuffle: in the fixed shuffled order. labels: [len(source), size] or None. Returns ([name: reason] of images left
    out, number written). Raises UserError.
    """
    check_target(folder)
    shape = common_shape(source)
    order = np.arange(len(source))
    if shuffle:
        np.random.RandomState(ORDER_SEED).shuffle(order)
    skipped, kept = [], []
    with atomic_path(folder, directory=True) as temporary:
        with contextlib.ExitStack() as stack:
            levels = [stack.enter_context(open(tfrecords.level_path(temporary, log2), 'wb'))
                      for log2 in range(shape[1].bit_length() - 1, 1, -1)]
            for index, result in _convert(source, order, shape, workers):
                if isinstance(result, str):
                    skipped.append(f'{source.name(index)}: {result}')
                    continue
                kept.append(index)
                for file, record in zip(levels, result):
                    file.write(record)
        if not kept:
            raise UserError(f'{source.path}: none of its {len(source)} images can be used; the first: {skipped[0]}')
        _write_extras(temporary, labels, kept, world_name)
    return skipped, len(kept)


def _write_extras(folder, labels, kept, world_name):
    if labels is not None:
        with open(tfrecords.label_path(folder), 'wb') as file:
            np.save(file, np.asarray(labels)[kept].astype(np.float32))
    if world_name is not None:
        label.write(folder, world_name)


def check_target(folder):
    """Raise UserError when `folder` holds anything but an older dataset (which is replaced)."""
    if not os.path.exists(folder):
        return
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: a file is in the place of the dataset folder; choose another name')
    others = [name for name in sorted(os.listdir(folder))
              if not name.endswith(('.tfrecords', '.labels')) and name != label.FILE]
    if others:
        raise UserError(f'{folder}: holds other things than a dataset ({others[0]}); choose a new or empty folder')


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
    channels = max(shape[0] for shape in shapes if shape[1:] == (height, width))
    if channels not in (1, 3):
        raise UserError(f'{source.path}: Input images must be stored as RGB or grayscale; not {channels} channels')
    return channels, height, width


def _convert(source, order, shape, workers):
    """Yield (index, records of all levels or the reason why not) in the order given, computed on all workers."""
    chunks = collections.deque(np.array_split(order, -(-len(order) // CHUNK)))
    pool = start_workers(workers, _start_worker, (source, shape))
    running = collections.deque()
    try:
        with tqdm(total=len(order), unit='image', dynamic_ncols=True) as bar:
            while chunks or running:
                while chunks and len(running) < 2 * workers + 1:
                    indices = chunks.popleft().tolist()
                    running.append((indices, pool.submit(_convert_chunk, indices)))
                indices, future = running.popleft()
                yield from zip(indices, future.result())
                bar.update(len(indices))
    except BrokenProcessPool:
        raise UserError('a worker process died, probably for lack of memory; try fewer --workers')
    finally:
        for _, future in running:
            future.cancel()
        pool.shutdown(wait=True)


_worker = {}        # cache of this process: source, shape


def _start_worker(source, shape):
    _worker.update(source=source, shape=shape)


def _convert_chunk(indices):
    return [_convert_image(index) for index in indices]


def _convert_image(index):
    """Image -> framed records, finest level first; or the reason why it cannot be used."""
    channels, height, width = _worker['shape']
    try:
        picture = _worker['source'].read(index, channels)
    except UserError as error:
        return str(error)
    if picture.shape != (height, width, channels):
        kind = {1: 'grey', 3: 'RGB'}.get(picture.shape[2], f'{picture.shape[2]} channels')
        return (f'{picture.shape[1]}x{picture.shape[0]} {kind}, but the dataset is {width}x{height} '
                f'{ {1: "grey", 3: "RGB"}[channels] }')
    return [tfrecords.frame(tfrecords.encode_image(level)) for level in pyramid(picture)]


def pyramid(picture):
    """[H, W, C] uint8 -> [C, H, W] uint8 and its halvings down to 4 x 4.

    Each level is the 2 x 2 mean of the unrounded level above (exact in float32), rounded half to even.
    """
    level = np.ascontiguousarray(picture.transpose(2, 0, 1) if picture.shape[2] == 1 else np.stack(cv2.split(picture)))
    levels, means = [level], level.astype(np.float32)
    while means.shape[1] > 4:
        means = means[:, 0::2] + means[:, 1::2]
        means = (means[:, :, 0::2] + means[:, :, 1::2]) * np.float32(0.25)
        levels.append(np.rint(means).astype(np.uint8))
    return levels
