"""What a person sees of a training: progress bar, lines of losses and speed, stats.jsonl, TensorBoard."""

import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from PIL import Image
from tqdm import tqdm

from dnnlib.tflib.autosummary import Events, Means
from dnnlib.util import UserError, atomic_path
from training.schedule import State

STATS = 'stats.jsonl'           # in a run's directory, one line each tick
BAR = '{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.0f} kimg [{elapsed}<{remaining}{postfix}]'
SHOWN = (('Loss/G', 'G'), ('Loss/D', 'D'), ('Loss/scores/real', 'real'), ('Loss/scores/fake', 'fake'))
FIRST_GAP, LONGEST_GAP = 5.0, 300.0     # seconds between two lines of losses and speed; each gap is twice the last


class Telemetry:
    """Collects terms after each step, shows them now and then, writes them each tick.

    run_dir: where stats.jsonl and the event file go; None (a host that is not the chief): nothing is shown or written.
    nimg, total_nimg: images shown so far, and at the end. Lines of an earlier life after `nimg` are taken back.
    num_gpus: of this process.
    """

    def __init__(self, run_dir: Optional[str], nimg: int, total_nimg: int, num_gpus: int = 0) -> None:
        self.means = Means()
        self._run_dir, self._total_nimg, self._num_gpus = run_dir, total_nimg, num_gpus
        self._shown: Dict[str, float] = {}
        self._since: Optional[Tuple[int, float]] = None     # images and time of the last line
        self._gap = FIRST_GAP
        self._bar = tqdm(total=total_nimg / 1000, initial=nimg / 1000, unit='kimg', bar_format=BAR, desc='training',
                         disable=True if run_dir is None else None)
        if run_dir is not None:
            _take_back(os.path.join(run_dir, STATS), nimg)
            self._events = Events(run_dir, nimg)

    def step(self, nimg: int, terms: Dict[str, float]) -> None:
        """After a step of both networks: its terms by TensorBoard name, `nimg` images shown in all."""
        self._shown.update(self.means.report_all(terms))
        losses = ', '.join(f'{word} {self._shown[name]:.3f}' for name, word in SHOWN if name in self._shown)
        self._bar.update(nimg / 1000 - self._bar.n)
        now = time.monotonic()
        if self._since is None:         # the first step takes longer than all others: nothing to reckon with
            self._since = nimg, now
            self.say(f'kimg {nimg / 1000:.1f} of {self._total_nimg / 1000:g}: {losses}')
            return
        before, start = self._since
        speed = (nimg - before) / max(now - start, 1e-6)
        self._bar.set_postfix_str(f'{speed:.1f} images/s, {losses}', refresh=False)
        if now - start >= self._gap:
            left = max(self._total_nimg - nimg, 0) / max(speed, 1e-6)
            self.say(f'kimg {nimg / 1000:.1f} of {self._total_nimg / 1000:g}: {losses}; {speed:.1f} images/s, '
                     f'{duration(left)} left')
            self._since, self._gap = (nimg, now), min(2 * self._gap, LONGEST_GAP)

    def tick(self, progress: Dict[str, Any], now: State) -> None:
        """At the end of a tick: its line, its entry in stats.jsonl, and the means of all terms since the last.

        progress: tick, nimg; tick_start_nimg, images when the tick began; seconds of all ticks, tick_seconds of this
        one's steps, maintenance_seconds.
        """
        terms = self.means.collect()
        memory = gpu_memory_gb(self._num_gpus) if self._num_gpus else 0.0
        shown = {name: progress[name] for name in ('tick', 'nimg', 'seconds', 'tick_seconds', 'maintenance_seconds')}
        shown.update(kimg=progress['nimg'] / 1000, tick_kimg=(progress['nimg'] - progress['tick_start_nimg']) / 1000,
                     lod=now.lod, resolution=now.resolution, minibatch=now.minibatch)
        self.say(tick_line(dict(shown, gpumem=memory)))
        terms.update((f'Train{name}/learning_rate', now.learning_rate) for name in 'GD')
        terms['Resources/peak_gpu_mem_gb'] = memory
        terms['Resources/peak_memory_gb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        self._write(dict(shown, **terms))
        for name in ('tick', 'kimg', 'lod', 'minibatch', 'resolution'):
            terms['Progress/' + name] = shown[name]
        terms.update({'Timing/total_hours': shown['seconds'] / 3600, 'Timing/sec_per_tick': shown['tick_seconds'],
                      'Timing/sec_per_kimg': shown['tick_seconds'] / shown['tick_kimg'],
                      'Timing/maintenance_sec': shown['maintenance_seconds']})
        self._events.scalars(terms, shown['nimg'])
        self._events.flush()

    def picture(self, name: str, path: str, nimg: int) -> None:
        """A picture of the run's directory for TensorBoard."""
        with Image.open(path) as image:
            width, height = image.size
        with open(path, 'rb') as file:
            self._events.picture(name, file.read(), width, height, nimg)

    def scalars(self, values: Dict[str, float], nimg: int) -> None:
        """Further numbers for TensorBoard, by its names."""
        self._events.scalars(values, nimg)

    def say(self, text: str) -> None:
        """A line above the bar, also in log.txt."""
        if self._run_dir is not None:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def _write(self, entry: Dict[str, Any]) -> None:
        plain = {key: value if not isinstance(value, float) or math.isfinite(value) else None
                 for key, value in entry.items()}
        try:
            with open(os.path.join(self._run_dir, STATS), 'a', encoding='utf-8') as file:
                file.write(json.dumps(dict(plain, timestamp=time.time())) + '\n')
        except OSError as error:        # a full disk shall not end a run of days
            self.say(f'warning: {STATS} could not be written ({error.strerror})')

    def close(self) -> None:
        """Write what TensorBoard still waits for; leave the bar where it is."""
        self._bar.close()
        if self._run_dir is not None:
            try:
                self._events.close()
            except UserError as error:
                self.say(f'warning: {error}')


def tick_line(p: Dict[str, Any]) -> str:
    """The line of a tick, left-aligned. p: as `progress` of Telemetry.tick, and gpumem in gigabytes."""
    per_kimg = p['tick_seconds'] / p['tick_kimg']
    return (f'tick {p["tick"]:<5d} kimg {p["kimg"]:<8.1f} lod {p["lod"]:<5.2f} minibatch {p["minibatch"]:<4d} '
            f'time {duration(p["seconds"]):<12s} sec/tick {p["tick_seconds"]:<7.1f} sec/kimg {per_kimg:<7.2f} '
            f'maintenance {p["maintenance_seconds"]:<6.1f} gpumem {p["gpumem"]:<.1f}')


def duration(seconds: float) -> str:
    """'3d 07h 12m', '1h 02m 03s', '4m 05s' or '6s'."""
    minutes, s = divmod(int(round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f'{days}d {h:02d}h {m:02d}m'
    if hours:
        return f'{h}h {m:02d}m {s:02d}s'
    return f'{m}m {s:02d}s' if m else f'{s}s'


def gpu_memory_gb(num_gpus: int) -> float:
    """Memory that this process has on the fullest of its GPUs; TensorFlow never gives it back, so it is the peak.

    Where the driver does not know the process (in a container): what is in use on the first `num_gpus` visible GPUs.
    0 where nobody can tell.
    """
    own = [used for pid, used in _nvidia_smi('compute-apps', 'pid,used_memory') if pid == str(os.getpid())]
    if not own:
        gpus = _nvidia_smi('gpu', 'index,uuid,memory.used')
        visible = [name for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name]
        if visible:
            gpus = [gpu for name in visible for gpu in gpus if gpu[0] == name or gpu[1].startswith(name)]
        own = [used for _, _, used in gpus[:num_gpus]]
    try:
        return max(float(used) for used in own) / 1024
    except ValueError:              # none, or one that is '[N/A]'
        return 0.0


def _nvidia_smi(what: str, fields: str) -> List[List[str]]:
    """Rows of an answer of nvidia-smi; [] where there is no such program."""
    try:
        text = subprocess.run(['nvidia-smi', f'--query-{what}={fields}', '--format=csv,noheader,nounits'], timeout=10,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.split(', ') for line in text.splitlines()]
    return [row for row in rows if len(row) == len(fields.split(','))]


def _take_back(path: str, nimg: int) -> None:
    """Drop the lines of stats.jsonl that were written after `nimg` images, and broken ones."""
    if not os.path.exists(path):
        return
    with open(path, encoding='utf-8', errors='replace') as file:
        lines = list(file)
    kept = [line for line in lines if _nimg_of(line) <= nimg]
    if kept != lines:
        with atomic_path(path) as temporary, open(temporary, 'w', encoding='utf-8') as file:
            file.writelines(kept)


def _nimg_of(line: str) -> float:
    """Images shown when a line was written; infinity for a line that was cut off."""
    try:
        return float(json.loads(line)['nimg']) if line.endswith('\n') else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
