"""Photos of real people with another expression, lighting or pose (paper section 4: real image editing).

The folder is what preprocess_data.py made of the photos: img/NAME.png and coeff/NAME.mat. Each photo is first embedded
in the generator, which takes minutes and is kept in embedded/; then random faces, or other photos (--reference), lend
it what shall change. Only edit pictures of people who agree to it, and say that they are edited.
"""

import os
import sys
from collections import namedtuple

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np

from dnnlib.hashes import digest, sha256
from dnnlib.options import SEED, real, whole
from dnnlib.util import UserError, run_main
from renderer.factors import BY_NAME, FACTOR_CHOICES
from sampling import options
from sampling.image_folder import ImageFolder

EXAMPLES = '''examples:
  python preprocess_data.py --image_path photos --lm_path landmarks --save_path data
  python edit_images.py --input data --factor pose --grid       each head turned in five ways
  python edit_images.py --input data --reference other/coeff/you.mat --take expression,lighting'''
REDRAWN = 'redrawn'         # suffixes of picture names
ORIGINAL = 'photo'

# A Face that lends the photos its `parts`; suffix: of picture names; since: when its file came there, 0: random.
Lender = namedtuple('Lender', 'suffix face parts since')


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
    _add_search_options(parser.add_argument_group('embedding'))
    options.add_model_options(parser, truncates=False)
    options.add_output_options(parser, 'edit_images')
    return parser.parse_args()


def _add_search_options(group):
    group.add_argument('--steps', type=whole(8), default=options.STEPS, metavar='N',
                       help='of the search for each batch of photos (default: %(default)s)')
    group.add_argument('--w_id', type=real(0), default=options.W_ID, metavar='W',
                       help='weight of the identity network in it; 0 does without that network (default: %(default)s)')
    group.add_argument('--experts', metavar='PATH', help='table of perception networks: experts.json or its folder '
                       '(default: the world\'s)')
    group.add_argument('--embedded', metavar='DIR', help='where embeddings are kept (default: embedded/ in --input)')


# What there is to do

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


def make_lenders(args, references, faces):
    """[Lender], of the references if there are any, else random. UserError for broken references."""
    from sampling import latents
    from sampling.faces import Face
    if references:
        return [Lender(f'as_{name}', Face.load(path, faces.noise_dim), args.take, _came(path))
                for name, path in references.items()]
    subject = next(latents.draw_subjects(args.seed, 1, args.variation, args.factor, faces.noise_dim))
    parts = [BY_NAME[name].word for name in FACTOR_CHOICES[args.factor][1]]
    return [Lender(f'{i:02d}', face, parts, 0) for i, face in enumerate(faces.subject_faces([subject])[0])]


def _came(path):
    """When a file was written or put there, whichever is later: what is moved or copied may keep the former."""
    facts = os.stat(path)
    return max(facts.st_mtime, facts.st_ctime)


def read_photos(args, files, faces, made_of):
    """Photos that can be embedded -> ([editing.Photo], {name: why it was left out}).

    made_of: what embeddings depend on besides the photo.
    """
    from preprocess import picture_files
    from sampling import editing
    from sampling.faces import Face
    folder = args.embedded or os.path.join(args.input, 'embedded')
    usable, skipped = [], {}
    for name, (image, coeff) in files.items():
        try:
            picture = editing.fit_photo(picture_files.read_rgb(image), faces.resolution)
            tag = digest(made_of + [sha256(image), sha256(coeff)]) if os.path.isfile(coeff) else ''
            usable.append(editing.Photo(name, picture, Face.load(coeff, faces.noise_dim),
                                        os.path.join(folder, name + '.npz'), tag))
        except UserError as error:
            reason = str(error)
            skipped[name] = reason if reason.startswith(coeff) else f'{image}: {reason}'
    return usable, skipped


def _experts(args, faces):
    """Specs of the perception networks that belong to the model; UserError when another world's were named."""
    from perception import experts
    from worlds import parts
    world = parts.of_model(faces.path, experts=args.experts)
    parts.check_part('input', args.input, world.name)
    specs = world.expert_specs()
    if args.w_id:
        experts.check_weights(specs, ('id',))
    return specs


# Doing it

def _make_folder(args, faces, names):
    settings = dict(faces.identify(), factor=FACTOR_CHOICES[args.factor][0], seed=args.seed, steps=args.steps,
                    w_id=args.w_id)
    if args.reference:
        settings.update(factor=None, seed=None, take=args.take, reference=[os.path.abspath(x) for x in args.reference])
    return ImageFolder(args.outdir, settings, belongs=lambda name: name in names, coeffs=args.save_coeffs,
                       overwrite=args.overwrite)


def make_jobs(photos, embeddings, lenders, has):
    """The bulk.Jobs of the pictures that are not there yet: of each photo itself, redrawn, and one for each Lender.

    has: (picture name, time) -> bool, whether it is there and no older.
    """
    from sampling import bulk, editing
    jobs = []
    for photo in photos:
        embedding, embedded = embeddings[photo.name], os.path.getmtime(photo.path)
        faces = [(REDRAWN, embedding.face, 0)]
        faces += [(suffix, embedding.face.transfer(face, *parts), since) for suffix, face, parts, since in lenders]
        jobs += [bulk.Job(f'{photo.name}_{suffix}', editing.Edit(embedding, face))
                 for suffix, face, since in faces if not has(f'{photo.name}_{suffix}', max(since, embedded))]
    return jobs


def embed(args, editor, photos, skipped, batch):
    """{name: Embedding}; photos that cannot be embedded are moved to `skipped`. UserError when none is left."""
    from sampling import editing
    embeddings = editing.embed_photos(editor, photos, args.steps, batch)
    skipped.update((name, f'{name}: its search ended in NaN or infinity')
                   for name, embedding in embeddings.items() if not embedding)
    photos[:] = [photo for photo in photos if embeddings[photo.name]]
    _check_any_left(args, photos, skipped)
    return embeddings


def _check_any_left(args, photos, skipped):
    if not photos:
        raise UserError(f'--input {args.input}: none of {len(skipped)} photos can be used; the first: '
                        f'{next(iter(skipped.values()))}')


def main():
    """Options and files -> sampling.editing, sampling.bulk.generate."""
    args = _parse()
    options.check_files(args)
    files, references = find_photos(args.input), find_references(args.reference)
    from sampling import bulk, editing, generator

    with generator.FaceGenerator(args.model, args.vae_weights) as faces:
        specs = _experts(args, faces)
        lenders = make_lenders(args, references, faces)
        columns = [ORIGINAL, REDRAWN] + [lender.suffix for lender in lenders]
        made_of = [faces.identify()['model'], args.steps, args.w_id, specs['id'].weights if args.w_id else '']
        photos, skipped = read_photos(args, files, faces, made_of)
        _check_any_left(args, photos, skipped)
        folder = _make_folder(args, faces, {f'{name}_{column}' for name in files for column in columns})
        batch = min(args.batch, len(photos))
        editor = editing.PhotoEditor(faces, specs, args.w_id, batch)
        embeddings = embed(args, editor, photos, skipped, batch)
        for photo in photos:
            folder.save(f'{photo.name}_{ORIGINAL}', photo.picture, embeddings[photo.name].face)
        jobs = make_jobs(photos, embeddings, lenders, folder.has)
        broken = bulk.generate(editor, jobs, folder, len(jobs), batch=args.batch)
    rows = [[f'{photo.name}_{column}' for column in columns] for photo in photos]
    _report(args, rows, folder, [embeddings[photo.name].error for photo in photos], skipped, broken)


def _report(args, rows, folder, errors, skipped, broken):
    print(f'{len(rows)} photos, {len(rows[0]) - 2} edits of each: {folder.path}; redrawn they differ by '
          f'{np.mean(errors):.1f} of 255 on average, {np.max(errors):.1f} at most')
    for reason in skipped.values():
        print(f'skipped {reason}', file=sys.stderr)
    if args.grid:
        print(f'contact sheet: {options.write_sheet(rows, folder, args)}')
    if broken:
        raise UserError(f'{broken} pictures hold NaN or infinity; they are black where they do')


if __name__ == '__main__':
    run_main(main)
