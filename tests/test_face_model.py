"""Face model: conversion of the downloads against recorded checksums, loading, and what is said of broken files."""

import json
import os
import shutil
import zlib

import numpy as np
import pytest
import scipy.io

from dnnlib.util import UserError
from renderer import face_model
from tests.common import assert_close, data, shared


@pytest.fixture
def model_mat():
    """The recorded stand-in for the converted file, as a dict to spoil."""
    return {key: value for key, value in scipy.io.loadmat(data('face', 'face_model.mat')).items() if key[0] != '_'}


def load_changed(tmp_path, mat):
    path = str(tmp_path / face_model.MODEL_FILE)
    scipy.io.savemat(path, mat)
    return face_model.load_face_model_file(path)


# ------------------------------------------------------------------------------------------------ loading

def test_load(model_mat):
    model = face_model.load_face_model_file(data('face', 'face_model.mat'))
    assert model.num_vertices == 2021
    assert_close(model.mean_shape.mean(axis=0), np.zeros(3), atol=1e-6)
    assert_close(model.shape_basis, np.concatenate([model_mat['idBase'], model_mat['exBase']], axis=1), atol=1e-7)
    assert (model.triangles == model_mat['tri'] - 1).all() and model.triangles.dtype == np.int32
    assert (model.vertex_triangles == model_mat['point_buf'] - 1).all()
    assert (model.landmarks == model_mat['keypoints'].reshape(-1) - 1).all() and model.landmarks.shape == (68,)
    assert (model.region == model_mat['gan_mask'].reshape(-1) - 1).all() and model.region.shape == (1284,)
    assert (model.region_triangles == model_mat['gan_tl'] - 1).all()


@pytest.mark.parametrize('key, wrong, words', [
    ('tri', 2022, 'tri must hold whole numbers from 1 to 2021'),
    ('keypoints', 0, 'keypoints must hold whole numbers from 1 to 2021'),
    ('gan_mask', 1.5, 'gan_mask must hold whole numbers'),
    ('gan_tl', 1285, 'gan_tl must hold whole numbers from 1 to 1284'),
    ('point_buf', 3866, 'point_buf must hold whole numbers from 1 to 3865'),
    ('keypoints', np.nan, 'keypoints must hold whole numbers'),
    ('meanshape', np.nan, 'meanshape holds infinities or NaN'),
    ('idBase', np.inf, 'idBase holds infinities or NaN')])
def test_bad_values_are_named(tmp_path, model_mat, key, wrong, words):
    model_mat[key] = model_mat[key].astype(np.float64)
    model_mat[key].flat[0] = wrong
    with pytest.raises(UserError, match=words) as error:
        load_changed(tmp_path, model_mat)
    assert face_model.MODEL_FILE in str(error.value)


@pytest.mark.parametrize('key', ['meanshape', 'exBase', 'tri', 'point_buf', 'keypoints'])
def test_bad_shapes_are_named(tmp_path, model_mat, key):
    model_mat[key] = model_mat[key].reshape(-1)[:-1][None]
    with pytest.raises(UserError, match=key if key != 'meanshape' else 'idBase|meanshape'):
        load_changed(tmp_path, model_mat)


def test_missing_arrays_and_files(tmp_path, model_mat):
    del model_mat['gan_tl'], model_mat['tri']
    with pytest.raises(UserError, match='holds no array tri, gan_tl'):
        load_changed(tmp_path, model_mat)
    with pytest.raises(UserError, match='no such file'):
        face_model.load_face_model_file(str(tmp_path / 'absent.mat'))


@pytest.mark.parametrize('cut', [0, 100, 200, 5000, 1000000])
def test_broken_files(tmp_path, cut):
    with open(data('face', 'face_model.mat'), 'rb') as file:
        content = file.read()
    path = tmp_path / face_model.MODEL_FILE
    path.write_bytes(content[:cut])
    with pytest.raises(UserError, match='damaged or not the right file|holds no array'):
        face_model.load_face_model_file(str(path))


def test_hdf5_is_explained(tmp_path):
    path = tmp_path / '01_MorphableModel.mat'
    hdf5 = b'\x89HDF\r\n\x1a\n' + b'\0' * 600
    for prefix in (b'', b'MATLAB 7.3 MAT-file'.ljust(512)):
        path.write_bytes(prefix + hdf5)
        with pytest.raises(UserError, match='Model 2017 or 2019.*2009'):
            face_model.load_face_model_file(str(path))


def test_landmark_template(tmp_path):
    points = np.random.RandomState(0).standard_normal([68, 3])
    scipy.io.savemat(str(tmp_path / 'lm.mat'), {'lm': points})
    assert_close(face_model.load_landmarks_3d(str(tmp_path / 'lm.mat')), points, atol=1e-6)
    scipy.io.savemat(str(tmp_path / 'lm.mat'), {'lm': points[:5]})
    with pytest.raises(UserError, match=r'lm has shape \[5, 3\]'):
        face_model.load_landmarks_3d(str(tmp_path / 'lm.mat'))


# ------------------------------------------------------------------------------------------------ conversion

def test_every_missing_file_is_listed_with_source_and_place(tmp_path):
    (tmp_path / 'std_exp.txt').write_text('1')
    (tmp_path / 'model2019_bfm.h5').write_bytes(b'\x89HDF')
    with pytest.raises(UserError) as error:
        face_model.load_face_model(str(tmp_path))
    text = str(error.value)
    assert str(tmp_path) in text and 'std_exp.txt' not in text
    for name, source in face_model.SOURCES.items():
        if name != 'std_exp.txt':
            assert f'{name}: put it there; it comes from {source}' in text
    assert 'model2019_bfm.h5 is no replacement' in text
    assert sorted(os.listdir(str(tmp_path))) == ['model2019_bfm.h5', 'std_exp.txt']


def synthetic_bfm09(seed):
    """Arrays of 01_MorphableModel.mat with the real shapes and types and random values (recipe of the records)."""
    def normal(k, *shape):
        return np.random.RandomState(seed + k).standard_normal(shape)
    falling = np.arange(1, 200)
    return {
        'shapeMU': (5e4 * normal(1, 160470, 1)).astype(np.float32),
        'shapePC': (2e-3 * normal(2, 160470, 199)).astype(np.float32),
        'shapeEV': (9e5 / falling).reshape(199, 1).astype(np.float32),
        'texMU': (127 + 30 * normal(3, 160470, 1)).astype(np.float32),
        'texPC': (2e-3 * normal(4, 160470, 199)).astype(np.float32),
        'texEV': (4e3 / falling).reshape(199, 1).astype(np.float32)}


def synthetic_exp_pca(seed):
    """Bytes of Exp_Pca.bin (recipe of the records)."""
    random = np.random.RandomState(seed + 5)
    mean = (10 * random.standard_normal(3 * 53215)).astype('<f4')
    basis = (2e-3 * random.standard_normal((79, 3 * 53215))).astype('<f4')
    return np.int32(79).astype('<i4').tobytes() + mean.tobytes() + basis.tobytes()


@pytest.fixture(scope='module')
def recorded():
    with open(shared('oracle', 'perception', 'facemodel', 'bfm_transfer.json'), encoding='utf-8') as file:
        return json.load(file)


@pytest.fixture(scope='module')
def downloads(tmp_path_factory, recorded):
    """A folder that holds everything the conversion needs."""
    folder = str(tmp_path_factory.mktemp('bfm'))
    for name in face_model.SOURCES:
        if name not in ('01_MorphableModel.mat', 'Exp_Pca.bin'):
            shutil.copy(shared('data', 'bfm_index', name), folder)
    scipy.io.savemat(os.path.join(folder, '01_MorphableModel.mat'), synthetic_bfm09(recorded['seed']))
    content = synthetic_exp_pca(recorded['seed'])
    assert zlib.crc32(content) == recorded['inputs']['Exp_Pca.bin']['crc32']
    with open(os.path.join(folder, 'Exp_Pca.bin'), 'wb') as file:
        file.write(content)
    return folder


def test_conversion_equals_the_records(downloads, recorded):
    model = face_model.load_face_model(downloads)
    assert model.num_vertices == 35709 and len(model.region) == 27742 and len(model.region_triangles) == 54864
    mat = scipy.io.loadmat(os.path.join(downloads, face_model.MODEL_FILE))
    for key, expected in recorded['outputs'].items():
        array = mat[key]
        assert list(array.shape) == expected['shape'] and str(array.dtype) == expected['dtype'], key
        samples = array.reshape(-1)[expected['sample_flat_index_C_order']]
        assert_close(samples.astype(np.float64), expected['sample_value'], rtol=2e-6, atol=1e-30)
        assert abs(array.sum(dtype=np.float64) - expected['sum']) <= 1e-6 * expected['abs_sum'], key
    again = os.path.getmtime(os.path.join(downloads, face_model.MODEL_FILE))
    face_model.load_face_model(downloads)
    assert os.path.getmtime(os.path.join(downloads, face_model.MODEL_FILE)) == again


def linked(tmp_path, downloads, without):
    """A folder with links to all downloads but one, whose path is returned with it."""
    for name in face_model.SOURCES:
        if name != without:
            os.symlink(os.path.join(downloads, name), str(tmp_path / name))
    return str(tmp_path), str(tmp_path / without)


@pytest.mark.parametrize('name, content, words', [
    ('Exp_Pca.bin', b'\x4f\0\0\0' + b'\0' * 1000, 'Exp_Pca.bin: 1004 bytes, expected 51086404'),
    ('01_MorphableModel.mat', b'\x89HDF\r\n\x1a\n', 'Model 2017 or 2019'),
    ('01_MorphableModel.mat', b'<html>not found</html>' * 50, '01_MorphableModel.mat.*damaged'),
    ('std_exp.txt', b'1 2 three', 'std_exp.txt'),
    ('std_exp.txt', b'1 2 3', 'must hold 79 numbers'),
    ('gan_mask.mat', b'', 'gan_mask.mat.*damaged'),
    ('BFM_exp_idx.mat', b'\0' * 3000, 'BFM_exp_idx.mat')], ids=lambda value: '' if isinstance(value, bytes) else None)
def test_wrong_downloads_are_named_and_nothing_is_left(tmp_path, downloads, name, content, words):
    folder, path = linked(tmp_path, downloads, name)
    with open(path, 'wb') as file:
        file.write(content)
    with pytest.raises(UserError, match=words):
        face_model.load_face_model(folder)
    assert sorted(os.listdir(folder)) == sorted(face_model.SOURCES)


def test_another_mesh_is_no_basel_model(tmp_path, downloads):
    folder, path = linked(tmp_path, downloads, '01_MorphableModel.mat')
    arrays = {part + key: np.zeros(shape, np.float32) for part in ('shape', 'tex')
              for key, shape in (('MU', (300, 1)), ('PC', (300, 199)), ('EV', (199, 1)))}
    scipy.io.savemat(path, arrays)
    with pytest.raises(UserError, match=r'shapeMU has shape \[300, 1\], expected \[160470, 1\]'):
        face_model.load_face_model(folder)
