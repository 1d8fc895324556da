"""Reading of pictures in whatever form they come: PNG or JPEG, grey, palette, transparent, 16 bits, CMYK.

A picture is taken as it is stored: an EXIF rotation is ignored, because landmarks count stored pixels. Transparent
parts become black, as everything outside a photo does. 16-bit values are scaled to 8 bits.
"""

import os

import numpy as np
from PIL import Image

from dnnlib.util import UserError

EXTENSIONS = ('.png', '.jpg', '.jpeg')      # in any case


def list_photos(folder):
    """Names of the photos in a folder by their extension, sorted; hidden files are left out. Raises UserError."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS)
                          and not entry.name.startswith('.') and entry.is_file())
    except OSError as error:
        raise UserError(f'{folder}: cannot be listed ({error.strerror}); a folder of photos was expected')


def read_picture(file):
    """A picture file (path or open binary file) -> [H, W, C] uint8, C = 1 (grey) or 3 (RGB), 0-255.

    Raises UserError with the reason alone (the caller names the file).
    """
    try:
        with Image.open(file) as image:
            image.load()
            return _to_array(image)
    except (MemoryError, UserError):
        raise
    except Exception as error:      # Pillow's decoders raise a dozen types for a broken file, SyntaxError among them
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f'cannot be read ({error.strerror})')
        raise UserError(f'cannot be read as a picture: {_reason(error)}')


def _reason(error):
    text = str(error) or type(error).__name__
    return 'not a picture, or damaged' if 'cannot identify' in text else text


def channels(image):
    """Channels `read_picture` will give for an open PIL image: 1 (grey) or 3 (RGB)."""
    grey = image.mode.startswith('I') or image.mode in ('1', 'L') and 'transparency' not in image.info
    return 1 if grey else 3


def _to_array(image):
    if image.mode.startswith('I'):                          # 16 bits: 0-65535
        values = np.asarray(image).astype(np.int64)
        values = (values + 128) // 257 if values.max() > 255 else values
        return np.clip(values, 0, 255).astype(np.uint8)[:, :, None]
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, (0, 0, 0, 255)), image)
    if image.mode == 'RGB':
        return np.array(image)
    if image.mode in ('1', 'L'):
        return np.array(image.convert('L'))[:, :, None]
    return np.array(image.convert('RGB'))


def read_rgb(file):
    """As `read_picture`, always [H, W, 3] RGB."""
    picture = read_picture(file)
    return picture if picture.shape[2] == 3 else np.repeat(picture, 3, axis=2)
