"""preprocess.alignment: the recorded alignment to the last bit, Pillow's filter on regions, and its guards."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dnnlib.util import UserError
from preprocess import alignment, landmarks, picture_files
from renderer import face_model
from tests.common import assert_close, shared

TEMPLATE = np.array([[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0.0, -0.05, 0.55], [-0.25, -0.38, 0.22],
                     [0.25, -0.38, 0.22]])


def face_points(centre, eyes):
    """Landmarks of a frontal face at `centre`, eyes `eyes` pixels apart, y down."""
    return np.asarray(centre, float) + TEMPLATE[:, :2] * [1, -1] * eyes / 0.62


@pytest.fixture(scope='module')
def recorded():
    return np.load(shared('oracle', 'perception', 'preprocess', 'preprocess.npz'))


def _picture(*parts):
    return np.asarray(Image.open(shared('oracle', 'perception', 'preprocess', *parts)))


def test_template_is_the_recorded_one(recorded):
    points = face_model.load_landmarks_3d(shared('data', 'bfm_index', 'similarity_Lm3D_all.mat'))
    assert np.array_equal(landmarks.five_points(points), recorded['lm3D'])


@pytest.mark.parametrize('k', range(8))
def test_recorded_photos(recorded, k):
    name = str(recorded['names'][k])
    stem = os.path.splitext(name)[0]
    photo = picture_files.read_rgb(shared('data', 'photos', name))
    size = photo.shape[1::-1]
    points = landmarks.read(shared('data', 'photos', stem + '.txt'), size)
    assert np.array_equal(points, recorded['lm5'][k])
    placement = alignment.fit(points, recorded['lm3D'], size)
    assert_close(placement.scale, recorded['s_scaled'][k], rtol=1e-9)
    assert_close(placement.origin, recorded['POS_t'][k, :, 0], rtol=1e-9)
    assert placement.resized == tuple(recorded['resize_wh'][k])
    assert placement.box == tuple(recorded['crop_box'][k])
    w0, h0, enlargement, t0, t1 = recorded['trans_params'][k]
    assert_close([placement.photo_size[0], placement.photo_size[1], alignment.TARGET_SCALE / placement.scale,
                  *placement.origin], [w0, h0, enlargement, t0, t1], rtol=1e-9)
    assert_close(_aligned(points, placement), recorded['lm_new'][k],
                 atol=1 + placement.resized[1] / size[1])      # a pixel of each: the formula's y starts at h0 - 1
    aligned = alignment.align(photo, placement)
    assert np.array_equal(aligned, _picture('aligned512', stem + '.png'))
    assert int(alignment.recon_input(aligned).sum()) == recorded['rnet_in_sum'][k]
    crop = alignment.crop_face(aligned, recorded['coeff'][k, 0, 254:257])
    assert np.array_equal(crop, _picture('crop256', stem + '.png'))


def test_recorded_large_translations(recorded):
    aligned = _picture('aligned512', str(recorded['edge_photo'])[:-4] + '.png')
    for k, translation in enumerate(recorded['edge_t']):
        assert np.array_equal(alignment.crop_face(aligned, translation), _picture('crop256_edge', f'{k:02d}.png'))


def _aligned(points, placement):
    """Where points [5, 2] of the photo are in the aligned picture: resized, then cut out."""
    return points * np.divide(placement.resized, placement.photo_size) - placement.box[:2]


def _resize_by_pillow(picture, size, box):
    """Rows first, then columns, the whole picture, then the region: what `resize_region` must equal."""
    image = Image.fromarray(picture)
    image = image.resize((size[0], picture.shape[0]), Image.BICUBIC).resize(size, Image.BICUBIC)
    return np.asarray(image.crop(box))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 90), st.integers(2, 90), st.floats(0.15, 6), st.integers(-40, 300), st.integers(-40, 300),
       st.integers(0, 10 ** 6))
def test_region_equals_pillow(w0, h0, zoom, left, top, seed):
    size = max(int(w0 * zoom), 1), max(int(h0 * zoom), 1)
    left, top = min(left, size[0] - 1), min(top, size[1] - 1)
    box = left, top, max(left, 0) + 70, max(top, 0) + 50
    picture = np.random.RandomState(seed).randint(0, 256, [h0, w0, 3]).astype(np.uint8)
    assert np.array_equal(alignment.resize_region(picture, size, box), _resize_by_pillow(picture, size, box))


def test_alignment_finds_the_face():
    """A frontal face of any size and place comes out with its eyes level, 0.62 units apart, in the same place."""
    for centre, eyes in (((200, 150), 60), ((90, 320), 25), ((300, 250), 200)):
        points = face_points(centre, eyes)
        placement = alignment.fit(points, TEMPLATE, (640, 480))
        moved = _aligned(points, placement)
        assert_close(moved[1, 0] - moved[0, 0], 0.62 * alignment.TARGET_SCALE * 512 / 224, rtol=0.02)
        assert_close(moved.mean(axis=0), [256, 267], atol=3 + placement.resized[1] / 480)


def test_absurd_landmarks_are_refused():
    for eyes in (0.5, 2.0):
        with pytest.raises(UserError, match='too close'):
            alignment.fit(face_points((50, 50), eyes), TEMPLATE, (100, 100))
    with pytest.raises(UserError, match='too close'):
        alignment.fit(np.full([5, 2], np.nan), TEMPLATE, (100, 100))
    with pytest.raises(UserError, match='not those of a face'):
        alignment.fit(face_points((5000, 5000), 50), TEMPLATE, (100, 100))


def test_a_tiny_face_in_a_large_photo_costs_no_memory():
    """Eyes 4 pixels apart would mean a photo of 100 megapixels after resizing: only the region is made."""
    photo = np.random.RandomState(0).randint(0, 256, [300, 300, 3]).astype(np.uint8)
    placement = alignment.fit(face_points((150, 150), 4), TEMPLATE, (300, 300))
    assert min(placement.resized) > 8000
    assert alignment.align(photo, placement).shape == (512, 512, 3)


@pytest.mark.parametrize('translation', [(0, 0, 10), (0, 0, 11), (0, 0, -1e6), (np.nan, 0, 0), (0, np.inf, 0),
                                         (1e5, 0, 0)])
def test_absurd_translations_are_refused(translation):
    with pytest.raises(UserError, match='translation'):
        alignment.crop_face(np.zeros([512, 512, 3], np.uint8), translation)


def test_crop_is_centred_and_black_outside():
    aligned = np.full([512, 512, 3], 200, np.uint8)
    assert (alignment.crop_face(aligned, (0, 0, 0)) == 200).all()
    shifted = alignment.crop_face(aligned, (0.5, 0, 0))        # a face right of the centre: the picture moves left
    assert (shifted[:, -20:] == 0).all() and (shifted[:, :20] == 200).all()
    far = alignment.crop_face(aligned, (0, 0, 5.0))            # half the distance: half the size
    assert (far[:20] == 0).all() and (far[128, 128] == 200).all()
