"""Measure a generator: does it do what is asked, does nothing else move, how real are its pictures (paper section 4).

Every result is a line of JSON, on standard output and added to a file, with its convention and sample counts.
"""

import os

from dnnlib import places
from dnnlib.json_files import parse_json
from dnnlib.options import SEED, real, whole
from dnnlib.util import UserError, run_main
from metrics import metric_base, proof
from sampling import options
from worlds import label

EXAMPLES = '''examples:
  python run_metrics.py --model network-final.pkl                        200 subjects x 16 pictures for each factor
                                                                         (control, leakage, identity, hair)
  python run_metrics.py --model network-final.pkl --metrics proof --num 10000 --judge demo/judge
                                                                         the proof table, as markdown; several models
                                                                         beside each other: python -m metrics.proof
  python run_metrics.py --model network-final.pkl --metrics all --data_dir datasets/ffhq_align \\
      --inception classify_image_graph_def.pb                            all there is
  python run_metrics.py --source photos                                  the best these experts could say: the human
                                                                         world's own photos of the same numbers
'''


def _metrics_help():
    names = '; '.join(f'{name}: {metric.about}' for name, metric in metric_base.METRICS.items())
    shorthands = '; '.join(f'{word}: {", ".join(names)}' for word, names in metric_base.SHORTHANDS.items()
                           if word != 'all')
    return f'what to measure, separated by commas (default: %(default)s). {names}. Shorthands: all; {shorthands}'


def _parse():
    defaults = metric_base.DEFAULTS
    parser = options.Parser(description=__doc__, epilog=EXAMPLES,
                            formatter_class=options.argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--metrics', default='groups', metavar='NAMES', help=_metrics_help())
    parser.add_argument('--source', choices=metric_base.SOURCES, default='generator', help='whose pictures: the '
                        'generator\'s; renders or (human world) photos of the same numbers, to see the best that '
                        'can be reached (default: %(default)s)')
    parser.add_argument('--resolution', type=whole(8, 1024), metavar='R',
                        help='of renders and photos (default: 256, in the human world 128)')
    options.add_model_options(parser)
    _add_judges(parser.add_argument_group('what judges'))
    _add_counts(parser.add_argument_group('how many'), defaults)
    group = parser.add_argument_group('results')
    group.add_argument('--output', metavar='FILE', help='file to add the lines to (default: <model>-metrics.jsonl '
                       'beside the model; metrics.jsonl here for renders and photos)')
    group.add_argument('--cache', metavar='DIR', default=defaults['cache'], help='where statistics of reals and '
                       'half-finished work are kept; 100 MB per 12000 pictures with Inception (default: %(default)s)')
    return parser.parse_args()


def _add_judges(group):
    group.add_argument('--data_dir', metavar='DIR', help='real pictures, for fid, kid, ds: TFRecords or a folder of '
                       'preprocessed pictures (default: for fid and kid photos that the world draws, where it '
                       'does; else none)')
    group.add_argument('--inception', metavar='FILE', help='the public frozen graph classify_image_graph_def.pb, for '
                       'fid, kid, ppl (default: the identity expert, whose values compare with no published ones)')
    group.add_argument('--world', choices=label.NAMES, help='face model, VAEs and experts that belong '
                       'together (default: what <model>-world.json says, else real)')
    group.add_argument('--experts', metavar='PATH', help='table of perception networks: experts.json or its folder '
                       '(default: the world\'s)')
    group.add_argument('--judge', '--recon', dest='recon', metavar='PATH', help='networks that no generator was '
                       'trained against, in place of the world\'s, a reconstruction network at least: a folder with '
                       'experts.json, such a table, or a checkpoint of R_Net (default: the world\'s)')
    group.add_argument('--face_model', metavar='DIR', help='folder of the face model (default: the world\'s)')


def _add_counts(group, defaults):
    group.add_argument('--subjects', type=whole(2), default=defaults['subjects'], metavar='N',
                       help='groups per factor (default: %(default)s)')
    group.add_argument('--variations', type=whole(2), default=defaults['variations'], metavar='N',
                       help='pictures in a group (default: %(default)s)')
    group.add_argument('--num', type=whole(2), default=defaults['num'], metavar='N', help='fakes and (at '
                       'most) reals of fid and kid (default: %(default)s)')
    group.add_argument('--pairs', type=whole(1), default=defaults['pairs'], metavar='N',
                       help='of path length (default: %(default)s)')
    group.add_argument('--rate', type=real(0, 1), metavar='R', help='truncation of identity: 1 none '
                       f'(default: {options.RATE} for groups, as generate_images.py; 1 for fid and kid)')
    group.add_argument('--batch', type=whole(1), default=defaults['batch'], metavar='N',
                       help='pictures at a time (default: %(default)s)')
    group.add_argument('--seed', type=SEED, default=defaults['seed'], metavar='N',
                       help='of everything random (default: %(default)s)')


def _check(args):
    """UserError for files that are not there, before TensorFlow takes its seconds."""
    options.check_files(args)
    for name, is_there in (('inception', os.path.isfile), ('face_model', os.path.isdir), ('experts', os.path.exists)):
        path = getattr(args, name)
        if path and not is_there(path):
            raise UserError(f'--{name} {path}: not there')
    if args.source == 'generator' and args.resolution:
        raise UserError('--resolution belongs to --source renders and photos; a generator has its own')


def _output(args):
    """File of the results; UserError now when nothing can be written there, or when it holds something else."""
    beside = os.path.splitext(args.model or '')[0] + '-metrics.jsonl' if args.source == 'generator' else 'metrics.jsonl'
    path = args.output or beside
    inputs = {f'--{name}': getattr(args, name) for name in ('model', 'average_w', 'inception', 'experts', 'recon')}
    places.check_apart(inputs, {'--output': path})
    there = os.path.exists(path)
    if there and not _holds_results(path):
        raise UserError(f'--output {path}: holds something else than results of this command; choose another file')
    metric_base.append_line(path, '')
    if not there:
        os.remove(path)             # no empty file when nothing can be measured
    return path


def _holds_results(path):
    """Whether a file is empty, or begins with a line that this command writes."""
    try:
        with open(path, 'rb') as file:
            line = file.readline(1 << 20)
        return not line or 'metric' in parse_json(line, path)
    except (OSError, UserError):
        return False


def main():
    """Options -> metrics.metric_base.measure."""
    args = _parse()
    chosen = metric_base.choose(args.metrics)
    _check(args)
    if args.source == 'generator':
        from sampling import pretrained
        args.model = pretrained.find_model(args.model, args.vae_weights)
    output = _output(args)
    wanted = metric_base.Options(**{name: getattr(args, name) for name in metric_base.DEFAULTS})
    results = []
    for result in metric_base.measure(chosen, wanted):
        line = metric_base.result_line(result)
        metric_base.append_line(output, line)
        print(line, flush=True)
        results.append(result)
    show = proof.markdown if 'proof' in args.metrics.replace(' ', '').split(',') else metric_base.table
    metric_base.Context.warn(f'\n{show(results)}\n\n{len(results)} results: {output}')


if __name__ == '__main__':
    run_main(main)
