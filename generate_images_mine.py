"""Pictures from your own coefficient files: expression and pose of a photo (paper section 4, by reference).

The files are what Deep3DFaceReconstruction writes (either version) or preprocess_data.py (its folder coeff). Whatever
is not taken from a file comes from zero latents and zero noise, so nothing else moves; with --seed from a random face.
"""

import os
import sys

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

from dnnlib.options import SEED
from dnnlib.util import UserError, run_main
from sampling import options
from sampling.faces import Face
from sampling.image_folder import ImageFolder


def _parse():
    parser = options.Parser(description=__doc__, formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', metavar='DIR', default='epoch_20_000000', help='folder of the .mat files, from '
                        'where you are (default: %(default)s)')
    parser.add_argument('--take', type=options.parts, default=['expression', 'pose'], metavar='NAMES',
                        help='what comes from the files, joined by commas, of '
                        f'{", ".join(options.FILE_PARTS)} (default: expression,pose)')
    parser.add_argument('--seed', type=SEED, nargs='+', default=[], metavar='N', help='everything else from '
                        'this random face; several: each file with each of them, NAME_seedN.png (default: zeros)')
    options.add_model_options(parser)
    options.add_drawing_options(options.add_output_options(parser, 'generate_images_mine'))
    return parser.parse_args()


def find_files(folder):
    """{name: path} of the .mat files in a folder, sorted; UserError where there are none."""
    if not os.path.isdir(folder):
        raise UserError(f'--input {folder}: no such folder; expected one with .mat files, as Deep3DFaceReconstruction '
                        'writes it')
    found = sorted(name for name in os.listdir(folder) if name.lower().endswith('.mat') and not name.startswith('.'))
    if not found:
        raise UserError(f'--input {folder}: no .mat file there')
    return {os.path.splitext(name)[0]: os.path.join(folder, name) for name in found}


def _picture_names(name, seeds):
    return [f'{name}_seed{seed}' for seed in seeds] if len(seeds) > 1 else [name]


def make_jobs(files, bases, seeds, parts, has, skipped):
    """Yield (picture name, Face): every file with every base face.

    has: (picture name, path) -> bool, whether that is done. skipped: list that takes what is wrong with bad files.
    """
    for name, path in files.items():
        wanted = [(picture, base) for picture, base in zip(_picture_names(name, seeds), bases)
                  if not has(picture, path)]
        try:
            source = Face.load(path) if wanted else None
        except UserError as error:
            skipped.append(str(error))
            continue
        for picture, base in wanted:
            yield picture, base.transfer(source, *parts)


def _make_folder(args, identity, pictures):
    settings = dict(identity, take=args.take, seed=args.seed, rate=args.rate)
    return ImageFolder(args.outdir, settings, belongs=lambda name: name in pictures, coeffs=args.save_coeffs,
                       overwrite=args.overwrite)


def main():
    """Options and files -> sampling.bulk.generate."""
    args = _parse()
    args.seed = list(dict.fromkeys(args.seed))
    options.check_files(args)
    files = find_files(args.input)
    from sampling import bulk, generator

    rows = [_picture_names(name, args.seed) for name in files]
    skipped = []
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, precision=args.precision) as faces:
        faces.prepare(args.rate)
        bases = [faces.random_face(seed) for seed in args.seed] or [faces.mean_face()]
        folder = _make_folder(args, faces.identify(), {name for row in rows for name in row})
        has = lambda name, path: folder.has(name, since=os.path.getmtime(path))
        todo = sum(not has(name, path) for row, path in zip(rows, files.values()) for name in row)
        jobs = (bulk.Job(*job) for job in make_jobs(files, bases, args.seed, args.take, has, skipped))
        broken = bulk.generate(faces, jobs, folder, todo, args.rate, args.batch)
    _report(args, rows, folder, todo - len(skipped) * len(bases), skipped, broken)


def _report(args, rows, folder, made, skipped, broken):
    kept = sum(len(row) for row in rows) - made - len(skipped) * len(rows[0])
    print(f'{made} pictures made' + (f', {kept} were there already' if kept else '') + f': {folder.path}')
    for line in skipped:
        print(f'skipped {line}', file=sys.stderr)
    if args.grid and made + kept:
        names = [name for row in rows for name in row]
        columns = len(args.seed) if len(args.seed) > 1 else int(np.ceil(np.sqrt(len(names))))
        names += ['-'] * (-len(names) % columns)        # white cells
        sheet = [names[i:i + columns] for i in range(0, len(names), columns)]
        print(f'contact sheet: {options.write_sheet(sheet, folder, args)}')
    if skipped and not made + kept:
        raise UserError(f'--input {args.input}: none of {len(rows)} files could be used; the first: {skipped[0]}')
    if broken:
        raise UserError(f'{broken} pictures hold NaN or infinity; they are black where they do')
    if skipped:
        print(f'{len(skipped)} of {len(rows)} files were skipped', file=sys.stderr)


if __name__ == '__main__':
    run_main(main)
