"""The two pictures beside this file: 32 photos of the synthetic world, and what each coefficient does.

`python -m synthetic.sheets --save_path DIR` draws photos.png and sweeps.png anew, for whoever changes the head.
"""

import argparse
import os

import cv2
import numpy as np

from dnnlib.util import atomic_path, run_main
from renderer import factors
from synthetic import face_model, prior
from synthetic.photos import Photographer

PHOTO_SIZE, SWEEP_SIZE = 88, 72     # pixels of one picture in a sheet


def photo_sheet(photographer, seed=0, columns=8, rows=4):
    """Photos number 0, 1, ... of a seed without noise, as one picture [rows * size, columns * size, 3] RGB uint8."""
    drawn = [prior.draw(seed, i)[:2] for i in range(columns * rows)]
    return _tiles(photographer, [coeff for coeff, _ in drawn], [scene for _, scene in drawn], columns)


def sweep_sheet(photographer):
    """One person; each row changes one factor: expressions, pose, lighting, identity by shape and by colour."""
    rest = np.zeros(factors.NUM_RECON, np.float32)
    rest[factors.LIGHTING] = np.tile(prior.LIGHT_MEAN, 3)
    rows = [_expressions(), _poses(), _lights(), _identities('shape', factors.SHAPE.start),
            _identities('texture', factors.TEXTURE.start)]
    coeffs = []
    for row in rows:
        for changes in row:
            coeff = rest.copy()
            for index, value in changes.items():
                coeff[index] += value
            coeffs.append(coeff)
    scene = prior.draw(0, 27)[1]._replace(length=0.3, fringe=0.1, slope=0.0, blotch=0.0, sky=np.full(3, 120.0))
    return _tiles(photographer, coeffs, [scene] * len(coeffs), len(rows[0]))


def _expressions():
    """Sixteen: both ends of every expression that has two."""
    start = factors.EXPRESSION.start
    return [{start + i: end} for i, (_, low, high) in enumerate(prior.EXPRESSIONS) for end in (low, high)]


def _poses():
    turns = [(0, yaw, 0) for yaw in (-0.7, -0.45, -0.2, 0.2, 0.45, 0.7)] + [(p, 0, 0) for p in (-0.3, -0.15, 0.15, 0.3)]
    turns += [(p, yaw, 0) for p in (-0.2, 0.2) for yaw in (-0.4, 0.4)] + [(0, 0, -0.15), (0, 0, 0.15)]
    return [dict(zip(range(factors.ANGLES.start, factors.ANGLES.stop), turn)) for turn in turns]


def _lights():
    """Both signs of eight harmonics, at two deviations of the prior."""
    out = []
    for harmonic in range(8):
        for sign in (-2, 2):
            change = sign * prior.LIGHT_DEVIATION[harmonic]
            out.append({factors.LIGHTING.start + 9 * channel + harmonic: change for channel in range(3)})
    return out


def _identities(part, start):
    names = len(face_model.head()[2][part])
    ends = [{start + i: 2.0} for i in range(names)]
    randoms = [prior.draw(1, i)[0] for i in range(16)]
    people = [{start + j: coeff[start + j] for j in range(names)} for coeff in randoms]
    return (ends + people)[:16] if names >= 16 else ends + people[:16 - names]


def _tiles(photographer, coeffs, scenes, columns):
    pictures = []
    for first in range(0, len(coeffs), 8):
        pictures.extend(photographer.draw(coeffs[first:first + 8], scenes[first:first + 8])[0])
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
