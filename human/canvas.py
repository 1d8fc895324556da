"""Draws meshes with the project's rasteriser, for whoever works in NumPy: pictures of attributes, maps of depth."""

import math

import cv2
import numpy as np

from human.shading import turned


class Canvas:
    """Graph and session of the rasteriser. groups: how many attributes of three channels a picture has; fov:
    degrees of the camera. May be used from several threads at once; close it.
    """

    def __init__(self, groups=0, fov=None, threads=None):
        from dnnlib.tflib import tfutil
        from dnnlib.tflib.compat import tf
        from renderer import rasterize_triangles as door
        from renderer.face_decoder import world_projection
        with tf.Graph().as_default() as graph:
            self._points = tf.placeholder(tf.float32, [None, 3])
            self._triangles = tf.placeholder(tf.int32, [None, 3])
            self._attributes = [tf.placeholder(tf.float32, [None, 3]) for _ in range(groups)]
            self._size = tf.placeholder(tf.int32, [])
            self._depth = door.rasterize(self._points, self._triangles, self._size, self._size)[2]
            if groups:
                device, clip_w = door.project(self._points[None], world_projection(1, fov))
                where, numbers, depth = door.rasterize(device, self._triangles, self._size, self._size)
                self._picture = [door.interpolate(where, numbers, self._triangles, clip_w, one[None], [0.0] * 3,
                                                  rows_down=True)[0][0] for one in self._attributes]
                self._seen = numbers[0], depth[0]
        self._session = tfutil.create_session(threads=threads, graph=graph)

    def picture(self, points, triangles, attributes, size):
        """World points [n, 3], triangles [t, 3], attributes: arrays [n, 3] -> pictures [size, size, 3] of them, and
        the number of the triangle that each pixel shows [size, size], -1 for none; row 0 on top."""
        feed = {self._points: points, self._triangles: triangles, self._size: size}
        feed.update(zip(self._attributes, attributes))
        pictures, (numbers, depth) = self._session.run([self._picture, self._seen], feed)
        return pictures, np.where(depth < 1, numbers, -1)[::-1]

    def shadows(self, points, triangles, direction, size=192, reach=2.3):
        """What light from `direction` (unit [3], towards the light) reaches first -> Shadows."""
        axes = light_axes(direction)
        device = turned(points - points_middle(), axes.T * [1, 1, -1] / reach)
        depth = self._session.run(self._depth, {self._points: device, self._triangles: triangles, self._size: size})
        return Shadows(depth, axes, reach)

    def close(self):
        """Free the session."""
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def sample(picture, column, row, outside=None):
    """[h, w] float32 read bilinearly at places [n] float32 -> [n]. outside: the value there; None: that of the edge."""
    wide = 256                                  # OpenCV wants pictures, none of them long
    pad = -len(column) % wide
    column, row = (np.pad(np.float32(x), (0, pad), 'edge').reshape(-1, wide) for x in (column, row))
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    values = cv2.remap(picture, column, row, cv2.INTER_LINEAR, borderMode=border, borderValue=outside or 0)
    return values.reshape(-1)[:values.size - pad]


def points_middle():
    """[3] middle of what casts shadows."""
    return np.float32([0.0, 0.0, -0.2])


def light_axes(direction):
    """[3, 3] rows: right, up, and towards the light."""
    towards = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    right = np.cross([0, 1, 0] if abs(towards[1]) < 0.9 else [0, 0, 1], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


class Shadows:
    """Soft shadows from a map of depths: exponential shadow maps (Annen et al. 2008)."""

    def __init__(self, depth, axes, reach):
        self._depth, self._axes, self._reach = depth, axes, reach
        self._blurred = {}

    def lit(self, points, sharpness, blur):
        """World points [n, 3] -> share of the light that reaches them [n] float32: exp(-sharpness * decimetres behind
        what is nearest to the light). blur: deviation in pixels of the map."""
        k = min(sharpness * self._reach, 80.0)
        if (k, blur) not in self._blurred:
            self._blurred[k, blur] = cv2.GaussianBlur(np.exp(k * np.minimum(self._depth, 0.999)), (0, 0), blur)
        picture = self._blurred[k, blur]
        at = turned(points - points_middle(), self._axes.T / self._reach)
        size = len(picture)
        column, row = ((at[:, i] + 1) * (size / 2) - 0.5 for i in (0, 1))
        nearest = sample(picture, column, row, math.exp(k * 0.999))
        with np.errstate(over='ignore'):            # far in front of everything: infinity, which is cut
            return np.minimum(nearest * np.exp(np.float32(k) * at[:, 2]), 1)
