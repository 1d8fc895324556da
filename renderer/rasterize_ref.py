"""The rasteriser of renderer/kernels again in NumPy: slow, clear, and equal to it (Genova et al. 2018).

One picture at a time, row 0 at the bottom. Float32 where the op rounds to float32, Python integers in its 16.16 fixed
point: the forward results are the same bits. Gradients are taken in float64.
"""

from typing import Tuple

import numpy as np

MAX_PIXEL = 2.0 ** 44           # vertices further out than this are not drawn
MIN_BARYCENTRIC_SUM = 0.9       # of pixels that take part in the gradient
MIN_DOUBLED_AREA = 1e-13        # of triangles that take part in the gradient, in device coordinates


def _edge(px, py, ax, ay, bx, by):
    """(p - a) x (b - a): doubled signed area of the triangle p, b, a."""
    return (px - ax) * (by - ay) - (py - ay) * (bx - ax)


def _edges(px, py, x, y):
    """Edge functions of points p opposite vertex 0, 1 and 2 of the triangle x, y."""
    return [_edge(px, py, x[i], y[i], x[j], y[j]) for i, j in ((1, 2), (2, 0), (0, 1))]


def _fixed(values):
    """Pixels as 16.16 fixed point, truncated towards zero; Python integers, which never overflow."""
    return [int(float(value) * 65536.0) for value in values]


def _span(values, size):
    """Range of the pixels of 0..size-1 that the bounding interval of float `values` touches."""
    first, last = float(np.floor(values.min())), float(np.ceil(values.max()))
    return range(int(max(first, 0.0)), int(min(last, float(size))))


def _covered(column, row, fx, fy):
    """Whether the centre of a pixel lies inside the triangle or on its border, whatever its winding."""
    px, py = column * 65536 + 32768, row * 65536 + 32768
    inside_box = min(fx) <= px <= max(fx) and min(fy) <= py <= max(fy)
    edges = _edges(px, py, fx, fy)
    return inside_box and (all(e >= 0 for e in edges) or all(e <= 0 for e in edges))


def rasterize(vertices: np.ndarray, triangles: np.ndarray, image_width: int,
              image_height: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one mesh; see rasterize_triangles.rasterize for arguments and results.

    vertices: [N, 3] float32. triangles: [T, 3]. Returns barycentric [H, W, 3] float32, triangle_ids [H, W] int32 and
    z_buffer [H, W] float32.
    """
    vertices = np.asarray(vertices, np.float32)
    barycentric = np.zeros([image_height, image_width, 3], np.float32)
    triangle_ids = np.zeros([image_height, image_width], np.int32)
    z_buffer = np.ones([image_height, image_width], np.float32)
    with np.errstate(all='ignore'):     # of vertices that are not finite, and of slivers
        screen = ((vertices[:, :2].astype(np.float64) + 1.0) * [0.5 * image_width, 0.5 * image_height])
        screen = screen.astype(np.float32)
        for index, corners in enumerate(triangles):
            x, y = screen[corners].T
            z = vertices[corners, 2]
            for row, column, b, depth in _fragments(x, y, z, image_width, image_height):
                if depth <= z_buffer[row, column]:
                    barycentric[row, column] = b
                    triangle_ids[row, column] = index
                    z_buffer[row, column] = depth
    return barycentric, triangle_ids, z_buffer


def _fragments(x, y, z, width, height):
    """Yields (row, column, weights, depth) of each pixel a triangle covers, in pixels, within depth -1..1."""
    if not (np.abs([x, y]) <= MAX_PIXEL).all():
        return
    fx, fy = _fixed(x), _fixed(y)
    area = _edge(x[2], y[2], x[0], y[0], x[1], y[1])
    if area == 0 or _edge(fx[2], fy[2], fx[0], fy[0], fx[1], fy[1]) == 0:
        return
    for row in _span(y, height):
        for column in _span(x, width):
            if _covered(column, row, fx, fy):
                edges = _edges(np.float32(column + 0.5), np.float32(row + 0.5), x, y)
                b0, b1 = edges[0] / area, edges[1] / area
                b2 = np.float32(1.0) - b0 - b1
                depth = b0 * z[0] + b1 * z[1] + b2 * z[2]
                if -1.0 <= depth <= 1.0:
                    yield row, column, (b0, b1, b2), depth


def rasterize_gradient(vertices: np.ndarray, triangles: np.ndarray, barycentric: np.ndarray,
                       triangle_ids: np.ndarray, df_dbarycentric: np.ndarray) -> np.ndarray:
    """Gradient with respect to the vertices [N, 3] at fixed coverage, of one mesh: x and y only, z gets 0."""
    df_dvertices = np.zeros(np.shape(vertices), np.float64)
    for row, column in np.argwhere(barycentric.sum(-1) >= MIN_BARYCENTRIC_SUM):
        corners = triangles[triangle_ids[row, column]]
        x, y = np.asarray(vertices, np.float64)[corners, :2].T
        area = _edge(x[2], y[2], x[0], y[0], x[1], y[1])
        if abs(area) < MIN_DOUBLED_AREA:
            continue
        slope_x = np.array([y[2] - y[1], y[0] - y[2], y[1] - y[0]]) / area      # d weight / d place of the pixel
        slope_y = np.array([x[1] - x[2], x[2] - x[0], x[0] - x[1]]) / area
        df = df_dbarycentric[row, column].astype(np.float64)
        # Moving vertex k changes the weights as if the pixel moved the other way, b_k times as far.
        np.add.at(df_dvertices[:, 0], corners, -barycentric[row, column] * (df @ slope_x))
        np.add.at(df_dvertices[:, 1], corners, -barycentric[row, column] * (df @ slope_y))
    limit = np.finfo(np.float32).max
    return np.clip(df_dvertices, -limit, limit).astype(np.float32)
