"""Coefficients as what they do to a face: millimetres of its drawn surface, levels of albedo, degrees of its pose.

Bases are linear, so a matrix of their columns' products says all without decoding a face.
"""

from typing import Any, List, NamedTuple

import numpy as np

from renderer import factors

MILLIMETRES = 100.0             # in the unit of every face model, a decimetre
_SHAPE_COLUMNS = factors.SHAPE.stop


class Quantity(NamedTuple):
    """What people ask of a factor. unit: of the length of `of(coefficients)`; empty for lighting."""

    name: str
    factor: str
    unit: str
    coeffs: slice
    matrix: np.ndarray

    def of(self, coeff: np.ndarray) -> np.ndarray:
        """Coefficients [..., 254 or 257] -> [..., k] float64, whose differences have the length that `unit` tells."""
        return np.asarray(coeff[..., self.coeffs], np.float64) @ self.matrix.T


def quantities(model: Any) -> List[Quantity]:
    """The five of a FaceModel: shape (identity at rest), albedo, expression, lighting, pose.

    Shape and expression have the root mean square over the drawn surface of the distance that its points move, albedo
    that of the change of red, green and blue; each part of the surface counts by its area on the mean face.
    """
    weights = vertex_weights(model)
    shape = model.shape_basis.reshape(model.num_vertices, 3, -1)[model.region] * MILLIMETRES
    texture = model.texture_basis.reshape(model.num_vertices, 3, -1)[model.region] / np.sqrt(3)
    return [Quantity('shape', 'id', 'mm', factors.SHAPE, length_matrix(shape[..., :_SHAPE_COLUMNS], weights)),
            Quantity('albedo', 'id', 'levels', factors.TEXTURE, length_matrix(texture, weights)),
            Quantity('expression', 'exp', 'mm', factors.EXPRESSION,
                     length_matrix(shape[..., _SHAPE_COLUMNS:], weights)),
            Quantity('lighting', 'gamma', '', factors.LIGHTING, np.eye(factors.num_coeffs('gamma'))),
            Quantity('pose', 'rot', 'degrees', factors.ANGLES, np.degrees(np.eye(3)))]


def quantity(model: Any, name: str) -> Quantity:
    """One of `quantities`."""
    return next(found for found in quantities(model) if found.name == name)


def vertex_weights(model: Any) -> np.ndarray:
    """Shares [n] of the drawn vertices in the area of the drawn surface of the mean face; their sum is 1."""
    corners = model.mean_shape[model.region][model.region_triangles].astype(np.float64)        # [T, 3, 3]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    shares = np.bincount(model.region_triangles.reshape(-1), np.repeat(area, 3), len(model.region))
    return shares / shares.sum()


def length_matrix(basis: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Basis [n, 3, k], weights [n] of sum 1 -> R [k, k]: |R c|^2 is the weighted mean over n of |basis @ c|^2."""
    rows = (basis * np.sqrt(weights)[:, None, None]).reshape(-1, basis.shape[-1]).astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    return np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
