"""Photos with landmarks -> training data: <save_path>/img/NAME.png (256 x 256) and <save_path>/coeff/NAME.mat (coeff).

A photo without NAME.txt is skipped, or its landmarks are detected first (--detect). Run again to resume.
"""

import argparse
import os
import subprocess
import sys

import config
from dnnlib.options import whole
from dnnlib.util import UserError, run_main
from training.snapshots import WORLDS

TEMPLATE_FILE = 'similarity_Lm3D_all.mat'


def parse_options(arguments=None):
    """The command line -> options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--image_path', required=True, metavar='DIR', help='photos: NAME.png, .jpg or .jpeg in any case (required)')
    add('--lm_path', metavar='DIR',
        help='landmarks: NAME.txt with five lines "x y": left eye, right eye, nose, left and right mouth corner, in '
             'pixels of the photo as it is stored (default: the folder of the photos)')
    add('--save_path', default='./data', metavar='DIR', help='where img/ and coeff/ go (default: %(default)s)')
    add('--detect', action='store_true',
        help='first detect the landmarks of photos that have none, with the package mtcnn (default: skip them)')
    add('--world', choices=WORLDS, default='real', help='whose face model and reconstruction network; kept in '
        '<save_path>/world.json (default: %(default)s)')
    add('--face_model', metavar='DIR',
        help=f"face model, with {TEMPLATE_FILE} (default: the world's; real: {config.FACE_MODEL_DIR})")
    add('--weights', metavar='PATH',
        help='reconstruction network: a checkpoint of R_Net (path without .index), or a .json table of networks '
             f"(default: the world's; real: the released one in {config.PRETRAINED_DIR})")
    add('--batch', type=whole(1), default=16, metavar='N', help='photos in a network run (default: %(default)s)')
    add('--workers', type=whole(1), default=os.cpu_count() or 1, metavar='N',
        help='processes that decode, align and write (default: one per core)')
    options = parser.parse_args(arguments)
    options.lm_path = options.lm_path or options.image_path
    return options


def load_template(world, folder=None):
    """The five-point 3-D template [5, 3] of the world's face model, or of the one in `folder`.

    A folder's face model is converted at its first use. Raises UserError.
    """
    from preprocess import landmarks
    from renderer import face_model
    if folder is None and world == 'synthetic':
        from synthetic.face_model import template
        return landmarks.five_points(template())
    folder = folder or config.FACE_MODEL_DIR
    path = os.path.join(folder, TEMPLATE_FILE)
    if not os.path.exists(os.path.join(folder, face_model.MODEL_FILE)):
        face_model.convert_face_model(folder)
    if not os.path.exists(path):
        raise UserError(f'{path} is missing; get it from folder BFM/ of '
                        'https://github.com/microsoft/Deep3DFaceReconstruction, or name another --face_model')
    return landmarks.five_points(face_model.load_landmarks_3d(path))


def recon_specs(world, weights=None):
    """The world's networks, or what --weights names, as training.perception wants them. UserError: not there."""
    from training import perception
    from training.worlds import World
    if weights is None:
        specs = World(world).expert_specs()
    elif weights.endswith('.json'):
        specs = perception.load_specs(weights)
    else:
        specs = perception.released_specs()
        specs['recon'].weights = weights
    perception.check_weights(specs, ('recon',))
    return specs


def check_world(options):
    """Raise UserError when the face model or the networks that were named belong to another world."""
    from preprocess import world
    folders = [options.face_model] if options.face_model else []
    if options.weights and options.weights.endswith('.json'):
        folders.append(os.path.dirname(os.path.abspath(options.weights)))
    for folder in folders:
        there = world.read(folder)
        if there not in (None, options.world):
            raise UserError(f'{folder}: belongs to the world "{there}", but the results would be of "{options.world}"; '
                            f'worlds cannot be mixed: give --world {there}, or face model and networks of one world')


def detect(options):
    """Detect missing landmarks, in a process of its own: the detector needs another mode of TensorFlow."""
    command = [sys.executable, '-m', 'preprocess.detect', '--image_path', os.path.abspath(options.image_path),
               '--lm_path', os.path.abspath(options.lm_path)]
    code = subprocess.call(command, cwd=config.ROOT)
    if code:
        print('landmarks could not be detected (see above): photos that have none are skipped', flush=True)


def report(options, outcome):
    """Write skipped.txt and print the counts."""
    from preprocess import pipeline
    pipeline.write_skipped(options.save_path, outcome.skipped)
    print(f'{outcome.new} photos done, {outcome.before} were done before, {len(outcome.skipped)} skipped', flush=True)
    if outcome.skipped:
        print(f'the reason for each skipped photo is in {os.path.join(options.save_path, pipeline.SKIPPED_FILE)}')
    if any(reason.startswith('no landmarks') for reason in outcome.skipped.values()):
        print('some photos have no landmarks: --detect finds them')


def run(options):
    """Do the photos that are not done yet -> Outcome. What is finished stays, whatever happens."""
    from preprocess import pipeline
    jobs, outcome = pipeline.plan(options.image_path, options.lm_path, options.save_path)
    try:
        if jobs:
            from training.perception import Reconstructor
            template = load_template(options.world, options.face_model)
            with Reconstructor(recon_specs(options.world, options.weights), options.batch) as reconstruct:
                pipeline.process(jobs, outcome, template, options.save_path, reconstruct, options.batch,
                                 options.workers)
    finally:
        report(options, outcome)
    return outcome


def main():
    """Check everything cheap first, then run."""
    options = parse_options()
    from preprocess import pipeline, world
    jobs, _ = pipeline.plan(options.image_path, options.lm_path, options.save_path)
    if not os.path.isdir(options.lm_path) and not options.detect:
        raise UserError(f'--lm_path {options.lm_path}: no such folder; expected NAME.txt for each photo; --detect '
                        'makes them')
    load_template(options.world, options.face_model)
    if jobs or options.detect:
        recon_specs(options.world, options.weights)
    check_world(options)
    world.write(options.save_path, options.world)
    if options.detect:
        detect(options)
    outcome = run(options)
    if not outcome.new and not outcome.before:
        raise UserError(f'{options.image_path}: no photo could be used; see {options.save_path}')


if __name__ == '__main__':
    run_main(main)
