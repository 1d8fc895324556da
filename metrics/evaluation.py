"""Metrics of the snapshots that a training writes, while it trains (paper section 4)."""

import math
import os
import time
from collections import OrderedDict

from dnnlib.util import UserError
from metrics import metric_base
from renderer.factors import FACTORS
from training.telemetry import duration

RESULTS = 'metrics.jsonl'       # in a run's directory: every result with its convention and counts
DISTRIBUTIONS = ('fid', 'kid')  # their number of pictures is part of their name


class Evaluation:
    """Measures a snapshot: metrics.jsonl, a line in metric-<name>.txt, TensorBoard's Metrics/<name>.

    names: as `run_metrics.py --metrics`. num: pictures each may take, None: as many as run_metrics.py. data_dir: the
    reals. inception: the public frozen graph, or None. world_parts: {'face_model', 'experts': path} where not the
    world's own. UserError: unknown names.
    """

    def __init__(self, run_dir, telemetry, names, num, data_dir, inception, world_parts):
        self._run_dir, self._telemetry, self._chosen = run_dir, telemetry, metric_base.choose(names)
        parts = {key: path for key, path in world_parts.items() if key in ('face_model', 'experts')}
        most = metric_base.DEFAULTS
        num = num or most['num']
        subjects = num // (len(FACTORS) * most['variations'])
        self._options = metric_base.Options(
            num=num, pairs=min(2 * num, most['pairs']), subjects=max(2, min(subjects, most['subjects'])),
            data_dir=data_dir, inception=inception, **parts)

    def measure(self, path, nimg):
        """Measure a snapshot that was shown `nimg` images. UserError when that is not possible, whatever the reason.

        A device that is full with the training, statistics of too few pictures, a mistake in a metric: each would end
        a training of days, and run_metrics.py can tell more at leisure.
        """
        try:
            self._measure(path, nimg)
        except UserError:
            raise
        except Exception as error:
            reason = (str(error).strip().splitlines() or ['no further words'])[0]
            raise UserError(f'{path}: could not be measured ({type(error).__name__}: {reason}); try run_metrics.py '
                            f'--model {path}') from error

    def _measure(self, path, nimg):
        began, found = time.monotonic(), OrderedDict()
        for result in metric_base.measure(self._chosen, self._options._replace(model=path)):
            metric_base.append_line(os.path.join(self._run_dir, RESULTS),
                                    metric_base.result_line(dict(result, nimg=nimg)))
            factor = result.get('factor', '')
            found.setdefault(self._title(result['metric']), OrderedDict())[factor] = result['value']
        snapshot = os.path.splitext(os.path.basename(path))[0]
        for title, values in found.items():
            line = metric_line(snapshot, time.monotonic() - began, title, values)
            metric_base.append_line(os.path.join(self._run_dir, f'metric-{title}.txt'), line)
            self._telemetry.say(line)
        self._telemetry.scalars({'/'.join(filter(None, ('Metrics', title, factor))): value
                                 for title, values in found.items() for factor, value in values.items()
                                 if value is not None and math.isfinite(value)}, nimg)

    def _title(self, name):
        num = self._options.num
        return name + (f'{num // 1000}k' if num % 1000 == 0 else f'{num}') if name in DISTRIBUTIONS else name


def metric_line(snapshot, seconds, title, values):
    """'network-snapshot-000140   time 12m 10s   fid50k 41.4' or '... slope identity 0.8 pose 0.7'.

    values: {factor or '': number or None}.
    """
    numbers = ' '.join(f'{factor} {math.nan if value is None else value:.4f}'.strip()
                       for factor, value in values.items())
    return f'{snapshot:<30s} time {duration(seconds):<12s} {title} {numbers}'
