"""The page's logic without the page: states, named values, pictures, strips, photos."""

import io
import threading

import numpy as np
import pytest

import config
from dnnlib import pictures
from dnnlib.util import UserError
from human import photos, prior
from renderer import factors
from sampling import session as page
from sampling.pretrained import small_model
from tests.common import assert_close
from tests.test_generate_images import write_small_world


@pytest.fixture(scope='module')
def session():
    with page.Session(small_model()) as opened:
        yield opened


@pytest.fixture
def state(session):
    return session.new_person(None, 3)


def _png(picture):
    return pictures.encode_image(picture)


def test_sliders_are_what_the_model_knows_by_name(session, state):
    groups = {slider.name: slider.group for slider in session.sliders}
    assert groups['yaw'] == 'Pose' and groups['light_left'] == 'Light'
    assert groups['smile'] == 'Expression' and groups['nose width'] == 'Identity'
    assert len(groups) == len(session.sliders) and list(session.values(state)) == list(groups)
    for slider in session.sliders:
        assert slider.low < slider.high and (slider.high - slider.low) / slider.step >= 90
        assert slider.low <= session.values(state)[slider.name] <= slider.high


@pytest.mark.parametrize('name', ['yaw', 'light_left', 'smile', 'nose width'])
def test_a_value_moves_both_pictures(session, state, name):
    slider = next(slider for slider in session.sliders if slider.name == name)
    low, high = session.set(state, name, slider.low), session.set(state, name, slider.high)
    assert session.values(high)[name] == pytest.approx(slider.high, abs=slider.step)
    for a, b in zip(session.draw(low), session.draw(high)):
        assert a.shape == (session.faces.resolution,) * 2 + (3,) and a.dtype == np.uint8
        assert np.abs(a.astype(int) - b).mean() > 0.1
    assert session.values(session.set(state, name, 1e9))[name] == pytest.approx(slider.high, abs=slider.step)


def test_the_picture_is_the_one_that_the_commands_draw(session, state):
    state = session.with_rate(session.set(state, 'yaw', 0.3), 0.5)
    assert_close(session.draw(state).picture, session.faces.images(state.face, 0.5)[0])


def test_buttons_change_what_they_say(session, state):
    def changed(after):
        return {part for part in ('identity', 'expression', 'pose', 'lighting', 'noise')
                if not np.array_equal(getattr(state.face, part), getattr(after.face, part))}

    before = state.face.coeffs.copy()
    turned = session.set(state, 'yaw', 0.3)
    assert changed(session.new_person(state, 4)) == {'identity', 'noise'}
    assert changed(session.new_part(state, 'expression', 4)) == {'expression'}
    assert changed(session.new_part(state, 'lighting', 4)) == {'lighting'}
    assert changed(session.with_seed(state, 9)) == {'noise'}
    assert changed(turned) == {'pose'} and not session.straight(turned).face.pose.any()
    assert_close(session.new_person(session.with_rate(turned, 0.4), 4).face.pose, turned.face.pose)
    assert session.new_person(session.with_rate(turned, 0.4), 4).rate == 0.4
    assert_close(session.new_person(None, 3).face.coeffs, before)           # nothing was changed in place
    assert_close(session.new_person(None, 4).face.identity, session.faces.random_face(4).identity)


@pytest.mark.parametrize('change', [
    lambda s, state: s.set(state, 'jaw', 1), lambda s, state: s.set(state, 'yaw', float('nan')),
    lambda s, state: s.set(state, 'yaw', None), lambda s, state: s.with_seed(state, -1),
    lambda s, state: s.with_seed(state, 1.5), lambda s, state: s.with_rate(state, 2),
    lambda s, state: s.strip(state, 'yaw', 0, 1, 500), lambda s, state: s.strip(state, 'jaw', 0, 1, 3),
    lambda s, state: s.embed(state, b'nothing'), lambda s, state: s.embed(state, _png(np.zeros([8, 9, 3], np.uint8))),
    lambda s, state: s.embed(state, _png(np.zeros([8, 8, 3], np.uint8)), 'here and there'),
    lambda s, state: s.embed(state, _png(np.zeros([64, 64, 3], np.uint8)), '1 1\n' * 5)])
def test_mistakes_are_one_line(session, state, change):
    with pytest.raises(UserError) as caught:
        change(session, state)
    assert '\n' not in str(caught.value) and len(str(caught.value)) > 20


def test_photos_of_too_many_pixels_are_not_decoded(session, state, monkeypatch):
    monkeypatch.setattr(page, 'MOST_PIXELS', 63)
    with pytest.raises(UserError, match='million'):
        session.embed(state, _png(np.zeros([8, 8, 3], np.uint8)))


def test_a_strip_has_a_column_for_each_value_and_a_row_for_each_renderer(session, state, monkeypatch):
    sheet = session.strip(state, 'yaw', -0.4, 0.4, 3)
    tile = max(session.faces.resolution, 128)
    assert sheet.shape[0] > 2 * tile and 3 * tile < sheet.shape[1] < 5 * tile
    monkeypatch.setattr(session, '_renderer', None)
    assert tile < session.strip(state, 'yaw', -0.4, 0.4, 3).shape[0] < 2 * tile
    assert session.draw(state).render is None


def test_a_photo_is_found_and_then_edited(session, state):
    """A square picture without landmarks; another visitor draws meanwhile."""
    photo, steps = session.draw(session.set(session.new_person(None, 5), 'yaw', 0.3)).picture, []
    drawn, done = [], threading.Event()

    def other():
        while not done.is_set():
            drawn.append(session.draw(state).picture)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        found = session.embed(state, _png(photo), steps=30, progress=lambda: steps.append(1))
    finally:
        done.set()
        thread.join()
    assert len(steps) == 30 and len(drawn) > 1 and all((one == drawn[0]).all() for one in drawn)
    assert found.inversion.error < 8 and 'photo' in found.note and 'nothing that this model' not in found.note
    assert_close(found.photo, photo)
    redrawn = session.draw(found).picture
    assert np.abs(redrawn.astype(int) - photo).mean() == pytest.approx(found.inversion.error, abs=0.6)
    assert found.face.yaw == pytest.approx(0.3, abs=0.2)
    away = session.set(found, 'yaw', -0.5)
    assert np.abs(session.draw(away).picture.astype(int) - redrawn).mean() > 3
    assert_close(session.with_seed(found, 8).face.noise, found.face.noise)
    assert session.new_person(away, 6).inversion is None


def test_a_photo_with_landmarks_is_aligned_first(session, state):
    """A photo of the world, the head somewhere in it: what preprocess_data.py makes of one."""
    photographer = photos.Photographer(256, 'free')
    coeff, scene, _ = prior.draw(777, 1, True)
    taken, _, points = photographer.draw(coeff[np.newaxis], [scene])
    photographer.close()
    file = io.BytesIO()
    np.savetxt(file, photos.photo_landmarks(points[0], 256), fmt='%.2f')
    found = session.embed(state, _png(taken[0]), file.getvalue().decode(), steps=20)
    assert found.inversion.error < 25 and 'photo' in found.note
    assert found.face.yaw == pytest.approx(coeff[factors.ANGLES][1], abs=0.2)
    with pytest.raises(UserError, match='upright face'):
        session.embed(state, _png(taken[0]), '\n'.join(reversed(file.getvalue().decode().splitlines())))


def test_a_world_that_names_nothing_offers_components_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'FACE_MODEL_DIR', str(tmp_path / 'nothing'))
    options = write_small_world(str(tmp_path))
    with page.Session(options[1], options[3]) as session:
        groups = {slider.name: slider.group for slider in session.sliders}
        assert groups['expression[0]'] == 'Expression' and groups['shape[9]'] == groups['texture[9]'] == 'Identity'
        state = session.set(session.new_person(None, 1), 'expression[3]', 0.0)
        drawn = session.draw(state)
        assert session.world == 'real' and session.no_render
        assert drawn.render is None and drawn.picture.shape == (8, 8, 3)
        with pytest.raises(UserError, match='recon'):
            session.embed(state, _png(drawn.picture))
