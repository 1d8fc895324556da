"""Coefficients -> picture of the face, mask and landmarks at any resolution and batch (paper section 3.2).

Only the drawn region of the face model is there: what is outside of it neither shows nor hides anything.
"""

from collections import namedtuple
from typing import Optional, Tuple, Union

from dnnlib.tflib.compat import tf
from renderer import rasterize_triangles
from renderer.face_decoder import Face, FaceDecoder, project_224, project_256, with_translation
from renderer.face_model import FaceModel

# What `FaceRenderer.render` returns.
#   image      [B, R, R, 3]  float32 RGB, 0-255, row 0 on top, 0 where no face is
#   mask       [B, R, R, 1]  float32, 1 on the face, else 0
#   landmarks  [B, 68, 2]    float32, pixels of a 256 picture whatever R is; x right, y UP from the bottom left
Render = namedtuple('Render', 'image mask landmarks')
Resolution = Union[int, tf.Tensor]


class FaceRenderer:
    """Draws faces of one FaceModel. `impl`: see implementations.implementation.

    `coeff` is everywhere a reconstruction vector [B, 257] float32, or [B, 254] for no translation; a resolution is
    a number or a scalar int32 tensor, so that one graph serves every resolution.
    """

    def __init__(self, model: FaceModel, impl: Optional[str] = None) -> None:
        self.model = model
        self.impl = impl
        self.decoder = FaceDecoder(model, impl=impl)
        self._points = FaceDecoder(model, model.landmarks, impl)

    def render(self, coeff: tf.Tensor, resolution: Resolution) -> Render:
        """The lit face, as the training pictures show it -> Render. Gradients reach coeff at fixed coverage."""
        coeff = with_translation(coeff)
        face = self.decoder.decode(coeff)
        image, mask = self._draw(face, face.colors, resolution, clip_to=255.0)
        return Render(image=image, mask=mask, landmarks=self.landmarks_256(coeff))

    def render_attributes(self, coeff: tf.Tensor, attributes: tf.Tensor,
                          resolution: Resolution) -> Tuple[tf.Tensor, tf.Tensor]:
        """Any numbers of the drawn vertices, attributes [B, n, C], on the face that `coeff` describes.

        Returns ([B, R, R, C] not clipped, 0 where no face is; mask [B, R, R, 1]); row 0 on top.
        """
        coeff = with_translation(coeff)
        face = self.decoder.decode(coeff)
        return self._draw(face, attributes, resolution)

    def flow(self, coeff: tf.Tensor, coeff_after: tf.Tensor,
             resolution: Resolution) -> Tuple[tf.Tensor, tf.Tensor]:
        """Where each pixel of the second face was in the first: row and column shifts, drawn on the second face.

        Returns ([B, R, R, 2] in pixels of a 256 PICTURE whatever R is: a point at (row, column) of the second picture
        was at (row + flow[0], column + flow[1]) of the first; 0 where no face is; mask [B, R, R, 1]).
        """
        before, after = (project_256(self.decoder.decode(c).vertices) for c in (coeff, coeff_after))
        shift = before - after                                                  # x right, y up
        return self.render_attributes(coeff_after, tf.stack([-shift[..., 1], shift[..., 0]], axis=-1), resolution)

    def landmarks_224(self, coeff: tf.Tensor) -> tf.Tensor:
        """[B, 68, 2] pixels of R_Net's 224 picture, y UP. Decodes 68 vertices only."""
        return project_224(self._points.points(coeff))

    def landmarks_256(self, coeff: tf.Tensor) -> tf.Tensor:
        """[B, 68, 2] pixels of a 256 render, y UP. Not `landmarks_224` scaled: the focal lengths differ."""
        return project_256(self._points.points(coeff))

    def _draw(self, face: Face, attributes: tf.Tensor, resolution: Resolution,
              clip_to: Optional[float] = None) -> Tuple[tf.Tensor, tf.Tensor]:
        """Face of the decoder -> (attributes [B, R, R, C], mask [B, R, R, 1]), row 0 on top."""
        triangles, background = self.model.region_triangles, [0.0] * attributes.shape.as_list()[-1]
        ndc, clip_w = rasterize_triangles.project(face.patch, face.projection, self.impl, count=len(self.model.region))
        weights, triangle_ids, _ = rasterize_triangles.rasterize(ndc, triangles, resolution, resolution, self.impl)
        return rasterize_triangles.interpolate(weights, triangle_ids, triangles, clip_w, attributes, background,
                                               self.impl, rows_down=True, clip_to=clip_to)
