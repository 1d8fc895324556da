"""Photos of the synthetic world: the prior, what is around the face, the files, and alignment back to the crop."""

import os

import cv2
import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from preprocess import alignment, landmarks
from renderer import factors
from synthetic import face_model, photos, prior, surroundings
from tests.common import assert_close


@pytest.fixture(scope='module')
def small():
    photographer = photos.Photographer(64, 'crop', threads=2)
    yield photographer
    photographer.close()


def test_prior_is_deterministic_and_keeps_its_limits():
    drawn = np.stack([prior.draw(0, i, free=True)[0] for i in range(400)])
    assert_close(drawn[7], prior.draw(0, 7, free=True)[0])
    assert (drawn[7] != prior.draw(1, 7, free=True)[0]).any()
    named = len(face_model.head()[2]['shape'])
    assert np.abs(drawn[:, :named]).max() <= 2 and (drawn[:, named:80] == 0).all()
    assert (0.75 < drawn[:, :named].std(axis=0)).all() and (drawn[:, :named].std(axis=0) < 1.1).all()
    for i, (_, low, high) in enumerate(prior.EXPRESSIONS):
        column = drawn[:, factors.EXPRESSION.start + i]
        assert low - 1e-6 <= column.min() and column.max() <= high + 1e-6 and column.std() > 0.6
    assert list(face_model.head()[2]['expression']) == [name for name, _, _ in prior.EXPRESSIONS]
    for column, (deviation, limit) in zip(drawn[:, factors.ANGLES].T, prior.ANGLES):
        assert np.abs(column).max() <= limit + 1e-6 and 0.8 < column.std() / deviation < 1.1
    assert (drawn[:, factors.TRANSLATION].std(axis=0) > 0.08).all()
    crop = prior.draw(0, 7)[0]
    assert (crop[factors.TRANSLATION] == 0).all() and (crop[:254] == drawn[7, :254]).all()


def test_surroundings_do_not_depend_on_the_face():
    scenes = [prior.draw(0, i)[1] for i in range(300)]
    faces = np.stack([prior.draw(0, i)[0] for i in range(300)])
    faces = faces[:, faces.std(axis=0) > 0]
    numbers = np.array([[s.length, s.volume, s.fringe, s.parting, s.wave, s.hair.mean(), s.sky.mean()] for s in scenes])
    correlation = np.corrcoef(faces.T, numbers.T)[:faces.shape[1], faces.shape[1]:]
    assert np.abs(correlation).max() < 0.28     # 5 standard deviations of chance


def test_meshes_are_finite_and_look_outwards():
    for i in range(8):
        coeff, scene, _ = prior.draw(3, i)
        coeff[factors.ANGLES] = 0
        hair, body = surroundings.hair(scene, coeff), surroundings.body(scene, coeff, [200, 150, 120])
        for mesh, flat in ((hair, [1, 1, 1]), (body, [1, 0, 1])):
            assert all(np.isfinite(part).all() for part in mesh)
            assert_close(np.linalg.norm(mesh.normals, axis=1), np.ones(len(mesh.normals)), atol=1e-3)
            assert ((mesh.normals * flat * (mesh.shape - [0, -0.2, -0.55])).sum(axis=1) > 0).mean() > 0.8


def test_rotation_is_the_decoders(tf_session):
    from dnnlib.tflib.compat import tf
    from renderer.face_decoder import rotation_matrix
    angles = np.array([0.3, -0.5, 0.2], np.float32)
    expected = tf_session.run(rotation_matrix(tf.constant(angles[None])))[0]
    assert_close(surroundings.rotation(angles), expected, atol=1e-6)


def test_photo(small):
    coeffs, scenes, randoms = zip(*[prior.draw(5, i) for i in range(8)])
    pictures, hair, points = small.draw(coeffs, scenes, randoms)
    assert pictures.shape == (8, 64, 64, 3) and pictures.dtype == np.uint8 and hair.shape == (8, 64, 64)
    assert 0 <= hair.min() and hair.max() <= 1 + 1e-5
    assert (0.04 < hair.mean(axis=(1, 2))).all() and (hair.mean(axis=(1, 2)) < 0.6).all()
    assert (points > 0).all() and (points < 64).all()
    for picture, mask, lm in zip(pictures, hair, points):
        assert picture.std() > 15
        for x, y in landmarks.five_points(lm)[2:]:                  # hair hides neither nose nor mouth
            assert mask[int(64 - y), int(x)] < 0.5


def test_face_part_equals_the_render_the_generator_imitates(small, tf_session):
    """Where neither hair nor edges are, a photo without noise is the training render, smoothed."""
    from dnnlib.tflib.compat import tf
    from renderer.face_renderer import FaceRenderer
    coeff, scene, _ = prior.draw(5, 1)
    picture, hair, points = small.draw([coeff], [scene])
    render = FaceRenderer(face_model.load_model()).render(tf.constant(coeff[None]), 64)
    image, mask, lm = tf_session.run(render)
    sure = cv2.erode(mask[0, ..., 0] * (hair[0] < 0.01), np.ones([5, 5])) > 0.5
    assert sure.mean() > 0.15
    assert np.abs(picture[0][sure].astype(np.float32) - image[0][sure]).mean() < 6
    assert_close(points[0] * 4, lm[0], atol=1e-3)


def test_alignment_gives_the_training_crop_back():
    """A photo by R_Net's camera, aligned by its five landmarks and the template, is the crop with zero translation."""
    coeff, scene, _ = prior.draw(5, 2)
    coeff[:224] = 0             # the mean face: whatever else a face does, its landmarks move
    coeff[factors.ANGLES] = 0
    free, crop = photos.Photographer(224, 'free', threads=2), photos.Photographer(256, 'crop', threads=2)
    photo, _, points = free.draw([coeff], [scene])
    expected = crop.draw([coeff], [scene])[0][0].astype(np.float32)
    template = landmarks.five_points(face_model.template())
    placement = alignment.fit(photos.photo_landmarks(points[0], 224), template, (224, 224))
    assert abs(placement.scale / photos.face_model.TEMPLATE_SCALE * 512 / 224 - 1) < 1e-3
    aligned = alignment.crop_face(alignment.align(photo[0], placement), [0, 0, 0]).astype(np.float32)
    inside = np.s_[24:-24, 24:-24]
    shifts = [np.abs(np.roll(aligned, (dy, dx), (0, 1))[inside] - expected[inside]).mean()
              for dy in (-3, 0, 3) for dx in (-3, 0, 3)]
    assert shifts[4] == min(shifts) and shifts[4] < 5
    free.close()
    crop.close()


def test_files_resume_and_are_always_the_same(tmp_path):
    folder = tmp_path / 'set'
    assert photos.write_photos(str(folder), 3, size=32, seed=9) == 3
    first = {name: (folder / 'img' / name).read_bytes() for name in os.listdir(str(folder / 'img'))}
    assert sorted(first) == ['000000.png', '000001.png', '000002.png']
    os.remove(str(folder / 'img' / '000001.png'))
    assert photos.write_photos(str(folder), 4, size=32, seed=9) == 2
    assert photos.write_photos(str(folder), 4, size=32, seed=9) == 0
    for name, content in first.items():
        assert (folder / 'img' / name).read_bytes() == content
    for i in range(4):
        coeff = scipy.io.loadmat(str(folder / 'coeff' / f'{i:06d}.mat'))['coeff']
        assert coeff.shape == (1, 257) and (coeff[0] == prior.draw(9, i)[0]).all()
        points = landmarks.read(str(folder / 'lm' / f'{i:06d}.txt'), (32, 32))
        assert points[0, 0] < points[1, 0] and points[0, 1] < points[3, 1]          # left eye left, mouth below
        assert cv2.imread(str(folder / 'hair' / f'{i:06d}.png'), cv2.IMREAD_UNCHANGED).shape == (32, 32)
    assert not [name for _, _, names in os.walk(str(folder)) for name in names if name.startswith('.tmp')]
    with pytest.raises(UserError, match='the files beside it were made with'):
        photos.write_photos(str(folder), 4, size=64, seed=9)


def test_unusable_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='--save_path .*file'):
        photos.write_photos(str(tmp_path / 'file'), 1, size=32)
    with pytest.raises(ValueError, match='view must be one of'):
        photos.Photographer(32, 'side')
