"""What a person sees of a training: progress bar, a line each tick, stats.jsonl, TensorBoard."""

import json
import math
import os
import resource
import subprocess
import sys
import time
from typing import Any, Dict, Optional

from PIL import Image
from tqdm import tqdm

from dnnlib.tflib.autosummary import Events, Means
from dnnlib.util import atomic_path

STATS = 'stats.jsonl'           # in a run's directory, one line each tick
BAR = '{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.0f} kimg [{elapsed}<{remaining}{postfix}]'
SHOWN = (('Loss/G', 'G'), ('Loss/D', 'D'), ('Loss/scores/real', 'real'), ('Loss/scores/fake', 'fake'))


class Telemetry:
    """Collects terms after each step, shows and writes them each tick.

    run_dir: where stats.jsonl and the event file go; None (a host that is not the chief): nothing is shown or written.
    nimg, total_nimg: images shown so far, and at the end. Lines of an earlier life after `nimg` are taken back.
    """

    def __init__(self, run_dir: Optional[str], nimg: int, total_nimg: int, on_gpu: bool = False) -> None:
        self.means = Means()
        self._run_dir, self._on_gpu = run_dir, on_gpu
        self._shown: Dict[str, float] = {}
        self._since = nimg, time.monotonic()            # images and time of the last look at the speed
        self._bar = tqdm(total=total_nimg / 1000, initial=nimg / 1000, unit='kimg', bar_format=BAR, desc='training',
                         disable=True if run_dir is None else None)
        if run_dir is not None:
            _take_back(os.path.join(run_dir, STATS), nimg)
            self._events = Events(run_dir, nimg)

    def step(self, nimg: int, terms: Dict[str, float]) -> None:
        """After a step: its terms by TensorBoard name, `nimg` images shown in all."""
        self._shown.update(self.means.report_all(terms))
        if nimg / 1000 > self._bar.n:
            self._bar.update(nimg / 1000 - self._bar.n)

    def show(self, nimg: int) -> None:
        """Now and then: speed and losses beside the bar."""
        (before, start), now = self._since, time.monotonic()
        if now - start >= 1:
            self._since = nimg, now
            losses = [f'{word} {self._shown[name]:.3f}' for name, word in SHOWN if name in self._shown]
            self._bar.set_postfix_str(', '.join([f'{(nimg - before) / (now - start):.1f} images/s'] + losses),
                                      refresh=False)

    def tick(self, progress: Dict[str, Any], extra: Dict[str, float]) -> None:
        """At the end of a tick: its line, its entry in stats.jsonl, and the means of all terms since the last.

        progress: tick, kimg, lod, minibatch, resolution, nimg; tick_kimg, the tick's length; seconds of all ticks,
        tick_seconds of this one's steps, maintenance_seconds. extra: further scalars by TensorBoard name.
        """
        terms = self.means.collect()
        if self._run_dir is None:
            return
        memory = gpu_memory_gb() if self._on_gpu else 0.0
        self.say(tick_line(dict(progress, gpumem=memory)))
        terms.update(extra)
        terms['Resources/peak_gpu_mem_gb'] = memory
        terms['Resources/peak_memory_gb'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
        self._write(dict(progress, **terms))
        for name in ('tick', 'kimg', 'lod', 'minibatch', 'resolution'):
            terms['Progress/' + name] = progress[name]
        terms.update({'Timing/total_hours': progress['seconds'] / 3600, 'Timing/sec_per_tick': progress['tick_seconds'],
                      'Timing/sec_per_kimg': progress['tick_seconds'] / progress['tick_kimg'],
                      'Timing/maintenance_sec': progress['maintenance_seconds']})
        self._events.scalars(terms, progress['nimg'])
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
            self._events.close()


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


def gpu_memory_gb() -> float:
    """The fullest GPU's memory in use, which TensorFlow never gives back, so the peak; 0 where nobody can tell."""
    try:
        text = subprocess.run(['nvidia-smi', '--query-gpu=memory.used', '--format=csv,noheader,nounits'], timeout=10,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True).stdout
        return max(float(line) for line in text.splitlines()) / 1024
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0.0


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
