"""Face renderer against the recorded numbers of the released system."""

import numpy as np
import pytest

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from renderer import factors, implementations
from renderer.face_model import load_face_model_file
from renderer.face_renderer import FaceRenderer
from tests.common import assert_close, data, recording


@pytest.fixture(scope='module')
def recorded():
    return dict(np.load(recording('face', 'render_io.npz')))


class Built:
    """One graph for every resolution and batch."""

    def __init__(self, impl):
        self.renderer = FaceRenderer(load_face_model_file(data('face', 'face_model.mat')), impl=impl)
        device = tf.no_op().device
        with tf.Graph().as_default() as graph, tf.device(device):
            self.coeff = tf.placeholder(tf.float32, [None, 257])
            self.after = tf.placeholder(tf.float32, [None, 257])
            self.resolution = tf.placeholder(tf.int32, [])
            self.weight = tf.placeholder(tf.float32, [None, None, None, 3])
            self.render = self.renderer.render(self.coeff, self.resolution)
            self.loss = tf.reduce_sum(self.render.image * self.weight)
            self.gradient = tf.gradients(self.loss, self.coeff)[0]
            self.flow = self.renderer.flow(self.coeff, self.after, self.resolution)
            self.session = tfutil.create_session(threads=2, graph=graph)

    def __call__(self, fetch, coeff, resolution, **feed):
        values = {getattr(self, name): value for name, value in feed.items()}
        values.update({self.coeff: coeff, self.resolution: resolution})
        return self.session.run(fetch, values)


@pytest.fixture(scope='module')
def built():
    return Built('cpp')


def check_picture(image, mask, expected, expected_mask, most_flips):
    """Pixels of different mask few; all others near; the mean near; a slim recording holds NaN for other pixels."""
    assert np.isfinite(image).all()
    assert image.shape == expected.shape and mask.shape == expected_mask.shape
    assert set(np.unique(mask)) <= {0.0, 1.0}
    difference = np.abs(image - expected)
    flips = ((np.nan_to_num(difference) > 0.02).any(axis=-1) | (mask != expected_mask)[..., 0]).sum(axis=(1, 2))
    assert (flips <= most_flips).all(), flips
    assert np.nanmean(difference) <= 2e-3


@pytest.mark.parametrize('resolution', [8, 16, 32, 64, 128, 256])
def test_recorded(built, recorded, resolution):
    image, mask, landmarks = built(built.render, recorded['coeff'], resolution)
    most_flips = 4 if resolution == 256 else 2
    check_picture(image, mask, recorded[f'img_{resolution}'], recorded[f'mask_{resolution}'], most_flips)
    assert_close(landmarks, recorded['landmark_p'], atol=2e-4)
    assert image.min() >= 0 and image.max() <= 255


def test_recorded_harsh_light(built, recorded):
    image, mask, _ = built(built.render, recorded['coeff_b'], 64)
    check_picture(image, mask, recorded['img_b_64'], recorded['mask_b_64'], 2)


@pytest.mark.parametrize('name', ['', '_b'])
def test_recorded_gradients(built, recorded, name):
    coeff, weight = recorded['coeff' + name], recorded[f'grad64{name}_weight']
    loss, gradient = built([built.loss, built.gradient], coeff, 64, weight=weight)
    image = recorded[f'img{name}_64']
    assert abs(loss - recorded[f'grad64{name}_loss']) <= 1e-5 * np.abs(image * weight).sum()
    expected = recorded[f'grad64{name}_coeff']
    assert (np.abs(gradient - expected).max(axis=1) <= 1e-3 * np.abs(expected).max(axis=1)).all()


def test_recorded_flow(built, recorded):
    before, after = recorded['flow_coeff'][:1], recorded['flow_coeff'][1:]
    flow, mask = built(built.flow, before, 256, after=after)
    edges = (mask != recorded['flow_mask'])[..., 0]
    assert edges.sum() <= 4
    assert np.isfinite(flow).all()
    wrong = (np.nan_to_num(np.abs(flow - recorded['flow_img'][..., :2])) > 1e-3).any(axis=-1)
    assert (wrong & ~edges).sum() <= 4
    _, face_masks, _ = built(built.render, recorded['flow_coeff'], 256)
    assert (face_masks != recorded['flow_face_masks']).sum() <= 8
    still, _ = built(built.flow, before, 64, after=before)
    assert np.abs(still).max() == 0


def test_attributes_are_drawn_where_the_face_is(built, recorded):
    renderer = built.renderer
    with built.session.graph.as_default():
        ones = tf.ones([2, len(renderer.model.region), 1])
        fetch = renderer.render_attributes(tf.constant(recorded['coeff'][:, :254]), ones, 32)
    image, mask = built.session.run(fetch)
    assert_close(image, mask, atol=1e-5)
    assert 0.2 < mask.mean() < 0.9


def test_landmarks_lie_on_the_picture(built, recorded):
    """y of landmarks goes up, rows go down: landmark 30 (nose tip) moved by an attribute picture of its own."""
    renderer = built.renderer
    nose = int(np.nonzero(renderer.model.region == renderer.model.landmarks[30])[0][0])
    near = np.linalg.norm(renderer.model.mean_shape[renderer.model.region] -
                          renderer.model.mean_shape[renderer.model.landmarks[30]], axis=1) < 0.06
    assert near[nose]
    coeff = recorded['coeff'] * np.float32(0)
    coeff[:, factors.ANGLES] = [[0.2, 0.3, 0.1], [-0.2, 0.1, -0.1]]
    with built.session.graph.as_default():
        spot = tf.constant(np.tile(near.astype(np.float32)[None, :, None], [2, 1, 1]))
        coeff = tf.constant(coeff)
        fetch = [renderer.render_attributes(coeff, spot, 256)[0], renderer.landmarks_256(coeff)]
    image, landmarks = built.session.run(fetch)
    for picture, (x, y) in zip(image[..., 0], landmarks[:, 30]):
        rows, columns = np.nonzero(picture > 0.5)
        assert abs(columns.mean() + 0.5 - x) < 4 and abs(256 - (rows.mean() + 0.5) - y) < 4


def test_reference_implementation_agrees(built, recorded):
    reference = Built('ref')
    a = built(built.render, recorded['coeff'][:1], 16)
    b = reference(reference.render, recorded['coeff'][:1], 16)
    check_picture(b.image, b.mask, a.image, a.mask, 0)


def test_on_a_gpu_only_drawing_stays_on_the_host(built, recorded):
    """By the graph; its numbers, computed on the CPU, are those of our own ops."""
    with tf.device('/device:GPU:0'):
        tower = Built(None)
    operations = tower.session.graph.get_operations()
    assert {op.type for op in operations if 'GPU' not in op.device} <= {'RasterizeTriangles', 'RasterizeTrianglesGrad'}
    types = {op.type for op in operations}
    assert 'RasterizeTrianglesGrad' in types
    assert not types & {'FaceLinear', 'FaceShade', 'ProjectVertices', 'InterpolateAttributes'}
    weight = recorded['grad64_weight']
    for run in (tower, built):
        run.found = run([run.render.image, run.gradient], recorded['coeff'], 64, weight=weight)
    for ours, expected in zip(tower.found, built.found):
        assert_close(ours, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('device, gpus, expected', [
    ('/device:GPU:1', [], 'ref'), ('/cpu:0', ['/device:GPU:0'], 'cpp'), (None, ['/device:GPU:0'], 'ref'),
    (None, [], 'cpp'), ('/job:worker/task:1', [], 'cpp')])
def test_implementation_follows_the_device(monkeypatch, device, gpus, expected):
    monkeypatch.setattr(implementations, 'gpu_names', lambda: gpus)
    with tf.Graph().as_default(), tf.device(device):
        assert implementations.implementation() == expected
        assert implementations.implementation('cpp') == 'cpp'


@pytest.mark.parametrize('scale', [1e2, 1e5, 1e12])
def test_wild_coefficients_draw_finite_pictures(built, scale):
    coeff = (np.random.RandomState(0).standard_normal([2, 257]) * scale).astype(np.float32)
    image, mask, _ = built(built.render, coeff, 16)
    assert np.isfinite(image).all() and np.isfinite(mask).all()


def test_face_behind_the_camera_is_not_drawn_and_far_faces_are_empty(built):
    coeff = np.zeros([2, 257], np.float32)
    coeff[0, 256], coeff[1, 256] = 25.0, -60.0
    image, mask, _ = built(built.render, coeff, 32)
    assert mask.sum() == 0 and np.abs(image).sum() == 0
