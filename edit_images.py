"""Photos of people with another expression, lighting or pose (paper section 4: real image editing).

The folder is what preprocess_data.py made of the photos: img/NAME.png and coeff/NAME.mat. Each photo is first inverted:
the place in the generator is searched for that draws it, which takes minutes and is kept in inversions/; then random
faces, or other photos (--reference), lend it what shall change. A model draws only what its world holds: for photos of
real people use the released model; the small one that comes along turns them into its own drawn heads.
Only edit pictures of people who agree to it, and say that they are edited.
"""

import os
import sys
from typing import NamedTuple

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

from dnnlib import places
from dnnlib.hashes import files_digest
from dnnlib.options import SEED, real, whole
from dnnlib.util import UserError, one_line, run_main
from renderer.factors import BY_NAME, FACTOR_CHOICES
from sampling import options
from sampling.faces import Face

EXAMPLES = '''examples:
  python preprocess_data.py --image_path photos --lm_path landmarks --save_path data
  python edit_images.py --input data --factor pose --grid       each head turned in five ways
  python edit_images.py --input data --reference other/coeff/you.mat --take expression,lighting --outdir as_you'''
REDRAWN = 'redrawn'         # suffixes of picture names
ORIGINAL = 'photo'


class Change(NamedTuple):
    """What one column of pictures shows: the photos with the `parts` of `face`, then with chosen values."""

    suffix: str                 # of the pictures' names
    label: str
    face: Face                  # None: the photo's own
    parts: list
    file: str                   # where the face came from, or None
    values: list                # for controls.apply


def _parse():
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', metavar='DIR', default='data', help='folder with img/ and coeff/, from where you '
                        'are (default: %(default)s)')
    parser.add_argument('--factor', type=options.factor, default=0, help='what random faces lend the photos: '
                        f'{options.FACTORS_HELP} (default: %(default)s)')
    parser.add_argument('--variation', type=whole(1), default=5, metavar='N',
                        help='how many random faces, the same for all photos (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=1, metavar='N', help='of these (default: %(default)s)')
    parser.add_argument('--reference', metavar='PATH', nargs='+', default=[], help='in place of random faces: '
                        'coefficient files of other photos, or folders of them (default: none)')
    parser.add_argument('--take', type=options.parts, default=['expression', 'pose', 'lighting'], metavar='NAMES',
                        help='what comes from the references, joined by commas, of '
                        f'{", ".join(options.FILE_PARTS)} (default: expression,pose,lighting)')
    options.add_control_options(parser)
    _add_search_options(parser.add_argument_group('inversion'))
    options.add_model_options(parser, truncates=False)
    options.add_output_options(parser, 'edit_images')
    args = parser.parse_args()
    if args.reference and (args.chosen or args.sweep):
        raise UserError('--reference and chosen values (--set, --sweep) do not go together: give one of them')
    args.inversions = args.inversions or os.path.join(args.input, 'inversions')
    return args


def _add_search_options(group):
    group.add_argument('--steps', type=whole(8), default=options.STEPS, metavar='N',
                       help='of the search for each batch of photos (default: %(default)s)')
    group.add_argument('--w_id', type=real(0), default=options.W_ID, metavar='W',
                       help='weight of the identity network in it; 0 does without that network (default: %(default)s)')
    group.add_argument('--experts', metavar='PATH', help='table of perception networks: experts.json or its folder '
                       '(default: the world\'s)')
    group.add_argument('--inversions', '--embedded', metavar='DIR', help='where inversions are kept (default: '
                       'inversions/ in --input)')


# ---- what there is to do

def find_photos(folder):
    """{name: (picture, coefficient file)} in a folder that preprocess_data.py made, sorted. UserError: there are none.
    """
    from preprocess import picture_files, plan
    names = [os.path.splitext(name) for name in picture_files.list_pictures(os.path.join(folder, 'img'))]
    found = {name: (plan.image_path(folder, name), plan.coeff_path(folder, name))
             for name, ending in names if ending == '.png'}
    if not found:
        raise UserError(f'--input {folder}: no .png pictures in its folder img; expected what preprocess_data.py makes')
    return found


def find_references(paths):
    """{name: coefficient file} of files and folders; UserError for what is not there, or comes twice."""
    found = {}
    for path in paths:
        inside = sorted(os.listdir(path)) if os.path.isdir(path) else []
        files = [os.path.join(path, name) for name in inside
                 if name.lower().endswith(('.mat', '.npz')) and not name.startswith('.')] or [path]
        for file in files:
            name = os.path.splitext(os.path.basename(file))[0]
            if not os.path.isfile(file):
                raise UserError(f'--reference {file}: no such file; expected coefficients (.mat or .npz), or a folder '
                                'of such files')
            if name in found:
                raise UserError(f'--reference {file}: its name is that of {found[name]}, so pictures would be too')
            found[name] = file
    return found


def _check_places(args):
    """No output is an input: neither the photos' folders nor those of the references."""
    inputs = {'--input': args.input, '--input, img': os.path.join(args.input, 'img'),
              '--input, coeff': os.path.join(args.input, 'coeff')}
    inputs.update((f'--reference {i}', path) for i, path in enumerate(args.reference))
    places.check_apart(inputs, {'--inversions': args.inversions})
    options.check_files(args, inversions=args.inversions)
    places.check_apart(inputs, {'--outdir': args.outdir})


def make_changes(args, references, faces):
    """[Change], of the references if there are any, of chosen values, else random. UserError for broken references."""
    from sampling import latents
    if references:
        return [Change(f'as_{name}', f'as_{name}', Face.load(path), args.take, path, [])
                for name, path in references.items()]
    fixed, columns = options.chosen_values(args, faces)
    if columns:
        return [Change(f'{i:02d}', label, None, [], None, fixed + change) for i, (label, change) in enumerate(columns)]
    if fixed:
        return [Change('set', 'set', None, [], None, fixed)]
    subject = next(latents.draw_subjects(args.seed, 1, args.variation, args.factor, faces.noise_dim))
    parts = [BY_NAME[name].word for name in FACTOR_CHOICES[args.factor][1]]
    return [Change(f'{i:02d}', f'{i:02d}', face, parts, None, [])
            for i, face in enumerate(faces.subject_faces([subject])[0])]


def read_photos(files, faces):
    """Photos that can be inverted -> ([inversion.Photo], {name: why it was left out})."""
    from preprocess import picture_files
    from sampling import inversion
    usable, skipped = [], {}
    for name, (image, coeff) in files.items():
        try:
            contents = {'photo': _content(image)}
            picture = inversion.fit_photo(picture_files.read_rgb(image), faces.resolution)
            contents['coefficients'] = _content(coeff)
            usable.append(inversion.Photo(name, picture, Face.load(coeff),
                                          {'photo': image, 'coefficients': coeff}, contents))
        except UserError as error:
            reason = str(error)
            skipped[name] = reason if reason.startswith(coeff) else f'{image}: {reason}'
    return usable, skipped


def _content(path):
    try:
        return places.content(path)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file') from error
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror})') from error


# ---- doing it

def main():
    """Options and files -> sampling.inversion, sampling.bulk.generate."""
    args = _parse()
    _check_places(args)
    files, references = find_photos(args.input), find_references(args.reference)
    from sampling import generator
    with generator.FaceGenerator(args.model, args.vae_weights) as faces:
        specs, identity = _identity_network(args, faces)
        changes = make_changes(args, references, faces)
        photos, skipped = read_photos(files, faces)
        _check_any_left(args, photos, skipped)
        names = {photo.name: _picture_names(photo.name, changes) for photo in photos}
        folder = _open_folder(args, faces, identity, photos, changes, names)
        inversions = _invert(args, faces, specs, identity, photos, skipped)
        photos = [photo for photo in photos if inversions[photo.name]]
        _check_any_left(args, photos, skipped)
        broken = _draw(args, faces, folder, photos, inversions, changes, names)
    errors = [inversions[photo.name].error for photo in photos]
    _report(args, folder, changes, {photo.name: names[photo.name] for photo in photos}, errors, skipped, broken)


def _identity_network(args, faces):
    """Specs of the perception networks that belong to the model, and a digest of the identity network's weights.

    UserError when they are missing, or of another world than the photos or the model.
    """
    from dnnlib.tflib import checkpoints
    from perception import experts
    from worlds import parts
    world = parts.of_model(faces.path, experts=args.experts)
    parts.check_part('input', args.input, world.name)
    specs = world.expert_specs()
    if not args.w_id:
        return specs, ''
    experts.check_weights(specs, ('id',))
    return specs, files_digest(checkpoints.data_files(specs['id'].weights))


def _check_any_left(args, photos, skipped):
    if not photos:
        raise UserError(f'--input {args.input}: none of {len(skipped)} photos can be used; the first: '
                        f'{next(iter(skipped.values()))}')


def _picture_names(name, changes):
    """Picture names of one photo: itself, redrawn, and with each Change."""
    from sampling.image_folder import composed_name
    return [composed_name(name, suffix) for suffix in [ORIGINAL, REDRAWN] + [change.suffix for change in changes]]


def _open_folder(args, faces, identity, photos, changes, names):
    """The ImageFolder of all pictures; each belongs to its photo, its coefficients, and what lends the change."""
    from sampling.image_folder import ImageFolder
    settings = dict(faces.identify(), factor=FACTOR_CHOICES[args.factor][0], seed=args.seed, steps=args.steps,
                    w_id=args.w_id, identity_network=identity, take=None)
    if args.reference:
        settings.update(factor=None, seed=None, take=args.take)
    elif args.chosen or args.sweep:
        settings.update(factor=None, seed=None, values=[
            [[direction.name, value] for direction, value in change.values] for change in changes])
    wanted = {}
    for photo in photos:
        for name, change in zip(names[photo.name], [None, None] + changes):
            if name in wanted:
                raise UserError(f'two pictures would be called {name}.png: rename the photo or the reference')
            wanted[name] = dict(photo.files, reference=change.file) if change and change.file else photo.files
    return ImageFolder(args.outdir, settings, wanted, args.save_coeffs, args.overwrite)


def _invert(args, faces, specs, identity, photos, skipped):
    """{name: Inversion or None} of all photos; what cannot be inverted is added to `skipped`."""
    from sampling import health, inversion
    from worlds import label
    made_with = {'model': faces.identify()['model'], 'steps': str(args.steps), 'w_id': str(args.w_id),
                 'identity network': identity}
    kept = inversion.Kept(args.inversions, photos, made_with)
    if kept.todo:
        health.warn_of_model(faces)
        world = label.read_model(faces.path)['world']
        health.warn_of_photos(faces, [photo.picture for photo in kept.todo], [photo.name for photo in kept.todo], world)
    batch = min(args.batch, max(1, len(kept.todo)))
    inversions = inversion.invert_photos(lambda: inversion.Inverter(faces, specs, args.w_id, batch), photos, kept,
                                         args.steps, batch)
    skipped.update((name, f'{name}: its search ended in NaN or infinity')
                   for name, found in inversions.items() if not found)
    return inversions


def _draw(args, faces, folder, photos, inversions, changes, names):
    """Write what is not there yet of each photo -> number of broken pictures."""
    from sampling import bulk, editing
    jobs = []
    for photo in photos:
        found = inversions[photo.name]
        original = names[photo.name][0]
        wishes = [found.face] + [_wish(found.face, change) for change in changes]
        if original in folder.todo:
            folder.save(original, photo.picture, found.face)
        jobs += [bulk.Job(name, editing.Edit(found, wish)) for name, wish in zip(names[photo.name][1:], wishes)
                 if name in folder.todo]
    return bulk.generate(editing.PhotoEditor(faces), jobs, folder, len(jobs), batch=args.batch)


def _wish(face, change):
    """The Face of a photo as a Change wants it."""
    return (face.transfer(change.face, *change.parts) if change.face else face).changed(change.values)


def _report(args, folder, changes, rows, errors, skipped, broken):
    from sampling import bulk, sheets
    print(f'{len(rows)} photos, {len(changes)} edits of each: {one_line(folder.path)}; redrawn they differ by '
          f'{np.mean(errors):.1f} of 255 on average, {np.max(errors):.1f} at most')
    for reason in skipped.values():
        print(f'skipped {one_line(reason)}', file=sys.stderr)
    if args.grid:
        columns = [ORIGINAL, REDRAWN] + [change.label for change in changes]
        path = sheets.write_sheet(folder, list(rows.values()), list(rows), columns, args.grid_scale, args.grid_filter)
        print(f'contact sheet: {one_line(path)}')
    bulk.check_finite(broken)


if __name__ == '__main__':
    run_main(main)
