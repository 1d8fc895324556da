"""Pictures of people who do not exist, with one factor or all moving within a subject (paper section 4)."""

import re

from dnnlib.options import SEED, whole
from dnnlib.util import UserError, run_main
from renderer.factors import FACTOR_CHOICES
from sampling import options
from sampling.image_folder import ImageFolder

EXAMPLES = '''examples:
  python generate_images.py                                     20 subjects, 5 pictures each
  python generate_images.py --factor pose --grid                only the head turns; with a contact sheet
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
    options.add_model_options(parser)
    options.add_drawing_options(options.add_output_options(parser, 'generate_images'))
    return parser.parse_args()


def _share(args):
    """Subject number -> whether it is dealt to this shard."""
    return lambda subject: subject % args.shard[1] == args.shard[0]


def _make_folder(args, identity):
    """The folder of the pictures, for the settings that decide how they look."""
    def subject_of(name):
        match = re.match(r'(\d{3,})_\d{2,}$', name)
        return int(match.group(1)) if match else None

    mine = _share(args)
    settings = dict(identity, factor=FACTOR_CHOICES[args.factor][0], seed=args.seed, variation=args.variation,
                    rate=args.rate)
    return ImageFolder(args.outdir, settings, belongs=lambda name: subject_of(name) is not None,
                       dealt=lambda name: subject_of(name) is not None and mine(subject_of(name)),
                       coeffs=args.save_coeffs, overwrite=args.overwrite)


def main():
    """Options -> sampling.bulk.generate."""
    args = _parse()
    options.check_files(args)
    from sampling import bulk, generator, latents

    mine = _share(args)
    subjects = [i for i in range(args.subject) if mine(i)]
    names = [[bulk.picture_name(i, j) for j in range(args.variation)] for i in subjects]
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, precision=args.precision) as faces:
        faces.prepare(args.rate)
        folder = _make_folder(args, faces.identify())
        there = {i for i, row in zip(subjects, names) if all(folder.has(name) for name in row)}
        todo = sum(not folder.has(name) for row in names for name in row)
        drawn = latents.draw_subjects(args.seed, args.subject, args.variation, args.factor, faces.noise_dim,
                                       wanted=lambda i: mine(i) and i not in there)
        broken = bulk.generate(faces, bulk.subject_jobs(faces, drawn, folder.has), folder, todo, args.rate,
                                   args.batch)
    kept = len(subjects) * args.variation - todo
    print(f'{todo} pictures made' + (f', {kept} were there already' if kept else '') + f': {folder.path}')
    if args.grid and names:
        print(f'contact sheet: {options.write_sheet(names, folder, args)}')
    if broken:
        raise UserError(f'{broken} pictures hold NaN or infinity; they are black where they do')


if __name__ == '__main__':
    run_main(main)
