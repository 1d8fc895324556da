"""Light on the surfaces of a photo: spherical harmonics as the face model has them, key light, gloss, strands."""

import cv2
import numpy as np

from renderer import factors
from renderer.face_decoder import AMBIENT

_A0, _A1, _A2 = np.pi, 2 * np.pi / 3 ** 0.5, 2 * np.pi / 8 ** 0.5
_C0, _C1, _C2 = (np.sqrt(k / (4 * np.pi)) for k in (1, 3, 15))


def vertex_normals(points, triangles):
    """Unit normals [n, 3] of vertices [n, 3], weighted by area."""
    a, b, c = (points[triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    sums = np.stack([np.bincount(triangles.reshape(-1), np.repeat(face[:, i], 3), len(points)) for i in range(3)], 1)
    return unit(sums).astype(np.float32)


def turned(points, matrix):
    """Row vectors [..., 3] times a matrix [3, 3], float32. (NumPy's own product of so thin matrices is slow.)"""
    points = np.asarray(points, np.float32)
    return cv2.transform(points.reshape(1, -1, 3), np.float32(matrix).T).reshape(points.shape)


def unit(vectors):
    """Vectors [..., 3] of length 1."""
    return vectors / (np.sqrt(np.einsum('...j,...j->...', vectors, vectors))[..., None] + 1e-9)


class Light:
    """The light that 27 coefficients describe, after the pose. coeff: [257].

    key: unit [3] towards where most light comes from; share: of the light on a surface that faces it, what comes from
    there and can be blocked; color: [3] of the light there.
    """

    def __init__(self, coeff):
        gamma = np.asarray(coeff, np.float64)[factors.LIGHTING].reshape(3, 9).copy()
        gamma[:, 0] += AMBIENT
        x, y, z, xx, yy, zz, xy, yz, zx = np.eye(9)
        basis = np.zeros([9, 10])                   # 1, x, y, z, xx, yy, zz, xy, yz, zx
        basis[0, 0] = _A0 * _C0
        basis[1, 1:] = -_A1 * _C1 * y
        basis[2, 1:] = _A1 * _C1 * z
        basis[3, 1:] = -_A1 * _C1 * x
        basis[4, 1:] = _A2 * _C2 * xy
        basis[5, 1:] = -_A2 * _C2 * yz
        basis[6, 1:] = _A2 * _C2 * 0.5 / 3 ** 0.5 * 3 * zz
        basis[6, 0] = -_A2 * _C2 * 0.5 / 3 ** 0.5
        basis[7, 1:] = -_A2 * _C2 * zx
        basis[8, 1:] = _A2 * _C2 * 0.5 * (xx - yy)
        self.terms = np.float32(gamma @ basis)      # [3 channels, 10]
        slope = self.terms[:, 1:4].mean(axis=0) + [0, 1e-4, 2e-4]
        strength = float(np.linalg.norm(slope))
        self.key = np.float32(slope / strength)
        self.color = np.float32(np.maximum(self(self.key[None])[0], 0.05))
        self.share = float(np.clip(1.6 * strength / self.color.mean(), 0.12, 0.8))

    def __call__(self, normals):
        """Unit normals [n, 3] -> factor on the texture [n, 3], at least 0."""
        n = np.asarray(normals, np.float32)
        x, y, z = n.T
        rows = np.stack([np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, y * z, z * x])
        return np.maximum(cv2.gemm(rows, self.terms, 1, None, 0, flags=cv2.GEMM_1_T | cv2.GEMM_2_T), 0)

    def shadowed(self, normals, lit, share=1.0):
        """Factor [n] on a surface's light where only `lit` [n] of the key light arrives."""
        facing = np.clip(normals @ self.key * 1.3 + 0.15, 0, 1)
        return 1 - (1 - lit) * facing * (self.share * share)


def gloss(normals, view, key, powers, shares):
    """Blinn's highlights [n] of some sharpness each, with Schlick's reflection at the edge. normals, view: unit [n, 3].
    """
    facing = np.maximum(np.einsum('nj,nj->n', normals, unit(view + key)), 0)
    edge = 1 - np.clip(np.einsum('nj,nj->n', normals, view), 0, 1)
    edge *= edge
    spots = sum(share * (power + 8) / 25 * facing ** power for power, share in zip(powers, shares))
    return spots * (0.04 + 0.48 * edge * edge)


def strand_light(light, tangents, outwards, view):
    """Light on strands [m]: diffuse [m, 3], the place of the highlight [m] as a sine to be raised to a power
    (Kajiya and Kay 1989). tangents, outwards, view: unit [m, 3]."""
    normals = outwards - np.einsum('nj,nj->n', outwards, tangents)[:, None] * tangents
    normals = unit(normals + 0.25 * view)
    along = tangents @ light.key
    diffuse = light(normals) * (0.68 + 0.32 * np.sqrt(np.maximum(1 - along ** 2, 0)))[:, None]
    half = unit(view + light.key)
    along = np.einsum('nj,nj->n', tangents, half)
    facing = np.clip(normals @ light.key + 0.3, 0, 1)
    return diffuse, along, facing
