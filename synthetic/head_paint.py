"""Colours of the synthetic head, painted on the canonical face: mean texture, what identity does to it. RGB, 0-255."""

import numpy as np

from synthetic.head_shape import EYE, bump, eye_lines, mouth_lines, ramp

SKIN = np.array([196.0, 150.0, 126.0])
_EDGE = 0.015       # decimetres over which one colour fades into the next


def masks(grid):
    """Where the parts of the face are on the canonical head: {name: [rows, columns] in 0..1}."""
    p, q, side = grid.p, grid.q, np.abs(grid.p)
    on_front = (grid.front > 0) * 1.0
    below, lower, upper, above, inside = mouth_lines(p)
    low, high, across = eye_lines(p)
    soft = lambda distance: np.clip(distance / _EDGE + 0.5, 0, 1)
    eye = soft(np.minimum(q - low, high - q)) * (across > 0)
    radius = np.hypot(side - EYE[0], (q - EYE[1] - 0.010))
    out = {
        'mouth': soft(np.minimum(q - lower, upper - q)) * (inside > 0.02),
        'lips': soft(np.minimum(q - below, above - q)) * (inside > 0),
        'eye': eye,
        'iris': eye * soft(0.066 - radius),
        'pupil': eye * soft(0.030 - radius),
        'glint': eye * np.exp(-((p - np.sign(p) * EYE[0] - 0.022) ** 2 + (q - EYE[1] - 0.036) ** 2) / 0.012 ** 2),
        'lashes': bump(q, 0, high + 0.006, 0, 0.013, 1) * across ** 0.3 * (across > 0),
        'lower lid': bump(q, 0, low - 0.004, 0, 0.011, 1) * across ** 0.3,
        'crease': bump(q, 0, high + 0.042, 0, 0.013, 1) * across ** 0.5,
        'brow': _brow(side, q, 0.036),
        'thick brow': _brow(side, q, 0.054),
        'nostril': bump(side, q, 0.058, -0.128, 0.030, 0.014, 3.0),
        'nose side': bump(side, q, 0.14, -0.08, 0.018, 0.06),
        'blush': bump(side, q, 0.42, -0.08, 0.17, 0.13),
        'nose tip': bump(p, q, 0, -0.05, 0.10, 0.07),
        'lid': bump(side, q, *EYE, 0.19, 0.12),
        'beard': ramp(q - 0.25 * np.maximum(side - 0.3, 0), -0.16, -0.30) * ramp(side, 0.72, 0.60),
        'fold': bump(side - 0.55 * (-0.1 - q), q, 0.17, -0.22, 0.022, 0.11),
        'ear shade': bump(np.abs(grid.theta), q, 1.66, 0.13, 0.05, 0.10),
    }
    return {name: mask if name == 'ear shade' else mask * on_front for name, mask in out.items()}


def _brow(side, q, thickness):
    """Brows: bold inside, thin outside, arched."""
    t = (side - 0.115) / 0.40                           # 0 at the inner end, 1 at the outer
    middle = 0.462 + 0.042 * np.sin(np.clip(t, 0, 1) * 2.4) - 0.012 * t
    half = thickness * (1 - 0.55 * np.clip(t, 0, 1)) * ramp(t, -0.06, 0.10) * ramp(t, 1.06, 0.85)
    return np.clip((half - np.abs(q - middle)) / 0.014 + 0.5, 0, 1) * (half > 0.002)


def mean_texture(grid):
    """[rows, columns, 3] RGB, 0-255."""
    m = masks(grid)
    color = np.broadcast_to(SKIN, grid.p.shape + (3,)).copy()
    teeth, tongue = _inside(grid)

    def lay(mask, rgb, opacity=1.0):
        color[...] += (np.array(rgb) - color) * (mask * opacity)[..., None]

    lay(m['blush'], (205, 132, 112), 0.35)
    lay(m['nose tip'], (206, 138, 116), 0.35)
    lay(m['lid'], (168, 118, 102), 0.40)
    lay(m['fold'], (158, 108, 90), 0.35)
    lay(m['nose side'], (150, 98, 82), 0.40)
    lay(m['ear shade'], (150, 96, 82), 0.6)
    lay(m['lips'], (176, 78, 76))
    lay(m['mouth'], (58, 16, 20))
    lay(m['mouth'] * teeth, (236, 230, 216))
    lay(m['mouth'] * tongue, (168, 70, 72))
    lay(m['crease'], (132, 86, 74), 0.55)
    lay(m['eye'], (226, 220, 216))
    lay(m['iris'], (80, 86, 92))
    lay(m['pupil'], (12, 10, 12))
    lay(np.clip(m['glint'], 0, 1), (255, 255, 255), 0.9)
    lay(np.clip(m['lashes'], 0, 1), (34, 24, 24), 0.95)
    lay(m['lower lid'], (110, 66, 60), 0.55)
    lay(m['brow'], (70, 48, 38), 0.95)
    lay(m['nostril'], (62, 30, 28), 0.9)
    return color


def _inside(grid):
    """Masks of teeth and tongue over the canonical mouth."""
    _, lower, upper, _, inside = mouth_lines(grid.p)
    depth = (upper - grid.q) / np.maximum(upper - lower, 1e-9)
    wide = ramp(np.abs(grid.p), 0.21, 0.17)
    return ramp(depth, 0.36, 0.26) * wide * (inside > 0), ramp(depth, 0.68, 0.85) * wide * (inside > 0)


def identities(grid):
    """{name: [rows, columns, 3] of one standard deviation}, in the order of the texture basis."""
    m = masks(grid)
    skin = 1 - np.clip(m['eye'] + m['mouth'] + m['brow'] + 0.9 * np.clip(m['lashes'], 0, 1) + 0.4 * m['lips'], 0, 1)
    iris = m['iris'] - m['pupil']
    paint = lambda mask, rgb: mask[..., None] * np.array(rgb, np.float64)
    return {
        'dark skin': paint(skin, (-34, -37, -36)),
        'pink skin': paint(skin, (5, -5, -3)),
        'red lips': paint(m['lips'] - m['mouth'], (12, -20, -14)),
        'light brows': paint(m['brow'], (34, 26, 16)),
        'blue eyes': paint(iris, (-6, 36, 56)),
        'light eyes': paint(iris, (26, 26, 4)),
        'beard': paint(m['beard'] * (1 - m['lips']) * skin, (-44, -37, -30)),
        'rosy cheeks': paint(m['blush'] + 0.6 * m['nose tip'], (9, -10, -7)),
        'shaded eyes': paint(m['lid'] * skin, (-15, -17, -11)),
        'thick brows': paint(m['thick brow'] - m['brow'], (-70, -56, -48)),
        'folds': paint(m['fold'] + m['crease'] + m['nose side'], (-20, -21, -19)),
    }
