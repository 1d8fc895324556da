"""Reading of picture files, the one door for all commands: any usual kind, grey, palette, transparent, 16 bits, CMYK.

A PNG whose checksums are wrong is refused, so is a picture of more pixels than fit. Transparent parts become black, as
everything outside a photo does. 16-bit values are scaled to 8 bits.
"""

import io
import os
import struct
import warnings
import zlib
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from PIL import Image

from dnnlib import places
from dnnlib.util import UserError

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.bmp', '.tif', '.tiff', '.gif', '.ppm', '.pgm')
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM')      # what Pillow may take a file for
OTHER_EXTENSIONS = ('.heic', '.heif', '.hif', '.avif', '.jp2', '.j2k', '.jxl', '.dng', '.cr2', '.cr3', '.nef', '.arw',
                    '.orf', '.rw2', '.raf', '.raw', '.psd', '.tga', '.svg', '.exr', '.hdr', '.ico', '.pcx', '.pnm')
MAX_PIXELS = 1 << 27            # 134 million: a gigabyte at most while it is decoded
MAX_BYTES = 1 << 30
_STRIP = 1 << 22                # pixels converted at a time
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101          # tags of EXIF and TIFF
_PNG = b'\x89PNG\r\n\x1a\n'
# Chunks that change no pixel, neither here nor there: with others, and for other kinds than 8-bit grey and RGB, Pillow
# decodes. OpenCV's result is equal to the last bit (tests/test_picture_files.py) in half the time.
_PLAIN_CHUNKS = {b'IHDR', b'IDAT', b'IEND', b'gAMA', b'sRGB', b'cHRM', b'pHYs', b'tIME', b'bKGD', b'sBIT'}

Image.MAX_IMAGE_PIXELS = None   # Pillow's own limit warns and speaks of attacks; MAX_PIXELS holds instead
warnings.filterwarnings('ignore', module=r'PIL\..*')    # of odd tags; what matters is an error

File = Union[str, bytes, Any]   # path, the content, or an open binary file


# ------------------------------------------------------------------------------------------------ listing

def list_pictures(folder: str) -> List[str]:
    """Names of the pictures in a folder by their extension, sorted; hidden files are left out. Raises UserError."""
    return sorted(name for name in _walk(folder, (), nested=False) if is_picture(name))


def is_picture(name: str) -> bool:
    """Whether a name ends like that of a picture that is read."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_other_picture(name: str) -> bool:
    """Whether a name ends like that of a picture of a kind that is not read."""
    return os.path.splitext(name)[1].lower() in OTHER_EXTENSIONS


def list_files(folder: str, leave_out: Sequence[str] = ()) -> List[str]:
    """Paths, inside the folder and with '/', of all files in it and in the folders in it, sorted.

    Hidden files and folders are left out, so are the folders `leave_out`. A link to a folder is followed, once. Raises
    UserError.
    """
    return sorted(_walk(folder, leave_out))


def _walk(folder: str, leave_out: Sequence[str], nested: bool = True) -> Iterator[str]:
    waiting, seen = [''], {os.path.realpath(path) for path in (folder,) + tuple(leave_out)}
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(os.path.join(folder, inside) if inside else folder) as entries:
                for entry in entries:
                    name = f'{inside}/{entry.name}' if inside else entry.name
                    if entry.name.startswith('.'):
                        continue
                    if entry.is_file():
                        yield name
                    elif nested and entry.is_dir() and os.path.realpath(entry.path) not in seen:
                        seen.add(os.path.realpath(entry.path))
                        waiting.append(name)
        except OSError as error:
            raise UserError(f'{os.path.join(folder, inside)}: cannot be listed ({error.strerror}); a folder of '
                            'pictures was expected')


NOT_READ = f'a kind of picture that is not read; convert it to one of {", ".join(EXTENSIONS[:2] + EXTENSIONS[5:8])}'
EXPECTED = f'files ending in {", ".join(EXTENSIONS)} were expected'


# ------------------------------------------------------------------------------------------------ reading

class Picture(NamedTuple):
    """pixels: [H, W, C] uint8 as a viewer shows them, C = 1 (grey) or 3 (RGB), 0-255; orientation: EXIF's 1 to 8, how
    they were turned to be shown.
    """
    pixels: np.ndarray
    orientation: int


class OtherSize(UserError):
    """A picture has another size than was asked for. shape: (channels, height, width)."""

    def __init__(self, shape: Tuple[int, int, int]) -> None:
        super().__init__(f'{shape[2]} x {shape[1]} pixels')
        self.shape = shape


def read(file: File, size: Optional[Tuple[int, int]] = None) -> Picture:
    """A picture file -> Picture. Raises UserError with the reason alone (the caller names the file).

    size: (width, height), with which alone a picture is decoded; OtherSize for the others.
    """
    data = content(file)
    if data[:8] == _PNG:
        header, chunks = _check_png(data)
        if size and size != header[:2] and size != header[1::-1]:
            raise OtherSize(shape(data))
        pixels = _by_opencv(data, header, chunks)
        if pixels is not None:
            return Picture(pixels, 1)
        _check_png_data(data, header)
    with _Opened(data) as image:
        if size and size != image.size and size != image.size[::-1]:
            raise OtherSize(shape(data))
        orientation = _orientation(image)
        image.load()
        pixels = _to_array(image)
        turned = image.format == 'TIFF'     # by Pillow, while loading
        return Picture(pixels if turned else turn(pixels, orientation), orientation)


def read_with_content(path: str) -> Tuple[Picture, places.Content]:
    """As `read`, and what the file held."""
    try:
        _check_bytes(path)
        data, content = places.read(path)
    except OSError as error:
        raise UserError(f'cannot be read ({error.strerror})')
    return read(data), content


def read_picture(file: File) -> np.ndarray:
    """As `read`, the pixels alone."""
    return read(file).pixels


def read_rgb(file: File) -> np.ndarray:
    """As `read_picture`, always [H, W, 3] RGB."""
    return rgb(read_picture(file))


def rgb(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 1 or 3] -> [H, W, 3]."""
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def shape(file: File) -> Tuple[int, int, int]:
    """(channels, height, width) that `read_picture` will give, from the header alone. Raises UserError."""
    with _Opened(file) as image:
        tags = getattr(image, 'tag_v2', None)           # of a TIFF: some versions of Pillow turn its size at once
        width, height = (tags[_WIDTH], tags[_HEIGHT]) if tags else image.size
        return (channels(image), width, height) if _orientation(image) > 4 else (channels(image), height, width)


def channels(image: Image.Image) -> int:
    """Channels that `read` will give for an open PIL image: 1 (grey) or 3 (RGB)."""
    grey = image.mode.startswith('I') or image.mode in ('1', 'L') and 'transparency' not in image.info
    return 1 if grey else 3


# ------------------------------------------------------------------------------------------------ turning

TURNS = {1: 'as stored', 2: 'mirrored', 3: 'turned by 180 degrees', 4: 'mirrored and turned by 180 degrees',
         5: 'mirrored and turned left by 90 degrees', 6: 'turned right by 90 degrees',
         7: 'mirrored and turned right by 90 degrees', 8: 'turned left by 90 degrees'}
_TRANSPOSED, _FLIPPED_X, _FLIPPED_Y = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)      # in this order


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels [H, W, C] -> as a viewer shows a picture of this EXIF orientation, 1 to 8."""
    if orientation in _TRANSPOSED:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in _FLIPPED_X:
        pixels = pixels[:, ::-1]
    if orientation in _FLIPPED_Y:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def turn_points(points: np.ndarray, size: Tuple[int, int], orientation: int) -> np.ndarray:
    """Points [N, 2] (x, y) of the stored pixels -> those of the view; size: (width, height) of the view."""
    x, y = points.T[::-1] if orientation in _TRANSPOSED else points.T
    return np.stack([size[0] - 1 - x if orientation in _FLIPPED_X else x,
                     size[1] - 1 - y if orientation in _FLIPPED_Y else y], axis=1)


def _orientation(image: Image.Image) -> int:
    if image.format == 'PNG':   # `getexif` reads its pixels, too: an error in them is not one of the EXIF
        image.load()
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:           # a damaged EXIF block raises almost anything; the picture itself may be whole
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


# ------------------------------------------------------------------------------------------------ decoding

def content(file: File) -> bytes:
    """The bytes of a picture file. Raises UserError with the reason alone."""
    if isinstance(file, bytes):
        return file
    try:
        if not isinstance(file, str):
            return file.read()
        _check_bytes(file)
        with open(file, 'rb') as opened:
            return opened.read()
    except OSError as error:
        raise UserError(f'cannot be read ({error.strerror})')


def _check_bytes(path: str) -> None:
    if os.path.getsize(path) > MAX_BYTES:
        raise UserError(f'a file of more than {MAX_BYTES >> 20} MB; make it smaller')


class _Opened:
    """A picture opened by Pillow, of allowed kind and size; what goes wrong inside becomes a UserError."""

    def __init__(self, file: File) -> None:
        self._file, self._image = file, None

    def __enter__(self) -> Image.Image:
        try:
            file = io.BytesIO(self._file) if isinstance(self._file, bytes) else self._file
            self._image = Image.open(file, formats=FORMATS)
            _check_size(*self._image.size)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self._image

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._image is not None:
            self._image.close()
        # Pillow's decoders raise a dozen types for a broken file, SyntaxError among them.
        if isinstance(error, Exception) and not isinstance(error, (MemoryError, UserError)):
            if isinstance(error, OSError) and error.strerror:
                raise UserError(f'cannot be read ({error.strerror})') from error
            raise UserError(f'cannot be read as a picture: {_reason(error)}') from error


def _reason(error: Exception) -> str:
    text = ' '.join(str(error).split())[:200] or type(error).__name__
    return 'not a picture, or damaged' if 'cannot identify' in text else text


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise UserError(f'cannot be read as a picture: {width} x {height} pixels')
    if width * height > MAX_PIXELS:
        raise UserError(f'has {width} x {height} = {width * height / 1e6:.0f} million pixels, more than the '
                        f'{MAX_PIXELS / 1e6:.0f} million that are read; make it smaller, and its landmarks in the same '
                        'measure')


def _check_png(data: bytes) -> Tuple[Tuple[int, ...], List[bytes]]:
    """Verify every checksum of a PNG -> (fields of its header, kinds of its chunks). Raises UserError."""
    at, chunks = 8, []
    view = memoryview(data)
    while not chunks or chunks[-1] != b'IEND':
        if at + 12 > len(data):
            raise UserError('cannot be read as a picture: the PNG is cut off')
        length, kind = struct.unpack_from('>I4s', data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise UserError('cannot be read as a picture: the PNG is damaged or cut off')
        if zlib.crc32(view[at + 4:end]) != struct.unpack_from('>I', data, end)[0]:
            raise UserError('cannot be read as a picture: the PNG is damaged (a wrong checksum)')
        chunks.append(kind)
        at = end + 4
    if chunks[0] != b'IHDR' or struct.unpack_from('>I', data, 8)[0] != 13:
        raise UserError('cannot be read as a picture: the PNG has no header')
    header = struct.unpack_from('>IIBBBBB', data, 16)
    _check_size(*header[:2])
    return header, chunks


_INTERLACED = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _check_png_data(data: bytes, header: Tuple[int, ...]) -> None:
    """UserError unless a PNG holds all its rows: Pillow takes what is missing for black."""
    width, height, depth, colour = header[:4]
    passes = _INTERLACED if header[6] else ((0, 0, 1, 1),)      # first column, first row, steps
    sizes = [(-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in passes]
    bits = depth * _CHANNELS.get(colour, 0)
    missing = sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sizes if columns > 0 and rows > 0)
    inflate = zlib.decompressobj()
    at, kind = 8, b''
    while kind != b'IEND' and missing > 0 and not inflate.eof:
        length, kind = struct.unpack_from('>I4s', data, at)
        packed = data[at + 8:at + 8 + length] if kind == b'IDAT' else b''
        while packed and missing > 0 and not inflate.eof:
            try:
                missing -= len(inflate.decompress(packed, _STRIP))
            except zlib.error as error:
                raise UserError(f'cannot be read as a picture: the PNG is damaged ({error})')
            packed = inflate.unconsumed_tail
        at += 12 + length
    if missing > 0:
        raise UserError('cannot be read as a picture: the PNG ends before its last row')


def _by_opencv(data: bytes, header: Tuple[int, ...], chunks: List[bytes]) -> Optional[np.ndarray]:
    """A PNG of 8-bit grey or RGB -> [H, W, 1 or 3]; None where OpenCV might give other pixels, or fails."""
    width, height, depth, colour = header[:4]
    if depth != 8 or colour not in (0, 2) or not _PLAIN_CHUNKS.issuperset(chunks):
        return None
    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:           # Pillow says why
        return None
    if pixels is None or pixels.shape[:2] != (height, width):
        return None
    if not colour:
        return pixels[:, :, None]
    for strip in np.split(pixels, range(_rows(width), height, _rows(width))):
        strip[:] = cv2.cvtColor(strip, cv2.COLOR_BGR2RGB)
    return pixels


def _rows(width: int) -> int:
    """Rows of a strip: what is done to a whole picture at once takes its memory once more."""
    return max(1, _STRIP // width)


def _to_array(image: Image.Image) -> np.ndarray:
    """A decoded picture -> [H, W, C] uint8, a strip at a time: conversions take several times a picture's memory."""
    if image.mode == 'F' or image.mode == 'I' and image.format not in ('PNG', 'PPM'):
        raise UserError(f'cannot be read as a picture: nobody knows which of its values is white (kind {image.mode}); '
                        'save it with 8 or 16 bits')
    width, height = image.size
    out = np.empty([height, width, channels(image)], np.uint8)
    rows = _rows(width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = image if rows >= height else image.crop((0, top, width, bottom))
        strip.info = image.info
        out[top:bottom] = _strip_to_array(strip)
    return out


def _strip_to_array(image: Image.Image) -> np.ndarray:
    if image.mode.startswith('I'):                          # 16 bits: 0-65535
        values = np.asarray(image).astype(np.int32)
        return np.clip((values + 128) // 257, 0, 255).astype(np.uint8)[:, :, None]
    if image.mode in ('RGBA', 'LA', 'PA', 'La', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, (0, 0, 0, 255)), image)
    if image.mode == 'RGB':
        return np.asarray(image)
    if image.mode in ('1', 'L'):
        return np.asarray(image.convert('L'))[:, :, None]
    return np.asarray(image.convert('RGB'))
