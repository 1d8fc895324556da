"""The rasteriser: recorded scenes bit by bit, the C++ op against its NumPy twin, numeric Jacobians, determinism."""

import hashlib
import subprocess
import sys

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from renderer import camera_utils, rasterize_ref
from renderer import rasterize_triangles as rt
from tests.common import assert_close, recording

RECORDED = np.load(recording('face', 'raster_io.npz'))
SCENES = [str(name) for name in RECORDED['op_scene_names']]
IMPLEMENTATIONS = ['cpp', 'ref']


class Harness:
    """One graph for all shapes and sizes: run(impl, ...) -> barycentric, ids, z and the gradient."""

    def __init__(self, session):
        self.session = session
        self.vertices = tf.placeholder(tf.float32, [None, 3])
        self.triangles = tf.placeholder(tf.int32, [None, 3])
        self.width, self.height = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
        self.upstream = tf.placeholder(tf.float32, [None, None, 3])
        self.outputs = {}
        for impl in IMPLEMENTATIONS:
            drawn = rt.rasterize(self.vertices, self.triangles, self.width, self.height, impl)
            gradient = tf.gradients(drawn[0], self.vertices, self.upstream)[0]
            self.outputs[impl] = list(drawn) + [gradient]

    def run(self, impl, vertices, triangles, width, height, upstream=None):
        if upstream is None:
            upstream = np.random.RandomState(0).randn(height, width, 3)
        return self.session.run(self.outputs[impl], {self.vertices: vertices, self.triangles: triangles,
                                                     self.width: width, self.height: height, self.upstream: upstream})


@pytest.fixture(scope='module')
def harness():
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        yield Harness(session)


def _scene(name):
    keys = ('vertices', 'triangles', 'size_wh', 'barycentric', 'triangle_ids', 'z_buffer', 'df_dbarycentric',
            'df_dvertices')
    return [RECORDED[f'op/{name}/{key}'] for key in keys]


# ---- recorded numbers

@pytest.mark.parametrize('impl', IMPLEMENTATIONS)
@pytest.mark.parametrize('name', SCENES)
def test_recorded_scenes_bit_by_bit(harness, name, impl):
    vertices, triangles, (width, height), barycentric, ids, z, upstream, df_dvertices = _scene(name)
    known = np.isfinite(z)          # the original wrote NaN where a triangle without area hit a pixel centre
    upstream = np.where(known[..., None], upstream, 0.0)
    actual = harness.run(impl, vertices, triangles, width, height, upstream)
    assert all(np.isfinite(value).all() for value in actual)
    for value, expected in zip(actual, (barycentric, ids, z)):
        np.testing.assert_array_equal(value[known], expected[known])
    assert_close(actual[3], df_dvertices, atol=1e-5 * max(1.0, np.abs(df_dvertices).max()))


def test_recorded_scenes_hold_what_they_should():
    assert len(SCENES) == 24
    empty = [name for name in SCENES if not _scene(name)[3].any()]
    assert set(empty) <= {'degenerate_off_centres', 'offscreen_full'}


@pytest.mark.parametrize('impl', IMPLEMENTATIONS)
def test_attributes_and_gradients_match_recorded(tf_session, impl):
    recorded = {key[len('rasterize/'):]: RECORDED[key] for key in RECORDED.files if key.startswith('rasterize/')}
    names = ('vertices', 'attributes', 'projection_matrices')
    inputs = {name: tf.constant(recorded[name]) for name in names}
    width, height = map(int, recorded['size_wh'])
    image, alphas = rt.rasterize_triangles(inputs['vertices'], inputs['attributes'], recorded['triangles'],
                                           inputs['projection_matrices'], width, height, recorded['background'], impl)
    assert image.shape.as_list() == [2, 30, 40, 4] and alphas.shape.as_list() == [2, 30, 40, 1]
    gradients = tf.gradients(tf.reduce_sum(image * recorded['grad_weight']), [inputs[name] for name in names])
    alone = rt.rasterize_attributes(inputs['vertices'], inputs['attributes'], recorded['triangles'],
                                    inputs['projection_matrices'], width, height, recorded['background'], impl)
    image, alphas, alone, gradients = tf_session.run([image, alphas, alone, gradients])
    assert_close(image, recorded['attributes_image'], atol=1e-5)
    np.testing.assert_array_equal(alphas, recorded['alphas'])
    np.testing.assert_array_equal(alone, image)
    for name, value in zip(names, gradients):
        expected = recorded[f'grad_{name}']
        assert_close(value, expected, atol=1e-5 * np.abs(expected).max())


# ---- the twins

def _assert_twins_agree(harness, vertices, triangles, width, height):
    cpp = harness.run('cpp', vertices, triangles, width, height)
    ref = harness.run('ref', vertices, triangles, width, height)
    for name, a, b in zip(('ids', 'barycentric', 'z'), (cpp[1], cpp[0], cpp[2]), (ref[1], ref[0], ref[2])):
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert np.isfinite(a).all()
    assert np.isfinite(cpp[3]).all()
    assert_close(cpp[3], ref[3], atol=1e-6 * max(1.0, np.abs(ref[3]).max()))
    return cpp


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 1 / 3, 1.0 + 1e-7, 1e-6, 1e-40, 3.0, -40.0, 4095.0, -8191.0, 8193.0,
           1e5, -1e9, 1e13, -1e14, 1e30, -3e38, np.inf, -np.inf, np.nan]
COORDINATE = st.one_of(st.sampled_from(SPECIAL), st.floats(-1.5, 1.5, width=32),
                       st.integers(-8, 8).map(lambda n: n / 8))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_twins_agree_on_any_mesh(harness, values):
    count = values.draw(st.integers(3, 9))
    vertices = values.draw(arrays.arrays(np.float32, [count, 3], elements=COORDINATE.map(np.float32).map(float)))
    triangles = values.draw(arrays.arrays(np.int32, [values.draw(st.integers(0, 8)), 3],
                                          elements=st.integers(0, count - 1)))
    width, height = values.draw(st.integers(1, 9)), values.draw(st.integers(1, 9))
    _assert_twins_agree(harness, vertices, triangles, width, height)


@pytest.mark.parametrize('scale', [1e-6, 1e-3, 0.1, 1.0, 1e3, 1e6, 1e12])
def test_twins_agree_from_dust_to_giants(harness, scale):
    random = np.random.RandomState(3)
    centres = random.uniform(-1.0, 1.0, [80, 1, 3])
    vertices = (centres * [1, 1, 0.5] + random.uniform(-1.0, 1.0, [80, 3, 3]) * [scale, scale, 0.1]).reshape(-1, 3)
    drawn = _assert_twins_agree(harness, np.float32(vertices), np.arange(240).reshape(-1, 3), 17, 13)
    if scale >= 0.1:
        assert drawn[0].any()


def test_a_giant_triangle_covers_the_picture(harness):
    vertices = np.float32([[-1e6, -1e6, 0.5], [1e6, -1e6, 0.5], [0.0, 2e6, 0.5]])
    barycentric, _, z, gradient = _assert_twins_agree(harness, vertices, [[0, 1, 2]], 20, 10)
    assert (barycentric.sum(-1) > 0.9).all() and np.allclose(z, 0.5, atol=1e-3) and np.isfinite(gradient).all()


@pytest.mark.parametrize('wrong', [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize('axis', [0, 1, 2])
def test_a_vertex_that_is_nowhere_removes_only_its_triangles(harness, wrong, axis):
    good = np.float32([[-1, -1, 0], [1, -1, 0], [0, 1, 0]])
    bad = good.copy()
    bad[1, axis] = wrong
    both = harness.run('cpp', np.concatenate([good, bad]), [[0, 1, 2], [3, 4, 5]], 9, 9)
    alone = harness.run('cpp', np.concatenate([good, good]), [[0, 1, 2]], 9, 9)
    for a, b in zip(both, alone):
        np.testing.assert_array_equal(a, b)
    assert alone[0].any()


def test_interpolation_twins_agree(tf_session):
    random = np.random.RandomState(1)
    vertices = np.float32(random.uniform(-1, 1, [2, 30, 3]))
    triangles = random.randint(0, 30, [2, 20, 3])
    w = np.float32(random.uniform(0.5, 3.0, [2, 30]))
    w[0, :6] = [0.0, 1e-7, -1e-7, -2.0, 1e7, -1e9]
    inputs = [tf.constant(x) for x in (w, np.float32(random.randn(2, 30, 5)), np.float32(random.randn(5)))]
    weights = tf.constant(np.float32(random.randn(2, 8, 10, 5))), tf.constant(np.float32(random.randn(2, 8, 10, 1)))
    results = []
    for impl in IMPLEMENTATIONS:
        barycentric, ids, _ = rt.rasterize(vertices, triangles, 10, 8)
        image, alphas = rt.interpolate(barycentric, ids, triangles, *inputs, impl=impl)
        gradients = tf.gradients([image, alphas], [barycentric] + inputs, weights)
        results.append([image, alphas] + gradients)
    for cpp, ref in zip(*tf_session.run(results)):
        assert cpp.shape == ref.shape and np.isfinite(cpp).all()
        assert_close(cpp, ref, atol=1e-5, rtol=1e-3)


def test_projection_twins_agree(tf_session):
    random = np.random.RandomState(2)
    vertices = tf.constant(np.float32(random.randn(3, 50, 3)))
    matrices = random.randn(3, 4, 4)
    matrices[:, 3, 3] = 8                   # w far from 0, where quotients lose their digits
    matrices = tf.constant(np.float32(matrices))
    results = []
    for impl in IMPLEMENTATIONS:
        ndc, w = rt.project(vertices, matrices, impl)
        results.append([ndc, w] + tf.gradients(tf.reduce_sum(tf.sin(ndc)) + tf.reduce_sum(w * w), [vertices, matrices]))
    for cpp, ref in zip(*tf_session.run(results)):
        assert_close(cpp, ref, atol=1e-4, rtol=1e-3)


# ---- numeric Jacobians at fixed coverage

def _numeric(function, x, eps):
    gradient = np.zeros(x.shape)
    for index in np.ndindex(*x.shape):
        step = np.zeros(x.shape)
        step[index] = eps
        gradient[index] = (function(np.float32(x + step)) - function(np.float32(x - step))) / (2 * eps)
    return gradient


def test_numeric_jacobian_of_the_op(harness):
    vertices = np.float32([[-1.93, -1.91, 0.1], [2.11, -1.87, 0.0], [0.07, 2.93, -0.2]])     # covers all, no edge near
    upstream = np.random.RandomState(4).randn(5, 6, 3)
    gradient = harness.run('cpp', vertices, [[0, 1, 2]], 6, 5, upstream)[3]
    numeric = _numeric(lambda v: (harness.run('cpp', v, [[0, 1, 2]], 6, 5)[0] * upstream).sum(), vertices, 1e-2)
    assert_close(gradient[:, :2], numeric[:, :2], atol=2e-3 * np.abs(numeric).max())
    assert (gradient[:, 2] == 0).all()


def test_numeric_jacobians_of_projected_attributes(tf_session):
    random = np.random.RandomState(5)
    values = {
        'vertices': np.float32([[[-4.1, -4.2, -2.0], [4.3, -4.1, 1.0], [4.2, 4.4, -1.0], [-4.4, 4.1, 0.5]]]),
        'attributes': np.float32(random.randn(1, 4, 2)),
        'matrix': np.float32([[[1.1, 0.05, 0, 0], [0.02, 0.9, 0, 0], [0, 0, -1.02, 4.0], [0, 0, -1.0, 6.0]]]),
        'background': np.float32([0.3, -0.2]),
    }
    nodes = {name: tf.placeholder(tf.float32, value.shape) for name, value in values.items()}
    image, _ = rt.rasterize_triangles(nodes['vertices'], nodes['attributes'], [[0, 1, 2], [0, 2, 3]], nodes['matrix'],
                                      5, 4, nodes['background'])
    weight = random.randn(1, 4, 5, 2)
    loss = tf.reduce_sum(tf.cast(image, tf.float64) * weight)
    gradients = tf.gradients(loss, list(nodes.values()))
    feed = {nodes[name]: value for name, value in values.items()}
    for name, gradient in zip(nodes, tf_session.run(gradients, feed)):
        node = nodes[name]
        numeric = _numeric(lambda x, node=node: tf_session.run(loss, {**feed, node: x}),
                           values[name], 3e-3)
        assert_close(gradient, numeric, atol=3e-3 * max(1e-3, np.abs(numeric).max()))


# ---- batches, sizes, threads

@pytest.mark.parametrize('impl', IMPLEMENTATIONS)
def test_a_batch_is_its_pictures(tf_session, harness, impl):
    random = np.random.RandomState(6)
    vertices = np.float32(random.uniform(-1.2, 1.2, [3, 24, 3]))
    own = random.randint(0, 24, [3, 10, 3])
    for triangles in (own, own[0]):
        drawn = rt.rasterize(vertices, triangles, 11, 7, impl)
        assert [x.shape.as_list() for x in drawn] == [[3, 7, 11, 3], [3, 7, 11], [3, 7, 11]]
        drawn = tf_session.run(drawn)
        for i in range(3):
            single = harness.run('cpp', vertices[i], own[i] if triangles.ndim == 3 else triangles, 11, 7)
            for value, expected in zip(drawn, single):
                np.testing.assert_array_equal(value[i], expected)


def test_nothing_to_draw(tf_session, harness):
    barycentric, ids, z, gradient = harness.run('cpp', np.zeros([0, 3]), np.zeros([0, 3]), 3, 2)
    assert not barycentric.any() and not ids.any() and (z == 1).all() and gradient.shape == (0, 3)
    drawn = tf_session.run(rt.rasterize(np.zeros([0, 5, 3], np.float32), [[0, 1, 2]], 3, 2))
    assert [x.shape for x in drawn] == [(0, 2, 3, 3), (0, 2, 3), (0, 2, 3)]


def test_a_dense_mesh_against_the_twin(harness):
    """Triangles smaller than a pixel, as in a face at 64x64: the quick reject must not lose any."""
    u, v = np.meshgrid(np.linspace(-1.1, 1.1, 45), np.linspace(-1.0, 0.9, 40))
    vertices = np.stack([u + 0.01 * np.sin(9 * v), v, 0.3 * np.cos(2 * u)], -1).reshape(-1, 3).astype(np.float32)
    corner = (np.arange(39)[:, None] * 45 + np.arange(44)).reshape(-1, 1)
    triangles = np.concatenate([corner + [0, 1, 46], corner + [0, 46, 45]])
    drawn = _assert_twins_agree(harness, vertices, triangles, 20, 20)
    assert (drawn[0][:19].sum(-1) > 0.9).all()


THREADS = """
import sys
from tests.test_rasterize_triangles import picture_hash
print(picture_hash(int(sys.argv[1])))
"""


def picture_hash(threads):
    """Hash of every bit of pictures and gradients of a crowded scene, drawn by so many threads."""
    random = np.random.RandomState(7)
    digest = hashlib.sha256()
    with tf.Graph().as_default() as graph, tfutil.create_session(threads, graph) as session:
        for batch in (1, 3):
            vertices = tf.constant(np.float32(random.uniform(-1, 1, [batch, 300, 3])))
            attributes = tf.constant(np.float32(random.randn(batch, 300, 4)))
            background = tf.constant([0.5] * 4)
            image, _ = rt.rasterize_triangles(vertices, attributes, random.randint(0, 300, [400, 3]),
                                              tf.eye(4, batch_shape=[batch]), 160, 128, background)
            gradients = tf.gradients(tf.reduce_sum(image * image), [vertices, attributes, background])
            for value in session.run([image] + gradients):
                digest.update(value.tobytes())
    return digest.hexdigest()


def test_the_same_bits_for_any_number_of_threads():
    # In processes of their own: TensorFlow keeps the thread pool of a process's first session.
    runs = [subprocess.Popen([sys.executable, '-c', THREADS, threads], cwd=config.ROOT, stdout=subprocess.PIPE)
            for threads in ('1', '5')]
    one, five = [run.communicate()[0].strip() for run in runs]
    assert one == five and len(one) == 64


# ---- errors and placement

@pytest.mark.parametrize('index, text', [
    (3, r'triangles \[2,3\] holds 3 at flat position 5: expected 0 to 2'),
    (-1, r'triangles \[2,3\] holds -1 at flat position 5'),
    (2 ** 31 - 1, r'triangles \[2,3\] holds 2147483647'),
])
def test_index_out_of_range(harness, index, text):
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        harness.run('cpp', np.zeros([3, 3]), [[0, 1, 2], [0, 1, index]], 4, 4)


def test_index_out_of_range_in_a_batch(tf_session):
    triangles = np.zeros([2, 4, 3], np.int32)
    triangles[1, 2, 0] = 9
    with pytest.raises(tf.errors.InvalidArgumentError, match=r'triangles \[2,4,3\] holds 9 at flat position 18'):
        tf_session.run(rt.rasterize(np.zeros([2, 3, 3], np.float32), triangles, 4, 4))


@pytest.mark.parametrize('size', [0, -5, 16385])
def test_sizes_fed_at_run_time_are_checked(harness, size):
    with pytest.raises(tf.errors.InvalidArgumentError, match=f'image_width must be 1 to 16384 pixels, got {size}'):
        harness.run('cpp', np.zeros([3, 3]), [[0, 1, 2]], size, 4, np.zeros([4, 1, 3]))


def test_shapes_known_only_at_run_time_are_checked(tf_session):
    anything = tf.placeholder(tf.float32)
    drawn = rt.rasterize(tf.reshape(anything, tf.placeholder_with_default([1, 4, 3], [3])), [[0, 0, 0]], 4, 4)
    tf_session.run(drawn, {anything: np.zeros([12])})
    untold = tf.placeholder(tf.float32)
    library = rt._library()
    wrong = library.rasterize_triangles(untold, [[0, 0, 0]], 4, 4)
    for shape in ([1, 5, 2], [5, 3]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r'vertices must have shape \[any,any,3\], got \[.*5,'):
            tf_session.run(wrong, {untold: np.zeros(shape)})


def test_wrong_triangle_id_in_gradients(tf_session):
    library = rt._library()
    vertices, full = np.zeros([1, 3, 3], np.float32), np.full([1, 2, 2, 3], 1 / 3, np.float32)
    ids = np.int32([[[0, 0], [7, 0]]])
    wrong = [library.rasterize_triangles_grad(vertices, [[0, 1, 2]], full, ids, full),
             library.interpolate_attributes(full, ids, [[0, 1, 2]], np.ones([1, 3], np.float32), vertices, [0.0] * 3)]
    for op in wrong:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r'holds 7 at flat position 2, but there are 1 tri'):
            tf_session.run(op)


@pytest.mark.parametrize('changes, text', [
    ({'vertices': np.zeros([4, 3])}, r'vertices must have shape \[any, any, 3\], got \(4, 3\)'),
    ({'attributes': np.zeros([1, 5, 2])}, r'attributes must have shape \[1, 4, any\], got \(1, 5, 2\)'),
    ({'projection_matrices': np.zeros([2, 4, 4])}, r'projection_matrices must have shape \[1, 4, 4\], got \(2, 4, 4\)'),
    ({'triangles': np.zeros([3])}, r'triangles must have shape'),
    ({'background_value': [0.0]}, r'background_value must have shape \[2\], got \(1,\)'),
    ({'image_width': 0}, r'image_width must be 1 to 16384 pixels, got 0'),
    ({'image_height': 20000}, r'image_height must be 1 to 16384 pixels, got 20000'),
    ({'impl': 'cuda'}, r"impl must be one of .*got 'cuda'"),
])
def test_wrong_arguments_name_expected_and_received(tf_session, changes, text):
    arguments = dict(vertices=np.zeros([1, 4, 3]), attributes=np.zeros([1, 4, 2]), triangles=np.zeros([2, 3]),
                     projection_matrices=np.zeros([1, 4, 4]), image_width=4, image_height=4,
                     background_value=[0.0, 0.0])
    arguments.update(changes)
    with pytest.raises(ValueError, match=text):
        rt.rasterize_triangles(**arguments)


def test_only_drawing_runs_on_the_cpu_inside_a_gpu_tower(tf_session):
    points = np.float32([[[-1, -1, 0], [1, -1, 0], [0, 1, 0]]])
    results = []
    for device in ('/device:GPU:0', '/device:CPU:0'):
        with tf.device(device):
            vertices = tf.constant(points)
            image, _ = rt.rasterize_triangles(vertices, vertices, [[0, 1, 2]], tf.eye(4, batch_shape=[1]), 8, 8,
                                              [0.0] * 3)
            results.append([image, tf.gradients(tf.reduce_sum(image), vertices)[0]])
        if 'GPU' in device:
            on_cpu = {op.type for op in tf.get_default_graph().get_operations() if 'CPU' in op.device}
            assert on_cpu == {'RasterizeTriangles', 'RasterizeTrianglesGrad'}
    on_gpu, on_cpu = tf_session.run(results)
    assert on_cpu[0].any()
    for a, b in zip(on_gpu, on_cpu):
        assert_close(a, b, atol=1e-6)


def test_the_twin_knows_the_limits_of_the_kernels():
    with open(rt.SOURCES[0], encoding='utf-8') as file:
        text = file.read()
    assert f'kMaxPixel = {rasterize_ref.MAX_PIXEL:.1f}f' in text and 'kMinW = 1e-6f' in text and rt.MIN_W == 1e-6


# ---- what the face renderer asks for besides

@pytest.mark.parametrize('channels', [2, 3])
def test_clipped_and_turned_picture_is_as_by_tensorflow(tf_session, channels):
    """Both implementations, picture and gradients, against reverse and clip_by_value behind the plain picture."""
    random = np.random.RandomState(5)
    points = tf.constant(np.float32(random.uniform(-1, 1, [2, 9, 3]) * [1, 1, 0.5] - [0, 0, 2]))
    colors = tf.constant(np.float32(random.uniform(-1, 3, [2, 7, channels])))
    triangles = np.int32([[0, 1, 2], [2, 3, 4], [4, 5, 6]])
    matrices = camera_utils.perspective(1.0, [60.0] * 2, [0.01] * 2, [50.0] * 2)
    weight = np.float32(random.standard_normal([2, 12, 15, channels]))
    background = tf.constant(np.float32([1.5, -0.5, 0.25][:channels]))
    results = []
    for impl, direct in (('cpp', True), ('ref', True), ('cpp', False)):
        ndc, w = rt.project(points, matrices, impl, count=7)
        weights, ids, _ = rt.rasterize(ndc, triangles, 15, 12, impl)
        options = dict(rows_down=True, clip_to=1.0) if direct else {}
        image, mask = rt.interpolate(weights, ids, triangles, w, colors, background, impl, **options)
        if not direct:
            image, mask = tf.clip_by_value(image[:, ::-1], 0.0, 1.0), mask[:, ::-1]
        gradients = tf.gradients(tf.reduce_sum(image * weight), [points, colors, background])
        results.append(tf_session.run([image, mask] + gradients))
    assert 0.05 < results[0][1].mean() < 0.95 and np.abs(results[0][3]).max() > 0.1
    for result in results[:2]:
        for actual, expected in zip(result, results[2]):
            assert_close(actual, expected, atol=1e-5 * max(np.abs(expected).max(), 1))


def test_projecting_more_vertices_than_there_are_is_refused(tf_session):
    with pytest.raises(tf.errors.InvalidArgumentError, match='count is 5, but there are 4 vertices'):
        feed = tf.placeholder(tf.float32, [None, None, 3])
        tf_session.run(rt.project(feed, np.eye(4, dtype=np.float32)[None], count=5),
                       {feed: np.zeros([1, 4, 3])})
