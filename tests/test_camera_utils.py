"""Camera matrices against numbers recorded from tf_mesh_renderer, forward and gradient."""

import numpy as np
import pytest

from dnnlib.tflib.compat import tf
from renderer import camera_utils
from tests.common import assert_close, data

RECORDED = np.load(data('face', 'camera_io.npz'))
CASES = {   # function: its inputs, and the recorded gradients of sum(output * weight)
    'euler_matrices': {'angles': 'grad_euler_angles'},
    'look_at': {'eye': 'grad_look_at_eye', 'center': 'grad_look_at_center', 'world_up': 'grad_look_at_world_up'},
    'perspective': {'aspect_ratio': None, 'fov_y': 'grad_perspective_fov_y', 'near_clip': 'grad_perspective_near',
                    'far_clip': 'grad_perspective_far'},
}


@pytest.mark.parametrize('name', sorted(CASES))
def test_matrices_and_gradients_match_recorded(tf_session, name):
    inputs = {key: tf.constant(RECORDED[key]) for key in CASES[name]}
    matrices = getattr(camera_utils, name)(**inputs)
    assert matrices.shape.as_list() == [5, 4, 4]
    wanted = {key: grad for key, grad in CASES[name].items() if grad}
    gradients = tf.gradients(tf.reduce_sum(matrices * RECORDED[f'weight_{name}']), [inputs[key] for key in wanted])
    matrices, gradients = tf_session.run([matrices, gradients])
    assert_close(matrices, RECORDED[name], atol=3e-6)
    for value, key in zip(gradients, wanted.values()):
        assert_close(value, RECORDED[key], atol=1e-5 * np.abs(RECORDED[key]).max())


def test_transform_homogeneous_matches_recorded(tf_session):
    out = camera_utils.transform_homogeneous(RECORDED['matrices'], RECORDED['vertices'])
    assert_close(tf_session.run(out), RECORDED['transform_homogeneous'], atol=3e-6)


@pytest.mark.parametrize('matrices, vertices, text', [
    ([5, 3, 4], [5, 7, 3], r'matrices must have shape \[batch, 4, 4\], got \(5, 3, 4\)'),
    ([5, 4, 4], [7, 3], r'vertices must have shape \[batch, vertices, 3\], got \(7, 3\)'),
])
def test_wrong_shapes(tf_session, matrices, vertices, text):
    with pytest.raises(ValueError, match=text):
        camera_utils.transform_homogeneous(tf.zeros(matrices), tf.zeros(vertices))


@pytest.mark.parametrize('center, up, text', [
    ([0.0, 0.0, 10.0], [0.0, 1.0, 0.0], 'eye and center'),
    ([0.0, 0.0, 0.0], [0.0, 0.0, 2.0], 'world_up'),
])
def test_camera_without_direction_is_an_error(tf_session, center, up, text):
    matrix = camera_utils.look_at([[0.0, 0.0, 10.0]], [center], [up])
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        tf_session.run(matrix)


def test_look_at_puts_the_center_on_the_line_of_sight(tf_session):
    matrix = tf_session.run(camera_utils.look_at([[1.0, 2.0, 3.0]], [[4.0, -2.0, 1.0]], [[0.0, 1.0, 0.0]]))[0]
    x, y, z, w = matrix @ [4.0, -2.0, 1.0, 1.0]
    assert_close(np.array([x, y, z, w]), np.array([0.0, 0.0, -np.sqrt(29.0), 1.0]), atol=1e-5)
    assert_close(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_perspective_maps_near_and_far_to_the_ends_of_depth(tf_session):
    matrix = tf_session.run(camera_utils.perspective(2.0, [90.0], [0.5], [20.0]))[0]
    for depth, expected in ((0.5, -1.0), (20.0, 1.0)):
        x, y, z, w = matrix @ [2.0 * depth, depth, -depth, 1.0]     # the upper right corner of the picture
        assert_close(np.array([x, y, z]) / w, np.array([1.0, 1.0, expected]), atol=1e-5)
