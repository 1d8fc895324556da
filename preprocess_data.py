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
from worlds import label


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
    add('--world', choices=label.NAMES, default='real', help='whose face model and reconstruction network; kept in '
        '<save_path>/world.json (default: %(default)s)')
    add('--face_model', metavar='DIR',
        help=f"face model, with similarity_Lm3D_all.mat (default: the world's; real: {config.FACE_MODEL_DIR})")
    add('--weights', metavar='PATH',
        help='reconstruction network: a checkpoint of R_Net (path without .index), or a .json table of networks '
             f"(default: the world's; real: the released one in {config.PRETRAINED_DIR})")
    add('--batch', type=whole(1), default=16, metavar='N', help='photos in a network run (default: %(default)s)')
    add('--workers', type=whole(1), default=os.cpu_count() or 1, metavar='N',
        help='processes that decode, align and write (default: one per core)')
    options = parser.parse_args(arguments)
    options.lm_path = options.lm_path or options.image_path
    return options


def open_world(options):
    """The World that the options name. UserError when the parts they name are of another one."""
    from worlds.parts import World
    table = options.weights if options.weights and options.weights.endswith('.json') else None
    return World(options.world, face_model=options.face_model, experts=table)


def recon_specs(world, weights=None):
    """The world's networks, or what --weights names, for perception.experts. UserError: not there."""
    from perception import experts
    specs = world.expert_specs()
    if weights and not weights.endswith('.json'):
        specs = experts.released_specs()
        specs['recon'].weights = weights
    experts.check_weights(specs, ('recon',))
    return specs


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


def run(options, template, specs):
    """Do the photos that are not done yet -> Outcome. What is finished stays, whatever happens.

    template: [5, 3] landmarks of the alignment; specs: of the perception networks.
    """
    from preprocess import pipeline
    jobs, outcome = pipeline.plan(options.image_path, options.lm_path, options.save_path)
    try:
        if jobs:
            from perception.experts import Reconstructor
            with Reconstructor(specs, options.batch) as reconstruct:
                pipeline.process(jobs, outcome, template, options.save_path, reconstruct, options.batch,
                                 options.workers)
    finally:
        report(options, outcome)
    return outcome


def main():
    """Check everything cheap first, then run."""
    options = parse_options()
    from preprocess import landmarks, pipeline
    jobs, _ = pipeline.plan(options.image_path, options.lm_path, options.save_path)
    if not os.path.isdir(options.lm_path) and not options.detect:
        raise UserError(f'--lm_path {options.lm_path}: no such folder; expected NAME.txt for each photo; --detect '
                        'makes them')
    world = open_world(options)
    template = landmarks.five_points(world.template())
    specs = recon_specs(world, options.weights) if jobs or options.detect else None
    label.write(options.save_path, options.world)
    if options.detect:
        detect(options)
    outcome = run(options, template, specs)
    if not outcome.new and not outcome.before:
        raise UserError(f'{options.image_path}: no photo could be used; see {options.save_path}')


if __name__ == '__main__':
    run_main(main)
