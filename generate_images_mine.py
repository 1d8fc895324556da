"""Pictures from your own coefficient files: expression and pose of a photo (paper section 4, by reference).

The files are what Deep3DFaceReconstruction writes (either version) or preprocess_data.py (its folder coeff). Whatever
is not taken from a file comes from zero latents and zero noise, so nothing else moves; with --seed from a random face.
"""

import os
import sys
from typing import NamedTuple

from dnnlib.options import SEED
from dnnlib.util import UserError, one_line, run_main
from sampling import options
from sampling.faces import Face


class Column(NamedTuple):
    """What one picture of every file has in common: the face that the file changes, then chosen values."""

    suffix: str                 # of the picture's name; '': the file's name alone
    label: str
    base: Face
    changes: list               # for controls.apply


def _parse():
    parser = options.Parser(description=__doc__, formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', metavar='DIR', default='epoch_20_000000', help='folder of the .mat files, from '
                        'where you are (default: %(default)s)')
    parser.add_argument('--take', type=options.parts, default=['expression', 'pose'], metavar='NAMES',
                        help='what comes from the files, joined by commas, of '
                        f'{", ".join(options.FILE_PARTS)} (default: expression,pose)')
    parser.add_argument('--seed', type=SEED, nargs='+', default=[], metavar='N', help='everything else from '
                        'this random face; several: each file with each of them, NAME_seedN.png (default: zeros)')
    options.add_control_options(parser)
    options.add_model_options(parser)
    options.add_drawing_options(options.add_output_options(parser, 'generate_images_mine'))
    args = parser.parse_args()
    args.seed = list(dict.fromkeys(args.seed))
    return args


def find_files(folder):
    """{name: path} of the .mat files in a folder, sorted; UserError where there are none, or two of one name."""
    if not os.path.isdir(folder):
        raise UserError(f'--input {folder}: no such folder; expected one with .mat files, as Deep3DFaceReconstruction '
                        'writes it')
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith('.mat') and not name.startswith('.'))
    if not names:
        raise UserError(f'--input {folder}: no .mat file there')
    found = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        if stem in found:
            raise UserError(f'--input {folder}: the pictures of {name} and {os.path.basename(found[stem])} would have '
                            'one name; rename one of them')
        found[stem] = os.path.join(folder, name)
    return found


def main():
    """Options and files -> sampling.bulk.generate."""
    args = _parse()
    options.check_files(args, input=args.input)
    files = find_files(args.input)
    from sampling import bulk, generator, health
    with generator.FaceGenerator(args.model, args.vae_weights, args.average_w, precision=args.precision,
                                 noise_mode=args.noise_mode) as faces:
        faces.load_all(args.rate)
        health.warn_of_model(faces)
        columns = _columns(args, faces)
        rows = {name: _picture_names(name, columns) for name in files}
        folder = _open_folder(args, faces, files, rows, columns)
        skipped = []
        jobs = make_jobs(files, rows, columns, args.take, folder.todo, skipped)
        broken = bulk.generate(faces, jobs, folder, len(folder.todo), args.rate, args.batch)
    _report(args, folder, rows, columns, skipped, broken)


def _columns(args, faces):
    """[Column] of every file: each base face with each value of the sweep."""
    fixed, swept = options.chosen_values(args, faces)
    bases = [(f'seed{seed}', faces.random_face(seed)) for seed in args.seed] or [('', faces.mean_face())]
    if len(bases) == 1:
        bases = [('', bases[0][1])]
    found = []
    for seed, base in bases:
        for i, (label, change) in enumerate(swept or [('', [])]):
            suffix = '_'.join(filter(None, [seed, f'{i:02d}' if swept else '']))
            found.append(Column(suffix, ' '.join(filter(None, [seed, label])), base, fixed + change))
    return found


def _picture_names(name, columns):
    from sampling.image_folder import composed_name
    return [composed_name(name, column.suffix) if column.suffix else name for column in columns]


def _open_folder(args, faces, files, rows, columns):
    from sampling.image_folder import ImageFolder
    wanted = {picture: {'file': files[name]} for name, pictures in rows.items() for picture in pictures}
    settings = dict(faces.identify(), take=args.take, seed=args.seed, rate=args.rate)
    if args.chosen or args.sweep:
        settings['values'] = [[[direction.name, value] for direction, value in column.changes] for column in columns]
    return ImageFolder(args.outdir, settings, wanted, args.save_coeffs, args.overwrite)


def make_jobs(files, rows, columns, parts, todo, skipped):
    """Yield the bulk.Jobs of every file in every Column, those in `todo`.

    files: {name: path}; rows: {name: picture names, one for each Column}. skipped: list that takes what is wrong with
    bad files.
    """
    from sampling.bulk import Job
    for name, path in files.items():
        wanted = [(picture, column) for picture, column in zip(rows[name], columns) if picture in todo]
        try:
            source = Face.load(path) if wanted else None
        except UserError as error:
            skipped.append(str(error))
            continue
        for picture, column in wanted:
            yield Job(picture, column.base.transfer(source, *parts).changed(column.changes))


def _report(args, folder, rows, columns, skipped, broken):
    from sampling import bulk, sheets
    per_file = len(columns)
    made = len(folder.todo) - len(skipped) * per_file
    kept = len(rows) * per_file - len(folder.todo)
    print(f'{made} pictures made' + (f', {kept} were there already' if kept else '') + f': {one_line(folder.path)}')
    for line in skipped:
        print(f'skipped {line}', file=sys.stderr)
    if args.grid and made + kept:
        labels = [column.label for column in columns] if per_file > 1 else []
        path = sheets.write_sheet(folder, list(rows.values()), list(rows), labels, args.grid_scale, args.grid_filter)
        print(f'contact sheet: {one_line(path)}')
    if skipped and not made + kept:
        raise UserError(f'--input {args.input}: none of {len(rows)} files could be used; the first: {skipped[0]}')
    bulk.check_finite(broken)
    if skipped:
        print(f'{len(skipped)} of {len(rows)} files were skipped', file=sys.stderr)


if __name__ == '__main__':
    run_main(main)
