"""Options that the scripts which draw faces share; checked before TensorFlow is loaded, one line for each mistake.

Nor is NumPy, by --help: it would take three times as long.
"""

import argparse
import os
import re
import sys
from typing import Any, List, Optional, Tuple

from dnnlib import places
from dnnlib.options import Parser, real, whole  # noqa: F401  (Parser: the scripts take it from here)
from dnnlib.util import PRECISION_HELP, PRECISIONS, UserError
from renderer.factors import FACTOR_CHOICES
from sampling.part_names import FILE_KINDS, FILE_PARTS, part_name

RATE = 0.7                  # of truncation: 1 leaves w alone, 0 gives everybody the average identity
STEPS = 400                 # of the search that inverts a batch of photos
W_ID = 0.5                  # of the identity term in it; pixels weigh 1 at each size
FACTORS_HELP = ', '.join(f'{i} {word}' for i, (word, _) in enumerate(FACTOR_CHOICES)) + '; number or word'
_NAMES_HELP = '''pitch, yaw, roll: radians, or degrees such as 25deg;
light_left, light_top, light_front, brightness, warmth: 1 is as much as the mean light;
expression[3], shape[0], texture[5] ...: one coefficient by number;
and what the model's world calls by name, such as smile (a wrong name lists them; the Basel model names none).
Values beyond what training saw are moved to its edge, and a line says so.'''


def shard(text: str) -> Tuple[int, int]:
    """'2/8' -> (1, 8): the share of this run (from 0) and how many shares there are."""
    first, _, second = text.partition('/')
    if not (text.isascii() and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second)):
        raise argparse.ArgumentTypeError(f'{text!r} is no shard: expected I/N with I from 1 to N, e.g. 2/8')
    return int(first) - 1, int(second)


def add_model_options(parser: Parser, truncates: bool = True) -> None:
    """--model, --vae_weights and, where pictures are truncated, --average_w."""
    group = parser.add_argument_group('model')
    group.add_argument('--model', metavar='FILE', help='network-snapshot-*.pkl (default: the released model, from '
                       'cache/ or downloaded, else the small one in demo/)')
    group.add_argument('--vae_weights', metavar='DIR', help='folder of the four VAEs (default: the model\'s own, else '
                       'vae/weights)')
    if not truncates:
        return
    group.add_argument('--average_w', metavar='FILE', help='average of w over identities (default: '
                       '<model>-average_w_id.txt beside the model, computed once where missing)')


def add_output_options(parser: Parser, outdir: Optional[str], outdir_help: Optional[str] = None) -> Any:
    """--outdir, --batch, --overwrite, --save_coeffs and the contact sheet's -> their group. outdir: the default."""
    group = parser.add_argument_group('pictures')
    group.add_argument('--outdir', metavar='DIR', default=outdir, help='folder of the pictures, from where you are '
                       f'(default: {outdir_help or outdir})')
    group.add_argument('--batch', type=whole(1), default=8, metavar='N', help='pictures at a time; changes the '
                       'speed, not the pictures (default: %(default)s)')
    group.add_argument('--save_coeffs', choices=FILE_KINDS, help='also write the numbers of each picture beside it: '
                       'coeff (257), noise, z (default: off)')
    group.add_argument('--overwrite', action='store_true', help='make existing pictures again; removes only what '
                       'made.jsonl there says was made here (default: they are kept, an interrupted run is taken up)')
    group.add_argument('--grid', action='store_true', help='also write a contact sheet with labels, grid.png '
                       '(default: off)')
    group.add_argument('--grid_scale', type=whole(1, 32), metavar='N', help='enlarge its tiles N times (default: '
                       'to at least 128 pixels)')
    group.add_argument('--grid_filter', choices=['nearest', 'bicubic'], default='bicubic', help='how to enlarge them '
                       '(default: %(default)s)')
    return group


def add_drawing_options(group: Any) -> None:
    """--rate, --noise-mode and --precision, of pictures that are drawn from coefficients."""
    add_rate_option(group)
    group.add_argument('--noise-mode', choices=['const', 'random', 'none'], default='const', help='noise maps of the '
                       'generator: the stored ones, each picture its own, or none (default: %(default)s)')
    group.add_argument('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP)


def add_rate_option(group: Any) -> None:
    """--rate, or --trunc."""
    group.add_argument('--rate', type=real(0, 1), default=RATE, metavar='R', help='truncation of identity: 1 '
                       'none, 0 everybody alike (default: %(default)s)')
    group.add_argument('--trunc', dest='rate', type=real(0, 1), default=argparse.SUPPRESS, metavar='R',
                       help='another name of --rate')


class _Together(argparse.Action):
    """Several --set count together; a name may be there once."""

    def __call__(self, parser, namespace, values, option_string=None):
        before = getattr(namespace, self.dest)
        twice = sorted(set(before) & set(values))
        if twice:
            parser.error(f'{option_string}: {twice[0]} is there twice; give one value')
        setattr(namespace, self.dest, dict(before, **values))


def add_control_options(parser: Parser, moving: bool = False) -> None:
    """--set and --sweep: chosen values. moving: a sweep is a range to move through, and there may be several."""
    group = parser.add_argument_group('chosen values', _NAMES_HELP)
    group.add_argument('--set', type=_settings, default={}, metavar='NAME=VALUE,...',
                       dest='chosen', action=_Together,
                       help='these values in every picture, e.g. yaw=0.4,smile=1 (default: none)')
    if moving:
        group.add_argument('--sweep', type=_range, metavar='NAME=FROM:TO', dest='sweeps',
                           action='append', default=[], help='move through these values, e.g. yaw=-0.6:0.6; several: '
                           'one after the other, and between them back to each person\'s own (default: none)')
        return
    group.add_argument('--sweep', type=_sweep, metavar='NAME=FROM:TO:COUNT',
                       help='a column for each value, e.g. yaw=-0.6:0.6:9 (default: none)')


def _settings(text):
    from sampling import controls  # here: it needs NumPy
    return _in_one_line(controls.parse_settings, text)


def _sweep(text):
    from sampling import controls
    return _in_one_line(controls.parse_sweep, text)


def _range(text):
    from sampling import controls
    return _in_one_line(controls.parse_range, text)


def _in_one_line(parse, text):
    try:
        return parse(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error))


def chosen_values(args: argparse.Namespace, faces: Any) -> Tuple[List[Any], List[Any]]:
    """(changes of every picture, [(label, changes)] of the columns) of --set and --sweep, for `controls.apply`.

    faces: a FaceGenerator. Says on stderr what is outside of what training saw. UserError for unknown names.
    """
    fixed, columns = fixed_values(args, faces), []
    if args.sweep:
        direction, values = clipped(faces, *args.sweep)
        columns = [(f'{args.sweep[0]}={value:.2g}', [(direction, value)]) for value in values]
    return fixed, columns


def fixed_values(args: argparse.Namespace, faces: Any) -> List[Any]:
    """The changes of every picture of --set, see `chosen_values`."""
    fixed = [clipped(faces, name, [value]) for name, value in args.chosen.items()]
    return [(direction, values[0]) for direction, values in fixed]


def clipped(faces: Any, name: str, values: List[float]) -> Tuple[Any, List[float]]:
    """(Direction, values within what training saw), see `chosen_values`."""
    direction, values, line = faces.controls.clip(name, values)
    if line:
        print(line, file=sys.stderr)
    return direction, values


def seeds(text: str) -> List[int]:
    """'0-10,14' -> [0, 1, ..., 10, 14], each once, in this order."""
    found = []
    for item in text.split(','):
        match = re.match('([0-9]{1,10})(?:-([0-9]{1,10}))?$', item.strip())
        first, last = (int(match.group(1)), int(match.group(2) or match.group(1))) if match else (1, 0)
        if not first <= last < 2 ** 32 or last - first >= 10 ** 6:
            raise argparse.ArgumentTypeError(f'{text!r}: expected numbers and ranges such as 0-10,14')
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def factor(text: str) -> int:
    """'pose' or '3' -> 3, the number of what moves (renderer.factors.FACTOR_CHOICES)."""
    words = [word for word, _ in FACTOR_CHOICES]
    if text in map(str, range(len(words))):
        return int(text)
    if text in words:
        return words.index(text)
    raise argparse.ArgumentTypeError(
        f'{text!r} is unknown: expected ' + ', '.join(f'{i} or {word}' for i, word in enumerate(words)))


def parts(text: str) -> List[str]:
    """'pose,exp' -> ['expression', 'pose']: parts of a face that come from a file, without the noise vector."""
    try:
        words = [part_name(word.strip()) for word in text.split(',')]
    except UserError:
        words = ['noise']
    if 'noise' in words:
        raise argparse.ArgumentTypeError(f'{text!r}: expected names joined by commas, of {", ".join(FILE_PARTS)}')
    return sorted(set(words), key=FILE_PARTS.index)


def check_files(args: argparse.Namespace, **inputs: Optional[str]) -> None:
    """UserError, before TensorFlow takes its seconds, for a --model, --vae_weights or --average_w that is not there,
    and for an --outdir that is one of these, or of the further `inputs` (option without dashes: path).
    """
    for name, is_there, kind in (('model', os.path.isfile, 'file'), ('vae_weights', os.path.isdir, 'folder'),
                                 ('average_w', os.path.isfile, 'file')):
        path = inputs[name] = getattr(args, name, None)
        if path and not is_there(path):
            raise UserError(f'--{name} {path}: no such {kind}')
    if getattr(args, 'outdir', None):
        places.check_apart({f'--{name}': path for name, path in inputs.items()}, {'--outdir': args.outdir})
