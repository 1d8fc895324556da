"""The rasteriser's Python door: projection, coverage, perspective-correct attributes (Genova et al. 2018).

Pictures here have row 0 at the BOTTOM (y = -1); mesh_renderer flips them once, at its end.
"""

import os

import numpy as np

from dnnlib.tflib import custom_ops
from dnnlib.tflib.compat import tf
from renderer import camera_utils, rasterize_ref

KERNELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernels')
SOURCES = tuple(os.path.join(KERNELS, name) for name in ('rasterize_triangles_impl.cc', 'rasterize_triangles_op.cc'))
MAX_IMAGE_SIZE = 16384      # kMaxImageSize of the kernels
MIN_W = 1e-6                # kMinW of the kernels
IMPLEMENTATIONS = ('cpp', 'ref')


def rasterize_triangles(vertices, attributes, triangles, projection_matrices, image_width, image_height,
                        background_value, impl='cpp'):
    """Project meshes and interpolate per-vertex attributes over what is seen of them, with perspective.

    vertices: [B, N, 3] float32, world space. attributes: [B, N, C] float32. triangles: [T, 3] int32 from 0, shared by
    the batch, or [B, T, 3]. projection_matrices: [B, 4, 4], world to clip space, for column vectors. image_width,
    image_height: pixels, integers or scalar int32 tensors. background_value: [C], shown where no triangle is.
    impl: 'cpp' or the slow NumPy twin 'ref'.
    Returns (image [B, H, W, C], alphas [B, H, W, 1] of 0 or 1), float32, row 0 at the bottom. Gradients flow to
    vertices, attributes, matrices and background through the interpolation at fixed coverage, none through coverage.
    Raises ValueError for wrong shapes.
    """
    vertices = _check('vertices', vertices, [None, None, 3])
    batch, count, _ = vertices.shape.as_list()
    attributes = _check('attributes', attributes, [batch, count, None])
    projection_matrices = _check('projection_matrices', projection_matrices, [batch, 4, 4])
    triangles = _check_triangles(triangles)
    background_value = _check('background_value', background_value, [attributes.shape.as_list()[-1]])
    with tf.name_scope('rasterize_triangles'):
        ndc, clip_w = project(vertices, projection_matrices, impl)
        barycentric, triangle_ids, _ = rasterize(ndc, triangles, image_width, image_height, impl)
        return interpolate(barycentric, triangle_ids, triangles, clip_w, attributes, background_value, impl)


def rasterize_attributes(*args, **kwargs):
    """As `rasterize_triangles`, but returns the image alone, as tf_mesh_renderer's function of that name does."""
    return rasterize_triangles(*args, **kwargs)[0]


def project(vertices, projection_matrices, impl='cpp', count=None):
    """World space to normalised device coordinates.

    vertices: [B, N, 3] float32. projection_matrices: [B, 4, 4], for column vectors. count: take the first so many
    vertices, default all. Returns device coordinates [B, count, 3] and the fourth clip coordinate w [B, count]; in the
    division |w| is at least 1e-6 and keeps its sign. Gradient: to vertices and matrices.
    """
    if _is_ref(impl):
        vertices = vertices[:, :count]
        clip = camera_utils.transform_homogeneous(projection_matrices, vertices)            # [B, N, 4]
        w = clip[:, :, 3:]
        divisor = tf.where(w < 0.0, tf.minimum(w, -MIN_W), tf.maximum(w, MIN_W))
        return clip[:, :, :3] / divisor, clip[:, :, 3]
    with tf.device('/device:CPU:0'):
        return _library().project_vertices(vertices, projection_matrices, count=-1 if count is None else count)


def rasterize(vertices, triangles, image_width, image_height, impl='cpp'):
    """Which triangle each pixel shows, and where in it.

    vertices: [B, N, 3] or [N, 3] float32 normalised device coordinates: x right, y up, z away, visible are -1..1.
    triangles: [T, 3] int32, or [B, T, 3]. image_width, image_height: 1 to 16384, integers or scalar int32 tensors.
    Returns barycentric [B, H, W, 3] float32 (in the picture plane, not perspective-corrected; 0 where empty),
    triangle_ids [B, H, W] int32 (0 where empty), z_buffer [B, H, W] float32 (1 where empty); no B for one mesh.
    A pixel centre on an edge is covered, both windings are drawn, of equal depths the later triangle wins, depths
    beyond -1..1 are cut. Triangles without area and those with a vertex not finite or beyond 2^44 pixels are skipped.
    Gradient: from barycentric to x and y of the vertices. Raises InvalidArgumentError when run with a bad index.
    """
    vertices = tf.convert_to_tensor(vertices, tf.float32, name='vertices')
    is_single = vertices.shape.rank == 2 if vertices.shape.rank is not None else False
    vertices = _check('vertices', vertices, [None, 3] if is_single else [None, None, 3])
    triangles = _check_triangles(triangles)
    width = _check_size('image_width', image_width)
    height = _check_size('image_height', image_height)
    with tf.device('/device:CPU:0'):
        if _is_ref(impl):
            return _rasterize_ref(vertices, triangles, width, height)
        return _library().rasterize_triangles(vertices, triangles, width, height)


def interpolate(barycentric, triangle_ids, triangles, clip_w, attributes, background, impl='cpp', rows_down=False,
                clip_to=None):
    """Perspective-correct attributes of what `rasterize` found.

    barycentric, triangle_ids, triangles: from `rasterize`. clip_w: [B, N] fourth clip coordinate of the vertices.
    attributes: [B, N, C] float32. background: [C]. (No B for one mesh.) rows_down: row 0 on top, not at the bottom.
    clip_to: keep the image within 0 and this; values on a bound still pass their gradient.
    Returns image [B, H, W, C] and alphas [B, H, W, 1]: clip(2 * sum of corrected weights, 0, 1).
    Gradient: to barycentric, clip_w, attributes and background.
    """
    inputs = [tf.convert_to_tensor(barycentric, tf.float32), tf.convert_to_tensor(triangle_ids, tf.int32),
              _check_triangles(triangles)]
    inputs += [tf.convert_to_tensor(value, tf.float32) for value in (clip_w, attributes, background)]
    with tf.device('/device:CPU:0'):
        if not _is_ref(impl):
            return _library().interpolate_attributes(*inputs, rows_down=rows_down, clip_to=clip_to or 0.0)
        image, alphas = _interpolate_ref(*inputs)
        if rows_down:
            image, alphas = (tf.reverse(x, [x.shape.rank - 3]) for x in (image, alphas))
        return image if clip_to is None else tf.clip_by_value(image, 0.0, clip_to), alphas


def _library():
    return custom_ops.get_library('rasterize_triangles', SOURCES)


def _is_ref(impl):
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f'impl must be one of {IMPLEMENTATIONS}, got {impl!r}')
    return impl == 'ref'


# ---- checks

def _check(name, value, shape, dtype=tf.float32):
    """`value` as a tensor whose static shape fits `shape` (None: any size), else ValueError."""
    tensor = tf.convert_to_tensor(value, dtype, name=name)
    if not tensor.shape.is_compatible_with(shape):
        expected = ', '.join('any' if size is None else str(size) for size in shape)
        raise ValueError(f'{name} must have shape [{expected}], got {tensor.shape}')
    return tensor


def _check_triangles(triangles):
    triangles = tf.convert_to_tensor(triangles, tf.int32, name='triangles')
    if not any(triangles.shape.is_compatible_with(shape) for shape in ([None, 3], [None, None, 3])):
        raise ValueError(f'triangles must have shape [triangles, 3] or [batch, triangles, 3], got {triangles.shape}')
    return triangles


def _check_size(name, size):
    value = tf.get_static_value(size) if tf.is_tensor(size) else size
    if value is not None and not 0 < value <= MAX_IMAGE_SIZE:
        raise ValueError(f'{name} must be 1 to {MAX_IMAGE_SIZE} pixels, got {value}')
    return tf.convert_to_tensor(size, tf.int32, name=name)


# ---- gradients of the C++ ops

@tf.RegisterGradient('ProjectVertices')
def _project_gradient(op, df_ddevice, df_dclip_w):
    with tf.device('/device:CPU:0'):
        return tuple(_library().project_vertices_grad(*op.inputs, df_ddevice, df_dclip_w, count=op.get_attr('count')))


@tf.RegisterGradient('RasterizeTriangles')
def _rasterize_gradient(op, df_dbarycentric, _ids, _z):
    vertices, triangles = op.inputs[:2]
    with tf.device('/device:CPU:0'):
        df_dvertices = _library().rasterize_triangles_grad(vertices, triangles, *op.outputs[:2], df_dbarycentric)
    return df_dvertices, None, None, None


@tf.RegisterGradient('InterpolateAttributes')
def _interpolate_gradient(op, df_dimage, df_dalphas):
    with tf.device('/device:CPU:0'):
        gradient = _library().interpolate_attributes_grad(
            *op.inputs, df_dimage, df_dalphas, rows_down=op.get_attr('rows_down'), clip_to=op.get_attr('clip_to'))
    return gradient.df_dbarycentric, None, None, gradient.df_dclip_w, gradient.df_dattributes, gradient.df_dbackground


# ---- the NumPy twin as graph ops

def _over_batch(function, ranks):
    """`function` of one mesh -> of a batch or one mesh; `ranks`: of each argument for one mesh, 0 keeps it as it is.

    Whether there is a batch is told by the first argument; one that lacks the batch dimension is shared.
    """
    def run(*arrays):
        if arrays[0].ndim == ranks[0]:
            return function(*arrays)
        rows = [[a[i] if r and a.ndim > r else a for a, r in zip(arrays, ranks)] for i in range(len(arrays[0]))]
        return tuple(np.stack(column) for column in zip(*[function(*row) for row in rows]))
    return run


def _rasterize_ref(vertices, triangles, width, height):
    forward = _over_batch(rasterize_ref.rasterize, (2, 2, 0, 0))
    backward = _over_batch(lambda *args: (rasterize_ref.rasterize_gradient(*args),), (2, 2, 3, 2, 3))

    @tf.custom_gradient
    def run(points):
        outputs = tf.py_func(forward, [points, triangles, width, height], [tf.float32, tf.int32, tf.float32])
        batch = points.shape.as_list()[:-2]
        size = batch + [tf.get_static_value(height), tf.get_static_value(width)]
        for output, shape in zip(outputs, (size + [3], size, size)):
            output.set_shape(shape)

        def gradient(df_dbarycentric, _ids, _z):
            inputs = [points, triangles, outputs[0], outputs[1], df_dbarycentric]
            df_dvertices, = tf.py_func(backward, inputs, [tf.float32])
            df_dvertices.set_shape(points.shape)
            return df_dvertices
        return tuple(outputs), gradient
    return run(vertices)


def _interpolate_ref(barycentric, triangle_ids, triangles, clip_w, attributes, background):
    ranks = (3, 2, 2, 1, 2, 0, 3, 3)
    forward = _over_batch(rasterize_ref.interpolate, ranks)

    def backward(*arrays):
        *per_mesh, df_dbackground = _over_batch(rasterize_ref.interpolate_gradient, ranks)(*arrays)
        return tuple(per_mesh) + (df_dbackground.reshape(-1, df_dbackground.shape[-1]).sum(0),)

    @tf.custom_gradient
    def run(weights, w, values, empty):
        inputs = [weights, triangle_ids, triangles, w, values, empty]
        image, alphas = tf.py_func(forward, inputs, [tf.float32] * 2)
        size = weights.shape.as_list()[:-1]
        image.set_shape(size + values.shape.as_list()[-1:])
        alphas.set_shape(size + [1])

        def gradient(df_dimage, df_dalphas):
            gradients = tf.py_func(backward, inputs + [df_dimage, df_dalphas], [tf.float32] * 4)
            for result, like in zip(gradients, (weights, w, values, empty)):
                result.set_shape(like.shape)
            return gradients
        return (image, alphas), gradient
    return run(barycentric, clip_w, attributes, background)
