"""The metrics by name, what they share while they run, and their results: one JSON line each.

    for result in measure(choose('all'), Options(model='network-final.pkl', data_dir='datasets/ffhq_align')):
        print(result_line(result))
"""

import contextlib
import json
import math
import os
import sys
import time
from collections import OrderedDict, namedtuple
from typing import Any, Dict, Iterator, List, Sequence

import numpy as np

import config
from dnnlib.util import UserError
from metrics import consistency, control, detection, disentanglement, kernel_inception_distance, proof
from metrics import frechet_inception_distance as frechet
from metrics import perceptual_path_length as path
from metrics.reals import DrawnReals, mirrored, random_coeffs
from metrics.store import Store
from renderer import factors
from renderer.surface import quantities

REALS_OF_SPREAD = 10000         # at most: real pictures whose estimates' variance the disentanglement score divides by
BLOCK = 256                     # pictures computed and saved together
SOURCES = ('generator', 'renders', 'photos')

# measure(context) yields Results; needs: of 'reals', 'features', 'groups', 'hair', 'generator', 'detector'; about: for
# --help.
Metric = namedtuple('Metric', 'measure needs about')


def _path_length(space, sampling):
    return lambda context: path.path_length(context, space, sampling)


METRICS = OrderedDict([
    ('slope', Metric(control.slopes, ('groups',), 'change of the picture against change of the render, per factor')),
    ('control', Metric(control.control, ('groups',), 'R2 of the requested and the re-estimated: mm, levels, degrees')),
    ('leakage', Metric(disentanglement.leakages, ('groups',), 'what else moves when one factor does')),
    ('identity', Metric(consistency.identity, ('groups',), 'identity within subjects less between subjects')),
    ('likeness', Metric(consistency.likeness, ('groups',), 'identity of the face against that of its render')),
    ('hair', Metric(consistency.hair, ('groups', 'hair'), 'overlap of hair within subjects')),
    ('constancy', Metric(consistency.constancy, ('groups', 'hair'), 'spread of colours of hair and background')),
    ('landmarks', Metric(control.imitation, ('groups',), 'distance of landmarks from those of the render')),
    ('faces', Metric(detection.faces, ('detector',), 'share of pictures in which a detector finds a face')),
    ('ds', Metric(disentanglement.disentanglement_score, ('groups', 'reals'), 'disentanglement score of the paper')),
    ('fid', Metric(frechet.fid, ('reals', 'features'), 'Frechet distance of features')),
    ('kid', Metric(kernel_inception_distance.kid, ('reals', 'features'), 'kernel distance of features')),
] + [(f'ppl_{space}_{sampling}', Metric(_path_length(space, sampling), ('features', 'generator'),
                                        f'path length in {space}, {sampling}'))
     for space in path.SPACES for sampling in path.SAMPLINGS])
SHORTHANDS = OrderedDict([
    ('all', tuple(METRICS)),
    ('proof', proof.METRICS),
    ('groups', tuple(name for name, metric in METRICS.items() if 'groups' in metric.needs)),
    ('ppl', tuple(name for name in METRICS if name.startswith('ppl'))),
])

# What is to be measured and how; run_metrics.py tells of each.
DEFAULTS = OrderedDict([
    ('source', 'generator'), ('model', None), ('vae_weights', None), ('average_w', None), ('world', None),
    ('face_model', None), ('experts', None), ('recon', None), ('inception', None), ('data_dir', None),
    ('resolution', None), ('num', 50000), ('pairs', 100000), ('subjects', 200), ('variations', 16), ('rate', None),
    ('batch', 8), ('seed', 1), ('cache', os.path.join(config.CACHE_DIR, 'metrics'))])
Options = namedtuple('Options', list(DEFAULTS))
Options.__new__.__defaults__ = tuple(DEFAULTS.values())


def choose(text: str) -> 'OrderedDict[str, bool]':
    """'control,fid' or 'all' -> OrderedDict {name: whether it was named itself}. UserError for an unknown name."""
    chosen = OrderedDict()
    for word in text.replace(' ', '').split(','):
        if word in METRICS:
            chosen[word] = True
        elif word in SHORTHANDS:
            for name in SHORTHANDS[word]:
                chosen.setdefault(name, False)
        else:
            raise UserError(f'--metrics {word}: unknown; expected some of {", ".join(METRICS)}, or '
                            f'{", ".join(SHORTHANDS)}')
    return OrderedDict((name, chosen[name]) for name in METRICS if name in chosen)


def measure(chosen: Dict[str, bool], options: Options) -> Iterator[Dict[str, Any]]:
    """Yield the Results (dicts ready for JSON) of metrics chosen by `choose`.

    What a shorthand names but cannot be measured here (no reals, no parser) is left out with a line on stderr; what was
    named itself is a UserError then.
    """
    with contextlib.closing(Context(options)) as context:
        names = context.possible(chosen)
        if not names:
            raise UserError('none of the metrics can be measured here; the reasons are above')
        context.open_all(names)
        for name in names:
            for result in METRICS[name].measure(context):
                yield result
        context.store.discard()


class Context:
    """Sources, judges and collected arrays that metrics share, each made when it is first asked for. Close it.

    options: an Options; every UserError of opening things comes from here, before anything long begins.
    """

    def __init__(self, options):
        from metrics import inputs
        self.options = options
        self.store = Store(options.cache)
        self._open, self._with_parser, self._kept = [], False, {}
        self._began = time.time()
        self._inputs = inputs.Inputs(options)

    # ---- what can be measured

    def possible(self, chosen: Dict[str, bool]) -> List[str]:
        """Names of those metrics of `choose` that have all they need.

        What lacks something is a UserError if it was named itself; else each reason is a line on stderr.
        """
        reasons = OrderedDict((name, self._lacking(METRICS[name].needs)) for name in chosen)
        for name, reason in reasons.items():
            if reason and chosen[name]:
                raise UserError(f'--metrics {name}: {reason}')
        for reason in OrderedDict.fromkeys(filter(None, reasons.values())):
            self.warn(f'left out: {", ".join(name for name in reasons if reasons[name] == reason)}: {reason}')
        return [name for name, reason in reasons.items() if not reason]

    def _lacking(self, needs):
        if 'generator' in needs and self.options.source != 'generator':
            return f'it measures a generator, not {self.options.source}'
        if 'reals' in needs and not self.options.data_dir and not self._draws_reals(needs):
            return 'it compares with real pictures; name them with --data_dir'
        try:
            self._inputs.check(needs)
        except UserError as error:
            return str(error)
        return None

    def _draws_reals(self, needs):
        """Whether the world's own photos will do: for distributions, where it draws any."""
        return 'features' in needs and self._inputs.world.photographer is not None

    def open_all(self, names: Sequence[str]) -> None:
        """Open what these metrics need, so that mistakes are said before hours of work."""
        needs = {need for name in names for need in METRICS[name].needs}
        self._with_parser = 'hair' in needs
        rates = ([self.rate] if 'groups' in needs else []) + ([self.free_rate] if 'fid' in names or 'kid' in names
                                                              else [])
        self.source().load(min(rates, default=1.0))
        for need, opened in (('reals', self.reals), ('groups', self.groups), ('features', self.features)):
            if need in needs:
                opened()

    # ---- what metrics use

    @property
    def rate(self) -> float:
        """Truncation of the groups: as generate_images.py unless the user says otherwise."""
        from sampling.options import RATE
        return RATE if self.options.rate is None else self.options.rate

    @property
    def free_rate(self) -> float:
        """Truncation of samples of the whole distribution: none unless the user says otherwise."""
        return 1.0 if self.options.rate is None else self.options.rate

    def source(self) -> Any:
        """The source of pictures."""
        return self._once('source', self._inputs.open_source)

    def generator(self) -> Any:
        """The source, for metrics that look inside; `possible` made sure that it is a generator."""
        return self.source()

    def features(self) -> Any:
        """The feature network."""
        return self._once('features', self._inputs.open_features)

    def judge(self) -> Any:
        """Experts and face model."""
        return self._once('judge', lambda: self._inputs.open_judge(self._with_parser))

    def reals(self) -> Any:
        """The real pictures: those of --data_dir, else photos that the world draws."""
        if 'reals' not in self._kept:
            self._kept['reals'] = self._open_reals(self.source().resolution)
        return self._kept['reals']

    def _open_reals(self, resolution):
        if self.options.data_dir:
            return self._inputs.open_reals(resolution)
        photos = self._once('photos', lambda: self._inputs.open_photos(resolution))
        return DrawnReals(photos, self.options.seed, self.options.num)

    def quantities(self) -> Any:
        """What people ask of factors, see renderer.surface."""
        if 'quantities' not in self._kept:
            self._kept['quantities'] = quantities(self._inputs.face_model())
        return self._kept['quantities']

    def random_pictures(self, start: int, count: int, rate: float, seed: Any = None) -> np.ndarray:
        """Random pictures from number `start`, always the same for the same blocks. seed: of fresh noise maps."""
        coeffs = random_coeffs(self.source(), [self.options.seed, start], count)
        return self.source().pictures(coeffs, rate, seed, self.options.batch)

    def groups(self) -> Any:
        """The groups of every factor."""
        if 'groups' not in self._kept:
            from metrics.groups import Groups
            options = self.options
            self._kept['groups'] = Groups(self.store, self.source(), self.judge(), self._inputs.face_model(),
                                          options.seed, options.subjects, options.variations, self.rate, options.batch)
        return self._kept['groups']

    def real_features(self) -> np.ndarray:
        """Features [N, D] of real pictures, mirrored at random."""
        reals, features, seed = self.reals(), self.features(), self.options.seed

        def compute(start, count):
            pictures = mirrored(reals.read(start, count), seed, start)
            return {'features': features(pictures, self.options.batch)}

        return self.store.collect('features-of-reals', dict(reals=reals.facts, features=features.facts, seed=seed),
                                  reals.count, BLOCK, compute)['features']

    def fake_features(self) -> np.ndarray:
        """Features [N, D] of as many random pictures: fresh latents, noise vector and noise maps for each."""
        source, features, options = self.source(), self.features(), self.options

        def compute(start, count):
            pictures = self.random_pictures(start, count, self.free_rate, (options.seed, start))
            return {'features': features(pictures, options.batch)}

        facts = dict(source=source.facts, features=features.facts, seed=options.seed, rate=self.free_rate)
        return self.store.collect('features-of-fakes', facts, options.num, BLOCK, compute, passing=True)['features']

    def real_estimates(self) -> Dict[str, np.ndarray]:
        """What the experts see in real pictures: estimate [N, 257] and embedding [N, E]."""
        reals, judge = self.reals(), self.judge()
        count = min(reals.count, REALS_OF_SPREAD)

        def compute(start, number):
            seen = judge.look(reals.read(start, number), self.options.batch)
            return {name: seen[name] for name in ('estimate', 'embedding')}

        known = {name: judge.facts[name] for name in ('recon', 'id')}
        return self.store.collect('estimates-of-reals', dict(reals=reals.facts, experts=known), count, BLOCK, compute)

    # ---- results

    @property
    def distribution_convention(self) -> str:
        """How pictures are drawn where distributions are compared."""
        return (f'{self.reals().title}, mirrored at random; fakes from fresh latents through the VAEs, fresh noise '
                'vectors' + self.drawn(self.free_rate, 'fresh'))

    def result(self, name, value, convention, counts, details=None, features=False, factor=None):
        """A result: what was measured, how, on how many, of what."""
        now = time.time()
        seconds, self._began = now - self._began, now
        source = self.source()
        result = OrderedDict(metric=name)
        if factor:
            result['factor'] = factor
        result.update(value=value, details=details or {}, counts=counts, convention=convention)
        if features:
            result['features'] = self.features().title
        result.update(self._inputs.describe(features))
        result.update(source=self.options.source, model=source.title, resolution=source.resolution,
                      grown_to=source.active_resolution, seed=self.options.seed, rate=self.options.rate,
                      seconds=round(seconds, 1), time=time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now)))
        return result

    def group_result(self, name, factor, value, convention, details=None, counts=None, word=None):
        """A result of groups; factor None: of all together. word: in place of the factor's."""
        groups, options = self.groups(), self.options
        number = 1 if factor else len(factors.FACTORS)
        counts = dict(dict(subjects=options.subjects, variations=options.variations,
                           pictures=number * options.subjects * options.variations), **(counts or {}))
        return self.result(name, value, convention + self.drawn(groups.rate, 'stored'), counts, details,
                           factor=word or (factors.BY_NAME[factor].word if factor else 'all'))

    def drawn(self, rate: float, noise: str) -> str:
        """How pictures were made, for a convention."""
        if self.options.source != 'generator':
            return f'; {self.options.source} instead of a generator\'s pictures, 8 bits'
        return f'; truncation rate {rate:g} (1: none), {noise} noise maps, 8 bits'

    @staticmethod
    def warn(text: str) -> None:
        """A line on stderr."""
        print(text, file=sys.stderr)

    def _once(self, name, opener):
        if name not in self._kept:
            self._kept[name] = opener()
            self._open.append(self._kept[name])
        return self._kept[name]

    def close(self) -> None:
        """Close what was opened."""
        while self._open:
            self._open.pop().close()


# ---- results on paper

def result_line(result: Dict[str, Any]) -> str:
    """A result as one line of JSON; what is not a finite number is null, numbers have 7 digits."""
    return json.dumps(_plain(result), allow_nan=False)


def _plain(value):
    if isinstance(value, dict):
        return OrderedDict((key, _plain(item)) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(f'{value:.7g}') if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def append_line(file_path: str, line: str) -> None:
    """Add a line to a file and make sure that it is on the disk. UserError when that fails."""
    try:
        os.makedirs(os.path.dirname(os.path.abspath(file_path)), exist_ok=True)
        with open(file_path, 'a', encoding='utf-8') as file:
            file.write(line + '\n' if line else '')
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f'{file_path}: results cannot be written there ({error.strerror}); choose another --output')


def table(results: Sequence[Dict[str, Any]]) -> str:
    """Results as text: a row for each factor, a column for each metric; what has no factor below."""
    columns, rows, single = OrderedDict(), OrderedDict(), []
    for result in results:
        if 'factor' in result:
            columns[result['metric']] = True
            rows.setdefault(result['factor'], {})[result['metric']] = result['value']
        else:
            single.append(f'{result["metric"]:12} {_shown(result["value"])}')
    lines = []
    if columns:
        lines.append(f'{"":12}' + ''.join(f'{name:>12}' for name in columns))
        lines += [f'{row:12}' + ''.join(f'{_shown(values[name]) if name in values else "":>12}' for name in columns)
                  for row, values in rows.items()]
    return '\n'.join(lines + single)


def _shown(value):
    return '-' if value is None or not math.isfinite(value) else f'{value:.4g}'
