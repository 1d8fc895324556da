"""The rasteriser's Python door: projection, coverage, perspective-correct attributes (Genova et al. 2018).

Pictures here have row 0 at the BOTTOM (y = -1); mesh_renderer flips them once, at its end.
"""

import os
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from dnnlib.tflib import custom_ops
from dnnlib.tflib.compat import tf
from renderer import camera_utils, rasterize_ref
from renderer.implementations import KERNELS, check_implementation, implementation

SOURCES = tuple(os.path.join(KERNELS, name) for name in ('rasterize_triangles_impl.cc', 'rasterize_triangles_op.cc'))
MAX_IMAGE_SIZE = 16384      # kMaxImageSize of the kernels
MIN_W = 1e-6                # kMinW of the kernels

Size = Union[int, tf.Tensor]        # pixels; a tensor is a scalar int32


def rasterize_triangles(vertices: Any, attributes: Any, triangles: Any, projection_matrices: Any, image_width: Size,
                        image_height: Size, background_value: Any,
                        impl: Optional[str] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """Project meshes and interpolate per-vertex attributes over what is seen of them, with perspective.

    vertices: [B, N, 3] float32, world space. attributes: [B, N, C] float32. triangles: [T, 3] int32 from 0, shared by
    the batch, or [B, T, 3]. projection_matrices: [B, 4, 4], world to clip space, for column vectors. image_width,
    image_height: pixels, integers or scalar int32 tensors. background_value: [C], shown where no triangle is.
    impl: see implementations.implementation.
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


def rasterize_attributes(*args: Any, **kwargs: Any) -> tf.Tensor:
    """As `rasterize_triangles`, but returns the image alone, as tf_mesh_renderer's function of that name does."""
    return rasterize_triangles(*args, **kwargs)[0]


def project(vertices: tf.Tensor, projection_matrices: tf.Tensor, impl: Optional[str] = None,
            count: Optional[int] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """World space to normalised device coordinates.

    vertices: [B, N, 3] float32. projection_matrices: [B, 4, 4], for column vectors. count: take the first so many
    vertices, default all. Returns device coordinates [B, count, 3] and the fourth clip coordinate w [B, count]; in the
    division |w| is at least 1e-6 and keeps its sign. Gradient: to vertices and matrices.
    """
    if implementation(impl) == 'cpp':
        with tf.device('/device:CPU:0'):
            return _library().project_vertices(vertices, projection_matrices, count=-1 if count is None else count)
    clip = camera_utils.transform_homogeneous(projection_matrices, vertices[:, :count])     # [B, count, 4]
    return clip[:, :, :3] / _safe_w(clip[:, :, 3:]), clip[:, :, 3]


def rasterize(vertices: Any, triangles: Any, image_width: Size, image_height: Size,
              impl: Optional[str] = None) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which triangle each pixel shows, and where in it. Always on the CPU.

    vertices: [B, N, 3] or [N, 3] float32 normalised device coordinates: x right, y up, z away, visible are -1..1.
    triangles: [T, 3] int32, or [B, T, 3]. image_width, image_height: 1 to 16384, integers or scalar int32 tensors.
    impl: 'ref' is the slow NumPy twin, anything else our own op.
    Returns barycentric [B, H, W, 3] float32 (in the picture plane, not perspective-corrected; 0 where empty),
    triangle_ids [B, H, W] int32 (0 where empty), z_buffer [B, H, W] float32 (1 where empty); no B for one mesh.
    A pixel centre on an edge is covered, both windings are drawn, of equal depths the later triangle wins, depths
    beyond -1..1 are cut. Triangles without area and those with a vertex not finite or beyond 2^44 pixels are skipped.
    Gradient: from barycentric to x and y of the vertices. Raises InvalidArgumentError when run with a bad index.
    """
    check_implementation(impl)
    vertices = tf.convert_to_tensor(vertices, tf.float32, name='vertices')
    if vertices.shape.rank == 2:
        drawn = rasterize(vertices[None], triangles, image_width, image_height, impl)
        return tuple(tf.squeeze(x, axis=0) for x in drawn)
    vertices = _check('vertices', vertices, [None, None, 3])
    triangles = _check_triangles(triangles)
    width = _check_size('image_width', image_width)
    height = _check_size('image_height', image_height)
    with tf.device('/device:CPU:0'):
        if impl == 'ref':
            return _rasterize_ref(vertices, triangles, width, height)
        return _library().rasterize_triangles(vertices, triangles, width, height)


def interpolate(barycentric: Any, triangle_ids: Any, triangles: Any, clip_w: Any, attributes: Any, background: Any,
                impl: Optional[str] = None, rows_down: bool = False,
                clip_to: Optional[float] = None) -> Tuple[tf.Tensor, tf.Tensor]:
    """Perspective-correct attributes of what `rasterize` found.

    barycentric, triangle_ids, triangles: from `rasterize`. clip_w: [B, N] fourth clip coordinate of the vertices.
    attributes: [B, N, C] float32. background: [C]. rows_down: row 0 on top, not at the bottom.
    clip_to: keep the image within 0 and this; values on a bound still pass their gradient.
    Returns image [B, H, W, C] and alphas [B, H, W, 1]: clip(2 * sum of corrected weights, 0, 1).
    Gradient: to barycentric, clip_w, attributes and background.
    """
    inputs = [tf.convert_to_tensor(barycentric, tf.float32), tf.convert_to_tensor(triangle_ids, tf.int32),
              _check_triangles(triangles)]
    inputs += [tf.convert_to_tensor(value, tf.float32) for value in (clip_w, attributes, background)]
    if implementation(impl) == 'cpp':
        with tf.device('/device:CPU:0'):
            return _library().interpolate_attributes(*inputs, rows_down=rows_down, clip_to=clip_to or 0.0)
    image, alphas = _interpolate_ref(*inputs)
    if rows_down:
        image, alphas = tf.reverse(image, [1]), tf.reverse(alphas, [1])
    return image if clip_to is None else tf.clip_by_value(image, 0.0, clip_to), alphas


def _library() -> Any:
    return custom_ops.get_library('rasterize_triangles', SOURCES)


# ---- checks

def _check(name: str, value: Any, shape: Sequence[Optional[int]]) -> tf.Tensor:
    """`value` as a float32 tensor whose static shape fits `shape` (None: any size), else ValueError."""
    tensor = tf.convert_to_tensor(value, tf.float32, name=name)
    if not tensor.shape.is_compatible_with(shape):
        expected = ', '.join('any' if size is None else str(size) for size in shape)
        raise ValueError(f'{name} must have shape [{expected}], got {tensor.shape}')
    return tensor


def _check_triangles(triangles: Any) -> tf.Tensor:
    triangles = tf.convert_to_tensor(triangles, tf.int32, name='triangles')
    if not any(triangles.shape.is_compatible_with(shape) for shape in ([None, 3], [None, None, 3])):
        raise ValueError(f'triangles must have shape [triangles, 3] or [batch, triangles, 3], got {triangles.shape}')
    return triangles


def _check_size(name: str, size: Size) -> tf.Tensor:
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


# ---- the same in TensorFlow's operations, for any device; drawing alone in NumPy

def _safe_w(w: tf.Tensor) -> tf.Tensor:
    """w with |w| at least MIN_W, keeping its sign."""
    return tf.where(w < 0.0, tf.minimum(w, -MIN_W), tf.maximum(w, MIN_W))


def _rasterize_ref(vertices: tf.Tensor, triangles: tf.Tensor, width: tf.Tensor,
                   height: tf.Tensor) -> Tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    @tf.custom_gradient
    def run(points):
        outputs = tf.py_func(_batched(rasterize_ref.rasterize, 2, 3), [points, triangles, width, height],
                             [tf.float32, tf.int32, tf.float32])
        size = [points.shape.as_list()[0], tf.get_static_value(height), tf.get_static_value(width)]
        for output, shape in zip(outputs, (size + [3], size, size)):
            output.set_shape(shape)

        def gradient(df_dbarycentric, _ids, _z):
            inputs = [points, triangles, outputs[0], outputs[1], df_dbarycentric]
            backward = _batched(lambda *arrays: [rasterize_ref.rasterize_gradient(*arrays)], 5, 1)
            df_dvertices, = tf.py_func(backward, inputs, [tf.float32])
            df_dvertices.set_shape(points.shape)
            return df_dvertices
        return tuple(outputs), gradient
    return run(vertices)


def _batched(function, num_arrays, num_outputs):
    """`function` of one mesh -> of a batch. The first arguments are arrays, of which triangles, the second, may be
    shared; the others are passed on."""
    def run(*args):
        arrays, others = list(args[:num_arrays]), args[num_arrays:]
        if arrays[1].ndim == 2:
            arrays[1] = np.broadcast_to(arrays[1], (len(arrays[0]),) + arrays[1].shape)
        results = [function(*mesh, *others) for mesh in zip(*arrays)]
        return [np.stack([result[i] for result in results]) for i in range(num_outputs)]
    return run


def _interpolate_ref(barycentric: tf.Tensor, triangle_ids: tf.Tensor, triangles: tf.Tensor, clip_w: tf.Tensor,
                     attributes: tf.Tensor, background: tf.Tensor) -> List[tf.Tensor]:
    batch, count = tf.shape(attributes)[0], tf.shape(attributes)[1]
    first = tf.reshape(tf.range(batch), [-1, 1, 1])
    if triangles.shape.rank == 3:
        rows = triangle_ids + first * tf.shape(triangles)[1]
    else:
        rows = triangle_ids
    corners = tf.gather(tf.reshape(triangles, [-1, 3]), rows) + first[..., None] * count        # [B, H, W, 3]
    channels = attributes.shape.as_list()[-1]
    is_drawn = tf.reduce_any(tf.not_equal(barycentric, 0.0), axis=-1, keepdims=True)
    is_drawn = tf.broadcast_to(is_drawn, tf.shape(barycentric))
    weights = tf.where(is_drawn, barycentric, tf.zeros_like(barycentric))       # no gradient where nothing is drawn
    weights /= _safe_w(tf.gather(tf.reshape(clip_w, [-1]), corners))
    weights /= tf.maximum(tf.reduce_sum(weights, axis=-1, keepdims=True), MIN_W)
    values = tf.gather(tf.reshape(attributes, [-1, channels]), corners)                         # [B, H, W, 3, C]
    values = tf.reduce_sum(weights[..., None] * values, axis=3)
    alphas = tf.clip_by_value(2.0 * tf.reduce_sum(weights, axis=-1, keepdims=True), 0.0, 1.0)
    return [alphas * values + (1.0 - alphas) * background, alphas]
