"""Images a second that dataset_tool.py writes, step by step and as a whole, and that the training input delivers."""

import argparse
import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import common  # noqa: E402
from dnnlib import tfrecords  # noqa: E402
from dnnlib.options import whole  # noqa: E402
from dnnlib.util import run_main  # noqa: E402
from preprocess import dataset_writer, picture_files  # noqa: E402


def make_images(folder, count, resolution):
    """Smooth noise, about as large in PNG as photographs."""
    for k in range(count):
        noise = np.random.RandomState(k).randint(0, 256, [resolution // 4, resolution // 4, 3]).astype(np.uint8)
        picture = Image.fromarray(noise).resize((resolution, resolution), Image.BICUBIC)
        picture.save(os.path.join(folder, f'{k:06d}.png'), compress_level=1)


def time_steps(folder, rounds):
    """Rows of the table: milliseconds of one core for each step on one image."""
    file = os.path.join(folder, picture_files.list_pictures(folder)[0])
    picture = picture_files.read_picture(file)
    levels = dataset_writer.pyramid(picture)
    record = tfrecords.frame(tfrecords.encode_image(levels[0]))
    times = common.measure_interleaved({
        'decode': lambda: picture_files.read_picture(file),
        'all levels': lambda: dataset_writer.pyramid(picture),
        'records with checksums': lambda: [tfrecords.frame_images(level[None]) for level in levels],
        'checksum of the finest': lambda: tfrecords.crc32c(record),
    }, rounds)
    common.record_timings('dataset', times)
    return [[name, common.milliseconds(timing)] for name, timing in times.items()]


def cpu_seconds():
    """Processor time of this process and of its children that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def time_writing(folder, target, workers):
    """Images a second of the whole tool when it runs, processor time of one in ms, seconds until it runs."""
    times = []
    for share in (4, 1):        # the difference of two lengths is free of starting the workers
        source = dataset_writer.ImageFiles(folder)
        source.names = source.names[:len(source.names) // share]
        start, cpu = time.perf_counter(), cpu_seconds()
        _, count = dataset_writer.write_dataset(target, source, True, workers)
        times.append((count, time.perf_counter() - start, cpu_seconds() - cpu))
    count, seconds, processor = np.subtract(times[1], times[0])
    return count / seconds, processor / count * 1e3, times[1][1] - times[1][0] * seconds / count


def time_reading(target, minibatch=16, runs=60):
    """Images a second of the training input, the window filled."""
    from dnnlib.tflib import tfutil
    from training import dataset
    session = tfutil.init_tf()
    data = dataset.TFRecordDataset(target)
    data.configure(minibatch)
    images = data.get_minibatch_tf()[0]
    session.run(images)
    start = time.perf_counter()
    for _ in range(runs):
        session.run(images)
    return runs * minibatch / (time.perf_counter() - start)


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=whole(4), default=800, help='images (default: %(default)s)')
    parser.add_argument('--resolution', type=whole(1), default=256, help='of the images (default: %(default)s)')
    parser.add_argument('--workers', type=whole(1), default=os.cpu_count(), help='threads (default: one per core)')
    options = parser.parse_args()
    print(common.machine_line())
    with tempfile.TemporaryDirectory() as made:
        folder, target = os.path.join(made, 'images'), os.path.join(made, 'dataset')
        os.mkdir(folder)
        make_images(folder, options.count, options.resolution)
        print(common.table([['step', 'one image, median (min-max)']] + time_steps(folder, 15)))
        rate, cpu, before = time_writing(folder, target, options.workers)
        print(f'create_from_images: {rate:.0f} images/s with {options.workers} workers after {before:.1f} s to start '
              f'them; {cpu:.1f} ms of processor time an image')
        reading = time_reading(target)
        print(f'training input: {reading:.0f} images/s')
    common.record('dataset, write', rate, 'images/s')
    common.record('dataset, write, processor', cpu, 'ms')
    common.record('dataset, read', reading, 'images/s')


if __name__ == '__main__':
    run_main(main)
