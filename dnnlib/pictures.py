"""Pictures of many pictures: contact sheets and grids. NumPy and Pillow."""

import io
import os
from typing import Any, List, Optional, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dnnlib.util import UserError, shown, write_atomic

_FILTERS = {'nearest': Image.NEAREST, 'bicubic': Image.BICUBIC}
_USUAL = {'.png': 'PNG', '.jpg': 'JPEG'}
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
    resized = [Image.fromarray(image).resize(size, _FILTERS[resample]).tobytes() for image in images]
    return np.stack([np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3) for data in resized])


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


def encode_image(image: np.ndarray, extension: str = '.png', level: int = PNG_LEVEL) -> bytes:
    """One image as the bytes of a picture file of that extension.

    image: uint8 RGB [H, W, 3]; or whatever `to_uint8` takes, one image of it. level: zlib's, 0-9, for PNG.
    """
    extension = extension.lower()
    kind = _USUAL.get(extension) or Image.registered_extensions().get(extension)    # which imports all of Pillow
    if kind is None:
        raise UserError(f'unknown kind of picture {shown(extension)}; use .png or .jpg')
    options = {'compress_level': level} if kind == 'PNG' else {'quality': 95}
    file = io.BytesIO()
    Image.fromarray(to_uint8(image)[0]).save(file, kind, **options)
    return file.getvalue()


def save_image(image: np.ndarray, path: str, level: int = PNG_LEVEL) -> None:
    """`encode_image` written to `path`, as its extension says; the file appears complete or not at all."""
    try:
        data = encode_image(image, os.path.splitext(path)[1], level)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    write_atomic(path, data)


def save_image_grid(images: np.ndarray, path: str, grid_size: Optional[Tuple[int, int]] = None, **options: Any) -> None:
    """`image_grid(images, grid_size, **options)` written to `path`."""
    save_image(image_grid(images, grid_size, **options), path)


# ---- labels

_LONGEST_LABEL = 24         # characters
_TALLEST = 4                # a sheet taller than so many times its width is cut into blocks side by side


def labelled_grid(images: np.ndarray, columns: int, row_labels: Optional[List[str]] = None,
                  column_labels: Optional[List[str]] = None, margin: int = 4) -> np.ndarray:
    """Tiles in rows, black on white labels left of each row and above each column: uint8 RGB [height, width, 3].

    images: uint8 [rows * columns, H, W, 3], row-major. Labels are cut to fit; None: there are none.
    Many short rows go into several blocks side by side, each with its labels.
    """
    rows, (height, width) = len(images) // columns, images.shape[1:3]
    left = [_text(label) for label in row_labels or []]
    top = [_text(label, width) for label in column_labels or []]
    left_width = max([text.shape[1] for text in left] + [0])
    top_height = max([text.shape[0] for text in top] + [0])

    def block(first, last):
        tiles = image_grid(images[first * columns:last * columns], (columns, last - first), margin)
        sheet = np.full([top_height + tiles.shape[0], left_width + tiles.shape[1], 3], 255, np.uint8)
        sheet[top_height:, left_width:] = tiles
        for i, text in enumerate(top):
            _put(sheet, text, 0, left_width + margin + i * (width + margin) + (width - text.shape[1]) // 2)
        for i, text in enumerate(left[first:last]):
            y = top_height + margin + i * (height + margin) + (height - text.shape[0]) // 2
            _put(sheet, text, max(y, 0), left_width - text.shape[1])
        return sheet

    step = _rows_in_a_block(rows, height + margin, left_width + columns * (width + margin))
    blocks = [block(first, min(first + step, rows)) for first in range(0, rows, step)]
    tallest = max(sheet.shape[0] for sheet in blocks)
    blocks = [np.pad(sheet, ((0, tallest - len(sheet)), (0, 0), (0, 0)), 'constant', constant_values=255)
              for sheet in blocks]
    return np.concatenate(blocks, axis=1)


def _rows_in_a_block(rows, height, width):
    """All rows, of so many pixels each, unless the sheet gets too tall for its width; then what makes it square."""
    if rows * height <= _TALLEST * width:
        return rows
    return -(-rows // max(1, int(round(np.sqrt(rows * height / width)))))


def _font():
    try:
        return ImageFont.load_default(size=13)
    except (TypeError, ImportError, OSError):       # before Pillow 10.1, or without FreeType: its bitmap font
        return ImageFont.load_default()


def _text(label, widest=None):
    """A label in black on white, uint8 [h, w, 3], no wider than `widest` pixels. Other letters than Latin become ?."""
    label = label.encode('latin-1', 'replace').decode('latin-1')
    most, font = _LONGEST_LABEL, _font()
    while True:
        shown_label = label if len(label) <= most else label[:most // 2] + '..' + label[len(label) - most // 2 + 1:]
        width, height = ImageDraw.Draw(Image.new('L', (1, 1))).textbbox((0, 0), shown_label, font=font)[2:]
        if widest is None or width + 4 <= widest or most <= 2:
            break
        most -= 1
    image = Image.new('RGB', (width + 6, height + 4), 'white')
    ImageDraw.Draw(image).text((3, 1), shown_label, fill='black', font=font)
    return np.asarray(image)[:, :widest]


def _put(sheet, tile, y, x):
    """Copy a tile into the sheet, what lies within."""
    x = max(x, 0)
    room = sheet[y:y + tile.shape[0], x:x + tile.shape[1]]
    room[...] = tile[:room.shape[0], :room.shape[1]]


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
