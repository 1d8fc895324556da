"""What every benchmark shares: timing with spread, the machine's own speed beside it, aligned tables, records."""

import json
import math
import os
import platform
import re
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

Timing = Tuple[float, float, float]     # median, min, max in seconds


def _seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def _spread(times: Sequence[float]) -> Timing:
    return float(np.median(times)), float(np.min(times)), float(np.max(times))


def measure(fn: Callable[[], Any], repeats: int = 5, warmup: int = 1) -> Timing:
    """Call fn `warmup` times, then time `repeats` calls -> (median, min, max) in seconds."""
    for _ in range(warmup):
        fn()
    return _spread([_seconds(fn) for _ in range(repeats)])


def measure_interleaved(fns: Dict[str, Callable[[], Any]], repeats: int = 5, warmup: int = 1) -> Dict[str, Timing]:
    """`measure` of several functions in turns, so that a busy machine disturbs all of them alike."""
    times: Dict[str, List[float]] = {name: [] for name in fns}
    for fn in fns.values():
        for _ in range(warmup):
            fn()
    for _ in range(repeats):
        for name, fn in fns.items():
            times[name].append(_seconds(fn))
    return {name: _spread(values) for name, values in times.items()}


def matmul_gflops(size: int = 1536, repeats: int = 5) -> float:
    """Best float32 speed of NumPy's matrix product on all cores, in 10^9 operations a second."""
    a = np.ones([size, size], np.float32)
    out = np.empty_like(a)
    _, best, _ = measure(lambda: np.matmul(a, a, out=out), repeats)
    return 2 * size ** 3 / best / 1e9


def memory_bandwidth(megabytes: int = 256, repeats: int = 5) -> float:
    """Best speed of one thread copying arrays larger than the caches, read plus written, in 10^9 bytes a second."""
    source = np.ones(megabytes * 2 ** 18, np.float32)
    target = np.empty_like(source)
    _, best, _ = measure(lambda: np.copyto(target, source), repeats)
    return 2 * source.nbytes / best / 1e9


def machine_line() -> str:
    """One line to print beside results: cores this process may use, matrix product, memory copy, Python and NumPy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return (f'machine: {cores} cores, float32 matmul {matmul_gflops():.0f} GFLOP/s, '
            f'memory copy {memory_bandwidth():.1f} GB/s, '
            f'Python {platform.python_version()}, NumPy {np.__version__}')


def milliseconds(timing: Timing) -> str:
    """(median, min, max) in seconds -> '12.3 (12.1-14.0) ms'."""
    median, least, most = [value * 1e3 for value in timing]
    return f'{median:.3g} ({least:.3g}-{most:.3g}) ms'


def table(rows: Sequence[Sequence[Any]]) -> str:
    """Rows, the heading first, as an aligned Markdown table."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ['| ' + ' | '.join(cell.ljust(width) for cell, width in zip(row, widths)) + ' |' for row in cells]
    lines.insert(1, '|' + '|'.join('-' * (width + 2) for width in widths) + '|')
    return '\n'.join(lines)


# ---- records: what `benchmarks/all.py` compares with earlier runs

RECORDING = 'DISCO_BENCHMARK_RECORD'        # environment variable: a file that takes a line for each number


def record(name: str, value: float, unit: str) -> None:
    """Keep a number for `benchmarks/all.py`, if that started this process. unit: 'ms' or 's', or '.../s', more is
    better. What is not above 0 is left out: no ratio can be told of it.
    """
    path = os.environ.get(RECORDING)
    if path and math.isfinite(value) and value > 0:
        with open(path, 'a', encoding='utf-8') as file:
            file.write(json.dumps([name, float(value), unit]) + '\n')


def record_timings(prefix: str, timings: Dict[str, Timing], per: float = 1.0) -> None:
    """`record` medians of `measure_interleaved` in ms, as '<prefix> <name>'. per: parts that one call consists of."""
    for name, (median, _, _) in timings.items():
        record(f'{prefix} {name}', 1e3 * median / per, 'ms')


def machine_kind(tensorflow_version: str) -> str:
    """Which recorded numbers this machine's compare with: cores, vector units, TensorFlow."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            flags = set(re.findall(r'\b(avx2|avx512f|avx512_bf16|amx_bf16|asimd)\b', file.read()))
    except OSError:
        flags = set()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    return f'{cores} cores, {" ".join(sorted(flags)) or platform.machine()}, TensorFlow {tensorflow_version}'
