"""Image utilities against recorded numbers of the release and against plain NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib import images, tfutil
from dnnlib.tflib.compat import tf
from tests.common import assert_close, kept, recording


@pytest.fixture(scope='module')
def recorded():
    return np.load(recording('face', 'losses_io.npz'))


def _evaluate(build, *arrays):
    """Run `build(tensors...)` on arrays in a graph of its own."""
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        return session.run(build(*[tf.constant(array) for array in arrays]))


def test_ranges_and_orders_go_there_and_back(tf_session):
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2)
    assert_close(tf_session.run(images.from_255(images.to_255(tf.constant(x)))), x, atol=1e-6)
    assert_close(tf_session.run(images.to_255(tf.constant(x))), (x + 1) * 127.5, atol=1e-4)
    nhwc = images.nchw_to_nhwc(tf.constant(x))
    assert_close(tf_session.run(nhwc), x.transpose(0, 2, 3, 1))
    assert_close(tf_session.run(images.nhwc_to_nchw(nhwc)), x)
    assert_close(tf_session.run(images.swap_rgb_bgr(nhwc)), x.transpose(0, 2, 3, 1)[..., ::-1])


def test_clip_passes_the_gradient_at_the_bounds(tf_session):
    x = tf.constant([-1.0, 0.0, 3.0, 255.0, 256.0])
    assert_close(tf_session.run(tf.gradients(images.clip_255(x), x)[0]), [0, 1, 1, 1, 0])


def test_resize_is_tensorflow_1s(tf_session):
    ramp = tf.reshape(tf.range(16, dtype=tf.float32), [1, 4, 4, 1])
    assert_close(tf_session.run(images.resize(ramp, 2, 2))[0, ..., 0], [[0, 2], [8, 10]])
    assert_close(tf_session.run(images.resize(ramp, 2, 2, align_corners=True))[0, ..., 0], [[0, 3], [12, 15]])
    assert images.resize(ramp, 4, 4) is ramp


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_resize_equals_its_formula(height, width, out_height, out_width, corners):
    x = np.random.RandomState(height * 10 + width).randn(1, height, width, 2).astype(np.float32)
    actual = _evaluate(lambda t: images.resize(t, out_height, out_width, align_corners=corners), x)

    def axis(size, out):
        step = (size - 1) / (out - 1) if corners and out > 1 else size / out
        matrix = np.zeros([out, size])
        for i, at in enumerate(np.arange(out) * step):
            low = min(int(at + 1e-9), size - 1)
            matrix[i, low] += 1 - (at - low)
            matrix[i, min(low + 1, size - 1)] += at - low
        return matrix

    assert_close(actual, np.einsum('ab,nbcd,ec->naed', axis(height, out_height), x, axis(width, out_width)), atol=1e-4)


@pytest.mark.parametrize('lod', [0.0, 0.5, 1.0, 1.7, 2.3])
@pytest.mark.parametrize('as_tensor', [False, True])
def test_fade_and_upscale_as_recorded(tf_session, recorded, lod, as_tensor):
    level = tf.placeholder(tf.float32, []) if as_tensor else lod
    feed = {level: lod} if as_tensor else {}
    name = 'lod' + str(lod).replace('.', 'p')
    x = images.from_255(tf.cast(tf.constant(recorded['pr_in']), tf.float32))
    y = images.fade_and_upscale(x, level)
    assert_close(tf_session.run(y, feed), recorded['pr_out_' + name], atol=1e-6)
    assert y.shape.as_list() == ([2, 3, None, None] if as_tensor else list(recorded['pr_out_' + name].shape))
    mask = images.fade_and_upscale(tf.constant(recorded['pr_mask_in']), level)
    assert_close(tf_session.run(mask, feed), recorded['pr_mask_out_' + name], atol=1e-6)


def test_warp_by_flow_as_recorded(tf_session, recorded):
    x, flow = tf.constant(recorded['diw_image']), tf.constant(recorded['diw_flow'])
    y = images.warp_by_flow(x, -flow)
    loss = tf.reduce_sum(y * recorded['diw_grad_weight'])
    value, grad_x, grad_flow = tf_session.run([y] + tf.gradients(loss, [x, flow]))
    assert_close(value, recorded['diw_out'], atol=1e-5)
    assert_close(grad_x, recorded['diw_grad_image'], atol=1e-5)
    assert_close(grad_flow, recorded['diw_grad_flow'], atol=1e-5)


def test_warp_by_flow_of_the_rendered_face(tf_session, recorded):
    fake = tf.placeholder(tf.float32, [None, 256, 256, 3])
    y = images.warp_by_flow(fake, tf.constant(recorded['warp_flow']))
    assert_close(*kept(tf_session.run(y, {fake: recorded['warp_fake1']}), recorded['warp_fake_1to2']), atol=1e-5)


def _sample_numpy(x, columns, rows):
    out = np.zeros(columns.shape + (x.shape[3],))
    for n in range(len(x)):
        for i, (c, r) in enumerate(zip(columns[n], rows[n])):
            for y in (int(np.floor(r)), int(np.floor(r)) + 1):
                for k in (int(np.floor(c)), int(np.floor(c)) + 1):
                    if 0 <= y < x.shape[1] and 0 <= k < x.shape[2]:
                        out[n, i] += x[n, y, k] * (1 - abs(r - y)) * (1 - abs(c - k))
    return out


def test_sample_counts_nothing_outside(tf_session):
    rnd = np.random.RandomState(0)
    x = rnd.randn(2, 5, 7, 3).astype(np.float32)
    columns, rows = rnd.uniform(-3, 10, [2, 200]).astype(np.float32), rnd.uniform(-3, 8, [2, 200]).astype(np.float32)
    columns[:, :8], rows[:, :8] = [0, 6, -1, 7, 6.5, -0.5, 3, 1e9], [0, 4, 2, 2, 4.5, -0.5, 2, 2]
    image, c, r = tf.constant(x), tf.constant(columns), tf.constant(rows)
    y = images.sample(image, c, r)
    weight = rnd.randn(2, 200, 3).astype(np.float32)
    value, grads = tf_session.run([y, tf.gradients(tf.reduce_sum(y * weight), [image, c, r])])
    assert_close(value, _sample_numpy(x, columns, rows), atol=1e-5)
    assert_close(np.sum(grads[0] * x), np.sum(value * weight), rtol=1e-4)      # the map is linear in the image
    inside = 20 + np.flatnonzero(np.abs(columns[0, 20:] % 1 - 0.5) < 0.4)
    step = 1e-3
    numeric = (_sample_numpy(x, columns + step, rows) - _sample_numpy(x, columns - step, rows)) / (2 * step)
    assert_close(grads[1][0, inside], (numeric * weight).sum(-1)[0, inside], atol=2e-3)


@pytest.mark.parametrize('size, sigma', [(5, 2.0), (7, 1.5), (3, 0.8), (4, 1.0)])
def test_a_dot_is_blurred_to_the_recorded_kernel(recorded, size, sigma):
    name = f'gauss_kernel_size{size}_sigma' + (str(sigma).replace('.', 'p') if size != 5 else '2')
    dot = np.zeros([1, 9, 9, 1], np.float32)
    dot[0, 4, 4] = 1
    blurred = _evaluate(lambda x: images.gaussian_blur(x, size, sigma), dot)[0, ..., 0]
    first = 4 - size // 2               # a lone pixel spreads into the mirrored kernel
    assert_close(blurred[first:first + size, first:first + size], recorded[name][::-1, ::-1], atol=1e-7)


def test_gaussian_blur_as_recorded(tf_session, recorded):
    x = tf.constant(recorded['blur_in'])
    assert_close(tf_session.run(images.gaussian_blur(x)), recorded['blur_out_size5_sigma2'], atol=1e-6)
    y = images.gaussian_blur(x, 7, 1.5)
    value, grad = tf_session.run([y, tf.gradients(tf.reduce_sum(y * y), x)[0]])
    assert_close(value, recorded['blur_out_size7_sigma1p5'], atol=1e-6)
    symmetric = tf_session.run(images.gaussian_blur(tf.constant(2 * value), 7, 1.5))    # the blur is its own adjoint
    assert_close(grad, symmetric, atol=1e-5)
