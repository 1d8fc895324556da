"""The two pictures beside this file: 32 photos of the human world, and what each coefficient does.

`python -m human.sheets --save_path DIR` draws photos.png and sweeps.png anew, for whoever changes the head.
"""

import argparse
import os

import cv2
import numpy as np

from dnnlib.util import atomic_path, run_main
from human import names, prior
from human.photos import Photographer
from renderer import factors

PHOTO_SIZE, SWEEP_SIZE = 144, 72    # pixels of one picture in a sheet


def photo_sheet(photographer, seed=0, columns=8, rows=4):
    """Photos number 0, 1, ... of a seed, as one picture [rows * size, columns * size, 3] RGB uint8."""
    return _joined([photographer.draw(*zip(prior.draw(seed, i)))[0][0] for i in range(columns * rows)], columns)


EXPRESSIONS = ('smile', 'laugh', 'grin', 'surprise', 'fear', 'anger', 'disgust', 'sadness', 'kiss', 'oh', 'doubt',
               'wink', 'closed eyes', 'puffed cheeks', 'jawOpen', 'smirk')
SHAPES = ('sex', 'age', 'weight', 'african', 'asian', 'nose width', 'jaw width', 'full lips')
COLORS = ('melanin', 'blood', 'gold', 'dark brows', 'thick brows', 'red lips', 'light eyes', 'tired eyes')
MARKS = ('stubble', 'moustache', 'freckles', 'blush', 'lines', 'blue eyes', 'dark lashes', 'melanin')


def sweep_sheet(photographer, scene=None):
    """One person; each row of sixteen changes one thing: expression, pose, lighting, shape, colour, then who it is.

    scene: what is around the face, for all pictures the same (None: photo 27's).
    """
    rest = np.zeros(factors.NUM_RECON, np.float32)
    rest[factors.LIGHTING] = np.tile(prior.LIGHT_MEAN, 3)
    named = [names.coefficients(**{name: 1.0}) for name in EXPRESSIONS]
    rows = [named, _poses(), _lights(), _both_ends(SHAPES), _both_ends(COLORS + MARKS)[:16],
            _both_ends(COLORS + MARKS)[16:], _people()]
    coeffs = [rest + change for row in rows for change in row]
    return _tiles(photographer, coeffs, [scene or prior.draw(0, 27)[1]] * len(coeffs), len(named))


def _change(where, values):
    """Change of the reconstruction vector [257]: values in one of its parts."""
    out = np.zeros(factors.NUM_RECON, np.float32)
    out[where] = values
    return out


def _poses():
    turns = [(0, yaw, 0) for yaw in (-0.7, -0.45, -0.2, 0.2, 0.45, 0.7)] + [(p, 0, 0) for p in (-0.3, -0.15, 0.15, 0.3)]
    turns += [(p, yaw, 0) for p in (-0.2, 0.2) for yaw in (-0.4, 0.4)] + [(0, 0, -0.15), (0, 0, 0.15)]
    return [_change(factors.ANGLES, turn) for turn in turns]


def _lights():
    """Both signs of eight harmonics, at two deviations of the prior."""
    one = np.diag(prior.LIGHT_DEVIATION)
    changes = [sign * one[harmonic] for harmonic in range(8) for sign in (-2, 2)]
    return [_change(factors.LIGHTING, np.tile(change, 3)) for change in changes]


def _both_ends(which):
    """Both ends of named directions."""
    table = names.directions()
    return [names.coefficients(**{name: end}) for name in which for end in (table[name].low, table[name].high)]


def _people(count=16):
    identity = slice(factors.SHAPE.start, factors.TEXTURE.stop)
    return [_change(identity, prior.draw(1, i)[0][identity]) for i in range(count)]


def _tiles(photographer, coeffs, scenes, columns):
    pictures = []
    for first in range(0, len(coeffs), 8):
        pictures.extend(photographer.draw(coeffs[first:first + 8], scenes[first:first + 8])[0])
    return _joined(pictures, columns)


def _joined(pictures, columns):
    return np.concatenate([np.concatenate(pictures[i:i + columns], axis=1) for i in range(0, len(pictures), columns)])


def main():
    """Draw both sheets anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--save_path', metavar='DIR', default=os.path.dirname(os.path.abspath(__file__)),
                        help='folder to write into (default: %(default)s)')
    args = parser.parse_args()
    for name, draw, size in (('photos.png', photo_sheet, PHOTO_SIZE), ('sweeps.png', sweep_sheet, SWEEP_SIZE)):
        sheet = draw(Photographer(size))
        with atomic_path(os.path.join(args.save_path, name)) as temporary:
            cv2.imwrite(temporary, sheet[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        print(os.path.join(args.save_path, name))


if __name__ == '__main__':
    run_main(main)
