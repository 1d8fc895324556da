"""Photos with landmarks -> training data: <save_path>/img/NAME.png (256 x 256) and <save_path>/coeff/NAME.mat (coeff).

A photo without NAME.txt is skipped, or its landmarks are detected first (--detect). Run again to resume: what was made
from other photos, landmarks, weights or another face model (<save_path>/made.jsonl tells) is then made again.
"""

import argparse
import os

import config
from dnnlib.options import whole
from dnnlib.util import PRECISION_HELP, PRECISIONS, UserError, one_line, run_main
from worlds import label
from worlds.agree import one_world


def parse_options(arguments=None):
    """The command line -> options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--image_path', required=True, metavar='DIR',
        help='photos: NAME.png, .jpg, .webp, .bmp, .tif, ... also in folders below: a/b.png is called a_b (required)')
    add('--lm_path', metavar='DIR',
        help='landmarks: NAME.txt with five lines "x y": left eye, right eye, nose, left and right mouth corner, in '
             'pixels of the photo as it is stored, or as a viewer shows it (default: the folder of the photos)')
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
    add('--precision', choices=PRECISIONS, default='float32', help=PRECISION_HELP + '. bfloat16 changes coefficients '
        'by 2%% of their spread over photos (rms; the largest by 11%%) with the network of the human world, by 6%% '
        '(39%%) with R_Net and random weights; nobody measured the released weights: benchmarks/preprocess.py does')
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
    if weights and not weights.endswith('.json'):
        specs = experts.released_specs()
        specs['recon'].weights = weights
    else:
        specs = world.expert_specs()
    experts.check_weights(specs, ('recon',))
    return specs


def settings_of(template, specs, precision='float32'):
    """What results depend on besides photo and landmarks: {what: digest}. template: [5, 3]; specs: of the networks."""
    from dnnlib import hashes
    from dnnlib.tflib import checkpoints
    spec = specs['recon']
    files = [spec.weights + '.index'] + checkpoints.data_files(spec.weights)
    network = [spec.network, spec.get('size'), spec.get('width'), hashes.files_digest(files)]
    settings = {'face model': hashes.digest([list(map(float, point)) for point in template])[:32],
                'reconstruction network': hashes.digest(network)[:32]}
    return settings if precision == 'float32' else dict(settings, precision=precision)      # absent in earlier records


def detect(options):
    """Detect missing landmarks -> {photo: why it has none}. A process of its own: the detector needs another TensorFlow
    mode.
    """
    from preprocess.detect import detect_apart
    reasons = detect_apart(**{name: getattr(options, name) for name in ('image_path', 'lm_path', 'save_path')})
    if reasons is not None:
        return reasons
    print('landmarks could not be detected (see above): photos that have none are skipped', flush=True)
    return {}


def report(options, outcome):
    """Write skipped.txt and print the counts."""
    from preprocess import plan
    plan.write_skipped(options.save_path, outcome.skipped)
    print(f'{outcome.new} photos done, {outcome.before} were done before, {len(outcome.skipped)} skipped', flush=True)
    for photo in sorted(outcome.turned)[:20]:
        print(one_line(f'{photo}: {outcome.turned[photo]}'))
    if len(outcome.turned) > 20:
        print(f'... and {len(outcome.turned) - 20} more turned by their EXIF data')
    if outcome.skipped:
        print(f'the reason for each skipped photo is in {os.path.join(options.save_path, plan.SKIPPED_FILE)}')
    if not options.detect and any(reason.startswith('no landmarks') for reason in outcome.skipped.values()):
        print('some photos have no landmarks: --detect finds them')


def report_earlier(outcome):
    """Print which results of earlier runs are made again, and why."""
    if outcome.again:
        reasons = ', '.join(f'{count} {reason}' for reason, count in sorted(outcome.again.items()))
        print(f'{sum(outcome.again.values())} photos are done again, because their results no longer fit: {reasons}')
    if outcome.adopted:
        print(f'{outcome.adopted} results are of an earlier version, which kept no record: taken as they are, for they '
              'are newer than their photos and landmarks; with which network they were made is unknown (remove img/ '
              'and coeff/ to have them made again)')


def run(options, jobs, outcome, template, specs, settings):
    """Do the jobs. What is finished stays, whatever happens. For the other parameters see `preprocess.pipeline`."""
    from preprocess import pipeline
    try:
        if jobs:
            from perception.experts import Reconstructor
            with Reconstructor(specs, options.batch, precision=options.precision) as reconstruct:
                pipeline.process(jobs, outcome, template, options.save_path, reconstruct, options.batch,
                                 options.workers, settings)
    finally:
        report(options, outcome)


def check_options(options):
    """UserError for folders that cannot be used, before anything slow."""
    from preprocess import plan
    plan.check_places(options.image_path, options.lm_path, options.save_path)
    plan.photo_names(options.image_path, options.save_path)
    if not os.path.isdir(options.lm_path) and not options.detect:
        raise UserError(f'--lm_path {options.lm_path}: no such folder; expected NAME.txt for each photo; --detect '
                        'makes them')
    one_world({options.save_path: label.read(options.save_path), f'--world {options.world}': options.world})
    if options.precision != 'float32':
        from dnnlib.tflib import tfutil
        tfutil.check_precision(options.precision)


def main():
    """Check everything cheap, then look what there is to do, then do it."""
    options = parse_options()
    check_options(options)
    from preprocess import landmarks, plan
    world = open_world(options)
    template = landmarks.five_points(world.template())
    specs = recon_specs(world, options.weights)
    settings = settings_of(template, specs, options.precision)
    undetected = detect(options) if options.detect else {}
    jobs, outcome = plan.plan(options.image_path, options.lm_path, options.save_path, settings, undetected)
    report_earlier(outcome)
    plan.begin(options.save_path, options.world)
    run(options, jobs, outcome, template, specs, settings)
    if not outcome.new and not outcome.before:
        raise UserError(f'{options.image_path}: no photo could be used; see {options.save_path}')


if __name__ == '__main__':
    run_main(main)
