"""The proof table: results of run_metrics.py as markdown, models side by side, what is aimed at beside them.

    python -m metrics.proof demo/demo128-metrics.jsonl metrics.jsonl
"""

import argparse
import math
import os
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from dnnlib.json_files import parse_json
from dnnlib.util import UserError, run_main

METRICS = ('control', 'leakage', 'identity', 'hair', 'constancy', 'faces', 'fid')
MOVING = ('expression', 'lighting', 'pose')
_SHARE = 0.85           # of the photos' R2
_LEAKS = 1.5, 0.05      # times the photos' leakage, or this, whichever is more


class Row(NamedTuple):
    """A line of the table: one number for each pick (metric, factor or None, where in the result: value or a.b).

    least, most: what is aimed at, a number for each pick; of_photos: 'share' or 'leaks', aims that follow from the
    photos' own value. aim: words in place of numbers.
    """

    words: str
    picks: Sequence[Tuple[str, Optional[str], str]]
    least: Sequence[float] = ()
    most: Sequence[float] = ()
    of_photos: str = ''
    aim: str = ''
    mean: bool = False          # of the picks, one number


def _control(words, factor, least, of_photos=''):
    return Row('R² of ' + words, [('control', factor, 'value')], [least], of_photos=of_photos)


def _errors(unit, *names):
    picks = [('control', name, f'details.{key}') for key in ('error', 'spread') for name in names]
    return Row(f'error of {", ".join(names)}; spread of what was asked, {unit}', picks)


def _leaks():
    into = OrderedDict([('identity', MOVING), ('expression', ('shape', 'albedo', 'lighting', 'pose')),
                        ('lighting', ('shape', 'albedo', 'expression', 'pose')),
                        ('pose', ('shape', 'albedo', 'expression', 'lighting'))])
    picks = {factor: [('leakage', factor, f'details.into.{name}') for name in names] for factor, names in into.items()}
    rows = [Row(f'leakage when {factor} moves: of {", ".join(names)}', picks[factor], of_photos='leaks')
            for factor, names in into.items()]
    return rows + [Row('mean leakage', sum(picks.values(), []), aim='stage 2: 25 % less', mean=True)]


def _within(words, metric, where, factors=MOVING, **aims):
    return Row(f'{words} when {", ".join(factors)} moves', [(metric, factor, where) for factor in factors], **aims)


def rows() -> List[Row]:
    """The lines of the table."""
    return [_control('pose', 'pose', 0.97), _control('lighting', 'lighting', 0.80),
            _control('expression (mesh)', 'expression', 0.75, 'share'),
            _control('identity: shape (mesh)', 'shape', 0.60, 'share'),
            _control('identity: albedo', 'albedo', 0.80, 'share'),
            _errors('mm', 'expression', 'shape'), _errors('levels of 255', 'albedo'), _errors('degrees', 'pose')
            ] + _leaks() + [
        _within('constancy of hair colour', 'constancy', 'details.hair', most=(8, 10, 10)),
        _within('constancy of background colour', 'constancy', 'details.background', most=(8, 10, 10)),
        Row('mean constancy', [('constancy', factor, 'details.' + part) for factor in MOVING
                               for part in ('hair', 'background')], aim='stage 2: 40 % less', mean=True),
        _within('identity within less between subjects', 'identity', 'value', least=3 * (0.80,)),
        _within('identity within subjects (cosine)', 'identity', 'details.within'),
        _within('identity between subjects (cosine)', 'identity', 'details.between', most=3 * (0.2,)),
        _within('hair overlap', 'hair', 'value', ('expression', 'lighting'), least=2 * (0.85,)),
        Row('face found by mtcnn', [('faces', None, 'value')], [0.99]),
        Row('FID', [('fid', None, 'value')])]


def markdown(results: Sequence[Dict[str, Any]]) -> str:
    """Results (of the same metric and source the last) as a table; what misses its aim is bold."""
    columns, models = OrderedDict(), _model_titles(results)
    for result in results:
        columns.setdefault(_title(result, models), {})[result['metric'], result.get('factor')] = result
    photos = columns.get('photos', {})
    lines = ['| | ' + ' | '.join(list(columns) + ['target']) + ' |', '|:--|' + '--:|' * (len(columns) + 1)]
    for row in rows():
        least, most = _aims(row, _numbers(row, photos))
        cells = [_cell(_numbers(row, column), least, most) for column in columns.values()]
        if any(cells):
            lines.append('| ' + ' | '.join([row.words] + cells + [_aim(row, least, most)]) + ' |')
    return '\n'.join(lines + [''] + _notes(columns))


def _title(result, models):
    """Of the column that a result stands in: models that were measured at several --rate have several."""
    if result['source'] != 'generator':
        return result['source']
    rate = result.get('rate')       # None: each metric's own
    return models[_path(result)] + ('' if rate is None else f', rate {rate:g}')


def _model_titles(results):
    """{path: title} of the models: the file's name; where several have it, as in two runs, from where they part."""
    named = {}
    for path in {_path(result) for result in results if result['source'] == 'generator'}:
        named.setdefault(os.path.basename(path), []).append(path)
    titles = {}
    for paths in named.values():
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        titles.update((path, os.path.relpath(path, common)) for path in paths)
    return titles


def _path(result):
    return os.path.abspath(result['model'])


def _numbers(row, column):
    """The row's numbers of a column's results; None where there is none."""
    numbers = []
    for metric, factor, where in row.picks:
        value = column.get((metric, factor))
        for key in where.split('.'):
            value = value.get(key) if value else None
        numbers.append(value)
    if row.mean:
        known = [number for number in numbers if number is not None]
        return [sum(known) / len(known) if len(known) == len(numbers) else None]
    return numbers


def _aims(row, photos):
    """(least, most) of each number, None where nothing is aimed at. photos: the row's numbers of photos."""
    least, most = [list(aims) or [None] * len(photos) for aims in (row.least, row.most)]
    for i, value in enumerate(photos):
        if row.of_photos == 'leaks' and value is not None:
            most[i] = max(_LEAKS[0] * value, _LEAKS[1])
        if row.of_photos == 'share' and value is not None:
            least[i] = max(least[i], _SHARE * value)
    return least, most


def _cell(numbers, least, most):
    if not any(number is not None for number in numbers):
        return ''
    return ', '.join(f'**{_shown(number)}**' if _misses(number, *aims) else _shown(number)
                     for number, *aims in zip(numbers, least, most))


def _misses(number, least, most):
    if number is None:
        return False
    return (least is not None and number < least) or (most is not None and number > most)


def _aim(row, least, most):
    """What is aimed at, in words."""
    words = {'': [], 'share': [f'{100 * _SHARE:.0f} % of photos\''],
             'leaks': ['what is more of 1.5 times photos\' and .05']}
    parts = [f'{sign} {", ".join(map(_shown, aims))}' for sign, aims in (('≥', row.least and least), ('≤', most))
             if any(aim is not None for aim in aims)]
    return row.aim or '; '.join(parts + words[row.of_photos])


def _shown(number):
    if number is None or not math.isfinite(number):
        return '-'
    text = f'{number:.1f}' if abs(number) >= 10 else f'{number:.2f}'
    return text.replace('0.', '.', 1) if abs(number) < 1 and text.lstrip('-').startswith('0.') else text


def _notes(columns):
    """What the numbers are of: counts, judges, features."""
    notes = []
    for title, column in columns.items():
        result = column.get(('control', 'pose'))
        if result:
            counts = result['counts']
            notes.append(f'{title}: {counts["subjects"]} subjects of {counts["variations"]} pictures for each factor, '
                         f'world {result["world"]}, judged by {_judges(column)}.')
        if ('fid', None) in column:
            counts = column['fid', None]['counts']
            notes.append(f'{title}: FID of {counts["fakes"]} pictures against {counts["reals"]}, features: '
                         + column['fid', None]['features'] + '.')
    return notes


def _judges(column):
    """The networks whose word the numbers of a column are, by folder and file; of several judges all are named."""
    weights = {path for result in column.values() for path in result.get('experts', {}).values()}
    return ', '.join(sorted({'/'.join(path.split(os.sep)[-2:]) for path in weights}))


def read_results(path: str) -> List[Dict[str, Any]]:
    """The results in a file that run_metrics.py wrote. UserError for another."""
    expected = 'results of run_metrics.py, one line of JSON each'
    try:
        with open(path, 'rb') as file:
            results = [parse_json(line, path, expected) for line in file]
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected {expected}') from error
    if not results or not all(map(_is_result, results)):
        raise UserError(f'{path}: empty, or lines without "metric", "source" and "model"; expected {expected}')
    return results


def _is_result(result):
    return all(isinstance(result.get(name), str) for name in ('metric', 'source', 'model'))


def main() -> None:
    """Command line -> table."""
    parser = argparse.ArgumentParser(prog='python -m metrics.proof', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('results', nargs='+', metavar='FILE', help='*-metrics.jsonl, a column for each model in them')
    print(markdown(sum(map(read_results, parser.parse_args().results), [])))


if __name__ == '__main__':
    run_main(main)
