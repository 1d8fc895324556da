"""Makes the slim recordings of tests/data from the whole ones: `python -m tests.slim_recordings`.

Nothing is rounded; run again, it writes the same bytes. What is kept: tests/data/README.md.
"""

import io
import lzma
import os
import shutil
import sys
import tempfile
import zipfile

import numpy as np
import scipy.io

from tests import recorded_networks
from tests.common import DATA, SHARED

PACKED = ('face/face_model.mat', 'generator/networks.pkl', 'generator/extra_r128/networks.pkl')
FILTERS = [{'id': lzma.FILTER_LZMA2, 'preset': 6, 'lc': 2, 'lp': 2, 'pb': 2}]       # for numbers of four bytes
LEFT_OUT = {    # arrays that no test reads, and pictures that recorded_networks draws
    'generator/io.npz': ['images'], 'generator/extra_r128/io.npz': ['images'],
    'face/render_io.npz': ['raster64_ndc', 'raster64_bary', 'raster64_ids', 'raster64_z', 'face_shape_t',
                           'flow_shape1', 'flow_shape2', 'flow_pos1_2d', 'flow_pos2_2d', 'flow_pos_diff'],
    'face/losses_io.npz': ['warp_shape1', 'warp_shape2'],
}
THIN = {        # outputs and gradients of which a part is kept: {array: how many numbers of it}
    'face/camera_io.npz': {},
    'face/decoder_io.npz': dict.fromkeys(['face_shape', 'face_norm', 'norm_r', 'face_texture', 'face_shape_t',
                                          'face_color'], 3000),
    'face/render_io.npz': {'img_128': 8000, 'img_256': 16000, 'flow_img': 8000},
    'face/raster_io.npz': {},
    'face/losses_io.npz': dict.fromkeys(['id_net_input_fake', 'id_net_input_render', 'warp_fake_1to2',
                                         'warp_grad_fake1', 'warp_grad_fake2'], 4000),
    'generator/io.npz': dict(dict.fromkeys(['Gs_synthesis', 'Gs_synthesis_rand', 'G_full', 'Gs_full', 'G_full_fused',
                                            'r1_grad'], 4000), G_lods=8000),
    'generator/extra_r128/io.npz': dict(dict.fromkeys(['Gs_synthesis_rand', 'G_full', 'r1_grad'], 4000), G_lods=8000),
    'generator/truncate_io.npz': {'images_float': 4000},
    'generator/grads_io.npz': 128,                  # of every array
    'generator/extra_r128/grads_io.npz': 128,
}


# ---- what is kept of an array

def _stride(size, count):
    """The smallest prime that keeps at most `count` of `size` numbers and divides no axis: it meets every channel."""
    stride = max(2, -(-size // count))
    while size % stride == 0 or any(stride % k == 0 for k in range(2, int(stride ** 0.5) + 1)):
        stride += 1
    return stride


def thin(x, count):
    """x with NaN everywhere but in about `count` numbers, spread evenly, the largest among them."""
    if x.size <= count:
        return x
    kept = np.full(x.size, np.nan, x.dtype)
    where = np.append(np.arange(0, x.size, _stride(x.size, count)), np.abs(x).argmax())
    kept[where] = x.reshape(-1)[where]
    return kept.reshape(x.shape)


def corners(x, axes, first, last, fill):
    """x with `fill` everywhere but in its four corners, `first` and `last` wide on both axes."""
    kept = np.full_like(x, fill)
    for rows in (slice(0, first), slice(x.shape[axes[0]] - last, None)):
        for columns in (slice(0, first), slice(x.shape[axes[1]] - last, None)):
            where = [slice(None)] * x.ndim
            where[axes[0]], where[axes[1]] = rows, columns
            kept[tuple(where)] = x[tuple(where)]
    return kept


def _where_drawn(arrays, weight, drawn):
    """Put 0 into a weight where nothing is drawn: neither picture nor gradient depends on it there."""
    arrays[weight] = np.where(drawn, arrays[weight], np.float32(0))


def _slim_renders(arrays):
    for name in ('', '_b'):
        _where_drawn(arrays, f'grad64{name}_weight', arrays[f'mask{name}_64'] > 0)


def _slim_scenes(arrays):
    for key in [key for key in arrays if key.endswith('/barycentric')]:
        scene = key.rpartition('/')[0]
        drawn = ~(arrays[key] == 0).all(axis=-1, keepdims=True)
        _where_drawn(arrays, f'{scene}/df_dbarycentric', drawn)
    _where_drawn(arrays, 'rasterize/grad_weight', arrays['rasterize/alphas'] > 0)
    for scene in ('mesh/' + str(name) for name in arrays['mesh_scene_names']):
        _where_drawn(arrays, f'{scene}/grad_weight', arrays[f'{scene}/render'][..., 3:] > 0)
        arrays[f'{scene}/tone_mapped_0p7'] = thin(arrays[f'{scene}/tone_mapped_0p7'], 1000)


def _slim_losses(arrays):
    # 256 pixels become 224: these numbers of the output depend on the corners of the input that are kept.
    arrays['rec_fake'] = corners(arrays['rec_fake'], (2, 3), 32, 32, 0)
    arrays['rec_net_input'] = corners(arrays['rec_net_input'], (1, 2), 27, 28, np.nan)
    arrays['gc_seg'][..., [0, 1, 3, 4]] = 0         # hair is channel 2


SPECIAL = {'face/render_io.npz': _slim_renders, 'face/raster_io.npz': _slim_scenes, 'face/losses_io.npz': _slim_losses}


def slim(name, arrays):
    """The slim form {key: array} of recording `name`, whose whole arrays are given."""
    kept = {key: value.copy() for key, value in arrays.items() if key not in LEFT_OUT.get(name, ())}
    SPECIAL.get(name, lambda arrays: None)(kept)
    counts = THIN[name] if isinstance(THIN[name], dict) else dict.fromkeys(kept, THIN[name])
    for key, count in counts.items():
        kept[key] = thin(kept[key], count)
    return kept


# ---- files

def write_npz(path, arrays):
    """An .npz packed by LZMA, which np.load reads, without dates."""
    with zipfile.ZipFile(path, 'w') as archive:
        for key, value in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, value, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(key + '.npy'), content.getvalue(), zipfile.ZIP_LZMA)


def _pack(source, name, folder):
    """Write `name` as .xz: a face model without the packing of its own, snapshots without their random weights."""
    path = shutil.copy(os.path.join(source, name), folder)
    os.chmod(path, 0o644)
    if name.endswith('.mat'):
        mat = scipy.io.loadmat(path)
        scipy.io.savemat(path, {key: value for key, value in mat.items() if key[0] != '_'})
        with open(path, 'r+b') as file:
            file.write(mat['__header__'])               # ours has the date of today
    else:
        recorded_networks.store_deviations(path)
    with open(path, 'rb') as file, lzma.open(os.path.join(DATA, name + '.xz'), 'wb', filters=FILTERS) as packed:
        shutil.copyfileobj(file, packed)


def main(source):
    """Write every slim recording from the folder of the whole ones."""
    with tempfile.TemporaryDirectory() as folder:
        for name in PACKED:
            _pack(source, name, folder)
    for name in THIN:
        with np.load(os.path.join(source, name)) as file:
            write_npz(os.path.join(DATA, name), slim(name, dict(file)))


if __name__ == '__main__':
    main(*sys.argv[1:] or [os.path.join(SHARED, 'oracle')])
