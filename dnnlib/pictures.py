"""Pictures of many pictures: contact sheets and grids. NumPy and Pillow."""

import os
from typing import Any, Optional, Tuple

import numpy as np
from PIL import Image

from dnnlib.util import UserError, atomic_path

_FILTERS = {'nearest': Image.NEAREST, 'bicubic': Image.BICUBIC}
PNG_LEVEL = 1               # zlib: a third of the time of the default level 6, files about a tenth larger


def to_uint8(images: np.ndarray, layout: Optional[str] = None) -> np.ndarray:
    """Images as uint8 NHWC RGB, as the release writes them: (x + 1) * 127.5, clipped to 0-255, truncated.

    images: float in [-1, 1] or uint8; NCHW or NHWC with 1 or 3 channels (grey is repeated); one image may lack N.
    layout: 'NCHW' or 'NHWC'; None: whichever axis holds 1 or 3 channels, the last one if both do.
    """
    images = np.asarray(images)
    images = images[np.newaxis] if images.ndim == 3 else images
    if images.ndim != 4:
        raise UserError(f'images of shape {list(images.shape)}: expected [N, 3, H, W] or [N, H, W, 3]')
    layout = layout or ('NHWC' if images.shape[3] in (1, 3) else 'NCHW')
    if layout == 'NCHW':
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] not in (1, 3):
        raise UserError(f'images with {images.shape[3]} channels ({layout}): expected 1 or 3')
    if images.dtype != np.uint8:
        images = np.clip((images + 1.0) * 127.5, 0, 255)
        images = np.where(np.isfinite(images), images, 0).astype(np.uint8)      # NaN has no defined integer
    return np.repeat(images, 3, axis=3) if images.shape[3] == 1 else images


def enlarge(images: np.ndarray, scale: int, resample: str = 'nearest') -> np.ndarray:
    """uint8 [N, H, W, 3] -> [N, H * scale, W * scale, 3]. scale: integer from 1; resample: 'nearest' or 'bicubic'."""
    if resample not in _FILTERS:
        raise UserError(f'unknown filter {resample!r}: expected one of {", ".join(sorted(_FILTERS))}')
    if scale == 1:
        return images
    size = (images.shape[2] * scale, images.shape[1] * scale)
    return np.stack([np.asarray(Image.fromarray(image).resize(size, _FILTERS[resample])) for image in images])


def natural_scale(size: int, wanted: int = 128) -> int:
    """Smallest whole factor that makes tiles of `size` pixels at least `wanted` pixels wide."""
    return max(1, -(-wanted // size))


def image_grid(images: np.ndarray, grid_size: Optional[Tuple[int, int]] = None, margin: int = 0, background: int = 255,
               scale: int = 1, resample: str = 'nearest', layout: Optional[str] = None) -> np.ndarray:
    """Tiles in rows: uint8 RGB [rows * H', columns * W', 3].

    images: as in `to_uint8`, row-major; cells without an image show the background.
    grid_size: (columns, rows); None: as square as possible. margin: pixels around every tile; background: 0-255.
    """
    images = enlarge(to_uint8(images, layout), scale, resample)
    count, height, width = images.shape[:3]
    columns, rows = grid_size or (_square(count), -(-count // _square(count)))
    if columns * rows < count:
        raise UserError(f'grid_size {columns} x {rows} has no room for {count} images')
    step_y, step_x = height + margin, width + margin
    sheet = np.full([rows * step_y + margin, columns * step_x + margin, 3], background, np.uint8)
    for index, image in enumerate(images):
        y, x = margin + index // columns * step_y, margin + index % columns * step_x
        sheet[y:y + height, x:x + width] = image
    return sheet


def save_image(image: np.ndarray, path: str, level: int = PNG_LEVEL) -> None:
    """Write one image as the format that the extension of `path` names; the file appears complete or not at all.

    image: uint8 RGB [H, W, 3]; or whatever `to_uint8` takes, one image of it. level: zlib's, 0-9, for PNG.
    """
    extension = os.path.splitext(path)[1].lower()
    if extension not in Image.registered_extensions():
        raise UserError(f'{path}: unknown kind of picture {extension!r}; use .png or .jpg')
    options = {'compress_level': level} if extension == '.png' else {'quality': 95}
    with atomic_path(path) as temporary:
        Image.fromarray(to_uint8(image)[0]).save(temporary, **options)


def save_image_grid(images: np.ndarray, path: str, grid_size: Optional[Tuple[int, int]] = None, **options: Any) -> None:
    """`image_grid(images, grid_size, **options)` written to `path`."""
    save_image(image_grid(images, grid_size, **options), path)


def screen_grid_size(width: int, height: int) -> Tuple[int, int]:
    """(columns, rows) of a grid that fills a screen with images of width x height pixels: (7, 4) for 256 x 256."""
    return int(np.clip(1920 // width, 3, 32)), int(np.clip(1080 // height, 2, 32))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Pairs of images: uint8 [N, H, 2W, 3]. left, right: as in `to_uint8`, equally many and of one size."""
    left, right = to_uint8(left), to_uint8(right)
    if left.shape != right.shape:
        raise UserError(f'images {list(left.shape)} and {list(right.shape)} differ in number or size')
    return np.concatenate([left, right], axis=2)


def _square(count):
    return max(1, int(np.ceil(np.sqrt(count))))
