"""The mesh renderer against pictures and gradients recorded from tf_mesh_renderer, and its argument checks."""

import numpy as np
import pytest

from dnnlib.tflib.compat import tf
from renderer import mesh_renderer
from tests.common import assert_close, kept, recording

RECORDED = np.load(recording('face', 'raster_io.npz'))
SCENES = [str(name) for name in RECORDED['mesh_scene_names']]
RESULTS = ('render', 'tone_mapped_0p7', 'size_wh')


def _scene(name):
    """Recorded arrays of a scene: (inputs, everything)."""
    prefix = f'mesh/{name}/'
    arrays = {key[len(prefix):]: RECORDED[key] for key in RECORDED.files if key.startswith(prefix)}
    return {k: v for k, v in arrays.items() if k not in RESULTS and not k.startswith('grad_')}, arrays


@pytest.mark.parametrize('name, impl', [(name, 'cpp') for name in SCENES] + [('ambient_two_lights', 'ref')])
def test_renders_and_gradients_match_recorded(tf_session, name, impl):
    inputs, arrays = _scene(name)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    width, height = map(int, arrays['size_wh'])
    render = mesh_renderer.mesh_renderer(image_width=width, image_height=height, impl=impl, **inputs)
    assert render.shape.as_list() == [2, 48, 64, 4]
    wanted = [key for key in inputs if f'grad_{key}' in arrays]
    assert {'vertices', 'normals', 'diffuse_colors', 'camera_position', 'light_positions'} <= set(wanted)
    loss = tf.reduce_sum(render * arrays['grad_weight'])
    gradients = tf.gradients(loss, [inputs[key] for key in wanted])
    toned = mesh_renderer.tone_mapper(render[..., :3], 0.7)
    render, toned, loss, gradients = tf_session.run([render, toned, loss, gradients])

    assert_close(render, arrays['render'], atol=5e-5)
    assert_close(*kept(toned, arrays['tone_mapped_0p7']), atol=5e-5)
    assert_close(loss, arrays['grad_loss'], atol=1e-5 * np.abs(arrays['render'] * arrays['grad_weight']).sum())
    for key, value in zip(wanted, gradients):
        expected = arrays[f'grad_{key}']
        known = np.isfinite(expected)       # the original has NaN for some inputs of per-vertex shininess; we have none
        assert np.isfinite(value).all(), key
        if known.any():
            assert_close(value[known], expected[known], atol=1e-4 * np.abs(expected[known]).max())


def _arguments(**changes):
    inputs, _ = _scene('gray_cube')
    inputs.update(image_width=16, image_height=12)
    inputs.update(changes)
    return inputs


def test_one_graph_draws_every_size_and_cameras_are_shared(tf_session):
    inputs, arrays = _scene('gray_cube')
    width, height = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
    inputs.update(camera_lookat=inputs['camera_lookat'][0], camera_up=inputs['camera_up'][0])
    assert (arrays['camera_lookat'] == arrays['camera_lookat'][0]).all()
    render = mesh_renderer.mesh_renderer(image_width=width, image_height=height, **inputs)
    for size in ((64, 48), (16, 12)):
        picture = tf_session.run(render, {width: size[0], height: size[1]})
        assert picture.shape == (2, size[1], size[0], 4)
        if size == (64, 48):
            assert_close(picture, arrays['render'], atol=5e-5)


@pytest.mark.parametrize('changes, text', [
    ({'vertices': np.zeros([2, 8, 2])}, r'vertices must have shape \[any, any, 3\], got \(2, 8, 2\)'),
    ({'normals': np.zeros([2, 7, 3])}, r'normals must have shape \[2, 8, 3\], got \(2, 7, 3\)'),
    ({'diffuse_colors': np.zeros([8, 3])}, r'diffuse_colors must have shape \[2, 8, 3\]'),
    ({'triangles': np.zeros([12, 4])}, r'triangles must have shape .*got \(12, 4\)'),
    ({'light_positions': np.zeros([2, 3])}, r'light_positions must have shape \[2, any, 3\], got \(2, 3\)'),
    ({'light_intensities': np.zeros([2, 5, 3])}, r'light_intensities must have shape \[2, 1, 3\], got \(2, 5, 3\)'),
    ({'camera_position': np.zeros([4])}, r'camera_position must have shape \[3\] or \[2, 3\], got \(4,\)'),
    ({'camera_up': np.zeros([5, 3])}, r'camera_up must have shape'),
    ({'fov_y': np.ones([3])}, r'fov_y must have shape \[\] or \[2\], got \(3,\)'),
    ({'ambient_color': np.zeros([3])}, r'ambient_color must have shape \[2, 3\], got \(3,\)'),
    ({'specular_colors': np.zeros([2, 8, 3])}, 'give both or neither'),
    ({'shininess_coefficients': 6.0}, 'give both or neither'),
    ({'specular_colors': np.zeros([2, 8, 3]), 'shininess_coefficients': np.zeros([3, 8])},
     r'shininess_coefficients must have shape \[\] or \[2\] or \[2, 8\], got \(3, 8\)'),
    ({'image_width': 0}, 'image_width must be 1 to 16384 pixels, got 0'),
    ({'image_height': -3}, 'image_height must be'),
    ({'impl': 'gpu'}, 'impl must be one of'),
])
def test_wrong_arguments_name_expected_and_received(tf_session, changes, text):
    with pytest.raises(ValueError, match=text):
        mesh_renderer.mesh_renderer(**_arguments(**changes))


def test_phong_shader_wants_what_the_specular_term_needs(tf_session):
    pixels, light = tf.zeros([1, 2, 2, 3]), tf.zeros([1, 1, 3])
    with pytest.raises(ValueError, match='specular_colors and shininess'):
        mesh_renderer.phong_shader(pixels, tf.ones([1, 2, 2]), pixels, light, light, pixels, tf.zeros([1, 3]))


def test_row_0_is_the_top_of_the_picture(tf_session):
    arguments = _arguments(vertices=[[[-0.1, 0.5, 0.0], [0.1, 0.5, 0.0], [0.0, 0.7, 0.0]]],
                           triangles=[[0, 1, 2]], normals=[[[0.0, 0.0, 1.0]] * 3],
                           diffuse_colors=[[[1.0, 0.5, 0.25]] * 3],
                           camera_position=[0.0, 0.0, 2.0], camera_lookat=[0.0] * 3, camera_up=[0.0, 1.0, 0.0],
                           light_positions=np.zeros([1, 0, 3]), light_intensities=np.zeros([1, 0, 3]),
                           ambient_color=[[1.0, 1.0, 1.0]], image_height=32, image_width=32)
    picture = tf_session.run(mesh_renderer.mesh_renderer(**arguments))[0]
    rows, _ = np.nonzero(picture[:, :, 3])
    assert 0 < len(rows) and rows.max() < 10
    shown = picture[picture[:, :, 3] > 0]
    assert_close(shown, np.tile([1.0, 0.5, 0.25, 1.0], [len(shown), 1]), atol=1e-6)


@pytest.mark.parametrize('shininess', [0.0, 0.5, 1.0, 6.0])
def test_gradients_are_finite_at_any_shininess(tf_session, shininess):
    inputs, _ = _scene('specular_per_vertex_shininess')
    inputs['shininess_coefficients'] = np.full([2, 8], shininess, np.float32)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    render = mesh_renderer.mesh_renderer(image_width=20, image_height=16, **inputs)
    sources = [value for key, value in inputs.items() if key != 'triangles']
    gradients = [g for g in tf.gradients(tf.reduce_sum(render), sources) if g is not None]
    assert len(gradients) >= 8
    for value in tf_session.run(gradients):
        assert np.isfinite(value).all()


def test_tone_mapper_keeps_a_black_picture_black(tf_session):
    image = tf.constant(np.stack([np.zeros([2, 2, 3]), np.full([2, 2, 3], 8.0)]), tf.float32)
    mapped = mesh_renderer.tone_mapper(image, 0.5)
    mapped, gradient = tf_session.run([mapped, tf.gradients(mapped, image)[0]])
    assert_close(mapped[0], np.zeros([2, 2, 3]))
    assert_close(mapped[1], np.ones([2, 2, 3]))
    assert np.isfinite(gradient).all()
