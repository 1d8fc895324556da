"""The synthetic head: format of the real face model, outward triangles, landmarks and bases that mean something."""

import json

import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from renderer.face_model import MODEL_FILE, load_face_model, load_landmarks_3d
from synthetic import face_model
from tests.common import assert_close, data


@pytest.fixture(scope='module')
def model():
    return face_model.load_model()


def moved(model, name, amount):
    """Mean landmarks [68, 3] with one expression or identity coefficient set."""
    part, offset = ('expression', 80) if name in face_model.head()[2]['expression'] else ('shape', 0)
    column = offset + face_model.column(part, name)
    shape = model.mean_shape + amount * model.shape_basis[:, column].reshape(-1, 3)
    return shape[model.landmarks]


def test_format_is_the_real_one(model):
    real = scipy.io.loadmat(data('face', 'face_model.mat'))
    ours = face_model.arrays()
    assert set(ours) == {key for key in real if key[0] != '_'}
    for key, array in ours.items():
        assert array.dtype == real[key].dtype and array.ndim == real[key].ndim, key
        if key in ('keypoints', 'idBase', 'exBase', 'texBase', 'tri', 'point_buf', 'gan_mask', 'gan_tl'):
            assert array.shape[1] == real[key].shape[1], key
    assert 5000 <= model.num_vertices <= 8000
    assert 0 <= model.mean_texture.min() and model.mean_texture.max() <= 255


def test_triangles_look_outwards(model):
    v1, v2, v3 = (model.mean_shape[model.triangles[:, i]] for i in range(3))
    normals = np.cross(v1 - v2, v2 - v3)
    assert (np.linalg.norm(normals, axis=1) > 1e-9).all()
    outwards = (normals * ((v1 + v2 + v3) / 3 - [0, 0.1, -0.5])).sum(axis=1) > 0
    assert outwards.mean() > 0.93
    drawn = model.region[model.region_triangles]
    v1, v2, v3 = (model.mean_shape[drawn[:, i]] for i in range(3))
    assert (np.cross(v1 - v2, v2 - v3)[:, 2] > 0).mean() > 0.93


def test_triangles_around_vertices(model):
    for vertex in (0, 500, 4000, model.num_vertices - 1):
        listed = model.vertex_triangles[vertex]
        listed = set(listed[listed < len(model.triangles)])
        assert listed == set(np.nonzero((model.triangles == vertex).any(axis=1))[0])


def test_landmarks_are_a_face(model):
    points = model.mean_shape[model.landmarks]
    assert len(set(model.landmarks)) == 68
    assert np.isin(model.landmarks, model.region).all()
    pairs = [(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (60, 64)]
    for left, right in pairs:
        assert points[left, 0] < -0.03 and points[right, 0] > 0.03
        assert_close(points[left] * [-1, 1, 1], points[right], atol=0.03)
    assert abs(points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]).max() < 0.03
    heights = [points[i, 1] for i in (19, 37, 41, 29, 30, 33, 51, 57, 8)]
    assert heights == sorted(heights, reverse=True)
    assert points[30, 2] == points[:, 2].max()
    real = [('eyes apart', 36, 45, 0.86), ('mouth', 48, 54, 0.50), ('face', 0, 16, 1.46), ('length', 27, 8, 1.13)]
    for what, i, j, expected in real:       # distances of the real model's template, decimetres
        assert abs(np.linalg.norm(points[i] - points[j]) / expected - 1) < 0.15, what


def test_expressions_do_what_they_are_called(model):
    rest = moved(model, 'smile', 0)
    opened = moved(model, 'open mouth', 2.0)
    assert (opened[62, 1] - opened[66, 1]) > 0.15 and (rest[62, 1] - rest[66, 1]) < 0.06
    closed = moved(model, 'open mouth', -0.6)
    assert 0 <= closed[62, 1] - closed[66, 1] < 0.012
    assert opened[8, 1] < rest[8, 1] - 0.04
    smile = moved(model, 'smile', 1.0)
    assert (smile[[48, 54], 1] > rest[[48, 54], 1] + 0.03).all() and smile[54, 0] > rest[54, 0] + 0.02
    assert (moved(model, 'raised brows', 1.0)[17:27, 1] > rest[17:27, 1] + 0.02).all()
    eyes = moved(model, 'closed eyes', 2.3)
    assert -0.003 <= (eyes[37, 1] - eyes[41, 1]) < 0.2 * (rest[37, 1] - rest[41, 1])
    pucker = moved(model, 'pucker', 1.5)
    assert pucker[54, 0] < rest[54, 0] - 0.03 and pucker[62, 2] > rest[62, 2] + 0.03
    angry = moved(model, 'angry brows', 1.5)
    assert (angry[[21, 22], 1] < rest[[21, 22], 1] - 0.03).all()


def test_identity_moves_what_it_names(model):
    rest = moved(model, 'wide head', 0)
    assert moved(model, 'wide-set eyes', 1)[45, 0] > rest[45, 0] + 0.01
    assert moved(model, 'long nose', 1)[30, 1] < rest[30, 1] - 0.02
    assert moved(model, 'wide jaw', 1)[12, 0] > rest[12, 0] + 0.01
    assert moved(model, 'full lips', 1)[57, 1] < rest[57, 1] - 0.01
    for part, first, count in (('shape', 0, 80), ('expression', 80, 64)):
        named = len(face_model.head()[2][part])
        columns = np.abs(model.shape_basis[:, first:first + count]).max(axis=0)
        assert (columns[:named] > 0.005).all() and (columns[named:] == 0).all()


def test_contrast_survives_64_pixels(model):
    """Brows, irises, lips and the inside of the mouth differ from skin by a lot."""
    grid = face_model.head()[0]
    from synthetic import head_paint
    masks = {name: mask.reshape(-1) > 0.9 for name, mask in head_paint.masks(grid).items()}
    for name in ('brow', 'iris', 'lips', 'mouth'):
        color = model.mean_texture[masks[name]].mean(axis=0)
        assert masks[name].sum() > 20 and np.abs(color - head_paint.SKIN).max() > 60, name


def test_save_makes_a_folder_that_every_command_can_use(tmp_path, model):
    folder = str(tmp_path / 'world')
    face_model.save(folder)
    again = load_face_model(folder)
    for name, array in vars(model).items():
        assert (getattr(again, name) == array).all(), name
    assert_close(load_landmarks_3d(str(tmp_path / 'world' / face_model.TEMPLATE_FILE)), face_model.template())
    assert json.loads((tmp_path / 'world' / 'world.json').read_text()) == {'world': 'synthetic'}
    assert (tmp_path / 'world' / MODEL_FILE).stat().st_size < 3e6
    (tmp_path / 'world' / 'world.json').write_text('{"world": "real"}')
    with pytest.raises(UserError, match='cannot be mixed'):
        face_model.save(folder)
