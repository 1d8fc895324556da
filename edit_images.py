"""Photos of real people with another expression, lighting or pose (paper section 4: real image editing).

The folder is what preprocess_data.py made of the photos: img/NAME.png and coeff/NAME.mat. Each photo is first embedded
in the generator, which takes minutes and is kept in embedded/; then random faces, or other photos (--reference), lend
it what shall change. Only edit pictures of people who agree to it, and say that they are edited.
"""

import hashlib
import os
import sys

import numpy as np

from dnnlib import download
from dnnlib.options import SEED, real, whole
from dnnlib.util import UserError, run_main
from renderer.factors import BY_NAME, FACTOR_CHOICES
from training import sampling_options as options
from training.image_folder import ImageFolder

EXAMPLES = '''examples:
  python preprocess_data.py --image_path photos --lm_path landmarks --save_path data
  python edit_images.py --input data --factor pose --grid       each head turned in five ways
  python edit_images.py --input data --reference other/coeff/you.mat --take expression,lighting'''
REDRAWN = 'redrawn'         # suffixes of picture names
ORIGINAL = 'photo'


def _parse():
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--input', metavar='DIR', default='data', help='folder with img/ and coeff/, from where you '
                        'are (default: %(default)s)')
    parser.add_argument('--factor', type=options.factor, default=0, help='what random faces lend the photos: '
                        + ', '.join(f'{i} {word}' for i, (word, _) in enumerate(FACTOR_CHOICES))
                        + '; number or word (default: %(default)s)')
    parser.add_argument('--variation', type=whole(1), default=5, metavar='N',
                        help='how many random faces, the same for all photos (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=1, metavar='N', help='of these (default: %(default)s)')
    parser.add_argument('--reference', metavar='PATH', nargs='+', default=[], help='in place of random faces: '
                        'coefficient files of other photos, or folders of them (default: none)')
    parser.add_argument('--take', type=options.parts, default=['expression', 'pose', 'lighting'], metavar='NAMES',
                        help='what comes from the references, joined by commas, of '
                        f'{", ".join(options.FILE_PARTS)} (default: expression,pose,lighting)')
    _add_search_options(parser.add_argument_group('embedding'))
    options.add_model_options(parser)
    options.add_output_options(parser, 'edit_images')
    return parser.parse_args()


def _add_search_options(group):
    group.add_argument('--steps', type=whole(8), default=400, metavar='N', help='of the search for each batch of '
                       'photos (default: %(default)s)')
    group.add_argument('--w_id', type=real(0), default=0.5, metavar='W', help='weight of the identity network in it; '
                       '0 does without that network (default: %(default)s)')
    group.add_argument('--experts', metavar='PATH', help='table of perception networks: experts.json or its folder '
                       '(default: the world\'s)')
    group.add_argument('--embedded', metavar='DIR', help='where embeddings are kept (default: embedded/ in --input)')


# What there is to do

def find_photos(folder):
    """{name: (picture, coefficient file)} in a folder that preprocess_data.py made, sorted. UserError: there are none.
    """
    from preprocess import photos, pipeline
    names = [os.path.splitext(name)[0] for name in photos.list_photos(os.path.join(folder, 'img'))]
    if not names:
        raise UserError(f'--input {folder}: no pictures in its folder img; expected what preprocess_data.py makes')
    return {name: (pipeline.image_path(folder, name), pipeline.coeff_path(folder, name)) for name in sorted(names)}


def find_references(paths):
    """{name: coefficient file} of files and folders; UserError for what is not there, or comes twice."""
    found = {}
    for path in paths:
        inside = sorted(os.listdir(path)) if os.path.isdir(path) else []
        files = [os.path.join(path, name) for name in inside if name.endswith(('.mat', '.npz'))] or [path]
        for file in files:
            name = os.path.splitext(os.path.basename(file))[0]
            if not os.path.isfile(file):
                raise UserError(f'--reference {file}: no such file; expected coefficients (.mat or .npz), or a folder '
                                'of such files')
            if name in found:
                raise UserError(f'--reference {file}: its name is that of {found[name]}, so pictures would be too')
            found[name] = file
    return found


def lenders(args, faces):
    """[(suffix of picture names, Face that lends, names of the parts it lends)]. UserError for broken references."""
    from training import sampling
    from training.faces import Face
    if args.reference:
        return [(f'as_{name}', Face.load(path, faces.noise_dim), args.take)
                for name, path in find_references(args.reference).items()]
    subject = next(sampling.draw_subjects(args.seed, 1, args.variation, args.factor, faces.noise_dim))
    parts = [BY_NAME[name].word for name in FACTOR_CHOICES[args.factor][1]]
    return [(f'{i:02d}', face, parts) for i, face in enumerate(faces.subject_faces([subject])[0])]


def read_photos(args, files, faces, made_of):
    """Photos that can be embedded -> ([editing.Photo], {name: why it was left out}).

    made_of: what embeddings depend on besides the photo.
    """
    from preprocess import photos
    from training import editing
    from training.faces import Face
    folder = args.embedded or os.path.join(args.input, 'embedded')
    usable, skipped = [], {}
    for name, (image, coeff) in files.items():
        try:
            picture = editing.fit_photo(photos.read_rgb(image), faces.resolution)
            tag = _digest(made_of + [download.sha256(image), download.sha256(coeff)]) if os.path.isfile(coeff) else ''
            usable.append(editing.Photo(name, picture, Face.load(coeff, faces.noise_dim),
                                        os.path.join(folder, name + '.npz'), tag))
        except UserError as error:
            reason = str(error)
            skipped[name] = reason if reason.startswith(coeff) else f'{image}: {reason}'
    return usable, skipped


def _digest(words):
    return hashlib.sha256(' '.join(map(str, words)).encode()).hexdigest()


def _experts(args, faces):
    """Specs of the perception networks that belong to the model; UserError when another world's were named."""
    from training import perception, worlds
    world = worlds.of_model(faces.path, experts=args.experts).check()
    worlds.check_part('input', args.input, world.name)
    specs = world.expert_specs()
    if args.w_id:
        perception.check_weights(specs, ('id',))
    return specs


# Doing it

def _make_folder(args, faces, names):
    settings = dict(faces.identify(), factor=FACTOR_CHOICES[args.factor][0], seed=args.seed, steps=args.steps,
                    w_id=args.w_id)
    if args.reference:
        settings.update(factor=None, seed=None, take=args.take)
    return ImageFolder(args.outdir, settings, belongs=lambda name: name in names, coeffs=args.save_coeffs,
                       overwrite=args.overwrite)


def make_jobs(photos, embeddings, lent):
    """Yield the sampling.Job of each picture: the photo redrawn, then one for each lender."""
    from training import editing, sampling
    for photo in photos:
        embedding = embeddings[photo.name]
        yield sampling.Job(f'{photo.name}_{REDRAWN}', editing.Edit(embedding, embedding.face))
        for suffix, face, parts in lent:
            yield sampling.Job(f'{photo.name}_{suffix}',
                               editing.Edit(embedding, embedding.face.transfer(face, *parts)))


def main():
    """Options and files -> training.editing, training.sampling.generate."""
    args = _parse()
    options.check_files(args)
    files = find_photos(args.input)
    find_references(args.reference)
    from training import editing, sampling

    batch = min(args.batch, len(files))
    with sampling.FaceGenerator(args.model, args.vae_weights, args.average_w) as faces:
        specs = _experts(args, faces)
        lent = lenders(args, faces)
        columns = [ORIGINAL, REDRAWN] + [suffix for suffix, _, _ in lent]
        made_of = [faces.identify()['model'], args.steps, args.w_id, specs['id'].weights if args.w_id else '']
        photos, skipped = read_photos(args, files, faces, made_of)
        if not photos:
            raise UserError(f'--input {args.input}: none of {len(files)} photos can be used; the first: '
                            f'{next(iter(skipped.values()))}')
        rows = [[f'{photo.name}_{column}' for column in columns] for photo in photos]
        folder = _make_folder(args, faces, {name for row in rows for name in row})
        editor = editing.PhotoEditor(faces, specs, args.w_id, batch)
        embeddings = editing.embed_photos(editor, photos, args.steps, batch)
        for photo in photos:
            folder.save(f'{photo.name}_{ORIGINAL}', photo.picture, embeddings[photo.name].face)
        jobs = make_jobs(photos, embeddings, lent)
        broken = sampling.generate(editor, jobs, folder, len(photos) * (len(columns) - 1), batch=args.batch)
    _report(args, rows, folder, [embeddings[photo.name] for photo in photos], skipped, broken)


def _report(args, rows, folder, embeddings, skipped, broken):
    errors = np.array([embedding.error for embedding in embeddings])
    print(f'{len(rows)} photos, {len(rows[0]) - 2} edits of each: {folder.path}; redrawn they differ by '
          f'{errors.mean():.1f} of 255 on average, {errors.max():.1f} at most')
    for reason in skipped.values():
        print(f'skipped {reason}', file=sys.stderr)
    if args.grid:
        print(f'contact sheet: {options.write_sheet(rows, folder, args)}')
    if broken:
        raise UserError(f'{broken} pictures hold NaN or infinity; they are black where they do')


if __name__ == '__main__':
    run_main(main)
