"""preprocess.photos: pictures of every kind become RGB or grey bytes, or a reason why not."""

import io

import numpy as np
import pytest
from PIL import Image

from dnnlib.util import UserError
from preprocess import photos

RNG = np.random.RandomState(0)
RGB = RNG.randint(0, 256, [12, 16, 3]).astype(np.uint8)
GREY = RGB[:, :, 0]


def _file(image, format='PNG', **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def test_rgb_and_grey():
    assert np.array_equal(photos.read_picture(_file(Image.fromarray(RGB))), RGB)
    assert np.array_equal(photos.read_picture(_file(Image.fromarray(GREY)))[:, :, 0], GREY)
    assert np.array_equal(photos.read_rgb(_file(Image.fromarray(GREY))), np.repeat(GREY[:, :, None], 3, axis=2))


def test_transparency_becomes_black():
    alpha = np.full([12, 16], 255, np.uint8)
    alpha[:6] = 0
    picture = photos.read_picture(_file(Image.fromarray(np.dstack([RGB, alpha]))))
    assert np.array_equal(picture[6:], RGB[6:]) and (picture[:6] == 0).all()
    picture = photos.read_picture(_file(Image.fromarray(np.dstack([GREY, alpha]))))
    assert np.array_equal(picture[6:], np.repeat(GREY[6:, :, None], 3, axis=2)) and (picture[:6] == 0).all()


def test_palette_bits_and_16_bits():
    palette = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(photos.read_picture(_file(palette)), np.asarray(palette.convert('RGB')))
    transparent = photos.read_picture(_file(palette, transparency=int(np.asarray(palette)[0, 0])))
    assert (transparent[0, 0] == 0).all()
    bits = Image.fromarray(GREY > 127)
    assert np.array_equal(photos.read_picture(_file(bits))[:, :, 0], np.where(GREY > 127, 255, 0))
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.array_equal(photos.read_picture(_file(deep))[:, :, 0], GREY)


def test_cmyk_and_exif():
    flat = np.full([16, 16, 3], (200, 100, 50), np.uint8)
    cmyk = photos.read_picture(_file(Image.fromarray(flat).convert('CMYK'), 'JPEG', quality=95))
    assert cmyk.shape == (16, 16, 3) and abs(cmyk.astype(int) - flat).max() < 8
    exif = Image.Exif()
    exif[0x0112] = 6                                        # turn by 90 degrees to look at it
    turned = photos.read_picture(_file(Image.fromarray(RGB), 'JPEG', exif=exif))
    assert turned.shape == RGB.shape                        # as stored: landmarks count stored pixels


@pytest.mark.parametrize('content', [b'', b'no picture at all',
                                     b'\x89PNG\r\n\x1a\n' + bytes(50), b'\xff\xd8\xff\xe0' + bytes(9)])
def test_broken_files_give_a_reason(content):
    with pytest.raises(UserError, match='cannot be read'):
        photos.read_picture(io.BytesIO(content))


@pytest.mark.parametrize('format', ['PNG', 'JPEG'])
def test_truncated_files_give_a_reason(format):
    noise = RNG.randint(0, 256, [64, 64, 3]).astype(np.uint8)
    whole = _file(Image.fromarray(noise), format).getvalue()
    for keep in (0.5, 0.9):
        with pytest.raises(UserError, match='cannot be read'):
            photos.read_picture(io.BytesIO(whole[:int(len(whole) * keep)]))


def test_listing(tmp_path):
    for name in ('b.PNG', 'a.jpg', 'c.Jpeg', '.d.png', 'e.txt', 'f.gif'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'folder.png').mkdir()
    assert photos.list_photos(str(tmp_path)) == ['a.jpg', 'b.PNG', 'c.Jpeg']
    with pytest.raises(UserError, match='cannot be listed'):
        photos.list_photos(str(tmp_path / 'none'))
    with pytest.raises(UserError, match='No such file'):
        photos.read_picture(str(tmp_path / 'none.png'))
