"""preprocess.picture_files: pictures of every kind become RGB or grey bytes, or a reason why not."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from dnnlib.util import UserError
from preprocess import picture_files

RNG = np.random.RandomState(0)
RGB = RNG.randint(0, 256, [12, 16, 3]).astype(np.uint8)
GREY = RGB[:, :, 0]


def _file(image, format='PNG', **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def test_rgb_and_grey():
    assert np.array_equal(picture_files.read_picture(_file(Image.fromarray(RGB))), RGB)
    assert np.array_equal(picture_files.read_picture(_file(Image.fromarray(GREY)))[:, :, 0], GREY)
    assert np.array_equal(picture_files.read_rgb(_file(Image.fromarray(GREY))), np.repeat(GREY[:, :, None], 3, axis=2))


def test_transparency_becomes_black():
    alpha = np.full([12, 16], 255, np.uint8)
    alpha[:6] = 0
    picture = picture_files.read_picture(_file(Image.fromarray(np.dstack([RGB, alpha]))))
    assert np.array_equal(picture[6:], RGB[6:]) and (picture[:6] == 0).all()
    picture = picture_files.read_picture(_file(Image.fromarray(np.dstack([GREY, alpha]))))
    assert np.array_equal(picture[6:], np.repeat(GREY[6:, :, None], 3, axis=2)) and (picture[:6] == 0).all()


def test_palette_bits_and_16_bits():
    palette = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(picture_files.read_picture(_file(palette)), np.asarray(palette.convert('RGB')))
    transparent = picture_files.read_picture(_file(palette, transparency=int(np.asarray(palette)[0, 0])))
    assert (transparent[0, 0] == 0).all()
    bits = Image.fromarray(GREY > 127)
    assert np.array_equal(picture_files.read_picture(_file(bits))[:, :, 0], np.where(GREY > 127, 255, 0))
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.array_equal(picture_files.read_picture(_file(deep))[:, :, 0], GREY)


def test_16_bits_are_never_taken_for_8():
    dark = np.full([12, 16], 200, np.uint16)                # of 65535: black, not a light grey
    assert (picture_files.read_picture(_file(Image.fromarray(dark))) == 1).all()
    assert (picture_files.read_picture(_file(Image.fromarray(dark), 'TIFF')) == 1).all()
    for kind in ('F', 'I'):
        with pytest.raises(UserError, match='nobody knows which of its values is white'):
            picture_files.read_picture(_file(Image.fromarray(GREY).convert(kind), 'TIFF'))


def test_cmyk():
    flat = np.full([16, 16, 3], (200, 100, 50), np.uint8)
    cmyk = picture_files.read_picture(_file(Image.fromarray(flat).convert('CMYK'), 'JPEG', quality=95))
    assert cmyk.shape == (16, 16, 3) and abs(cmyk.astype(int) - flat).max() < 8


@pytest.mark.parametrize('format', ['JPEG', 'PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_as_viewers_show_it(format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {'lossless': True} if format == 'WEBP' else {}
    file = _file(Image.fromarray(RGB), format, exif=exif, **options)
    with Image.open(_file(Image.fromarray(RGB), format, **options)) as image:
        stored = np.array(image.convert('RGB'))             # what a JPEG made of it
    with Image.open(_file(Image.fromarray(stored), exif=exif)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert('RGB'))
    picture = picture_files.read(file.getvalue())
    assert picture.orientation == orientation and np.array_equal(picture.pixels, expected)
    assert np.array_equal(picture_files.turn(stored, orientation), expected)
    y, x = np.mgrid[:stored.shape[0], :stored.shape[1]]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    turned = picture_files.turn_points(points, expected.shape[1::-1], orientation)
    assert np.array_equal(expected[turned[:, 1], turned[:, 0]], stored.reshape(-1, 3))
    assert picture_files.shape(file.getvalue()) == (3,) + expected.shape[:2]


# ------------------------------------------------------------------------------------------------ OpenCV or Pillow

def _png(colour, depth, rows, *chunks, interlace=0):
    """A PNG of raw rows, each beginning with its filter's number."""
    width = len(rows[0][1:]) * 8 // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    parts = [(b'IHDR', struct.pack('>IIBBBBB', width, len(rows), depth, colour, 0, 0, interlace))] + list(chunks)
    parts += [(b'IDAT', zlib.compress(b''.join(rows))), (b'IEND', b'')]
    data = b'\x89PNG\r\n\x1a\n'
    for kind, content in parts:
        data += struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
    return data


def _rows(channels, depth, seed=0, width=16, height=12):
    """Random rows with every filter of the format."""
    random = np.random.RandomState(seed)
    return [bytes([k % 5]) + random.bytes(width * channels * depth // 8) for k in range(height)]


def _interlaced(pixels):
    """The seven passes of Adam7, each row unfiltered."""
    rows = b''
    for y, x, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
                              (1, 0, 2, 1)):
        for row in pixels[y::down, x::right]:
            rows += b'\0' + row.tobytes()
    return rows


_PALETTE = (b'PLTE', bytes(range(256)) * 3)
KINDS = {       # {kind: (file, whether OpenCV decodes it)}
    'grey': (_png(0, 8, _rows(1, 8)), True), 'rgb': (_png(2, 8, _rows(3, 8)), True),
    'palette': (_png(3, 8, _rows(1, 8), _PALETTE), False),
    'small palette': (_png(3, 2, _rows(1, 2), (b'PLTE', bytes(range(12)))), False),
    'grey and alpha': (_png(4, 8, _rows(2, 8)), False), 'alpha': (_png(6, 8, _rows(4, 8)), False),
    'deep grey': (_png(0, 16, _rows(1, 16)), False), 'deep rgb': (_png(2, 16, _rows(3, 16)), False),
    'deep alpha': (_png(6, 16, _rows(4, 16)), False), 'bits': (_png(0, 1, _rows(1, 1)), False),
    'four greys': (_png(0, 2, _rows(1, 2)), False),
    'transparent colour': (_png(2, 8, _rows(3, 8), (b'tRNS', bytes(6))), False),
    'transparent grey': (_png(0, 8, _rows(1, 8), (b'tRNS', bytes(2))), False),
    'gamma': (_png(2, 8, _rows(3, 8), (b'gAMA', struct.pack('>I', 100000))), True),
    'background': (_png(2, 8, _rows(3, 8), (b'bKGD', bytes(6)), (b'sBIT', b'\5\6\5')), True),
    'colours': (_png(2, 8, _rows(3, 8), (b'sRGB', b'\0'), (b'cHRM', bytes(32)), (b'pHYs', bytes(9))), True),
    'moving': (_png(2, 8, _rows(3, 8), (b'acTL', struct.pack('>II', 1, 0))), False),
}


def _by_pillow(data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(picture_files, '_by_opencv', lambda *_: None)
        return picture_files.read_picture(data)


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_opencv_gives_pillows_pixels(kind, monkeypatch):
    data, by_opencv = KINDS[kind]
    asked = []
    decode = picture_files._by_opencv
    monkeypatch.setattr(picture_files, '_by_opencv', lambda *x: asked.append(decode(*x)) or asked[-1])
    pixels = picture_files.read_picture(data)
    assert (asked[0] is not None) == by_opencv
    expected = _by_pillow(data, monkeypatch)
    assert pixels.shape == expected.shape and np.array_equal(pixels, expected)


@pytest.mark.parametrize('channels', [1, 3])
def test_interlaced(channels, monkeypatch):
    pixels = RNG.randint(0, 256, [13, 11, channels]).astype(np.uint8)
    data = _png(0 if channels == 1 else 2, 8, [bytes(1 + 11 * channels)] * 13, interlace=1)
    start = data.index(b'IDAT') - 4
    packed = zlib.compress(_interlaced(pixels))
    data = data[:start] + struct.pack('>I', len(packed)) + b'IDAT' + packed + struct.pack(
        '>I', zlib.crc32(b'IDAT' + packed)) + data[-12:]
    assert np.array_equal(picture_files.read_picture(data), pixels)
    assert np.array_equal(_by_pillow(data, monkeypatch), pixels)


@pytest.mark.parametrize('encode', [lambda rgb: cv2.imencode('.png', rgb)[1].tobytes(),
                                    lambda rgb: _file(Image.fromarray(rgb)).getvalue(),
                                    lambda rgb: _file(Image.fromarray(rgb).quantize(8)).getvalue()])
def test_no_changed_byte_of_a_png_passes(encode):
    smooth = cv2.resize(RNG.randint(0, 256, [4, 4, 3]).astype(np.uint8), (32, 32))
    whole = encode(smooth)
    random = np.random.RandomState(1)
    for at in range(8, len(whole), 1 + len(whole) // 300):
        damaged = bytearray(whole)
        damaged[at] ^= random.randint(1, 256)
        with pytest.raises(UserError, match='cannot be read|pixels, more than'):
            picture_files.read_picture(bytes(damaged))


@pytest.mark.parametrize('data', [_png(2, 8, _rows(3, 8)[:5]), _png(2, 8, _rows(3, 8)[:5], interlace=1)])
def test_too_little_picture_data_is_refused(data):
    header = struct.pack('>IIBBBBB', 16, 12, 8, 2, 0, 0, data[28])
    data = data[:16] + header + struct.pack('>I', zlib.crc32(b'IHDR' + header)) + data[33:]
    with pytest.raises(UserError, match='cannot be read as a picture'):
        picture_files.read_picture(data)


@pytest.mark.parametrize('bad', [5, 255])
@pytest.mark.parametrize('colour, channels', [(0, 1), (2, 3), (3, 1), (6, 4)])
def test_rows_of_an_unknown_filter_are_refused(colour, channels, bad):
    rows = _rows(channels, 8)
    rows[7] = bytes([bad]) + rows[7][1:]
    with pytest.raises(UserError, match='cannot be read as a picture'):
        picture_files.read_picture(_png(colour, 8, rows, *([_PALETTE] if colour == 3 else [])))


# ------------------------------------------------------------------------------------------------ limits

def test_more_pixels_than_are_read(monkeypatch):
    monkeypatch.setattr(picture_files, 'MAX_PIXELS', 12 * 16)
    for format in ('PNG', 'JPEG', 'BMP', 'TIFF', 'GIF', 'WEBP', 'PPM'):
        picture_files.read_picture(_file(Image.fromarray(RGB), format))
        large = _file(Image.fromarray(np.repeat(RGB, 2, axis=0)), format)
        monkeypatch.setattr(Image.Image, 'load', lambda _: pytest.fail('it was decoded'))
        with pytest.raises(UserError, match='has 16 x 24 = 0 million pixels, more than .*make it smaller'):
            picture_files.read_picture(large)
        monkeypatch.undo()
        monkeypatch.setattr(picture_files, 'MAX_PIXELS', 12 * 16)


def test_strips_give_the_same_pixels(monkeypatch):
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    clear = Image.fromarray(np.dstack([RGB, GREY]))
    palette = _file(Image.fromarray(RGB).quantize(16), transparency=3)
    files = [_file(deep), _file(clear), palette, _file(Image.fromarray(RGB).convert('CMYK'), 'JPEG')]
    expected = [picture_files.read_picture(file.getvalue()) for file in files]
    monkeypatch.setattr(picture_files, '_STRIP', 5 * 16)
    for file, pixels in zip(files, expected):
        assert np.array_equal(picture_files.read_picture(file.getvalue()), pixels)


def test_large_files_are_not_read(tmp_path, monkeypatch):
    (tmp_path / 'a.png').write_bytes(bytes(100))
    monkeypatch.setattr(picture_files, 'MAX_BYTES', 99)
    with pytest.raises(UserError, match='a file of more than'):
        picture_files.read_picture(str(tmp_path / 'a.png'))


@pytest.mark.parametrize('content', [b'', b'no picture at all',
                                     b'\x89PNG\r\n\x1a\n' + bytes(50), b'\xff\xd8\xff\xe0' + bytes(9)])
def test_broken_files_give_a_reason(content):
    with pytest.raises(UserError, match='cannot be read'):
        picture_files.read_picture(io.BytesIO(content))


@pytest.mark.parametrize('format', ['PNG', 'JPEG'])
def test_truncated_files_give_a_reason(format):
    noise = RNG.randint(0, 256, [64, 64, 3]).astype(np.uint8)
    whole = _file(Image.fromarray(noise), format).getvalue()
    for keep in (0.5, 0.9):
        with pytest.raises(UserError, match='cannot be read'):
            picture_files.read_picture(io.BytesIO(whole[:int(len(whole) * keep)]))


def test_listing(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'c.Jpeg', '.d.png', 'e.txt', 'f.webp', 'g.heic'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'folder.png' / 'h.tif').write_bytes(b'')
    assert picture_files.list_pictures(str(tmp_path)) == ['a.jpg', 'b.PNG', 'c.Jpeg', 'f.webp']
    with pytest.raises(UserError, match='cannot be listed'):
        picture_files.list_pictures(str(tmp_path / 'none'))
    with pytest.raises(UserError, match='No such file'):
        picture_files.read_picture(str(tmp_path / 'none.png'))


def test_listing_of_folders_in_folders(tmp_path):
    for name in ('00000/1.png', '00000/.x/2.png', '01000/3.jpg', 'own/4.png', '5.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'')
    os.symlink('00000', str(tmp_path / 'link'))             # the same pictures: once
    os.symlink('.', str(tmp_path / '01000' / 'round'))      # a circle
    names = picture_files.list_files(str(tmp_path), [str(tmp_path / 'own')])
    assert [name.split('/')[-1] for name in names] == ['1.png', '3.jpg', '5.png'] or len(names) == 3
