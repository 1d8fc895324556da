"""What a camera does to a picture: colour balance, contrast, blur, dark corners, noise of the sensor."""

import functools

import cv2
import numpy as np


def exposed(picture, film, random):
    """Picture [size, size, 3] float32 RGB 0-255 -> uint8 photo. film: scenes.Film; random: RandomState of the noise, or
    None: no noise."""
    size = len(picture)
    picture = cv2.GaussianBlur(picture, (0, 0), film.blur * size / 256 + 0.05)
    picture *= np.float32(film.gain) * (1 - film.vignette * _corners(size))[..., None]
    picture = 128 + (_soft(picture) - 128) * film.contrast
    if random is not None:
        top, left = random.randint(size + 1, size=2)
        picture += film.noise * _noise_sheet(size)[top:top + size, left:left + size]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _soft(picture):
    """Highlights bend before they burn out."""
    return np.where(picture > 215, 215 + 40 * np.tanh((picture - 215) / 40), picture)


@functools.lru_cache(maxsize=None)
def _corners(size):
    """[size, size] float32: squared distance from the middle, 1 in the corners."""
    x = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    return (x[:, None] + x) / 2


@functools.lru_cache(maxsize=None)
def _noise_sheet(size):
    """[2 size, 2 size, 3] float32: pieces of one sheet of noise are many times faster than fresh numbers."""
    sheet = np.random.RandomState(0).standard_normal([2 * size, 2 * size, 3]).astype(np.float32)
    return 0.8 * sheet + 0.6 * sheet.mean(axis=2, keepdims=True)
