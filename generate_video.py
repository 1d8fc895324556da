"""A looping video of people who do not exist: one thing after another moves, or each turns into the next."""

import contextlib
import os
import re

from dnnlib import videos
from dnnlib.options import real, whole
from dnnlib.util import UserError, one_line, run_main
from renderer.factors import FACTOR_CHOICES
from sampling import options

OUTDIR = 'generate_video'
GRID = (4, 2)
LEG = 1.2                       # seconds from one stop to the next
MOST_FRAMES = 100000
# What moves without --sweep, --factor, --walk: in a model of any world, what a visitor asks for first.
TOUR = dict(chosen=dict(yaw=0.0, pitch=0.0, brightness=0.0), factor=1,
            sweeps=[('yaw', [-0.5, 0.5]), ('light_left', [0.9, -0.9])])
EXAMPLES = '''examples:
  python generate_video.py                                      8 people: they turn, the light moves, faces change
  python generate_video.py --seeds 3,7-9 --sweep yaw=-30deg:30deg --sweep smile=0:1 --out turn.gif
  python generate_video.py --grid 1x1 --walk 6 --set yaw=0      one person turns into another, six times'''


def _grid(text):
    match = re.match('([0-9]{1,2})x([0-9]{1,2})$', text)
    columns, rows = (int(number) for number in match.groups()) if match else (0, 0)
    if not (1 <= columns <= 32 and 1 <= rows <= 32):
        raise options.argparse.ArgumentTypeError(f'{text!r}: expected columns x rows, 1 to 32 each, e.g. 4x2')
    return columns, rows


def _parse():
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--grid', type=_grid, metavar='CxR', help='columns and rows of people (default: those of '
                        f'--seeds; else {GRID[0]}x{GRID[1]})')
    parser.add_argument('--seeds', type=options.seeds, metavar='N-M,...', help='people by number, as in '
                        'generate_images.py (default: from 0 on)')
    group = parser.add_argument_group('what moves', 'One after the other: each --sweep, --factor, --walk. Without any: '
                                      'the heads turn, the light moves, the expressions change.')
    group.add_argument('--factor', type=options.factor, help='walk through the pictures that generate_images.py '
                       f'--seeds draws of a person: {options.FACTORS_HELP} (default: none)')
    group.add_argument('--variation', type=whole(1), default=3, metavar='N', help='through so many of them '
                       '(default: %(default)s)')
    group.add_argument('--walk', type=whole(2), metavar='N', help='each place walks through N people (default: none)')
    options.add_control_options(parser, moving=True)
    _add_video_options(parser)
    options.add_model_options(parser)
    options.add_drawing_options(parser.add_argument_group('pictures'))
    args = parser.parse_args()
    _settle(args)
    return args


def _add_video_options(parser):
    group = parser.add_argument_group('video')
    group.add_argument('--out', metavar='FILE', help='the video, by its ending .mp4, .gif or .webp (default: '
                       f'{OUTDIR}/tour.mp4, or by what moves, e.g. {OUTDIR}/yaw.mp4)')
    group.add_argument('--seconds', type=real(0, 3600, above=True), metavar='S', help='length of the loop (default: '
                       f'{LEG} for each way from stop to stop)')
    group.add_argument('--fps', type=real(1, 120), default=25, metavar='N',
                       help='frames a second (default: %(default)s)')
    group.add_argument('--scale', type=whole(1, 32), metavar='N', help='enlarge the pictures N times (default: to at '
                       'least 128 pixels)')
    group.add_argument('--filter', choices=['nearest', 'bicubic'], default='bicubic', help='how to enlarge them '
                       '(default: %(default)s)')
    group.add_argument('--frames', metavar='DIR', help='also keep the frames as PNG, in a new or empty folder '
                       '(default: off)')
    group.add_argument('--overwrite', action='store_true', help='replace the video if it is there (default: a file is '
                       'never written over)')
    group.add_argument('--batch', type=whole(1), default=8, metavar='N', help='pictures at a time; changes the speed '
                       '(default: %(default)s)')


def _settle(args):
    """Defaults that depend on other options, and UserError where options do not fit together."""
    words = [name for name, _ in args.sweeps]
    words += [] if args.factor is None else [FACTOR_CHOICES[args.factor][0]]
    words += ['walk'] if args.walk else []
    if not words:
        words = ['tour']
        args.sweeps, args.factor, args.chosen = TOUR['sweeps'], TOUR['factor'], dict(TOUR['chosen'], **args.chosen)
    each = args.walk or 1
    if args.grid is None:
        args.grid = _fitting_grid(len(args.seeds) // each) if args.seeds else GRID
    places = args.grid[0] * args.grid[1]
    args.seeds = args.seeds or list(range(places * each))
    if len(args.seeds) != places * each:
        walked = f', each with {each} to walk through' if args.walk else ''
        raise UserError(f'--seeds names {len(args.seeds)} people; --grid {args.grid[0]}x{args.grid[1]} has {places} '
                        f'places{walked}: {places * each} are needed')
    args.out = args.out or os.path.join(OUTDIR, re.sub(r'[^A-Za-z0-9_.,+-]', '_', '-'.join(words))[:100] + '.mp4')
    _count_frames(args)


def _fitting_grid(count):
    """As square as so many places get without a hole, rather wide."""
    columns = next((n for n in range(1, count + 1) if n * n >= count and count % n == 0), 1)
    return columns, max(1, count // columns)


def _count_frames(args):
    legs = len(args.sweeps) * (2 if _is_alone(args) else 3) + (args.walk or 0)
    legs += 0 if args.factor is None else 1 + args.variation
    seconds = args.seconds or LEG * legs
    args.count = int(round(seconds * args.fps))
    if not legs <= args.count <= MOST_FRAMES:
        raise UserError(f'{seconds:g} seconds at {args.fps:g} frames a second are {args.count} frames; expected '
                        f'{legs} (one for each stop) to {MOST_FRAMES}: change --seconds or --fps')


def _is_alone(args):
    return len(args.sweeps) == 1 and args.factor is None and not args.walk


def main():
    """Options -> the moves of sampling.motion -> dnnlib.videos."""
    args = _parse()
    options.check_files(args)
    with videos.writing(args.out, args.fps, args.count, args.overwrite) as add, _frame_folder(args.frames) as keep:
        print(f'{args.grid[0]} x {args.grid[1]} people, {args.count} frames: {one_line(args.out)}', flush=True)
        broken = _draw(args, add, keep)
    print(f'{os.path.getsize(args.out) / 2 ** 20:.2f} MB')
    from sampling import bulk
    bulk.check_finite(broken)


@contextlib.contextmanager
def _frame_folder(path):
    """Yields keep(frame), which writes the frames to path/00000.png and so on; they appear together."""
    from dnnlib import pictures, places
    if not path:
        yield lambda frame: None
        return
    with places.filling(path) as folder:
        yield lambda frame: pictures.save_image(frame, os.path.join(folder, f'{len(os.listdir(folder)):05d}.png'))


def _draw(args, add, keep):
    """Draw the frames -> number of broken pictures."""
    from sampling import generator, health, motion
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, precision=args.precision,
                                 noise_mode=args.noise_mode) as faces:
        faces.load_all(args.rate)
        health.warn_of_model(faces)
        way = motion.closed_way(_moves(args, faces), args.count)
        return motion.draw(faces, way, args.count, args.grid, lambda frame: (add(frame), keep(frame)), args.rate,
                           args.batch, args.scale, args.filter)


def _moves(args, faces):
    """What moves, in order."""
    from sampling import latents, motion
    fixed = options.fixed_values(args, faces)
    people = list(latents.draw_by_seed(args.seeds, args.variation, args.factor or 0, faces.noise_dim))
    firsts = people[::args.walk or 1]
    own = [drawn[0].changed(fixed) for drawn in faces.subject_faces(firsts, own=True)]
    moves = [motion.Sweep(own, *options.clipped(faces, name, ends), alone=_is_alone(args))
             for name, ends in args.sweeps]
    if args.factor is not None:
        moves.append(motion.Variations(faces, firsts, fixed))
    if args.walk:
        moves.append(motion.People(faces, [people[i:i + args.walk] for i in range(0, len(people), args.walk)], fixed))
    return moves


if __name__ == '__main__':
    run_main(main)
