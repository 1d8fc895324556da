"""Face decoder against the recorded numbers of the released system, and its laws on random input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from renderer import factors
from renderer.face_decoder import FaceDecoder, _library, project_224, project_256, rotation_matrix, row_blocks
from renderer.face_model import load_face_model_file
from renderer.implementations import IMPLEMENTATIONS
from tests.common import assert_close, data, kept, recording


@pytest.fixture(scope='module')
def recorded():
    return dict(np.load(recording('face', 'decoder_io.npz')))


class Built:
    """One graph with the whole face decoded, its landmarks, and gradients of recorded sums."""

    def __init__(self, recorded, impl):
        model = load_face_model_file(data('face', 'face_model.mat'))
        self.model = model
        with tf.Graph().as_default() as graph:
            self.coeff = tf.placeholder(tf.float32, [None, 257])
            face = FaceDecoder(model, np.arange(model.num_vertices), impl).decode(self.coeff)
            points = FaceDecoder(model, model.landmarks, impl).points(self.coeff)
            drawn = FaceDecoder(model, impl=impl).decode(self.coeff)
            self.tensors = dict(face._asdict(), landmark_3d=points, landmark_256=project_256(points),
                                landmark_224=project_224(points), normals_turned=tf.matmul(face.normals, face.rotation),
                                drawn_vertices=drawn.vertices, drawn_colors=drawn.colors, drawn_normals=drawn.normals)
            for name, of, weight in (('lm224', 'landmark_224', 'grad_lm224_weight'),
                                     ('color', 'colors', 'grad_color_weight')):
                total = tf.reduce_sum(self.tensors[of] * recorded[weight])
                self.tensors['grad_' + name] = tf.gradients(total, self.coeff)[0]
            # Waves as weights: every vertex and channel counts, whatever the batch.
            total = tf.add_n([tf.reduce_sum(x * np.sin(np.arange(3 * len(model.region)) + k).reshape(1, -1, 3))
                              for k, x in enumerate(drawn[:5])])
            self.tensors['grad_drawn'] = tf.gradients(total, self.coeff)[0]
            self.session = tfutil.create_session(threads=2, graph=graph)

    def __call__(self, coeff, *names):
        return self.session.run([self.tensors[name] for name in names], {self.coeff: coeff})


@pytest.fixture(scope='module')
def both(recorded):
    return {impl: Built(recorded, impl) for impl in IMPLEMENTATIONS}


@pytest.fixture(scope='module', params=IMPLEMENTATIONS)
def either(both, request):
    return both[request.param]


@pytest.fixture(scope='module')
def built(both):
    return both['cpp']


@pytest.mark.parametrize('name, key, atol', [
    ('shape', 'face_shape', 2e-6), ('texture', 'face_texture', 2e-4), ('normals', 'face_norm', 2e-5),
    ('normals_turned', 'norm_r', 2e-5), ('rotation', 'rotation', 1e-6), ('colors', 'face_color', 3e-3),
    ('vertices', 'face_shape_t', 2e-6), ('landmark_3d', 'landmark_3d', 2e-6), ('landmark_224', 'landmark_224', 2e-4),
    ('landmark_256', 'landmark_256', 2e-4), ('translation', 'translation', 0)])
def test_recorded(either, recorded, name, key, atol):
    assert_close(*kept(either(recorded['coeff'], name)[0], recorded[key]), atol=atol)


@pytest.mark.parametrize('name', ['lm224', 'color'])
def test_recorded_gradients(either, recorded, name):
    expected = recorded[f'grad_{name}_coeff']
    error = np.abs(either(recorded['coeff'], 'grad_' + name)[0] - expected).max(axis=1)
    assert (error <= 1e-4 * np.abs(expected).max(axis=1)).all()


@pytest.mark.parametrize('batch', [1, 3, 8, 9, 17])
def test_implementations_agree(both, batch):
    """Also where groups of four faces are not full."""
    coeff = np.random.RandomState(batch).standard_normal([batch, 257]).astype(np.float32) * np.float32(0.3)
    names = ('shape', 'drawn_vertices', 'drawn_normals', 'drawn_colors', 'texture', 'landmark_3d', 'grad_drawn')
    for a, b in zip(both['cpp'](coeff, *names), both['ref'](coeff, *names)):
        assert_close(a, b, atol=2e-5 * max(np.abs(b).max(), 1))


def test_no_faces_at_all(built):
    vertices, gradient = built(np.zeros([0, 257], np.float32), 'drawn_vertices', 'grad_drawn')
    assert vertices.shape == (0, len(built.model.region), 3) and gradient.shape == (0, 257)


def test_threads_do_not_change_a_bit(both, recorded):
    """Sums have a fixed order."""
    names = ('drawn_colors', 'drawn_normals', 'grad_drawn')
    with tfutil.create_session(threads=1, graph=both['cpp'].session.graph) as alone:
        one = alone.run([both['cpp'].tensors[name] for name in names], {both['cpp'].coeff: recorded['coeff']})
    for a, b in zip(one, both['cpp'](recorded['coeff'], *names)):
        assert np.array_equal(a, b)


def test_region_equals_the_whole_face_there(built, recorded):
    region = built.model.region
    for part, whole, atol in (('vertices', 'vertices', 2e-6), ('colors', 'colors', 1e-3), ('normals', 'normals', 1e-5)):
        a, b = built(recorded['coeff'], 'drawn_' + part, whole)
        assert_close(a, b[:, region], atol=atol)


def test_slices_of_the_vector(recorded):
    for name, part in (('tex_coeff', factors.TEXTURE), ('ex_coeff', factors.EXPRESSION), ('id_coeff', factors.SHAPE),
                       ('angles', factors.ANGLES), ('gamma', factors.LIGHTING), ('translation', factors.TRANSLATION)):
        assert_close(recorded['coeff'][:, part], recorded[name])


def test_lambda_has_no_translation(tf_session, built, recorded):
    decoder = FaceDecoder(built.model, built.model.landmarks)
    points = tf_session.run(decoder.points(tf.constant(recorded['coeff'][:, :254])))
    still = recorded['coeff'].copy()
    still[:, factors.TRANSLATION] = 0
    assert_close(points, built(still, 'landmark_3d')[0], atol=1e-6)
    with pytest.raises(ValueError, match='253 columns'):
        decoder.points(tf.zeros([1, 253]))


def test_constants_are_made_once_and_anywhere(tf_session, built, recorded):
    decoder = FaceDecoder(built.model, built.model.landmarks, 'cpp')
    coeff = tf.constant(recorded['coeff'])
    inside = tf.cond(tf.constant(True), lambda: decoder.points(coeff), lambda: tf.zeros([6, 68, 3]))
    outside = decoder.points(coeff)
    a, b = tf_session.run([inside, outside])
    assert_close(a, b)
    sizes = [op.outputs[0].shape.num_elements() for op in tf.get_default_graph().get_operations() if op.type == 'Const']
    assert sum(size == 13 * 145 * 16 for size in sizes) == 1        # 204 rows in 13 blocks of 16; the mean behind


def finite(limit):
    return st.floats(-limit, limit, width=32, allow_nan=False)


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.float32, (3, 3), elements=finite(8)))
def test_rotations_are_rotations(angles):
    with tf.Graph().as_default(), tfutil.create_session(threads=1) as session:
        r = session.run(rotation_matrix(tf.constant(angles))).astype(np.float64)
    assert_close(r @ r.transpose(0, 2, 1), np.tile(np.eye(3), [3, 1, 1]), atol=2e-6)
    assert_close(np.linalg.det(r), np.ones(3), atol=2e-6)
    pitch, yaw, roll = angles.astype(np.float64).T
    forward = np.stack([np.cos(roll) * np.sin(yaw) * np.cos(pitch) + np.sin(roll) * np.sin(pitch),
                        np.sin(roll) * np.sin(yaw) * np.cos(pitch) - np.cos(roll) * np.sin(pitch),
                        np.cos(yaw) * np.cos(pitch)], axis=1)
    assert_close(r[:, 2], forward, atol=2e-6)       # where the nose (0, 0, 1) points: column z of Rz Ry Rx


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_finite_coefficients_give_finite_faces(built, data):
    scale = data.draw(st.sampled_from([0.0, 1.0, 1e3, 1e6]))
    coeff = data.draw(hnp.arrays(np.float32, (2, 257), elements=finite(1))) * np.float32(scale)
    coeff[:, factors.TRANSLATION] = np.clip(coeff[:, factors.TRANSLATION], -3, 3)
    names = ('drawn_vertices', 'drawn_colors', 'drawn_normals', 'grad_drawn')
    for name, value in zip(names, built(coeff, *names)):
        assert np.isfinite(value).all(), name
    lengths = np.linalg.norm(built(coeff, 'drawn_normals')[0], axis=2)
    assert (lengths < 1 + 1e-5).all()


@settings(max_examples=20, deadline=None)
@given(hnp.arrays(np.float32, (1, 4, 3), elements=finite(2)))
def test_projection(points):
    """A point moved along its own ray to the camera stays where it is; the two cameras differ by zoom and centre."""
    nearer = points.copy()
    nearer[..., :2] *= 0.5
    nearer[..., 2] = 10 - 0.5 * (10 - points[..., 2])
    with tf.Graph().as_default(), tfutil.create_session(threads=1) as session:
        a, b, c = session.run([project_224(tf.constant(points)), project_224(tf.constant(nearer)),
                               project_256(tf.constant(points))])
    assert_close(a, b, atol=1e-2)
    assert_close((a - 112) * 1.22, c - 128, atol=1e-2)
    assert ((a[..., 1] > 112) == (points[..., 1] > 0))[np.abs(points[..., 1]) > 1e-3].all()     # y up


def test_empty_patch_has_no_normals_but_works(tf_session, built):
    """Vertices that no triangle touches: zero normals, only the constant light."""
    import copy
    model = copy.copy(built.model)
    model.vertex_triangles = np.full_like(model.vertex_triangles, len(model.triangles))
    face = FaceDecoder(model, np.array([0, 5])).decode(tf.zeros([1, 254]))
    normals, colors, texture = tf_session.run([face.normals, face.colors, face.texture])
    assert_close(normals, np.zeros([1, 2, 3]))
    assert_close(colors, texture * 0.8 * np.pi / np.sqrt(4 * np.pi), rtol=1e-5)


# ------------------------------------------------------------------------------------------------ the ops themselves

def shade_inputs():
    """Two triangles of a square, two of the vertices lit, two faces of it."""
    random = np.random.RandomState(3)
    pad = 2                                         # the triangle without area
    matrices = random.standard_normal([2, 3, 4, 4]).astype(np.float32)
    return dict(
        shape=random.standard_normal([2, 4, 3]).astype(np.float32),
        texture=random.uniform(1, 2, [2, 2, 3]).astype(np.float32),
        light=0.5 * (matrices + matrices.transpose(0, 1, 3, 2)),
        corners=np.int32([[0, 1, 2], [1, 3, 2], [0, 0, 0]]),
        around=np.int32([[0, pad], [0, 1]]))


def shade_by_hand(shape, texture, light, corners, around):
    """Colours in float64, vertex by vertex."""
    def unit(v):
        return v / np.sqrt(max(v @ v, 1e-12))
    colors = np.zeros(texture.shape)
    for b, v in np.ndindex(*texture.shape[:2]):
        p = shape[b].astype(np.float64)
        normals = [unit(np.cross(p[i] - p[j], p[j] - p[k])) for i, j, k in corners]
        h = np.append(unit(sum(normals[t] for t in around[v])), 1)
        colors[b, v] = texture[b, v] * (h @ light[b] @ h)
    return colors


@pytest.mark.parametrize('flat', [False, True])
def test_shading_by_hand_with_its_gradient(tf_session, flat):
    """`flat`: the first triangle is too small to be stretched to a unit normal; its gradient is finite and right."""
    inputs = shade_inputs()
    if flat:
        inputs['shape'][:, :3] *= np.float32(3e-4)
    colors = _library().face_shade(**{name: tf.constant(value) for name, value in inputs.items()}).colors
    args = [inputs[name] for name in ('shape', 'texture', 'light', 'corners', 'around')]
    assert_close(tf_session.run(colors), shade_by_hand(*args), atol=1e-3 if flat else 2e-5)
    names = ('shape', 'texture', 'light')
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    weight = np.random.RandomState(4).standard_normal(inputs['texture'].shape)
    total = tf.reduce_sum(_library().face_shade(**tensors).colors * weight)
    gradients = tf_session.run(tf.gradients(total, [tensors[name] for name in names]))
    for i, gradient in enumerate(gradients):
        step = 1e-7 if flat and i == 0 else 1e-4
        expected = np.zeros(gradient.shape)
        for place in np.ndindex(*gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [value.astype(np.float64) for value in args[:3]]
                moved[i][place] += sign * step
                values.append((shade_by_hand(*moved, *args[3:]) * weight).sum())
            expected[place] = (values[0] - values[1]) / (2 * step)
        assert_close(gradient, expected, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize('name, value, message', [
    ('corners', 4, 'corners .* holds 4 at flat position 1: expected 0 to 3'),
    ('around', -1, 'around .* holds -1 at flat position 1: expected 0 to 2')])
def test_bad_indices_are_refused(tf_session, name, value, message):
    inputs = shade_inputs()
    inputs[name].reshape(-1)[1] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf_session.run(_library().face_shade(**inputs).colors)


@pytest.mark.parametrize('change, message', [
    (dict(texture=np.zeros([2, 5, 3], np.float32)), 'but shape only 4'),
    (dict(light=np.zeros([1, 3, 4, 4], np.float32)), r'light must have shape \[2,3,4,4\]'),
    (dict(around=np.zeros([3, 2], np.int32)), r'around must have shape \[2,any\]'),
    (dict(corners=np.zeros([0, 3], np.int32)), 'must not be empty')])
def test_bad_shapes_are_refused(tf_session, change, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf_session.run(_library().face_shade(**dict(shade_inputs(), **change)).colors)


@pytest.mark.parametrize('batch', [1, 2, 5, 8, 11])
def test_linear_op_by_hand_with_its_gradient(tf_session, batch):
    """Rows that do not fill a block, faces that do not fill a group."""
    random = np.random.RandomState(batch)
    basis = random.standard_normal([3 * 1041, 7]).astype(np.float32)
    coeff, weight = random.standard_normal([batch, 7]), random.standard_normal([batch, len(basis)])
    feed = tf.constant(coeff.astype(np.float32))
    values = _library().face_linear(feed, row_blocks(basis), rows=len(basis))
    gradient = tf.gradients(tf.reduce_sum(values * weight.astype(np.float32)), feed)[0]
    values, gradient = tf_session.run([values, gradient])
    assert_close(values, coeff @ basis.T, atol=3e-5)
    expected = weight @ basis
    assert_close(gradient, expected, atol=5e-6 * np.abs(expected).max())


@pytest.mark.parametrize('shape, rows, message', [
    ([1, 8, 16], 17, r'basis must have shape \[2,any,16\]'), ([2, 8, 15], 17, r'basis must have shape \[2,any,16\]'),
    ([2, 9, 16], 17, r'coefficients must have shape \[any,9\]')])
def test_linear_op_refuses_other_shapes(tf_session, shape, rows, message):
    basis = tf.placeholder(tf.float32, [None, None, None])
    values = _library().face_linear(np.zeros([1, 8], np.float32), basis, rows=rows)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf_session.run(values, {basis: np.zeros(shape)})


def test_unknown_implementation(built):
    with pytest.raises(ValueError, match="'gpu'"):
        FaceDecoder(built.model, impl='gpu')
