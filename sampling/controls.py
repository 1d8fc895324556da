"""Chosen values: what a name such as yaw, light_left, smile or expression[3] means in a face's coefficients.

Every name is a direction in the 254 coefficients; its value is how far a face lies along it. Setting a value moves the
face along that direction only. NumPy only; the names of expressions and of identity come from the model's world.
"""

import re
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from dnnlib.util import UserError, listed, shown
from renderer import factors

ANGLES = ('pitch', 'yaw', 'roll')
PARTS = {'shape': factors.SHAPE, 'texture': factors.TEXTURE, 'identity': factors.BY_NAME['id'].coeffs,
         'expression': factors.EXPRESSION, 'pose': factors.ANGLES, 'lighting': factors.LIGHTING}
_DRAWN = 4000               # random faces that tell what training saw

# Light by name: value 1 is as much as the mean light on a face turned to the camera. SPEC: light on a normal n is the
# sum of coefficients times harmonics; the mean light is 0.8 of the first. Second: -ny, third: nz, fourth: -nx, each
# 2 times as strong as the first. So a share v of the mean light from one side is 0.8 v / 2 of that harmonic.
_MEAN = 0.8
_SIDE = _MEAN / 2
_LIGHTS = {                 # name: (harmonic, amount in the red, green and blue channel)
    'brightness': (0, (_MEAN, _MEAN, _MEAN)),
    'warmth': (0, (_MEAN, 0.0, -_MEAN)),
    'light_top': (1, (-_SIDE, -_SIDE, -_SIDE)),         # the harmonic falls with y: up is negative
    'light_front': (2, (_SIDE, _SIDE, _SIDE)),
    'light_left': (3, (_SIDE, _SIDE, _SIDE)),           # the harmonic falls with x: left in the picture is positive
}
LIGHT_NAMES = tuple(_LIGHTS)


class Direction(NamedTuple):
    """A name's meaning: vector [254] float64 is what a value of 1 adds; low, high: None where nobody said."""

    name: str
    vector: np.ndarray
    low: Optional[float] = None
    high: Optional[float] = None

    def value(self, coeffs: np.ndarray) -> Any:
        """How far coefficients [..., 254 or more] lie along the direction."""
        return np.asarray(coeffs, np.float64)[..., :factors.NUM_COEFFS] @ self.vector / (self.vector @ self.vector)

    def put(self, coeffs: np.ndarray, value: float) -> None:
        """Move coefficients [254 or more] along the direction until their value is `value`, in place."""
        where = np.nonzero(self.vector)[0]
        coeffs[where] += ((value - self.value(coeffs)) * self.vector[where]).astype(coeffs.dtype)


Names = Mapping[str, Tuple[str, Any, float, float]]     # name: (factor, vector in its coefficients, low, high)


def find(name: str, world_names: Optional[Names] = None, world: str = '') -> Direction:
    """The Direction of a name. world_names: what the model's world calls by name, None where it names nothing.

    UserError for an unknown name, which lists those there are.
    """
    name = name.strip()
    if name in ANGLES:
        return _unit(name, factors.ANGLES.start + ANGLES.index(name))
    if name in _LIGHTS:
        harmonic, amounts = _LIGHTS[name]
        vector = np.zeros([3, 9])
        vector[:, harmonic] = amounts
        return Direction(name, _placed(factors.LIGHTING, vector.reshape(-1)))
    match = re.match(r'([a-z]+)\[([0-9]{1,3})\]$', name)
    if match and match.group(1) in PARTS:
        part, number = PARTS[match.group(1)], int(match.group(2))
        if number >= part.stop - part.start:
            raise UserError(f'{name}: {match.group(1)} has numbers from 0 to {part.stop - part.start - 1}')
        return _unit(name, part.start + number)
    for known, (factor, vector, low, high) in (world_names or {}).items():
        if _plain(known) == _plain(name):
            return Direction(known, _placed(_coeffs_of(factor), vector), low, high)
    raise UserError(f'unknown name {shown(name)}: expected {", ".join(ANGLES + LIGHT_NAMES)}, a component such as '
                    f'expression[3] (of {", ".join(PARTS)})' + _named(world_names, world))


def _named(world_names, world):
    if not world_names:
        return f'; the {world + " " if world else ""}face model names no expressions and no identity directions'
    return f', or, in this world, {listed(sorted(world_names), 80).replace(chr(39), "")}'


def _plain(name):
    """Spaces, underscores and capitals do not tell names apart."""
    return re.sub('[ _-]', '', name).lower()


def _coeffs_of(factor):
    return next(f.coeffs for f in factors.FACTORS if factor in (f.name, f.word))


def _placed(where, vector):
    full = np.zeros(factors.NUM_COEFFS)
    full[where] = np.asarray(vector, np.float64)
    return full


def _unit(name, index):
    full = np.zeros(factors.NUM_COEFFS)
    full[index] = 1.0
    return Direction(name, full)


# ---- what people write

def parse_value(name: str, text: str) -> float:
    """'0.4' or, of a pose angle, '25deg' -> a number (radians). UserError for anything else."""
    text = text.strip()
    scale = 1.0
    if text.endswith('deg') and name.strip() in ANGLES:
        text, scale = text[:-3], np.pi / 180
    try:
        value = float(text) * scale if re.match(r'[-+0-9.eE]+$', text) else np.nan
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UserError(f'{shown(name)}={shown(text)}: expected a number' + (', radians, or degrees such as 25deg'
                                                                            if name.strip() in ANGLES else ''))
    return float(value)


def parse_settings(text: str) -> Dict[str, float]:
    """'yaw=0.4,smile=1' -> {'yaw': 0.4, 'smile': 1.0}, in this order. UserError for what is not so."""
    found = {}
    for item in text.split(','):
        name, sign, value = item.partition('=')
        if not sign or not name.strip():
            raise UserError(f'{shown(item)}: expected name=value, e.g. yaw=0.4')
        if name.strip() in found:
            raise UserError(f'{shown(name.strip())}: is there twice; give one value')
        found[name.strip()] = parse_value(name, value)
    return found


def parse_sweep(text: str) -> Tuple[str, List[float]]:
    """'yaw=-0.6:0.6:9' -> ('yaw', nine values). UserError for what is not so."""
    name, _, value = text.partition('=')
    parts = value.split(':')
    number = re.match(' *([0-9]{1,4}) *$', parts[-1])
    if not name.strip() or len(parts) != 3 or not number or not 2 <= int(number.group(1)) <= 1000:
        raise UserError(f'{shown(text)}: expected name=from:to:count with a count from 2 to 1000, e.g. yaw=-0.6:0.6:9')
    first, last = (parse_value(name, part) for part in parts[:2])
    return name.strip(), np.linspace(first, last, int(number.group(1))).tolist()


def parse_range(text: str) -> Tuple[str, List[float]]:
    """'yaw=-0.6:0.6' -> ('yaw', [-0.6, 0.6]). UserError for what is not so."""
    name, _, value = text.partition('=')
    parts = value.split(':')
    if not name.strip() or len(parts) != 2:
        raise UserError(f'{shown(text)}: expected name=from:to, e.g. yaw=-0.6:0.6'
                        + (', without a count: the frames are counted by the video' if len(parts) == 3 else ''))
    return name.strip(), [parse_value(name, part) for part in parts]


# ---- values for one model

class Controls:
    """The names of one model with the values its training saw.

    draw: count -> coefficients [count, 254] of random faces, which tell the range of a name whose world says none.
    """

    def __init__(self, draw: Callable[[int], np.ndarray], world_names: Optional[Names] = None, world: str = '') -> None:
        self._draw, self._names, self._world = draw, world_names, world
        self._drawn: Optional[np.ndarray] = None

    def find(self, name: str) -> Direction:
        """The Direction of a name with its limits. UserError for an unknown one."""
        direction = find(name, self._names, self._world)
        if direction.low is not None:
            return direction
        if self._drawn is None:
            self._drawn = self._draw(_DRAWN)
        values = direction.value(self._drawn)
        return direction._replace(low=float(values.min()), high=float(values.max()))

    def all(self) -> List[Direction]:
        """The Direction of every name with its limits; of numbered components none."""
        return [self.find(name) for name in ANGLES + LIGHT_NAMES + tuple(self._names or ())]

    def clip(self, name: str, values: Sequence[float]) -> Tuple[Direction, List[float], Optional[str]]:
        """(Direction, values within its limits, a line that says the range or None where nothing was clipped)."""
        direction = self.find(name)
        inside = [min(max(value, direction.low), direction.high) for value in values]
        if inside == list(values):
            return direction, inside, None
        outside = [value for value, kept in zip(values, inside) if value != kept]
        line = f'{name}={outside[0]:.3g}: training saw {direction.low:.3g} to {direction.high:.3g}; ' \
               f'{len(outside)} of {len(values)} values are moved there'
        return direction, inside, line


def apply(coeffs: np.ndarray, changes: Sequence[Tuple[Direction, float]]) -> np.ndarray:
    """A copy of coefficients [254 or more] with the values put one after the other."""
    changed = np.array(coeffs)
    for direction, value in changes:
        direction.put(changed, value)
    return changed
