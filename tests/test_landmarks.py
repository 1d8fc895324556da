"""preprocess.landmarks: what is read, what is refused and how it is told."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from preprocess import landmarks

GOOD = '10 20\n30 20\n20 30\n12 40\n28 40\n'
POINTS = [[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]]


@pytest.mark.parametrize('text', [GOOD, GOOD.replace(' ', '\t'), GOOD.replace(' ', ', '), '\n' + GOOD + '\n  \n',
                                  GOOD.replace('\n', '\r\n'), GOOD.rstrip('\n')])
def test_forms_that_are_read(text):
    assert np.array_equal(landmarks.parse(text, (100, 100)), POINTS)


@pytest.mark.parametrize('text, reason', [
    ('', '0 lines; expected five lines'),
    ('1 2\n3 4\n', '2 lines'),
    (GOOD + '1 2\n', '6 lines'),
    (GOOD.replace('30 20', '30'), 'exactly two numbers'),
    (GOOD.replace('30 20', '30 20 1'), 'exactly two numbers'),
    (GOOD.replace('30 20', 'x 20'), 'no number'),
    (GOOD.replace('30 20', 'nan 20'), 'not finite'),
    (GOOD.replace('30 20', 'inf 20'), 'not finite'),
    ('5 5\n' * 5, 'same point'),
    (GOOD.replace('30 20', '101 20'), 'outside the picture of 100 x 100 pixels: right eye'),
    (GOOD.replace('30 20', '30 -1'), 'outside the picture'),
])
def test_forms_that_are_refused(text, reason):
    with pytest.raises(UserError) as caught:
        landmarks.parse(text, (100, 100))
    assert reason in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet='0123456789.-+e naif\n\t,x', max_size=60))
def test_any_text_gives_points_or_a_user_error(text):
    try:
        points = landmarks.parse(text, (100, 100))
    except UserError:
        return
    assert points.shape == (5, 2) and (points >= 0).all() and (points <= 100).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 4000), st.floats(0, 3000)), min_size=5, max_size=5, unique=True))
def test_every_valid_file_is_read(points):
    text = ''.join(f'{x!r} {y!r}\n' for x, y in points)
    assert np.array_equal(landmarks.parse(text, (4000, 3000)), points)


def test_files(tmp_path):
    path = str(tmp_path / 'a.txt')
    landmarks.write(path, np.array(POINTS))
    assert np.array_equal(landmarks.read(path), POINTS)
    with pytest.raises(UserError, match='cannot be read'):
        landmarks.read(str(tmp_path / 'none.txt'))
    (tmp_path / 'b.txt').write_bytes(b'\x89PNG \xff')
    with pytest.raises(UserError, match='b.txt: not a text file'):
        landmarks.read(str(tmp_path / 'b.txt'))
    (tmp_path / 'c.txt').write_bytes(b'\xef\xbb\xbf' + GOOD.encode())      # a byte order mark from a Windows editor
    assert np.array_equal(landmarks.read(str(tmp_path / 'c.txt')), POINTS)


@pytest.mark.parametrize('data', [GOOD.encode('utf-16'), GOOD.encode('utf-16-le'), GOOD.encode('utf-16-be'),
                                  b'\xfe\xff' + GOOD.encode('utf-16-be'), GOOD.encode('utf-8-sig')])
def test_encodings(tmp_path, data):
    (tmp_path / 'a.txt').write_bytes(data)
    assert np.array_equal(landmarks.read(str(tmp_path / 'a.txt')), POINTS)


@pytest.mark.parametrize('number', ['1_5', '\uff13\uff10', '\u0663\u0660', '0x1e', '30f', '1e', '+-3', '.'])
def test_numbers_as_people_write_them(number):
    with pytest.raises(UserError, match='no number'):
        landmarks.parse(GOOD.replace('30 20', number + ' 20'), (100, 100))


def test_long_files_are_not_cut(tmp_path):
    (tmp_path / 'a.txt').write_text(GOOD[:-4] + ' ' * 99990 + '28 400')     # cut in the middle it would say 28 4
    with pytest.raises(UserError, match='larger than 100000 bytes'):
        landmarks.read(str(tmp_path / 'a.txt'))


def test_five_of_68():
    points = np.arange(68 * 3, dtype=np.float32).reshape(68, 3)
    five = landmarks.five_points(points)
    assert five.shape == (5, 3)
    assert np.array_equal(five[:, 0] / 3, [37.5, 43.5, 30, 48, 54])         # eyes are the means of their corners
