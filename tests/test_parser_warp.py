"""The parser's geometry: five points, similarity transform, RoI-tanh grid, there and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from perception import parser_warp
from tests.common import assert_close, shared


def _transform(points):
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        return session.run(parser_warp.similarity_transform(tf.constant(points, tf.float32)))


def test_grid_is_the_released_one():
    row = np.load(shared('oracle', 'perception', 'parsing_grid', 'grid.npz'))['row']
    assert_close(parser_warp.roi_tanh_grid(), row, atol=1e-4)
    assert np.mean(parser_warp.roi_tanh_grid() == row) > 0.9


def test_points_and_transforms_as_recorded(tf_session):
    recorded = np.load(shared('oracle', 'perception', 'networks', 'parser.npz'))
    points = parser_warp.five_points(tf.constant(recorded['lm68']))
    five, (t, tinv) = tf_session.run([points, parser_warp.similarity_transform(points)])
    assert_close(five, recorded['lm5'], atol=1e-4)
    assert_close(t, recorded['t'], atol=5e-3)
    assert_close(tinv, recorded['tinv'], atol=5e-3)
    assert_close(t, recorded['t_float64_reference'], atol=1e-4)
    assert_close(tinv, recorded['tinv_float64_reference'], atol=5e-4)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 2.0), st.floats(-3.1, 3.1), st.floats(-300, 300), st.floats(-300, 300))
def test_an_exact_similarity_is_found(scale, angle, x, y):
    rotation = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    t, tinv = _transform((parser_warp.STANDARD @ rotation + [x, y])[None])
    assert_close(t[0, :2, :2], rotation + 1e-5 * np.eye(2), atol=1e-5)
    assert_close(t[0, 2, :2], [x, y], atol=5e-3)
    assert_close(t[0] @ tinv[0], np.eye(3), atol=2e-3)


@pytest.mark.parametrize('size', [64, 256])
def test_warp_and_back_keeps_the_face(tf_session, size):
    y, x = np.mgrid[:size, :size] * (256 / size)
    picture = np.stack([np.sin(x / 25), np.cos(y / 31), x / 256], axis=-1)[None].astype(np.float32)
    points = (parser_warp.STANDARD * [0.5, 0.45] + [0, 10]) * (size / 256)
    t, tinv = parser_warp.similarity_transform(tf.constant(points[None], tf.float32))
    warped = parser_warp.warp(tf.constant(picture), t)
    back = parser_warp.unwarp(warped, tinv, size, size)
    value, seen = tf_session.run([back, warped])
    assert seen.shape == (1, 512, 512, 3)
    low, high = size // 4, size * 3 // 4
    assert_close(value[:, low:high, low:high], picture[:, low:high, low:high], atol=0.02)
