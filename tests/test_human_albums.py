"""Albums that the human world's networks learn from: people, packed pictures, windows into photos."""

import glob
import os

import numpy as np
import pytest

from dnnlib.util import UserError
from human import expert_photos, face_model, photos
from human.expert_photos import CROP, WIDE, Window, has_render, look
from renderer import factors
from tests.common import assert_close

SEED = 5
IDENTITY = factors.BY_NAME['id'].coeffs
OTHERS = slice(IDENTITY.stop, factors.NUM_COEFFS)


@pytest.fixture(scope='module')
def album():
    """Sixteen photos of four people."""
    studio = expert_photos.Studio()
    yield expert_photos.joined([studio.draw(SEED, 0, 8), studio.draw(SEED, 8, 8)])
    studio.close()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(expert_photos, 'PART', 8)


# ------------------------------------------------------------------------------------------------ albums

def test_photos_of_a_person_share_the_identity_and_nothing_else(album):
    coeff = album.coeff.reshape(4, 4, -1)
    for person in coeff:
        assert (person[:, IDENTITY] == person[0, IDENTITY]).all()
        for where in (factors.EXPRESSION, factors.ANGLES, factors.LIGHTING):
            assert len(np.unique(person[:, where], axis=0)) == 4
    assert len(np.unique(coeff[:, 0, IDENTITY], axis=0)) == 4


def test_only_photos_in_the_middle_have_a_render(album):
    moved = (album.coeff[:, factors.TRANSLATION] != 0).any(axis=1)
    assert (moved == ~has_render(np.arange(16))).all()
    assert len(album.renders) == 8
    assert [expert_photos.render_index(i) for i in (0, 1, 4, 5, 8)] == [0, 1, 2, 3, 4]


def test_renders_show_the_skin_of_their_photo(album):
    """Where the drawn face is and no hair hides it, photo and render are the same picture, but for the noise."""
    for i in (0, 1, 4, 5):
        photo, render = album.photos[i].astype(float), album.renders[expert_photos.render_index(i)].astype(float)
        skin = (render[..., 3] > 127) & (photo[..., 3] < 1)
        assert skin.mean() > 0.12
        for channel in range(3):
            assert np.corrcoef(photo[..., channel][skin], render[..., channel][skin])[0, 1] > 0.8
        assert np.median(np.abs(photo[..., :3] - render[..., :3])[skin]) < 25


def test_albums_are_kept_and_resumed(tmp_path, small_parts):
    folder = str(tmp_path / 'album')
    first = expert_photos.make_album(folder, 16, SEED)
    paths = sorted(glob.glob(os.path.join(folder, 'part-*.npz')))
    assert len(paths) == 2 and len(first.photos) == 16
    assert first.photos[0].shape == (expert_photos.SIZE, expert_photos.SIZE, 5) and first.photos[0].dtype == np.uint8
    os.remove(paths[1])
    again = expert_photos.make_album(folder, 16, SEED)
    assert (first.coeff == again.coeff).all() and (first.landmarks == again.landmarks).all()
    assert first.photos.packed == again.photos.packed and first.renders.packed == again.renders.packed
    assert len(expert_photos.make_album(folder, 8, SEED).renders) == 4


def test_packed_pictures_are_nearly_what_they_were():
    random = np.random.RandomState(0)
    smooth = np.cumsum(random.uniform(-2, 2, [2, 64, 64, 5]), axis=1) + 128
    arrays = np.clip(smooth, 0, 255).astype(np.uint8)
    packed = expert_photos.Pictures.of(arrays)
    assert (packed[1][..., 3:] == arrays[1][..., 3:]).all()                 # masks: exactly
    assert np.abs(packed[1][..., :3] - arrays[1][..., :3].astype(float)).mean() < 4
    again = expert_photos.Pictures.stored(packed.arrays('x'), 'x')
    assert again.packed == packed.packed and (packed[:1] + packed[1:]).packed == packed.packed


def test_albums_of_other_seeds_and_damaged_ones_are_refused(tmp_path, small_parts):
    folder = str(tmp_path / 'album')
    expert_photos.make_album(folder, 8, SEED)
    with pytest.raises(UserError, match='the files beside it were made with'):
        expert_photos.make_album(folder, 8, SEED + 1)
    with open(os.path.join(folder, 'part-00000.npz'), 'r+b') as file:
        file.truncate(1000)
    with pytest.raises(UserError, match='part-00000.npz: damaged'):
        expert_photos.make_album(folder, 8, SEED)


# ------------------------------------------------------------------------------------------------ windows

def test_the_crop_window_is_the_training_camera(album):
    """What the crop window shows is what the camera of the training pictures would have seen."""
    photographer = photos.Photographer(64, 'crop')
    drawn = [expert_photos.draw_person(SEED, i) for i in (0, 1)]
    coeff, scenes, _ = zip(*drawn)
    rgb, _, points = photographer.draw(coeff, scenes)
    photographer.close()
    for i in (0, 1):
        seen = look(album.photos[i], CROP, 64)[..., :3]
        assert np.median(np.abs(seen - rgb[i])) < 5
        assert_close(expert_photos.windowed_landmarks(album.landmarks[i], CROP), points[i] * 3.5, atol=0.01)


@pytest.mark.parametrize('window', [CROP, WIDE, Window(1.1, 8.0, -6.0), Window(0.95, -9.0, 4.0)])
def test_windowed_coefficients_put_the_landmarks_where_the_window_shows_them(album, window):
    from perception.expert_lessons import landmarks_of
    model = face_model.load_model()
    coeff = np.stack([expert_photos.windowed_coeff(c, window) for c in album.coeff])
    shown = np.stack([expert_photos.windowed_landmarks(p, window) for p in album.landmarks])
    distance = np.linalg.norm(landmarks_of(model, coeff) - shown, axis=2)
    assert distance.mean() < 0.5 and distance.max() < 2.5       # of 224 pixels: perspective is not quite a window
    assert (coeff[:, :factors.NUM_COEFFS] == album.coeff[:, :factors.NUM_COEFFS]).all()


def test_look_moves_up_and_right():
    picture = np.zeros([expert_photos.SIZE, expert_photos.SIZE, 1], np.uint8)
    middle = expert_photos.SIZE // 2
    picture[middle - 3:middle + 3, middle - 3:middle + 3] = 255
    rows, columns = np.nonzero(look(picture, Window(1.0, 35.0, 70.0), 64)[..., None][..., 0].squeeze())
    assert_close(rows.mean(), 31.5 - 20, atol=0.6)      # 70 of 224 pixels are 20 of 64
    assert_close(columns.mean(), 31.5 + 10, atol=0.6)


def test_degraded_pictures_stay_pictures(album):
    for seed in range(40):
        picture = look(album.photos[0], CROP, 64)[..., :3].copy()
        worse = expert_photos.degrade(np.random.RandomState(seed), picture.copy())
        assert worse.dtype == np.float32 and worse.shape == picture.shape
        assert worse.min() >= 0 and worse.max() <= 255
        assert abs(worse.mean() - picture.mean()) < 25
        assert (worse == expert_photos.degrade(np.random.RandomState(seed), picture.copy())).all()
