"""Differentiable mesh renderer with Phong shading, API and numbers of tf_mesh_renderer (Genova et al. 2018)."""

from typing import Any, Optional

from dnnlib.tflib.compat import tf
from dnnlib.tflib.tfutil import exact_matmul
from renderer import camera_utils, rasterize_triangles

BACKGROUND = -1.0       # of every interpolated attribute; it enters the specular term, see phong_shader


def mesh_renderer(vertices: Any, triangles: Any, normals: Any, diffuse_colors: Any, camera_position: Any,
                  camera_lookat: Any, camera_up: Any, light_positions: Any, light_intensities: Any, image_width: int,
                  image_height: int, specular_colors: Any = None, shininess_coefficients: Any = None,
                  ambient_color: Any = None, fov_y: Any = 40.0, near_clip: Any = 0.01, far_clip: Any = 50.0,
                  impl: Optional[str] = None) -> tf.Tensor:
    """Renders a batch of meshes with per-vertex colours, point lights and ambient light.

    vertices: [B, N, 3] world space. triangles: [T, 3] int32, or [B, T, 3]. normals: [B, N, 3]. diffuse_colors:
    [B, N, 3] RGB. camera_position, camera_lookat, camera_up: [B, 3] or [3]. light_positions, light_intensities:
    [B, L, 3]. image_width, image_height: pixels. specular_colors: [B, N, 3]. shininess_coefficients (with
    specular_colors): scalar, [B] or [B, N]. ambient_color: [B, 3]. fov_y: degrees; near_clip, far_clip: distances;
    scalar or [B] each. impl: see implementations.implementation.
    Returns RGBA [B, H, W, 4] float32, row 0 at the TOP; A is 1 where a triangle is, else 0 (and RGB 0). Colours are
    not clipped. Raises ValueError for wrong shapes.
    """
    vertices = _check('vertices', vertices, [None, None, 3])
    batch, count, _ = vertices.shape.as_list()
    attributes = [_check('normals', normals, [batch, count, 3]), vertices,
                  _check('diffuse_colors', diffuse_colors, [batch, count, 3])]
    lights = _check('light_positions', light_positions, [batch, None, 3])
    intensities = _check('light_intensities', light_intensities, [batch, lights.shape.as_list()[1], 3])
    if ambient_color is not None:
        ambient_color = _check('ambient_color', ambient_color, [batch, 3])
    if (specular_colors is None) != (shininess_coefficients is None):
        raise ValueError('specular_colors and shininess_coefficients belong together: give both or neither')
    shininess = None
    if specular_colors is not None:
        attributes.append(_check('specular_colors', specular_colors, [batch, count, 3]))
        shininess = _check_one_of('shininess_coefficients', shininess_coefficients, [[], [batch], [batch, count]])
        if shininess.shape.rank == 2:
            attributes.append(shininess[:, :, None])

    with tf.name_scope('mesh_renderer'):
        size = tf.shape(vertices)[0]
        position, lookat, up = [_per_image(name, value, [3], batch, size) for name, value in (
            ('camera_position', camera_position), ('camera_lookat', camera_lookat), ('camera_up', camera_up))]
        fov_y, near_clip, far_clip = [_per_image(name, value, [], batch, size) for name, value in (
            ('fov_y', fov_y), ('near_clip', near_clip), ('far_clip', far_clip))]
        aspect_ratio = tf.cast(image_width, tf.float32) / tf.cast(image_height, tf.float32)
        projection = exact_matmul(camera_utils.perspective(aspect_ratio, fov_y, near_clip, far_clip),
                                  camera_utils.look_at(position, lookat, up))
        attributes = tf.concat(attributes, axis=2)                              # [B, N, 9, 12 or 13 channels]
        background = [BACKGROUND] * attributes.shape.as_list()[2]
        pixels, alphas = rasterize_triangles.rasterize_triangles(
            vertices, attributes, triangles, projection, image_width, image_height, background, impl)
        return _shade(pixels, alphas, position, lights, intensities, shininess, ambient_color)


def _shade(pixels, alphas, camera_position, light_positions, light_intensities, shininess, ambient_color):
    """Interpolated attributes [B, H, W, C] in the order of mesh_renderer -> RGBA."""
    normals = tf.nn.l2_normalize(pixels[..., 0:3], axis=3)
    specular = None
    if shininess is None:
        camera_position = None
    else:
        specular = pixels[..., 9:12]
        if shininess.shape.rank == 2:
            shininess = pixels[..., 12]
    return phong_shader(normals, alphas[..., 0], pixels[..., 3:6], light_positions, light_intensities,
                        pixels[..., 6:9], camera_position, specular, shininess, ambient_color)


def phong_shader(normals: tf.Tensor, alphas: tf.Tensor, pixel_positions: tf.Tensor, light_positions: tf.Tensor,
                 light_intensities: tf.Tensor, diffuse_colors: Optional[tf.Tensor] = None,
                 camera_position: Optional[tf.Tensor] = None, specular_colors: Optional[tf.Tensor] = None,
                 shininess_coefficients: Any = None, ambient_color: Optional[tf.Tensor] = None) -> tf.Tensor:
    """Phong shading of interpolated pixels, rows from the bottom; the only place that flips pictures.

    normals: [B, H, W, 3] unit. alphas: [B, H, W]. pixel_positions: [B, H, W, 3] world space. light_positions,
    light_intensities: [B, L, 3]. diffuse_colors, specular_colors: [B, H, W, 3]. camera_position: [B, 3], wanted for
    the specular term only, which needs specular_colors and shininess_coefficients: scalar, [B] or [B, H, W].
    ambient_color: [B, 3], multiplies diffuse_colors.
    Returns RGBA [B, H, W, 4], row 0 at the top; RGB is 0 where alphas <= 0.5.

    As in the original, the cosine of reflection and camera is divided by its length over ALL pixels of the picture,
    background too, so highlights fade with resolution; and light from behind the surface counts. Unlike there,
    gradients are finite: a pixel that is not shown gives none.
    """
    if camera_position is not None and (specular_colors is None or shininess_coefficients is None):
        raise ValueError('the specular term (camera_position given) needs specular_colors and shininess_coefficients')
    if diffuse_colors is None and (ambient_color is not None or camera_position is None):
        raise ValueError('ambient and diffuse light need diffuse_colors')
    is_shown = (alphas > 0.5)[..., None]                                                # [B, H, W, 1]
    to_lights = tf.nn.l2_normalize(light_positions[:, :, None, None, :] - pixel_positions[:, None], axis=4)
    cosines = tf.reduce_sum(normals[:, None] * to_lights, axis=4, keepdims=True)        # [B, L, H, W, 1]
    cosines = tf.clip_by_value(cosines, 0.0, 1.0)
    intensities = light_intensities[:, :, None, None, :]                                # [B, L, 1, 1, 3]

    rgb = tf.zeros_like(normals)
    if ambient_color is not None:
        rgb += ambient_color[:, None, None, :] * diffuse_colors
    if diffuse_colors is not None:
        rgb += tf.reduce_sum(diffuse_colors[:, None] * cosines * intensities, axis=1)
    if camera_position is not None:
        mirrored = tf.nn.l2_normalize(2.0 * cosines * normals[:, None] - to_lights, axis=4)
        to_camera = tf.nn.l2_normalize(camera_position[:, None, None, :] - pixel_positions, axis=3)
        highlights = tf.reduce_sum(to_camera[:, None] * mirrored, axis=4, keepdims=True)    # [B, L, H, W, 1]
        highlights = tf.clip_by_value(tf.nn.l2_normalize(highlights, axis=[2, 3]), 0.0, 1.0)
        shininess = _shown_shininess(shininess_coefficients, is_shown)
        rgb += tf.reduce_sum(specular_colors[:, None] * _power(highlights, shininess) * intensities, axis=1)

    rgb = tf.where(tf.broadcast_to(is_shown, tf.shape(rgb)), rgb, tf.zeros_like(rgb))
    return tf.reverse(tf.concat([rgb, alphas[..., None]], axis=3), axis=[1])


def tone_mapper(image: Any, gamma: float) -> tf.Tensor:
    """Gamma correction that makes bright pictures viewable: image^gamma / its largest value, per picture, in 0..1.

    image: [B, H, W, C] float32 >= 0 (less counts as 0). gamma: scalar > 0. Returns [B, H, W, C]; a black picture
    stays black.
    """
    image = _check('image', image, [None, None, None, None])
    corrected = _power(tf.maximum(image, 0.0), gamma)
    brightest = tf.reduce_max(corrected, axis=[1, 2, 3], keepdims=True)
    safe = tf.where(brightest > 0.0, brightest, tf.ones_like(brightest))
    return tf.clip_by_value(corrected / safe, 0.0, 1.0)


def _shown_shininess(shininess, is_shown):
    """Shininess as [B, 1, H, W, 1], 1 where nothing is shown: the background's -1 would give infinities there."""
    shininess = tf.convert_to_tensor(shininess, tf.float32)
    while shininess.shape.rank < 3:
        shininess = shininess[..., None]                                    # scalar, [B] -> [1, 1, 1], [B, 1, 1]
    shininess = tf.broadcast_to(shininess[..., None], tf.shape(is_shown))
    return tf.where(is_shown, shininess, tf.ones_like(shininess))[:, None]


def _power(base, exponent):
    """base ** exponent for base >= 0, with gradient 0 where base is 0: there that of tf.pow may be infinite."""
    is_positive = base > 0.0
    power = tf.pow(tf.where(is_positive, base, tf.ones_like(base)), exponent)
    at_zero = tf.stop_gradient(tf.pow(tf.zeros_like(base), exponent))
    return tf.where(is_positive, power, at_zero)


# ---- checks

def _check(name, value, shape):
    return _check_one_of(name, value, [shape])


def _check_one_of(name, value, shapes):
    """`value` as a float32 tensor whose static shape fits one of `shapes` (None: any size), else ValueError."""
    tensor = tf.convert_to_tensor(value, tf.float32, name=name)
    if not any(tensor.shape.is_compatible_with(shape) for shape in shapes):
        expected = ' or '.join('[' + ', '.join('any' if n is None else str(n) for n in shape) + ']' for shape in shapes)
        raise ValueError(f'{name} must have shape {expected}, got {tensor.shape}')
    return tensor


def _per_image(name, value, shape, batch, size):
    """`value` of `shape` or [batch] + shape -> [batch] + shape; `size` is the batch as a tensor."""
    tensor = _check_one_of(name, value, [shape, [batch] + shape])
    if tensor.shape.rank == len(shape):
        tensor = tf.tile(tensor[None], [size] + [1] * len(shape))
    return tensor
