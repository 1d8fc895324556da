"""All benchmarks as one table: this run's numbers beside the last recorded ones of the same kind of machine.

`python benchmarks/all.py --save` records them; a number that fell by more than 15% is marked; a benchmark that fails
does not keep the others from running.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import common  # noqa: E402
from dnnlib.json_files import read_json, write_json  # noqa: E402
from dnnlib.util import UserError, run_main  # noqa: E402

FOLDER = os.path.dirname(os.path.abspath(__file__))
RECORDED = os.path.join(FOLDER, 'recorded.json')        # {machine kind: {name: [value, unit]}}
OPTIONS = {'preprocess': ['--network']}                 # of a benchmark, where its defaults leave something out
QUICK = {                                               # whether all still run; the numbers mean nothing
    'dataset_tool': ['--count', '40', '--resolution', '32', '--workers', '1'],
    'editing': ['--photos', '1', '--steps', '8', '--resolution', '16'],
    'face': ['--repeats', '1'],
    'networks': ['--part', 'sampling', '--resolution', '16', '--repeats', '1'],
    'perception': ['small_recon', '--repeats', '1'],
    'photos': ['--count', '1', '--size', '64'],
    'preprocess': ['--count', '24', '--workers', '1', '--batch', '4'],
    'rasterize': ['--repeats', '1', '--skip-ref'],
    'sampling': ['--resolution', '16', '--images', '2', '--batch', '1'],
    'train': ['--resolutions', '8', '--repeats', '1'],
    'vae': ['--repeats', '1'],
}
FELL = 0.85                                             # of the recorded speed: below, it is marked


def names():
    """The benchmarks of this folder, sorted."""
    others = ('all.py', 'budget.py', 'common.py')
    return sorted(name[:-3] for name in os.listdir(FOLDER)
                  if name.endswith('.py') and not name.startswith('_') and name not in others)


def run(name, options):
    """Run one benchmark, its tables on the terminal -> ({name of a number: [value, unit]}, exit code)."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'record')
        command = [sys.executable, os.path.join(FOLDER, name + '.py')] + options
        print(f'\n== {name}', flush=True)
        code = subprocess.call(command, env=dict(os.environ, **{common.RECORDING: path}))
        if not os.path.exists(path):
            return {}, code
        with open(path, encoding='utf-8') as file:
            return {key: [float(f'{value:.4g}'), unit] for key, value, unit in map(json.loads, file)}, code


def speed_ratio(now, before):
    """How fast now against before, 1: as fast. now, before: [value, unit]; of '/s' more is better, else less."""
    ratio = now[0] / before[0]
    return ratio if now[1].endswith('/s') else 1 / ratio


def comparison(found, recorded):
    """Rows of the table: name, this run, recorded, ratio of speeds, a mark where it fell."""
    rows = [['what', 'now', 'recorded', 'speed', '']]
    for name, (value, unit) in found.items():
        row = [name, f'{value:.4g} {unit}', '', '', '']
        if name in recorded and recorded[name][1] == unit:
            ratio = speed_ratio([value, unit], recorded[name])
            row[2:] = [f'{recorded[name][0]:.4g} {unit}', f'{ratio:.2f}', 'SLOWER' if ratio < FELL else '']
        rows.append(row)
    return rows


def main():
    """Run what is named, print one table, record it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', choices=names(), default=names(), metavar='NAME',
                        help=f'some of {", ".join(names())} (default: all)')
    parser.add_argument('--save', action='store_true', help='record the numbers of this kind of machine (default: off)')
    parser.add_argument('--quick', action='store_true', help='everything small, to see that it runs; nothing is '
                        'compared (default: off)')
    args = parser.parse_args()
    if args.quick and args.save:
        raise UserError('--quick and --save do not go together: numbers of small runs are not to be recorded')
    from dnnlib.tflib.compat import VERSION
    kind = common.machine_kind('.'.join(map(str, VERSION)))
    known = read_json(RECORDED, 'the recorded numbers') if os.path.exists(RECORDED) else {}
    found, failed = {}, []
    for name in args.only:
        numbers, code = run(name, QUICK[name] if args.quick else OPTIONS.get(name, []))
        found.update({} if code else numbers)       # those of a failed one may be half of them
        failed += [f'benchmarks/{name}.py (exit code {code})'] if code else []
    rows = comparison(found, {} if args.quick else known.get(kind, {}))
    print(f'\n{kind}; {common.machine_line()}\n{common.table(rows)}')
    if args.save:
        known.setdefault(kind, {}).update(found)
        write_json(RECORDED, known)
    if failed:
        raise UserError(f'{", ".join(failed)} failed; see above')


if __name__ == '__main__':
    run_main(main)
