"""Pictures of people who do not exist, with one factor or all moving within a subject (paper section 4)."""

import os
import re

from dnnlib.options import SEED, whole
from dnnlib.util import one_line, run_main
from renderer.factors import FACTOR_CHOICES
from sampling import options

OUTDIR = 'generate_images'      # of the released command; a single factor has a folder of its own in it
EXAMPLES = '''examples:
  python generate_images.py                                     20 subjects, 5 pictures each
  python generate_images.py --factor pose --grid                only the head turns; with a contact sheet
  python generate_images.py --seeds 3,7-9 --sweep yaw=-30deg:30deg:7 --grid     rows subjects, columns values
  python generate_images.py --subject 50000 --save_coeffs npz --shard 1/4 --outdir faces
                                                                a labelled set, made by four machines'''


def _parse():
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--factor', type=options.factor, default=0, help='what moves within a subject: '
                        f'{options.FACTORS_HELP} (default: %(default)s)')
    parser.add_argument('--subject', type=whole(1), default=20, metavar='N',
                        help='number of subjects (default: %(default)s)')
    parser.add_argument('--variation', type=whole(1), default=5, metavar='N',
                        help='pictures of each subject (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=1, metavar='N',
                        help='of the random latents (default: %(default)s)')
    parser.add_argument('--shard', type=options.shard, default=(0, 1), metavar='I/N', help='make only every N-th '
                        'subject, from the I-th on; all shards together give one whole run (default: 1/1)')
    parser.add_argument('--seeds', type=options.seeds, metavar='N-M,...', help='subjects by number in place of '
                        '--subject and --seed: each is the face of its own seed, so any of them can be drawn alone, '
                        'e.g. 0-10,14 (default: none)')
    options.add_control_options(parser)
    options.add_model_options(parser)
    group = options.add_output_options(parser, None, f'{OUTDIR}; of a single factor, chosen values or seeds a '
                                       f'folder in there, e.g. {OUTDIR}/pose')
    options.add_drawing_options(group)
    args = parser.parse_args()
    if args.outdir is None:
        args.outdir = os.path.join(OUTDIR, *_place(args))
    return args


def _place(args):
    """Folder below OUTDIR: none for the released command's pictures, else [what is special], e.g. ['pose']."""
    words = [FACTOR_CHOICES[args.factor][0]] if args.factor else []
    if args.seeds:
        words.append('seeds')
    if args.chosen:
        words.append('set-' + '-'.join(args.chosen))
    if args.sweep:
        words.append('sweep-' + args.sweep[0])
    return [re.sub(r'[^A-Za-z0-9_.,+-]', '_', '-'.join(words))[:100]] if words else []


def main():
    """Options -> sampling.bulk.generate."""
    args = _parse()
    options.check_files(args)
    from sampling import bulk, generator, health
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, precision=args.precision,
                                 noise_mode=args.noise_mode) as faces:
        faces.load_all(args.rate)
        health.warn_of_model(faces)
        fixed, columns = options.chosen_values(args, faces)
        width = len(columns) or args.variation
        subjects = [index for index in args.seeds or range(args.subject) if _is_mine(args, index)]
        rows = [[bulk.picture_name(index, i) for i in range(width)] for index in subjects]
        folder = _open_folder(args, faces, rows, fixed, columns)
        broken = _draw(args, faces, folder, fixed, columns)
    _report(args, folder, rows, [label for label, _ in columns], broken)


def _is_mine(args, index):
    """Whether a subject is dealt to this shard: by its number, or by its place among --seeds."""
    if args.seeds:
        index = args.seeds.index(index) if index in args.seeds else None
    return index is not None and index % args.shard[1] == args.shard[0]


def _open_folder(args, faces, rows, fixed, columns):
    """The folder of the pictures, for the settings that decide how they look."""
    from sampling.image_folder import ImageFolder

    def dealt(name):
        match = re.match(r'(\d{3,})_\d{2,}$', name)
        return bool(match) and _is_mine(args, int(match.group(1)))

    settings = dict(faces.identify(), factor=FACTOR_CHOICES[args.factor][0], seed=args.seed, variation=args.variation,
                    rate=args.rate)
    if args.seeds:
        settings['seed'] = None             # each subject's own
    if fixed:
        settings['set'] = [[direction.name, value] for direction, value in fixed]
    if columns:
        settings['sweep'] = [args.sweep[0]] + [change[0][1] for _, change in columns]
    return ImageFolder(args.outdir, settings, {name: {} for row in rows for name in row}, args.save_coeffs,
                       args.overwrite, dealt)


def _draw(args, faces, folder, fixed, columns):
    """Draw what is not there yet -> number of broken pictures."""
    from sampling import bulk, latents
    wanted = {int(name.split('_')[0]) for name in folder.todo}
    if args.seeds:
        drawn = latents.draw_by_seed(sorted(wanted), args.variation, args.factor, faces.noise_dim)
    else:
        drawn = latents.draw_subjects(args.seed, args.subject, args.variation, args.factor, faces.noise_dim,
                                      wanted=wanted.__contains__)
    jobs = bulk.subject_jobs(faces, drawn, folder.todo.__contains__, fixed, [change for _, change in columns])
    return bulk.generate(faces, jobs, folder, len(folder.todo), args.rate, args.batch)


def _report(args, folder, rows, columns, broken):
    from sampling import bulk, sheets
    kept = sum(map(len, rows)) - len(folder.todo)
    print(f'{len(folder.todo)} pictures made' + (f', {kept} were there already' if kept else '')
          + f': {one_line(folder.path)}')
    if args.grid and rows:
        labels = [row[0].split('_')[0] for row in rows], columns or [name.split('_')[1] for name in rows[0]]
        print(f'contact sheet: {sheets.write_sheet(folder, rows, *labels, args.grid_scale, args.grid_filter)}')
    bulk.check_finite(broken)


if __name__ == '__main__':
    run_main(main)
