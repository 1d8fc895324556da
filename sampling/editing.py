"""Photos found in the generator's w+ (sampling/inversion.py), drawn with other coefficients (paper section 4).

    from sampling.editing import Edit, PhotoEditor
    turned = inversion.face.copy()
    turned.yaw = 0.4                                                # radians
    PhotoEditor(faces).images([Edit(inversion, turned)])            # faces: the FaceGenerator

An edit moves w by mapping(changed coefficients) - mapping(the photo's own coefficients), the same noise vector in both.
"""

from typing import Any, List, NamedTuple, Tuple

import numpy as np

from renderer import factors
from sampling.faces import Face
from sampling.inversion import Inversion


class Edit(NamedTuple):
    """A picture to be drawn: an Inversion, and the Face (coefficients) it shall have."""

    inversion: Inversion
    face: Face

    def encoded(self, kind: str) -> bytes:
        """The coefficients, see Face.encoded."""
        return self.face.encoded(kind)


class PhotoEditor:
    """Draws photos that were inverted with other coefficients. faces: the FaceGenerator they were inverted with."""

    def __init__(self, faces: Any) -> None:
        self._faces = faces

    def dlatents(self, edits: List[Edit]) -> np.ndarray:
        """w of Edits, float32 [N, num_layers, dlatent_size]: the inversion's, moved by the change of coefficients."""
        own = np.stack([edit.inversion.face.coeffs for edit in edits])
        new = own.copy()
        new[:, :factors.NUM_COEFFS] = [edit.face.coeffs[:factors.NUM_COEFFS] for edit in edits]
        move = self._faces.dlatents(new) - self._faces.dlatents(own)
        return np.stack([edit.inversion.w for edit in edits]) + move

    def images(self, edits: List[Edit], batch: int = 8) -> np.ndarray:
        """Pictures of Edits: uint8 [N, H, W, 3] RGB."""
        return self._faces.images_from_dlatents(self.dlatents(edits), batch)

    def images_and_health(self, edits: List[Edit], rate: float = 1.0, batch: int = 8) -> Tuple[np.ndarray, np.ndarray]:
        """`images`, and for each whether all its values were finite: what sampling.bulk asks for. No truncation."""
        return self._faces.images_and_health_from_dlatents(self.dlatents(edits), batch)
