"""The eight-line Python example, and Face: named parts, mixing, saving, both layouts of coefficient files."""

import os
import shutil

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import config
from benchmarks.sampling import write_random_vaes
from dnnlib.util import UserError
from renderer import coefficient_files
from sampling import faces
from sampling.faces import Face
from tests.common import assert_close, data, recording


def _face(seed=0, noise_dim=32):
    return Face(np.random.RandomState(seed).standard_normal(254 + noise_dim))


def test_example_in_the_docstring_runs_anywhere(tmp_path, monkeypatch):
    from sampling import generator
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, 'VAE_WEIGHTS_DIR', str(tmp_path / 'vaes'))
    write_random_vaes(config.VAE_WEIGHTS_DIR)
    shutil.copy(data('generator', 'networks.pkl'), 'model.pkl')
    np.savetxt('model-average_w_id.txt', np.load(recording('generator', 'truncate_io.npz'))['average_w_id'])
    lines = [line.strip() for line in generator.__doc__.splitlines() if line.startswith('    ')]
    assert 4 <= len(lines) <= 8
    names = {}
    exec('\n'.join(lines), names)
    names['faces'].close()
    picture = np.asarray(Image.open('face.png'))
    assert picture.shape == (64, 64, 3) and picture.std() > 5
    assert names['face'].yaw == pytest.approx(0.4)


def test_the_readmes_show_the_same_example(tmp_path, monkeypatch):
    """The folder's README the very example, the project's a shorter one that runs."""
    from sampling import generator
    lines = [line.strip() for line in generator.__doc__.splitlines() if line.startswith('    ')]
    with open(os.path.join(config.ROOT, 'sampling', 'README.md'), encoding='utf-8') as file:
        assert '\n'.join(lines) in file.read()
    with open(os.path.join(config.ROOT, 'README.md'), encoding='utf-8') as file:
        example = file.read().split('```python\n')[1].split('```')[0]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example, names)
    names['faces'].close()
    assert np.asarray(Image.open('face.png')).std() > 5 and names['face'].yaw == pytest.approx(0.4)


def test_parts_are_views_in_the_order_of_the_generator():
    face = _face()
    for name, where in dict(identity=(0, 160), expression=(160, 224), pose=(224, 227), lighting=(227, 254),
                            noise=(254, 286)).items():
        part = getattr(face, name)
        assert_close(part, face.coeffs[slice(*where)])
        part[0] = 5
        assert face.coeffs[where[0]] == 5
    face.pitch, face.yaw, face.roll = 0.1, 0.2, 0.3
    face.yaw += 0.5
    assert_close(face.coeffs[224:227], [0.1, 0.7, 0.3], atol=1e-6)
    assert_close(face.pose, [face.pitch, face.yaw, face.roll], atol=1e-7)
    assert 'yaw=0.700' in repr(face)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(faces.PARTS)), st.integers(0, 99))
def test_writing_a_part_changes_nothing_else(name, seed):
    face, other = _face(0), _face(seed + 1)
    before = face.coeffs.copy()
    setattr(face, name, getattr(other, name))
    outside = np.ones(286, bool)
    outside[faces.PARTS[name]] = False
    assert_close(face.coeffs[outside], before[outside])
    assert_close(getattr(face, name), getattr(other, name))
    setattr(face, name, 0)
    assert not getattr(face, name).any() and other.coeffs.all()


def test_mistakes_are_named():
    face = _face()
    with pytest.raises(UserError, match='expression: expected 64'):
        face.expression = np.zeros(63)
    with pytest.raises(UserError, match='yaw: expected 1 finite'):
        face.yaw = np.nan
    with pytest.raises(AttributeError, match='jaw'):
        face.jaw = 0.4
    with pytest.raises(UserError, match='254'):
        Face(np.zeros(253))
    with pytest.raises(UserError, match='hair'):
        face.transfer(face, 'hair')


def test_transfer_and_lerp_make_new_faces():
    a, b = _face(0), _face(1)
    mixed = a.transfer(b, 'exp', 'pose')
    assert_close(mixed.expression, b.expression)
    assert_close(mixed.pose, b.pose)
    for name in ('identity', 'lighting', 'noise'):
        assert_close(getattr(mixed, name), getattr(a, name))
    assert_close(a.coeffs, _face(0).coeffs)
    assert_close(a.lerp(b, 0.25).coeffs, a.coeffs * 0.75 + b.coeffs * 0.25, atol=1e-6)
    copy = a.copy()
    copy.yaw = 9
    assert a.yaw != 9


@pytest.mark.parametrize('kind', faces.FILE_KINDS)
def test_save_and_load(kind, tmp_path):
    face = _face(noise_dim=5)
    face.latents = np.arange(179, dtype=np.float32)
    path = str(tmp_path / f'face.{kind}')
    face.save(path)
    again = Face.load(path)
    assert_close(again.coeffs, face.coeffs)
    assert_close(again.latents, face.latents)
    stored = coefficient_files.read_arrays(path)
    assert stored['coeff'].shape[-1] == 257 and not stored['coeff'].reshape(-1)[254:].any()
    assert os.listdir(str(tmp_path)) == [f'face.{kind}']
    with pytest.raises(UserError, match='.npz or .mat'):
        face.save(str(tmp_path / 'face.txt'))


def separate_arrays(recon):
    """The layout of the PyTorch version: separate [1, n] arrays."""
    bounds = dict(id=(0, 80), tex=(80, 160), exp=(160, 224), angle=(224, 227), gamma=(227, 254), trans=(254, 257))
    return {name: recon[np.newaxis, slice(*where)] for name, where in bounds.items()}


def test_both_layouts_of_reconstructions(tmp_path):
    recon = np.arange(257, dtype=np.float32)
    layouts = {'row.mat': {'coeff': recon[np.newaxis]}, 'flat.mat': {'coeff': recon},
               'split.mat': separate_arrays(recon)}
    for name, arrays in layouts.items():
        scipy.io.savemat(str(tmp_path / name), arrays)
        face = Face.load(str(tmp_path / name))
        assert_close(face.coeffs, np.concatenate([recon[:254], np.zeros(32)]))
    without = separate_arrays(recon)
    del without['trans']
    assert_close(coefficient_files.reconstruction_vector(without, 'x'), np.concatenate([recon[:254], np.zeros(3)]))


@pytest.mark.parametrize('arrays,message', [
    ({'coeff': np.zeros(256)}, 'expected 257'),
    ({'coeff': np.full(257, np.nan)}, 'NaN'),
    ({'coeff': np.array(['face'])}, 'no real numbers'),
    ({'id': np.zeros(80), 'exp': np.zeros(64)}, '`tex`, `angle`, `gamma`'),
    ({}, 'neither `coeff`'),
])
def test_bad_reconstructions(arrays, message, tmp_path):
    path = str(tmp_path / 'x.mat')
    scipy.io.savemat(path, arrays)
    with pytest.raises(UserError, match=message) as caught:
        Face.load(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.sampled_from(['mat', 'npz']), st.booleans())
def test_no_file_makes_loading_fail_otherwise_than_with_a_line(tmp_path_factory, noise, kind, cut):
    path = str(tmp_path_factory.mktemp('fuzz') / f'x.{kind}')
    if cut:
        _face().save(path)
        with open(path, 'rb') as file:
            noise = file.read()[:len(noise) * 4] + noise[:8]
    with open(path, 'wb') as file:
        file.write(noise)
    with pytest.raises(UserError) as caught:
        Face.load(path)
    assert '\n' not in str(caught.value)
