"""Chosen values: what names mean, what people may write, ranges; the options of the scripts for them."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import config
from dnnlib.util import UserError
from renderer import factors
from sampling import controls
from sampling.faces import Face
from sampling.generator import FaceGenerator
from tests.common import assert_close
from tests.test_generate_images import here, pictures, run_script, stored_numbers, write_small_world  # noqa: F401  here: a fixture
from worlds.parts import World

DEMO = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
WORLD_NAMES = {'smile': ('exp', np.eye(64)[1] + 0.5 * np.eye(64)[3], 0.0, 1.0),
               'face width': ('identity', np.eye(160)[7] * 2, -2.5, 2.5)}
PARTS = {'yaw': factors.ANGLES, 'roll': factors.ANGLES, 'light_left': factors.LIGHTING, 'light_top': factors.LIGHTING,
         'brightness': factors.LIGHTING, 'warmth': factors.LIGHTING, 'expression[63]': factors.EXPRESSION,
         'shape[0]': factors.SHAPE, 'texture[79]': factors.TEXTURE, 'smile': factors.EXPRESSION,
         'face_width': slice(0, 160)}


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(PARTS)), st.floats(-3, 3, width=32), st.integers(0, 99))
def test_setting_a_value_moves_a_face_along_one_line(name, value, seed):
    coeffs = np.random.RandomState(seed).standard_normal(286).astype(np.float32)
    direction = controls.find(name, WORLD_NAMES)
    changed = controls.apply(coeffs, [(direction, value)])
    assert changed.dtype == np.float32
    assert direction.value(changed) == pytest.approx(value, abs=1e-4)
    outside = np.ones(286, bool)
    outside[PARTS[name]] = False
    assert_close(changed[outside], coeffs[outside])
    moved = (changed - coeffs)[:254].astype(np.float64)         # nothing across the direction
    along = moved @ direction.vector / (direction.vector @ direction.vector)
    assert_close(moved, along * direction.vector, atol=1e-4)
    assert_close(controls.apply(changed, [(direction, value)]), changed, atol=1e-5)


def test_names_of_the_light_do_not_touch_each_other():
    names = ('brightness', 'warmth', 'light_top', 'light_front', 'light_left')
    vectors = np.stack([controls.find(name).vector for name in names])
    products = vectors @ vectors.T
    assert_close(products - np.diag(np.diag(products)), np.zeros([5, 5]), atol=1e-12)


@pytest.fixture(scope='module')
def rendered():
    """faces -> renders of the human head without pose, [N, 64, 64, 3], with what is lit in all of them: a mask."""
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.runner import GraphRunner
    from renderer.face_renderer import FaceRenderer
    with GraphRunner() as runner:
        with runner.building():
            coeffs = tf.placeholder(tf.float32, [None, 254])
            render = FaceRenderer(World('human').face_model()).render(coeffs, 64)

        def draw(*faces):
            image, mask = runner.run([render.image, render.mask], {coeffs: np.stack([face.coeffs for face in faces])})
            return image, mask[0, ..., 0] > 0.99
        yield draw


@pytest.mark.parametrize('name, side', [('light_left', np.s_[:, :24]), ('light_top', np.s_[:24])])
def test_light_comes_from_where_its_name_says(name, side, rendered):
    """Left and top of the picture."""
    image, mask = rendered(Face(np.zeros(254)).set(name, 0.3), Face(np.zeros(254)).set(name, -0.3))
    difference = (image[0] - image[1]).mean(axis=2)
    away = difference[:, 40:][mask[:, 40:]] if name == 'light_left' else difference[44:][mask[44:]]
    assert np.median(difference[side][mask[side]]) > 5 and np.median(away) < -2


def test_light_from_the_front_is_brightest_in_the_middle(rendered):
    image, mask = rendered(Face(np.zeros(254)), Face(np.zeros(254)).set('light_front', 0.2))
    gain = image[1].mean(axis=2) / np.maximum(image[0].mean(axis=2), 1)
    rim = mask.copy()
    rim[:, 18:46] = False
    assert 1.2 > np.median(gain[20:44, 24:40]) > np.median(gain[rim]) + 0.02


def test_brightness_and_warmth_are_shares_of_the_mean_light(rendered):
    plain, brighter, warm = (Face(np.zeros(254)).set(*change)
                             for change in (('yaw', 0), ('brightness', -0.25), ('warmth', -0.2)))
    image, mask = rendered(plain, brighter, warm)
    inside = (image[0] > 20).all(axis=2) & (image < 250).all(axis=(0, 3)) & mask
    assert inside.sum() > 300
    assert_close(image[1][inside] / image[0][inside], np.full([inside.sum(), 3], 0.75), atol=0.01)
    assert_close(image[2][inside] / image[0][inside], np.tile([0.8, 1, 1.2], [inside.sum(), 1]), atol=0.01)


def test_unknown_names_say_what_there_is():
    for name in ('jaw', 'expression[64]', 'noise[0]', 'pose[3]', '', 'yaw\x1b[31m'):
        with pytest.raises(UserError) as caught:
            controls.find(name, WORLD_NAMES, 'toy')
        assert str(caught.value).isprintable()
    with pytest.raises(UserError, match='in this world, face width, smile'):
        controls.find('jaw', WORLD_NAMES)
    with pytest.raises(UserError, match='the real face model names no expressions'):
        controls.find('smile', {}, 'real')
    assert controls.find('Face-Width', WORLD_NAMES).name == 'face width'


@pytest.mark.parametrize('text, value', [
    ('yaw=0.4,smile=1', {'yaw': 0.4, 'smile': 1.0}), ('pitch = 90deg', {'pitch': np.pi / 2}),
    ('expression[3]=-1e-1', {'expression[3]': -0.1})])
def test_what_people_write(text, value):
    assert controls.parse_settings(text) == pytest.approx(value)


@pytest.mark.parametrize('text', ['', 'yaw', 'yaw=', '=1', 'yaw=nan', 'yaw=inf', 'yaw=1e999', 'yaw=1_5', 'smile=25deg',
                                  'yaw=0.4,', 'yaw=\u0665', 'yaw=0x1', 'yaw=deg', 'yaw=1 2'])
def test_what_they_must_not(text):
    with pytest.raises(UserError):
        controls.parse_settings(text)


def test_sweeps():
    name, values = controls.parse_sweep('yaw=-30deg:30deg:3')
    assert name == 'yaw' and values == pytest.approx([-np.pi / 6, 0, np.pi / 6])
    for wrong in ('yaw', 'yaw=1:2', 'yaw=1:2:1', 'yaw=1:2:3:4', 'yaw=1:2:2.5', 'yaw=a:b:3', 'yaw=1:2:100000', '=1:2:3'):
        with pytest.raises(UserError):
            controls.parse_sweep(wrong)


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=40) | st.text('yaw=,:.0123456789deg[]-+e', max_size=20))
def test_no_text_does_anything_else(text):
    for parse in (controls.parse_settings, controls.parse_sweep):
        try:
            parse(text)
        except UserError as error:
            assert '\n' not in str(error)


def test_values_that_training_never_saw_are_moved_to_its_edge():
    rng = np.random.RandomState(0)
    known = controls.Controls(lambda count: 0.2 * rng.uniform(-1, 1, [count, 254]), WORLD_NAMES)
    _, values, line = known.clip('yaw', [-0.1, 0.0, 3.0])
    assert values[:2] == [-0.1, 0.0] and 0.19 < values[2] <= 0.2
    assert line.startswith('yaw=3: training saw -0.2 to 0.2; 1 of 3')
    assert known.clip('smile', [0.5, 2.0])[1] == [0.5, 1.0]                 # the world's own range
    assert known.clip('smile', [0.5])[2] is None


def test_faces_take_values_by_name():
    face = Face(np.zeros(286)).set('yaw', 0.4).set('expression[3]', 2)
    assert face.yaw == pytest.approx(0.4) and face.expression[3] == 2 and face.get('yaw') == pytest.approx(0.4)
    with pytest.raises(UserError, match='unknown name'):
        face.set('smile', 1)
    named = Face(np.zeros(286), names=lambda: WORLD_NAMES).set('smile', 1)
    assert_close(named.expression[:4], [0, 1, 0, 0.5])
    for other in (named.copy(), named.lerp(face, 0.0), named.transfer(face, 'pose')):
        assert other.get('smile') == pytest.approx(1)


def test_every_name_of_the_human_world_moves_its_own_part():
    names = World('human').names()
    assert {'smile', 'jawOpen', 'stubble'} <= set(names) and World('real').names() == {}
    for name, (_, _, low, high) in names.items():
        direction = controls.find(name, names)
        assert direction.name == name and low < high and direction.vector.any()


# ---- the scripts

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name a small model."""
    return write_small_world(str(tmp_path_factory.mktemp('world')))


def _script(name, arguments, capsys):
    return run_script(os.path.join(config.ROOT, name + '.py'), arguments, capsys)


def test_sweeps_and_values_of_generate_images(world, here, capsys):  # noqa: F811
    code, _, err = _script('generate_images', world + ['--subject', 2, '--sweep', 'yaw=-0.1:0.1:3', '--set',
                                                       'roll=0.02', '--save_coeffs', 'npz', '--grid'], capsys)
    assert code == 0, err
    folder = 'generate_images/set-roll-sweep-yaw'
    assert sorted(pictures(folder)) == [f'00{i}_0{j}.png' for i in range(2) for j in range(3)]
    plain = world + ['--subject', 2, '--outdir', 'plain', '--save_coeffs', 'npz']
    assert _script('generate_images', plain, capsys)[0] == 0
    for subject in range(2):
        stored = [stored_numbers(f'{folder}/00{subject}_0{i}.npz') for i in range(3)]
        own = stored_numbers(f'plain/00{subject}_00.npz')
        for arrays, yaw in zip(stored, (-0.1, 0, 0.1)):
            assert_close(arrays['coeff'][factors.ANGLES][1:], [yaw, 0.02], atol=1e-6)
            assert_close(arrays['noise'], own['noise'])                     # the same people as without a sweep
            assert_close(arrays['coeff'][:160], own['coeff'][:160])
        assert_close(stored[0]['coeff'][160:225], stored[2]['coeff'][160:225])
    code, _, err = _script('generate_images', world + ['--set', 'yaw=9', '--subject', 1, '--variation', 1], capsys)
    assert code == 0 and 'yaw=9: training saw' in err


def test_any_subject_of_a_set_can_be_drawn_alone(world, here, capsys):  # noqa: F811
    common = world + ['--variation', 2, '--save_coeffs', 'npz']
    assert _script('generate_images', common + ['--seeds', '3-5,9', '--outdir', 'all'], capsys)[0] == 0
    assert _script('generate_images', common + ['--seeds', '4', '--outdir', 'one'], capsys)[0] == 0
    every, alone = pictures('all'), pictures('one')
    assert sorted(every) == [f'00{i}_0{j}.png' for i in (3, 4, 5, 9) for j in range(2)]
    assert sorted(alone) == ['004_00.png', '004_01.png']
    assert all(np.abs(every[name].astype(int) - alone[name]).max() <= 1 for name in alone)
    with FaceGenerator(world[1], world[3]) as faces:
        face = faces.random_face(seed=4)
    stored = stored_numbers('one/004_00.npz')
    assert_close(stored['coeff'][:160], face.coeffs[:160], atol=1e-6)
    assert_close(stored['noise'], face.noise, atol=1e-6)
    for wrong in ('a', '5-3', '-1', '1,,2', '0-99999999'):
        code, _, err = _script('generate_images', common + [f'--seeds={wrong}'], capsys)
        assert code == 1 and '--seeds' in err and err.count('\n') == 1


def test_values_in_own_coefficients_and_in_photos(world, here, capsys):  # noqa: F811
    from preprocess import pipeline
    coeffs = 0.2 * np.random.RandomState(1).standard_normal(257).astype(np.float32)
    pipeline.write_results('data', 'a', np.full([256, 256, 3], 90, np.uint8), coeffs)
    common = world + ['--save_coeffs', 'npz', '--sweep', 'yaw=-0.05:0.05:2', '--set', 'expression[2]=0']
    code, _, err = _script('generate_images_mine', common + ['--input', 'data/coeff', '--seed', 1, 2], capsys)
    assert code == 0, err
    assert sorted(pictures('generate_images_mine')) == [f'a_seed{i}_0{j}.png' for i in (1, 2) for j in range(2)]
    stored = stored_numbers('generate_images_mine/a_seed2_01.npz')['coeff']
    assert stored[225] == pytest.approx(0.05) and stored[224] == pytest.approx(coeffs[224]) and not stored[162]
    code, _, err = _script('edit_images', common + ['--w_id', 0, '--steps', 8], capsys)
    assert code == 0, err
    assert sorted(pictures('edit_images')) == ['a_00.png', 'a_01.png', 'a_photo.png', 'a_redrawn.png']
    stored = stored_numbers('edit_images/a_00.npz')['coeff']
    assert stored[225] == pytest.approx(-0.05) and not stored[162]
    assert_close(stored[:160], coeffs[:160], atol=1e-6)
    code, _, err = _script('edit_images', common + ['--reference', 'data/coeff'], capsys)
    assert code == 1 and 'do not go together' in err


def test_noise_modes(world, here, capsys):  # noqa: F811
    made = {}
    for mode, batch in (('const', 8), ('none', 8), ('random', 8), ('random', 1)):
        outdir = f'{mode}{batch}'
        code, _, err = _script('generate_images', world + ['--subject', 2, '--variation', 3, '--noise-mode', mode,
                                                           '--batch', batch, '--outdir', outdir, '--trunc', 1], capsys)
        assert code == 0, err
        made[outdir] = pictures(outdir)
    for name in made['random8']:
        assert np.abs(made['random8'][name].astype(int) - made['random1'][name]).max() <= 1
    code, _, err = _script('generate_images', world + ['--outdir', 'const8', '--noise-mode', 'none'], capsys)
    assert code == 1 and 'noise_mode' in err


def test_noise_modes_of_a_trained_model():
    drawn = {}
    for mode in ('const', 'none', 'random'):
        with FaceGenerator(DEMO, noise_mode=mode) as faces:
            drawn[mode] = faces.images(faces.random_faces(3, seed=1), rate=1).astype(float)
    for a, b in (('const', 'none'), ('const', 'random'), ('none', 'random')):
        assert 0.1 < np.abs(drawn[a] - drawn[b]).mean() < 20       # details differ, the faces do not


def test_the_demo_model_turns_and_smiles_as_it_is_told(tmp_path, capsys):
    arguments = ['--model', DEMO, '--seeds', '3,8', '--sweep', 'light_left=-0.5:0.5:3', '--set', 'yaw=0', '--grid',
                 '--outdir', str(tmp_path / 'out')]
    code, _, err = _script('generate_images', arguments, capsys)
    assert code == 0, err
    made = pictures(str(tmp_path / 'out'))
    for subject in ('003', '008'):
        size = len(made[f'{subject}_00.png'])
        face = np.s_[5 * size // 16:25 * size // 32, size // 4:3 * size // 4]
        left, right = [made[f'{subject}_0{i}.png'].astype(float).mean(axis=2)[face] for i in (2, 0)]
        brighter = (left - right)[:, :size // 4].mean() - (left - right)[:, size // 4:].mean()
        assert brighter > 5                                         # light from the left against from the right
    assert np.asarray(Image.open(str(tmp_path / 'out' / 'grid.png'))).shape[1] > 3 * 132
