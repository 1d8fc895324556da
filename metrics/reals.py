"""Real pictures: the TFRecords of a training set, or a folder of preprocessed pictures, at a wanted resolution."""

import itertools
import os
from typing import Any, Optional, Sequence

import numpy as np

from dnnlib import tfrecords
from dnnlib.tfrecords import dataset_folder
from dnnlib.util import UserError
from preprocess import picture_files
from renderer import factors
from worlds import label

MOST_DRAWN = 10000      # photos that are drawn where there is no data set


class Reals:
    """The pictures of `data_dir` in their order, [N, R, R, 3] uint8 RGB.

    data_dir: a folder of TFRecords (a name below config.DATASET_DIR will do), or of pictures (itself or its img/).
    resolution: R; larger pictures are reduced by 2x2 means as dataset_tool.py does. limit: how many at most.
    Attributes: folder, count, facts (for keys: path, file sizes and times).
    UserError when there is nothing, or pictures are too small.
    """

    title = 'reals in file order'

    def __init__(self, data_dir: str, resolution: int, limit: int) -> None:
        self.folder, self.resolution = dataset_folder(data_dir), resolution
        if any(name.endswith('.tfrecords') for name in os.listdir(self.folder)):
            self._level = self._find_level()
            self.count, paths, self._read = self._level.count, [self._level.path], self._from_records
        else:
            self._paths = paths = self._find_pictures()
            self.count, self._read = len(paths), self._from_files
        self.count = min(self.count, limit)
        self.facts = dict(folder=self.folder, resolution=resolution, files=[
            [os.path.basename(path), os.path.getsize(path), os.stat(path).st_mtime_ns] for path in paths])
        self._stream, self._next = None, None

    def read(self, start: int, count: int) -> np.ndarray:
        """Pictures `start` .. `start + count - 1`: uint8 [count, R, R, 3]."""
        return self._read(start, count)

    # ---- TFRecords

    def _find_level(self):
        levels = tfrecords.read_levels(self.folder)
        for level in levels:
            if level.shape[1] == self.resolution:
                return level
        raise UserError(f'{self.folder}: no pictures of {self.resolution} pixels, the finest have '
                        f'{levels[0].shape[1]}; the model wants a dataset of its own resolution')

    def _from_records(self, start, count):
        if self._stream is None or start < self._next:
            self._stream, self._next = tfrecords.read_images(self._level.path), 0
        for _ in itertools.islice(self._stream, start - self._next):
            pass
        pictures = [image.transpose(1, 2, 0) for image in itertools.islice(self._stream, count)]
        self._next = start + count
        return np.stack([_colored(picture) for picture in pictures])

    # ---- pictures

    def _find_pictures(self):
        for folder in (self.folder, os.path.join(self.folder, 'img')):
            names = picture_files.list_pictures(folder) if os.path.isdir(folder) else []
            if names:
                return [os.path.join(folder, name) for name in names]
        raise UserError(f'{self.folder}: neither TFRecords (NAME-rLL.tfrecords) nor pictures there; expected a folder '
                        'that dataset_tool.py or preprocess_data.py wrote')

    def _from_files(self, start, count):
        return np.stack([self._from_file(path) for path in self._paths[start:start + count]])

    def _from_file(self, path):
        try:
            picture = picture_files.read_rgb(path)
        except UserError as error:
            raise UserError(f'{path}: {error}')
        height, width = picture.shape[:2]
        factor = width // self.resolution
        if height != width or factor * self.resolution != width or factor & (factor - 1):
            raise UserError(f'{path}: {width}x{height} pixels; expected a square of {self.resolution} pixels, or of 2, '
                            '4, 8, ... times as many')
        return reduced(picture, factor)


class DrawnReals:
    """Photos that a world draws, in place of a data set. source: a metrics.sources.PhotoSource. Attributes as Reals.

    Their numbers come from latents through the VAEs; no random pictures of `Context` have the same.
    """

    title = 'reals: photos that the world draws of latents through the VAEs'

    def __init__(self, source: Any, seed: int, count: int) -> None:
        self._source, self._seed, self.count = source, seed, min(count, MOST_DRAWN)
        self.facts = dict(source=source.facts, seed=seed)

    def read(self, start: int, count: int) -> np.ndarray:
        """Photos `start` .. `start + count - 1`: uint8 [count, R, R, 3]."""
        coeffs = random_coeffs(self._source, [self._seed, start, 1], count)
        return self._source.pictures(coeffs, seed=((self._seed + 1) % 2 ** 32, start))


def random_coeffs(source: Any, seed: Sequence[int], count: int) -> np.ndarray:
    """Generator inputs [count, 254 + noise_dim] float32 of random latents and noise vectors."""
    normals = np.random.RandomState(seed).standard_normal([count, factors.NUM_LATENTS + source.noise_dim])
    latents, noise = np.split(normals, [factors.NUM_LATENTS], axis=1)
    return np.concatenate([source.decode(latents), noise], axis=1).astype(np.float32)


def world_of(data_dir: str) -> Optional[str]:
    """The world named in a folder of real pictures or in the one above it; None when neither says anything."""
    return label.of_data(dataset_folder(data_dir))


def reduced(picture: np.ndarray, factor: int) -> np.ndarray:
    """[S, S, C] uint8 -> [S / factor, S / factor, C] uint8: means, rounded half to even."""
    if factor == 1:
        return picture
    size = picture.shape[0] // factor
    means = picture.reshape(size, factor, size, factor, -1).mean(axis=(1, 3), dtype=np.float32)
    return np.rint(means).astype(np.uint8)


def _colored(picture):
    return picture if picture.shape[2] == 3 else np.repeat(picture, 3, axis=2)


def mirrored(pictures: np.ndarray, seed: int, start: int) -> np.ndarray:
    """[N, H, W, 3] with each picture mirrored with probability 1/2; number `start` + i always the same way."""
    pictures = pictures.copy()
    for i in range(len(pictures)):
        if np.random.RandomState([seed, start + i]).randint(2):
            pictures[i] = pictures[i, :, ::-1]
    return pictures
