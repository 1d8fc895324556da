"""Contact sheets and snapshot grids: places of tiles, conversions, sizes, files."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib import pictures
from dnnlib.util import UserError
from tests.common import assert_close


def _tiles(count, height=4, width=6, seed=0):
    return np.random.RandomState(seed).randint(0, 256, [count, height, width, 3]).astype(np.uint8)


def test_to_uint8_truncates_as_the_release():
    x = np.array([-2, -1, -0.999, 0, 0.5, 0.99999, 1, 3], np.float32).reshape(1, 1, 1, 8).repeat(3, axis=1)
    assert_close(pictures.to_uint8(x)[0, 0, :, 0], np.uint8([0, 0, 0, 127, 191, 254, 255, 255]))


def test_to_uint8_layouts_grey_and_nan():
    tiles = _tiles(2)
    assert_close(pictures.to_uint8(tiles), tiles)
    assert_close(pictures.to_uint8(tiles.transpose(0, 3, 1, 2)), tiles)
    assert pictures.to_uint8(tiles[0]).shape == (1, 4, 6, 3)
    assert_close(pictures.to_uint8(tiles[..., :1]), tiles[..., :1].repeat(3, axis=3))
    square = _tiles(1, 3, 3)
    assert_close(pictures.to_uint8(square, layout='NCHW'), square.transpose(0, 2, 3, 1))
    assert pictures.to_uint8(np.full([1, 3, 4, 4], np.nan)).max() == 0
    with pytest.raises(UserError, match='channels'):
        pictures.to_uint8(np.zeros([1, 5, 4, 4]))
    with pytest.raises(UserError, match='shape'):
        pictures.to_uint8(np.zeros([4, 4]))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 3), st.integers(1, 3), st.data())
def test_every_tile_is_in_its_place(columns, rows, margin, scale, data):
    count = data.draw(st.integers(1, columns * rows))
    tiles = _tiles(count)
    sheet = pictures.image_grid(tiles, (columns, rows), margin=margin, background=7, scale=scale)
    height, width = 4 * scale, 6 * scale
    assert sheet.shape == (rows * (height + margin) + margin, columns * (width + margin) + margin, 3)
    for i in range(columns * rows):
        y, x = margin + i // columns * (height + margin), margin + i % columns * (width + margin)
        cell = sheet[y:y + height, x:x + width]
        assert_close(cell[::scale, ::scale], tiles[i] if i < count else np.full([4, 6, 3], 7))
    inside = np.zeros(sheet.shape[:2], bool)
    for i in range(columns * rows):
        y, x = margin + i // columns * (height + margin), margin + i % columns * (width + margin)
        inside[y:y + height, x:x + width] = True
    assert (sheet[~inside] == 7).all()


def test_default_grid_is_almost_square_and_small_grids_are_refused():
    assert pictures.image_grid(_tiles(7)).shape == (3 * 4, 3 * 6, 3)
    with pytest.raises(UserError, match='no room for 7'):
        pictures.image_grid(_tiles(7), (3, 2))


def test_enlarging():
    tiles = _tiles(2)
    assert_close(pictures.enlarge(tiles, 3)[:, ::3, ::3], tiles)
    flat = np.full([1, 4, 4, 3], 90, np.uint8)
    assert_close(pictures.enlarge(flat, 2, 'bicubic'), np.full([1, 8, 8, 3], 90))
    with pytest.raises(UserError, match='nearest'):
        pictures.enlarge(tiles, 2, 'sharp')
    assert [pictures.natural_scale(size) for size in (4, 64, 100, 128, 256)] == [32, 2, 2, 1, 1]


@pytest.mark.parametrize('size,expected', [(256, (7, 4)), (1024, (3, 2)), (64, (30, 16)), (8, (32, 32)), (512, (3, 2))])
def test_screen_grid_size(size, expected):
    assert pictures.screen_grid_size(size, size) == expected


def test_pairs_of_images():
    fakes = np.linspace(-1, 1, 4 * 3 * 256 * 256).reshape(4, 3, 256, 256).astype(np.float32)
    renders = _tiles(4, 256, 256)
    tiles = pictures.side_by_side(fakes, renders)
    assert tiles.shape == (4, 256, 512, 3) and tiles.dtype == np.uint8
    assert_close(tiles[:, :, :256], pictures.to_uint8(fakes))
    assert_close(tiles[:, :, 256:], renders)
    with pytest.raises(UserError, match='differ'):
        pictures.side_by_side(fakes, renders[:3])


def test_saved_pictures(tmp_path):
    tile = _tiles(1)[0]
    for level in (0, 1, 9):
        pictures.save_image(tile, str(tmp_path / 'a' / 'x.png'), level)
        assert_close(np.asarray(Image.open(str(tmp_path / 'a' / 'x.png'))), tile)
    pictures.save_image_grid(_tiles(4), str(tmp_path / 'grid.jpg'), (2, 2), margin=1)
    assert Image.open(str(tmp_path / 'grid.jpg')).size == (15, 11)
    with pytest.raises(UserError, match='.png or .jpg'):
        pictures.save_image(tile, str(tmp_path / 'x.pgn'))
    assert sorted(os.listdir(str(tmp_path))) == ['a', 'grid.jpg'] and os.listdir(str(tmp_path / 'a')) == ['x.png']


def test_labels_stand_left_and_above_and_tiles_are_whole():
    tiles = np.full([6, 40, 50, 3], 120, np.uint8)
    plain = pictures.labelled_grid(tiles, 3, margin=4)
    assert_close(plain, pictures.image_grid(tiles, (3, 2), margin=4))
    sheet = pictures.labelled_grid(tiles, 3, ['first', 'second'], ['00', '01', 'x' * 60], margin=4)
    top, left = sheet.shape[0] - plain.shape[0], sheet.shape[1] - plain.shape[1]
    assert 8 <= top <= 25 and 15 <= left <= 80
    assert_close(sheet[top:, left:], plain)
    dark = (sheet < 100).any(axis=2)
    for row in range(2):                    # each row's label beside it, each column's above it
        assert dark[top + row * 44:top + row * 44 + 44, :left].any()
    for column in range(3):
        assert dark[:top, left + 4 + column * 54:left + column * 54 + 54].any()
    assert not dark[:, left:left + 4].any()             # the long label is cut to its column


def test_many_short_rows_stand_side_by_side():
    """300 subjects with two pictures each were a sheet of 268 x 39604 pixels."""
    tiles = np.arange(600, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones([1, 32, 32, 3], np.uint8)
    sheet = pictures.labelled_grid(tiles, 2, [f'{i:03d}' for i in range(300)], ['00', '01'])
    height, width = sheet.shape[:2]
    assert 0.5 < height / width < 2
    assert all((sheet == value).all(axis=2).sum() >= 2 * 32 * 32 for value in range(1, 255, 40))
    rows = pictures.labelled_grid(tiles[:100], 5, [str(i) for i in range(20)])
    assert rows.shape[0] == 20 * 36 + 4                 # 20 subjects of 5 stay one block


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=300), st.integers(1, 60))
def test_any_text_is_a_label(text, width):
    tiles = np.zeros([1, 5, width, 3], np.uint8)
    sheet = pictures.labelled_grid(tiles, 1, [text], [text])
    assert sheet.dtype == np.uint8 and sheet.shape[1] < 400 + width and sheet.shape[0] < 60
