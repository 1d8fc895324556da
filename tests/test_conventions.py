"""preprocess.conventions: right landmarks are never refused, those of another convention always, with the reason."""

import itertools
import os

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from human import face_model as human_face
from human import prior
from preprocess import conventions, landmarks, picture_files
from renderer import face_model
from renderer.face_decoder import FaceDecoder, project_224, project_256
from tests.common import assert_close, shared

SIZE = (400, 400)
WRONG = {       # {name: (points -> points of another convention, part of the reason)}
    'nose first': (lambda p: p[[2, 0, 1, 3, 4]], 'nose first'),
    'nose last': (lambda p: p[[0, 1, 3, 4, 2]], 'nose last'),
    'y upwards': (lambda p: np.stack([p[:, 0], 399 - p[:, 1]], axis=1), 'with y upwards'),
    'row and column': (lambda p: p[:, ::-1], 'with row and column swapped'),
    'mouth first': (lambda p: p[[3, 4, 2, 0, 1]], 'mouth before the eyes'),
    'upside down': (lambda p: 399 - p, 'upside down'),
    'on its side': (lambda p: np.stack([p[:, 1], 399 - p[:, 0]], axis=1), 'turned left by 90 degrees'),
    'on its other side': (lambda p: np.stack([399 - p[:, 1], p[:, 0]], axis=1), 'turned right by 90 degrees'),
    'around the face': (lambda p: p[[0, 1, 2, 4, 3]], 'around the face'),
}


@pytest.fixture(scope='module')
def real():
    """(template, {photo: landmarks}) of the recorded photos."""
    points = face_model.load_landmarks_3d(shared('data', 'bfm_index', 'similarity_Lm3D_all.mat'))
    folder = shared('data', 'photos')
    files = sorted(name for name in os.listdir(folder) if name.endswith('.txt'))
    return landmarks.five_points(points), {name: landmarks.read(os.path.join(folder, name)) for name in files}


@pytest.fixture(scope='module')
def drawn():
    """(template, landmarks [N, 5, 2]) of the human world: both views, heads turned as far as they ever are."""
    model = human_face.load_model()
    coeffs = np.stack([prior.coefficients(np.random.RandomState(k), free=True) for k in range(200)])
    limits = np.array(prior.ANGLES)[:, 1]
    corners = np.array(list(itertools.product(*[(-limit, limit) for limit in limits])))
    assert limits[1] >= 0.7
    coeffs[:160, 224:227] = np.tile(corners, [20, 1])
    with tf.Graph().as_default() as graph, tfutil.create_session(2, graph) as session:
        decoder = FaceDecoder(model, model.landmarks)
        points = decoder.points(tf.constant(coeffs))
        views = session.run([project_224(points), project_256(points)])
    found = [landmarks.five_points(points) * [1, -1] + [0, size] for view, size in zip(views, (224, 256))
             for points in view.astype(np.float64)]
    return landmarks.five_points(human_face.template()), np.array(found)


def _check(points, template, size):
    reading = conventions.understand(points, template, size)
    assert np.array_equal(reading.points, points) and not reading.stored


def test_right_files_pass(real):
    template, files = real
    assert len(files) == 8
    for points in files.values():
        _check(points, template, (1200, 1200))


def test_a_drawn_world_passes(drawn):
    template, found = drawn
    for points in found:
        _check(points + 100, template, (500, 500))      # some faces reach beyond the picture


@pytest.mark.parametrize('kind', sorted(WRONG))
def test_other_conventions_are_refused(kind, real, drawn):
    change, reason = WRONG[kind]
    for template, points in [(real[0], p) for p in real[1].values()] + [(drawn[0], p) for p in drawn[1][::20]]:
        points = change(np.clip(points / points.max() * 300 + 20, 0, 390))
        with pytest.raises(UserError, match='do not lie as those of an upright face, they seem to be .*' + reason):
            conventions.understand(points, template, SIZE)


def test_swapped_sides_are_swapped_back(real):
    template, files = real
    for points in files.values():
        assert np.array_equal(conventions.understand(points[[1, 0, 2, 4, 3]], template, (1200, 1200)).points, points)


@pytest.mark.parametrize('points', [
    [[i, i] for i in range(1, 6)], [[5, 5]] * 5, [[1, 4], [9, 4], [5, 4], [3, 4], [7, 4.1]]])
def test_points_on_one_line_are_refused(points):
    with pytest.raises(UserError, match='on one line'):
        conventions.understand(np.array(points, np.float64), np.random.RandomState(0).randn(5, 3), (10, 10))


def test_points_in_no_order_are_refused(real):
    random = np.random.RandomState(0)
    refused = 0
    for _ in range(300):
        try:
            conventions.understand(random.uniform(0, 400, [5, 2]), real[0], SIZE)
        except UserError:
            refused += 1
    assert refused > 280


@pytest.mark.parametrize('orientation', range(2, 9))
def test_landmarks_of_the_view_and_of_the_stored_picture(real, orientation):
    """Pictures turned by their EXIF data: both kinds of landmarks come out as those of the view."""
    template, points = real[0], real[1]['vd034.txt']
    view = (500, 450)
    stored_size = view[::-1] if orientation > 4 else view
    back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = picture_files.turn_points(points, stored_size, back)
    assert_close(picture_files.turn_points(stored, view, orientation), points, atol=1e-9)
    reading = conventions.understand(points, template, view, orientation)
    assert np.array_equal(reading.points, points) and not reading.stored
    if orientation == 2:        # only mirrored: such points could as well be those of the view, of a swapped kind
        return
    reading = conventions.understand(stored, template, view, orientation)
    assert_close(reading.points, points, atol=1e-9)
    assert reading.stored


def test_neither_view_fits(real):
    points = real[1]['vd034.txt'][[2, 0, 1, 3, 4]]
    with pytest.raises(UserError, match='nose first.*neither of the picture as it is stored nor.*turned right by 90'):
        conventions.understand(points, real[0], (500, 500), 6)


def test_landmarks_of_a_larger_copy_of_the_photo(real):
    with pytest.raises(UserError, match='landmarks outside the picture of 200 x 200 pixels'):
        conventions.understand(real[1]['vd034.txt'], real[0], (200, 200))
