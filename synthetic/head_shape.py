"""Shape of the synthetic head: a grid around the head, its features, and what identity and expression do to it.

Decimetres; x right, y up, z towards the camera. Everything is a displacement field over the CANONICAL picture of the
face, (p, q) = (x, y) of the plain head, in which eyes and mouth stand wide open: so that eyeballs, teeth and the inside
of the mouth have vertices of their own, however little of them an expression shows.
"""

import numpy as np

NUM_COLUMNS = 96

# Rings from the crown to below the chin: front y and z, back y and z, half width. The front lacks its features.
_RINGS = np.array([
    [1.400, -0.43, 1.400, -0.47, 0.02],
    [1.370, -0.15, 1.370, -0.80, 0.34],
    [1.240, 0.06, 1.250, -1.10, 0.56],
    [1.050, 0.185, 1.050, -1.30, 0.665],
    [0.800, 0.265, 0.800, -1.42, 0.730],
    [0.550, 0.295, 0.550, -1.45, 0.755],
    [0.300, 0.270, 0.300, -1.42, 0.755],
    [0.100, 0.275, 0.120, -1.34, 0.735],
    [-0.120, 0.295, -0.050, -1.22, 0.710],
    [-0.300, 0.310, -0.180, -1.10, 0.670],
    [-0.450, 0.300, -0.280, -1.00, 0.620],
    [-0.600, 0.290, -0.360, -0.95, 0.535],
    [-0.720, 0.290, -0.420, -0.92, 0.440],
    [-0.830, 0.245, -0.460, -0.90, 0.335],
    [-0.890, 0.120, -0.500, -0.88, 0.300],
    [-0.880, -0.100, -0.520, -0.85, 0.220],
    [-0.820, -0.300, -0.540, -0.80, 0.120],
    [-0.740, -0.500, -0.600, -0.68, 0.020]])

# How many rows of vertices lie between which heights (of the front).
_ROWS = ((1.400, 4), (1.05, 6), (0.58, 7), (0.43, 17), (0.17, 10), (-0.17, 4), (-0.27, 21), (-0.56, 9), (-0.86, 0))
_ROWS_BELOW = 5

EYE = (0.31, 0.295)         # centre of the right eye (positive x)
EYE_WIDTH = 0.142           # half
MOUTH = -0.375              # height of the mouth
MOUTH_WIDTH = 0.235         # half
_OPEN_MOUTH = 0.13          # height of the canonical mouth's inside
_REST_MOUTH = 0.050         # of the mean face's
_REST_BLINK = 0.15          # how far the mean face's eyes are closed
_VARIETY = 0.85             # how different people are: scales every identity field
_REST_SMILE = 0.8           # a friendly mean face


class Grid:
    """The plain head. theta: [rows, columns] angle around the head, 0 in front, positive towards x; canonical p, q."""

    def __init__(self):
        position = _row_positions()
        table = np.stack([_smooth_interpolate(position, column) for column in _RINGS.T], axis=1)    # [rows, 5]
        theta = _column_angles()
        back = (1 - np.cos(theta)) / 2
        front_y, front_z, back_y, back_z, width = (table[:, i:i + 1] for i in range(5))
        self.theta = np.broadcast_to(theta, (len(table), NUM_COLUMNS))
        self.shape = np.stack([width * np.sin(theta), front_y + (back_y - front_y) * back,
                               front_z + (back_z - front_z) * back], axis=-1)                       # [rows, columns, 3]
        self.p, self.q = self.shape[..., 0], self.shape[..., 1]
        self.front = ramp(np.cos(self.theta), -0.05, 0.60)          # features belong to the front of the head
        self.front_y = table[:, 0]


def _row_positions():
    """Row -> place along the table of rings (its index, fractional)."""
    heights = np.concatenate([np.linspace(top, bottom, count, endpoint=False)
                              for (top, count), (bottom, _) in zip(_ROWS[:-1], _ROWS[1:])])
    lowest = int(np.argmin(_RINGS[:, 0]))
    index = np.arange(lowest + 1)
    position = np.interp(heights, _RINGS[lowest::-1, 0], index[::-1])
    return np.concatenate([position, np.linspace(np.interp(_ROWS[-1][0], _RINGS[lowest::-1, 0], index[::-1]),
                                                 len(_RINGS) - 1, _ROWS_BELOW)])


def _smooth_interpolate(position, values):
    """Catmull-Rom spline through `values` at 0, 1, 2, ...; at fractional positions."""
    i = np.clip(position.astype(int), 0, len(values) - 2)
    t = position - i
    padded = np.concatenate([[2 * values[0] - values[1]], values, [2 * values[-1] - values[-2]]])
    a, b, c, d = (padded[i + k] for k in range(4))
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def _column_angles():
    """[NUM_COLUMNS] angles in (-pi, pi), symmetric, three times as dense in front as behind."""
    fine = np.linspace(0, np.pi, 2001)
    density = 0.16 + np.exp(-(fine / 0.80) ** 6) + 0.25 * np.exp(-((fine - 1.1) / 0.5) ** 2)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    half = np.interp((np.arange(NUM_COLUMNS // 2) + 0.5) / (NUM_COLUMNS // 2), total / total[-1], fine)
    return np.concatenate([-half[::-1], half])


# ------------------------------------------------------------------------------------------------ pieces of fields

def bump(x, y, cx, cy, sx, sy, power=2.0):
    """exp(-|dx/sx|^power - |dy/sy|^power)."""
    return np.exp(-np.abs((x - cx) / sx) ** power - np.abs((y - cy) / sy) ** power)


def ramp(x, start, stop):
    """0 at start, 1 at stop (either order), smooth in between."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def eye_lines(p):
    """Heights of the canonical lower and upper lid at |p|, and 0..1 across the eye (0 beyond its corners)."""
    t = (np.abs(p) - EYE[0]) / EYE_WIDTH
    inside = np.maximum(1 - t ** 2, 0)
    tilt = 0.014 * t                                    # outer corner a little higher
    return EYE[1] - 0.050 * inside + tilt, EYE[1] + 0.074 * inside ** 0.7 + tilt, inside


def mouth_lines(p):
    """Heights of the canonical mouth's lines: lower edge of the lower lip, its inner edge, inner edge of the upper lip,
    its upper edge; and 1 in the middle of the mouth .. 0 at its corners."""
    inside = np.maximum(1 - (p / MOUTH_WIDTH) ** 2, 0)
    bow = 0.012 * np.exp(-((np.abs(p) - 0.06) / 0.04) ** 2) - 0.008 * np.exp(-(p / 0.025) ** 2)
    upper = MOUTH + 0.05 * inside
    lower = upper - _OPEN_MOUTH * inside
    return lower - 0.080 * inside ** 0.6, lower, upper, upper + (0.052 + bow) * inside ** 0.6, inside


def _field(x=0.0, y=0.0, z=0.0, like=None):
    return np.stack(np.broadcast_arrays(x, y, z, like)[:3], axis=-1)


# ------------------------------------------------------------------------------------------------ features

def features(grid):
    """The mean face minus the plain canonical head: nose, sockets, lips, ears; eyes and mouth at rest. [.., 3]"""
    p, q, side = grid.p, grid.q, np.abs(grid.p)
    z = _nose(p, q)
    z = z - 0.085 * bump(side, q, 0.27, 0.29, 0.17, 0.11) + 0.055 * bump(side, q, *EYE, 0.12, 0.075)
    z = z + 0.035 * bump(side, q, 0.28, 0.45, 0.24, 0.06)                                   # brow
    z = z + 0.045 * bump(side, q, 0.45, 0.04, 0.18, 0.15)                                   # cheekbone
    z = z - 0.030 * bump(side, q, 0.44, -0.34, 0.14, 0.16)                                  # hollow below it
    z = z + 0.050 * bump(p, q, 0, -0.37, 0.26, 0.17) + 0.060 * bump(p, q, 0, -0.76, 0.17, 0.10)     # teeth; chin
    z = z - 0.045 * bump(p, q, 0, -0.585, 0.20, 0.055) - 0.016 * bump(p, q, 0, -0.23, 0.022, 0.06)  # furrows
    z = z - 0.012 * ramp(q, -0.22, -0.30) * bump(side - 0.55 * (-0.1 - q), q, 0.17, -0.22, 0.03, 0.10)
    below, lower, upper, above, inside = mouth_lines(p)
    lip = inside ** 0.5
    z = z + 0.050 * lip * bump(q, 0, (upper + above) / 2, 0, 0.030, 1)
    z = z + 0.062 * lip * bump(q, 0, (lower + below) / 2, 0, 0.038, 1)
    z = z - 0.040 * inside * ((q < upper) & (q > lower))                                    # the mouth lies deeper
    low, high, across = eye_lines(p)
    z = z - 0.016 * across * ((q > low) & (q < high))                                       # the eyeball too
    z = z - 0.018 * across ** 0.5 * bump(q, 0, high + 0.042, 0, 0.016, 1)                   # crease of the lid
    shape = _field(z=z * grid.front, like=p)
    ala = bump(side, q, 0.095, -0.075, 0.05, 0.055) * grid.front
    shape += _field(x=0.018 * np.sign(p) * ala, z=0.045 * ala, like=p)
    rest = _REST_BLINK * blink(grid) + (_REST_MOUTH - _OPEN_MOUTH) * open_mouth(grid)
    return shape + _ears(grid) + rest + _REST_SMILE * _smile(grid, grid.front)


def _nose(p, q):
    """Height of the nose above the plain face."""
    along = np.array([[0.46, 0.0], [0.36, 0.02], [0.28, 0.055], [0.18, 0.12], [0.08, 0.19], [0.0, 0.245],
                      [-0.05, 0.262], [-0.085, 0.235], [-0.12, 0.13], [-0.15, 0.04], [-0.18, 0.0]])
    height = np.interp(q, along[::-1, 0], along[::-1, 1])
    width = np.interp(q, [-0.2, -0.05, 0.1, 0.3, 0.45], [0.125, 0.105, 0.085, 0.070, 0.10])
    return height * np.exp(-np.abs(p / width) ** 2.2)


def _ears(grid):
    """Simple shells that stand off at the sides."""
    ear = bump(np.abs(grid.theta), grid.q, 1.74, 0.15, 0.13, 0.20, 4.0)
    rim = bump(np.abs(grid.theta), grid.q, 1.76, 0.15, 0.06, 0.13, 2.0)
    return _field(x=np.sign(grid.p) * (0.13 * ear - 0.05 * rim), z=-0.10 * ear, like=grid.p)


# ------------------------------------------------------------------------------------------------ expression

def open_mouth(grid):
    """Jaw down so far that the mouth's inside grows by 1 at its middle."""
    p, q = grid.p, grid.q
    below, lower, upper, _, inside = mouth_lines(p)
    share = np.clip((upper - q) / np.maximum(upper - lower, 1e-9), 0, 1)    # 0 at the upper lip, 1 at the lower
    share = np.where(inside > 0, share, ramp(q, MOUTH, MOUTH - 0.02))
    jaw = 0.72 * np.exp(-np.abs(p / 0.52) ** 4)
    down = ramp(q, np.minimum(below, MOUTH - 0.02), -0.66)
    amount = share * (inside * (1 - down) + jaw * down)
    return _field(y=-amount * grid.front, z=-0.30 * amount * down * grid.front, like=p)


def blink(grid):
    """Upper lids down: 1 closes the canonical eye."""
    p, q = grid.p, grid.q
    low, high, inside = eye_lines(p)
    below_lid = np.clip(q - low, 0, high - low)
    fade = ramp(q, high + 0.11, high)
    return _field(y=-below_lid * fade * grid.front, z=0.020 * inside * bump(q, 0, (low + high) / 2, 0, 0.05, 1), like=p)


def _smile(grid, weight):
    """Mouth bent upwards, its corners drawn apart and back, cheeks and lower lids raised."""
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    mouth = bump(p, q, 0, MOUTH, 0.37, 0.19, 3.0) * weight
    bend = np.minimum((side / MOUTH_WIDTH) ** 2, 1.3) - 0.38
    cheek = bump(side, q, 0.40, -0.06, 0.17, 0.14) * weight
    lid = bump(side, q, EYE[0], 0.225, 0.15, 0.05) * weight
    return _field(x=0.23 * p * mouth + sign * 0.012 * cheek, y=0.092 * bend * mouth + 0.030 * cheek + 0.014 * lid,
                  z=(0.038 * cheek - 0.045 * np.minimum(side / MOUTH_WIDTH, 1) ** 2 * mouth) * grid.front, like=p)


def expressions(grid):
    """{name: field of one unit}. The order is that of the columns of the expression basis."""
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    brow = bump(side, q, 0.31, 0.47, 0.25, 0.11) * grid.front
    inner = bump(side, q, 0.13, 0.46, 0.13, 0.10) * grid.front
    outer = bump(side, q, 0.46, 0.46, 0.13, 0.10) * grid.front
    lips = bump(p, q, 0, MOUTH, 0.27, 0.16) * grid.front
    jaw = ramp(q, MOUTH + 0.1, -0.62) * np.exp(-np.abs(p / 0.6) ** 4) * grid.front
    return {
        'open mouth': 0.080 * open_mouth(grid),
        'smile': _smile(grid, grid.front),
        'raised brows': _field(y=0.062 * brow, z=0.010 * brow, like=p),
        'closed eyes': 0.33 * blink(grid),
        'pucker': _field(x=-0.24 * p * lips, z=0.045 * lips, like=p),
        'angry brows': _field(x=-0.018 * sign * inner, y=0.028 * outer - 0.044 * inner, z=0.010 * inner, like=p),
        'jaw aside': _field(x=0.036 * jaw, like=p),
        'crooked smile': _smile(grid, 0.42 * np.tanh(p / 0.12) * grid.front),
    }


# ------------------------------------------------------------------------------------------------ identity

def identities(grid, mean):
    """{name: field of one standard deviation} in the order of the basis; mean: [.., 3] mean shape."""
    out = dict(_outline_identities(grid, mean), **_nose_identities(grid))
    out.update(_eye_identities(grid), **_mouth_identities(grid))
    return {name: _VARIETY * field for name, field in out.items()}


def _outline_identities(grid, mean):
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    x, y, z = mean[..., 0], mean[..., 1], mean[..., 2]
    chin, cheek = bump(p, q, 0, -0.78, 0.24, 0.16), bump(side, q, 0.50, 0.03, 0.20, 0.17)
    fat = bump(side, q, 0.52, -0.36, 0.22, 0.24)
    return {
        'wide head': _field(x=0.042 * x, z=0.015 * z, like=p),
        'long face': _field(y=0.055 * np.minimum(y - 0.35, 0) + 0.02 * np.maximum(y - 0.6, 0), like=p),
        'wide jaw': _field(x=0.075 * x * ramp(q, -0.10, -0.60), like=p),
        'strong chin': _field(y=-0.032 * chin, z=0.036 * chin, like=p),
        'high cheekbones': _field(x=0.030 * sign * cheek, y=0.012 * cheek, z=0.030 * cheek, like=p),
        'full cheeks': _field(x=0.040 * sign * fat, z=0.024 * fat * grid.front, like=p),
        'high forehead': _field(y=0.09 * ramp(q, 0.5, 1.1), z=0.03 * ramp(q, 0.5, 0.9) * grid.front, like=p),
    }


def _nose_identities(grid):
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    tip, base = bump(p, q, 0, -0.06, 0.15, 0.13), bump(side, q, 0.09, -0.07, 0.07, 0.09)
    return {
        'long nose': _field(y=-0.040 * tip, like=p),
        'wide nose': _field(x=0.034 * sign * base * np.minimum(side / 0.05, 1), like=p),
        'big nose': _field(z=0.22 * _nose(p, q), like=p),
        'hooked nose': _field(z=0.036 * bump(p, q, 0, 0.13, 0.06, 0.08), like=p),
        'snub nose': _field(y=0.028 * bump(p, q, 0, -0.05, 0.09, 0.07), z=0.012 * tip, like=p),
    }


def _eye_identities(grid):
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    eye = bump(side, q, *EYE, 0.22, 0.17) * grid.front
    brow = bump(side, q, 0.30, 0.46, 0.28, 0.09) * grid.front
    return {
        'wide-set eyes': _field(x=0.030 * sign * eye, like=p),
        'large eyes': _field(x=0.13 * (side - EYE[0]) * sign * eye, y=0.20 * (q - EYE[1]) * eye, like=p),
        'slanted eyes': _field(y=0.12 * (side - EYE[0]) * eye, like=p),
        'high brows': _field(y=0.028 * brow, like=p),
        'strong brows': _field(z=0.028 * brow, like=p),
    }


def _mouth_identities(grid):
    p, q, side, sign = grid.p, grid.q, np.abs(grid.p), np.sign(grid.p)
    below, lower, upper, above, inside = mouth_lines(p)
    up, down = bump(q, 0, above, 0, 0.045, 1), bump(q, 0, below, 0, 0.06, 1)
    lips = inside ** 0.5
    corner = bump(side, q, MOUTH_WIDTH, MOUTH, 0.16, 0.12)
    return {
        'full lips': _field(y=lips * (0.020 * up - 0.024 * down), z=0.030 * lips * (up + down), like=p),
        'wide mouth': _field(x=0.034 * sign * corner, like=p),
        'low mouth': _field(y=-0.026 * bump(p, q, 0, -0.40, 0.36, 0.20), like=p),
    }
