"""The face model (Basel Face Model 2009 plus an expression basis): its arrays, and the one-time conversion of what
users download into `BFM_model_front_gan.mat` (paper section 3.2). NumPy and SciPy only; every index counts from zero.
"""

import os
from typing import Dict

import numpy as np

import config
from dnnlib.util import UserError, atomic_path

MODEL_FILE = 'BFM_model_front_gan.mat'      # what the conversion writes and everything else reads
ARRAYS = ('meanshape', 'meantex', 'idBase', 'exBase', 'texBase', 'tri', 'point_buf', 'keypoints', 'gan_mask', 'gan_tl')
NUM_SHAPE, NUM_EXPRESSION, NUM_TEXTURE = 80, 64, 80

_BASEL = 'the Basel Face Model 2009: free after registration at https://faces.dmi.unibas.ch/bfm/main.php?id=downloads'
_GUO = '"CoarseData" of https://github.com/Juyong/3DFace (Guo et al.)'
_DEEP3D = 'folder BFM/ of https://github.com/microsoft/Deep3DFaceReconstruction'
_DISCO = 'folder "renderer/BFM face model/" of https://github.com/microsoft/DiscoFaceGAN'
SOURCES = {
    '01_MorphableModel.mat': _BASEL,
    'Exp_Pca.bin': _GUO,
    'BFM_front_idx.mat': _DEEP3D,
    'BFM_exp_idx.mat': _DEEP3D,
    'facemodel_info.mat': _DEEP3D,
    'std_exp.txt': _DEEP3D,
    'gan_mask.mat': _DISCO,
    'gan_tl.mat': _DISCO,
}

_BASEL_VERTICES = 53490     # of the Basel model
_EXP_VERTICES = 53215       # of the expression basis: the Basel model without a part of the neck
_EXP_COMPONENTS = 79
_EXP_BYTES = 4 + 4 * 3 * _EXP_VERTICES * (_EXP_COMPONENTS + 1)


class FaceModel:
    """The arrays of a linear face model with N vertices; plain data, checked by `load_face_model_file`.

    mean_shape        [N, 3]    float32, decimetres; x right, y up, z towards the camera; mean vertex at the origin
    mean_texture      [N, 3]    float32, RGB, 0-255
    shape_basis       [3N, 144] float32, decimetres per unit: 80 columns of identity, 64 of expression; rows x0 y0 z0 x1
    texture_basis     [3N, 80]  float32, RGB 0-255 per unit; rows r0 g0 b0 r1
    triangles         [F, 3]    int32, counter-clockwise seen from outside
    vertex_triangles  [N, 8]    int32, the triangles around each vertex; F where there are fewer than 8
    landmarks         [68]      int32, vertices of the 68 standard landmarks
    region            [n]       int32, the vertices that are drawn, ascending
    region_triangles  [T, 3]    int32, triangles that are drawn; they index into `region`
    """

    def __init__(self, mean_shape: np.ndarray, mean_texture: np.ndarray, shape_basis: np.ndarray,
                 texture_basis: np.ndarray, triangles: np.ndarray, vertex_triangles: np.ndarray,
                 landmarks: np.ndarray, region: np.ndarray, region_triangles: np.ndarray) -> None:
        self.mean_shape = mean_shape
        self.mean_texture = mean_texture
        self.shape_basis = shape_basis
        self.texture_basis = texture_basis
        self.triangles = triangles
        self.vertex_triangles = vertex_triangles
        self.landmarks = landmarks
        self.region = region
        self.region_triangles = region_triangles

    @property
    def num_vertices(self) -> int:
        """N."""
        return len(self.mean_shape)


# ------------------------------------------------------------------------------------------------ loading

def load_face_model(folder: str = config.FACE_MODEL_DIR) -> FaceModel:
    """The real face model -> FaceModel. The first call in a fresh installation converts the downloads in `folder`.

    Raises UserError: one message with every missing file, its source and its place; or the file that is broken.
    """
    path = os.path.join(folder, MODEL_FILE)
    if not os.path.exists(path):
        convert_face_model(folder)
    return load_face_model_file(path)


def load_face_model_file(path: str) -> FaceModel:
    """A face model file (`BFM_model_front_gan.mat` or another in its format) -> FaceModel, checked.

    Raises UserError naming the file, the array and what is wrong with it.
    """
    return face_model_from_arrays(_load_mat(path, ARRAYS), path)


def face_model_from_arrays(raw: Dict[str, np.ndarray], path: str = MODEL_FILE) -> FaceModel:
    """The arrays of a face model file, {name: array} with indices from 1, -> FaceModel, checked; `path` for messages.

    Raises UserError naming the array and what is wrong with it.
    """
    count = raw['meanshape'].size // 3
    mean_shape = _numbers(path, 'meanshape', raw, (count, 3))
    shape_basis = np.empty([3 * count, NUM_SHAPE + NUM_EXPRESSION], np.float32)
    shape_basis[:, :NUM_SHAPE] = _numbers(path, 'idBase', raw, (3 * count, NUM_SHAPE))
    shape_basis[:, NUM_SHAPE:] = _numbers(path, 'exBase', raw, (3 * count, NUM_EXPRESSION))
    triangles = _indices(path, 'tri', raw, (-1, 3), count)
    region = _indices(path, 'gan_mask', raw, (-1,), count)
    return FaceModel(
        mean_shape=(mean_shape - mean_shape.mean(axis=0, dtype=np.float64)).astype(np.float32),
        mean_texture=_numbers(path, 'meantex', raw, (count, 3)),
        shape_basis=shape_basis,
        texture_basis=_numbers(path, 'texBase', raw, (3 * count, NUM_TEXTURE)),
        triangles=triangles,
        vertex_triangles=_indices(path, 'point_buf', raw, (count, 8), len(triangles) + 1),
        landmarks=_indices(path, 'keypoints', raw, (68,), count),
        region=region,
        region_triangles=_indices(path, 'gan_tl', raw, (-1, 3), len(region)))


def load_landmarks_3d(path: str) -> np.ndarray:
    """A template of the 68 standard landmarks (`similarity_Lm3D_all.mat`, array `lm`) -> [68, 3] float32.

    x right, y up, z towards the camera. Raises UserError.
    """
    return _numbers(path, 'lm', _load_mat(path, ('lm',)), (68, 3))


def _load_mat(path, keys):
    """The arrays `keys` of a MATLAB file as a dict; UserError when it cannot be read or one is absent."""
    if not os.path.isfile(path):
        raise UserError(f'{path}: no such file; a MATLAB file with {", ".join(keys)} was expected there')
    if _is_hdf5(path):
        raise UserError(f'{path}: an HDF5 file, but a MATLAB file of version 5 was expected. If it is the Basel Face '
                        'Model 2017 or 2019: those have another mesh and other bases and cannot be used; get '
                        f'01_MorphableModel.mat of {_BASEL}')
    # Here and below: few runs read or write models, many import this module.
    import scipy.io
    try:
        raw = scipy.io.loadmat(path, variable_names=keys)
    except MemoryError:
        raise
    except Exception as error:      # SciPy raises a dozen types, zlib's and struct's among them, for a broken file
        raise UserError(f'{path}: cannot be read as a MATLAB file ({error}); it is damaged or not the right file: '
                        'get it again' + _source_of(path)) from error
    missing = [key for key in keys if key not in raw]
    if missing:
        raise UserError(f'{path}: holds no array {", ".join(missing)}; it is not the right file' + _source_of(path))
    return raw


def _is_hdf5(path):
    """Whether the file is HDF5: bare, or MATLAB 7.3, which puts 512 bytes in front."""
    with open(path, 'rb') as file:
        head = file.read(520)
    return head[:4] == b'\x89HDF' or head[512:516] == b'\x89HDF'


def _source_of(path):
    name = os.path.basename(path)
    if name == MODEL_FILE:
        return f'; delete {path} to have it made anew'
    return f', from {SOURCES[name]}' if name in SOURCES else ''


def _numbers(path, key, raw, shape):
    """Array `key` as float32 of `shape`; UserError when it has another size or holds infinities or NaN."""
    array = raw[key]
    if array.size != int(np.prod(shape)) or not np.issubdtype(array.dtype, np.number):
        raise UserError(f'{path}: {key} has shape {list(array.shape)} and type {array.dtype}, expected numbers of '
                        f'shape {list(shape)}' + _source_of(path))
    array = np.ascontiguousarray(array, np.float32).reshape(shape)
    if not np.isfinite(array).all():
        raise UserError(f'{path}: {key} holds infinities or NaN' + _source_of(path))
    return array


def _indices(path, key, raw, shape, stop):
    """Array `key`, which counts from 1, as int32 from 0; UserError unless whole numbers in 1..`stop` of `shape`."""
    array = raw[key]
    wrong = UserError(f'{path}: {key} must hold whole numbers from 1 to {stop} in shape {list(shape)} (-1: any), but '
                      f'has shape {list(array.shape)} and type {array.dtype}' + _source_of(path))
    if not np.issubdtype(array.dtype, np.number) or not array.size or array.size % abs(int(np.prod(shape))):
        raise wrong
    if -1 not in shape and array.size != np.prod(shape):
        raise wrong
    whole = array.astype(np.int64)
    if (whole != array).any() or whole.min() < 1 or whole.max() > stop:
        raise wrong
    return (whole.reshape(shape) - 1).astype(np.int32)


# ------------------------------------------------------------------------------------------------ conversion

def convert_face_model(folder=config.FACE_MODEL_DIR):
    """Make `BFM_model_front_gan.mat` in `folder` from the downloaded files there; needs about 0.7 GB of memory.

    Every number is as the original conversion wrote it (indices count from 1 in the file). The file appears complete
    or not at all. Raises UserError.
    """
    _check_present(folder)
    place = lambda name: os.path.join(folder, name)
    front = _indices(place('BFM_front_idx.mat'), 'idx', _load_mat(place('BFM_front_idx.mat'), ('idx',)), (-1,),
                     _EXP_VERTICES)                                     # kept vertices, in the expression basis's mesh
    trim = _indices(place('BFM_exp_idx.mat'), 'trimIndex', _load_mat(place('BFM_exp_idx.mat'), ('trimIndex',)),
                    (_EXP_VERTICES,), _BASEL_VERTICES)                  # that mesh's vertices in the Basel model's
    model = {'exBase': _expression_basis(folder, front)}
    model.update(_basel_part(place('01_MorphableModel.mat'), trim[front]))
    model.update(_topology(folder, len(front)))
    import scipy.io
    with atomic_path(place(MODEL_FILE)) as temporary:
        scipy.io.savemat(temporary, model)


def _check_present(folder):
    missing = [name for name in SOURCES if not os.path.isfile(os.path.join(folder, name))]
    if not missing:
        return
    lines = [f'the face model is not complete: {len(missing)} file(s) missing in {folder}']
    lines += [f'  {name}: put it there; it comes from {SOURCES[name]}' for name in missing]
    others = [name for name in sorted(os.listdir(folder)) if name.endswith('.h5')] if os.path.isdir(folder) else []
    if others and '01_MorphableModel.mat' in missing:
        lines.append(f'  {others[0]} is no replacement: it is the Basel Face Model 2017 or 2019, which has another '
                     'mesh and other bases than the model of 2009')
    raise UserError(*lines)


def _basel_part(path, rows):
    """Mean and bases of identity and texture at the Basel vertices `rows`, as in the released file."""
    ordinates = (3 * rows[:, None] + np.arange(3)).reshape(-1)          # x, y, z of each vertex
    model = {}
    for name, unit, mean_key, basis_key in (('shape', 1e5, 'meanshape', 'idBase'), ('tex', 1, 'meantex', 'texBase')):
        raw = _load_mat(path, (name + 'MU', name + 'PC', name + 'EV'))
        for key, shape in ((name + 'MU', (3 * _BASEL_VERTICES, 1)), (name + 'PC', (3 * _BASEL_VERTICES, 199))):
            if raw[key].shape != shape:
                raise UserError(f'{path}: {key} has shape {list(raw[key].shape)}, expected {list(shape)}; it is not '
                                f'the model of 2009. Get it from {SOURCES["01_MorphableModel.mat"]}')
        mean = _numbers(path, name + 'MU', raw, (3 * _BASEL_VERTICES,))[ordinates]
        deviation = _numbers(path, name + 'EV', raw, (199,))[:NUM_SHAPE]
        basis = np.asarray(raw.pop(name + 'PC')[:, :NUM_SHAPE][ordinates], np.float32)
        if not np.isfinite(basis).all():
            raise UserError(f'{path}: {name}PC holds infinities or NaN; get the file again' + _source_of(path))
        model[basis_key] = basis * deviation / np.float32(unit)
        model[mean_key] = (mean / np.float32(unit)).reshape(1, -1)
    return model


def _expression_basis(folder, rows):
    """[3 * len(rows), 64] float64, as in the released file."""
    path = os.path.join(folder, 'Exp_Pca.bin')
    size = os.path.getsize(path)
    if size != _EXP_BYTES or np.fromfile(path, '<i4', 1)[0] != _EXP_COMPONENTS:
        raise UserError(f'{path}: {size} bytes, expected {_EXP_BYTES} that start with the number {_EXP_COMPONENTS}; '
                        f'the download is not complete or not the right file: get it again from {_GUO}')
    basis = np.memmap(path, '<f4', mode='r', offset=4 + 4 * 3 * _EXP_VERTICES,
                      shape=(_EXP_COMPONENTS, 3 * _EXP_VERTICES))
    ordinates = (3 * rows[:, None] + np.arange(3)).reshape(-1)
    basis = basis[:NUM_EXPRESSION][:, ordinates].T
    path = os.path.join(folder, 'std_exp.txt')
    try:
        deviation = np.loadtxt(path).reshape(-1)
    except ValueError as error:
        raise UserError(f'{path}: {error}; {_EXP_COMPONENTS} numbers were expected') from error
    if len(deviation) != _EXP_COMPONENTS or not np.isfinite(deviation).all() or not np.isfinite(basis).all():
        raise UserError(f'{path} must hold {_EXP_COMPONENTS} numbers (it holds {len(deviation)}), and it and '
                        'Exp_Pca.bin no infinities or NaN; get both again')
    return basis * deviation[:NUM_EXPRESSION] / 1e5


def _topology(folder, count):
    """The index arrays, copied unchanged after a check."""
    path = os.path.join(folder, 'facemodel_info.mat')
    model = {key: value for key, value in _load_mat(path, ('tri', 'point_buf', 'keypoints')).items() if key[0] != '_'}
    triangles = _indices(path, 'tri', model, (-1, 3), count)
    _indices(path, 'point_buf', model, (count, 8), len(triangles) + 1)
    _indices(path, 'keypoints', model, (68,), count)
    for name, source, key, stop in (('gan_mask.mat', 'idx', 'gan_mask', count), ('gan_tl.mat', 'f', 'gan_tl', None)):
        path = os.path.join(folder, name)
        raw = _load_mat(path, (source,))
        _indices(path, source, raw, (-1,) if stop else (-1, 3), stop or model['gan_mask'].size)
        model[key] = raw[source]
    return model
