"""Photos of the human world a second: the whole command, and where one photo's time goes.

`python benchmarks/photos.py [--count 48] [--size 256]`
"""

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks.common import machine_line, measure, milliseconds, record, table  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402


def whole_command(count, size):
    """Seconds and processor seconds a photo of writing `count` photos, without what is worked out once."""
    from human import photos
    with tempfile.TemporaryDirectory() as folder:
        photos.write_photos(folder, 1, size)
        start, work = time.perf_counter(), time.process_time()
        photos.write_photos(folder, count + 1, size)
        return (time.perf_counter() - start) / count, (time.process_time() - work) / count


def one_by_one(count, size):
    """Timing of drawing one photo alone, and of one style of hair each: {name: (median, min, max)}."""
    from human import photos, prior, scenes
    photographer = photos.Photographer(size)
    drawn = [prior.draw(0, i) for i in range(count)]
    out = {}
    for style in scenes.HAIR_STYLES:
        chosen = [one for one in drawn if one[1].hair.style == style] or drawn[:1]
        turns = iter(range(1 << 30))
        call = lambda chosen=chosen, turns=turns: photographer.draw(*zip(chosen[next(turns) % len(chosen)]))
        out[style] = measure(call, repeats=12, warmup=2)
    photographer.close()
    return out


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=whole(1), default=240, help='photos (default: %(default)s)')
    parser.add_argument('--size', type=whole(1), default=256, help='pixels (default: %(default)s)')
    args = parser.parse_args()
    print(machine_line())
    wall, work = whole_command(args.count, args.size)
    record(f'photos, {args.size}x{args.size}', 1 / wall, 'photos/s')
    print(f'whole command: {1 / wall:.1f} photos/s; {1000 * work:.0f} ms of processor time a photo')
    timings = one_by_one(args.count, args.size)
    print(table([['hair', 'one photo, alone']] + [[style, milliseconds(timing)] for style, timing in timings.items()]))


if __name__ == '__main__':
    run_main(main)
