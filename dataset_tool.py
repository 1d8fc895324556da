"""Make, look at, extract and compare datasets: folders of TFRecord files, one file per resolution."""

import argparse
import collections
import io
import itertools
import os
import sys

from dnnlib.options import whole
from dnnlib.util import UserError, one_line, run_main, write_atomic

MOST_SHEET_PIXELS = 1 << 26         # of `display`: 1024 images of 256 x 256
EXAMPLES = '''examples:
  python dataset_tool.py create_from_images datasets/ffhq_align ./data/img
  python dataset_tool.py display datasets/ffhq_align --save sheet.png
  python dataset_tool.py compare datasets/a datasets/b
'''


def _report_skipped(lines, what, most=20):
    """Name what was left out, the first few one by one."""
    for line in lines[:most]:
        print(one_line(f'skipped {line}'))
    if len(lines) > most:
        print(f'skipped {len(lines) - most} more {what}')


def create_from_images(tfrecord_dir, image_dir, shuffle, workers, world):
    """A folder or zip file of pictures -> a dataset."""
    from preprocess import dataset_writer
    print(f'Loading images from "{image_dir}"')
    source = dataset_writer.ImageFiles(image_dir, leave_out=tfrecord_dir)
    _report_skipped([f'{name}: {_why_ignored(name)}' for name in source.ignored], 'files')
    _create(tfrecord_dir, source, shuffle, workers, None, world or _world_of(image_dir))


def _why_ignored(name):
    from preprocess import picture_files
    return picture_files.NOT_READ if picture_files.is_other_picture(name) else 'no picture'


def create_from_hdf5(tfrecord_dir, hdf5_filename, shuffle, workers, world):
    """An HDF5 file with images (and labels beside it) -> a dataset."""
    from dnnlib import tfrecords
    from preprocess import dataset_writer
    print(f'Loading HDF5 archive from "{hdf5_filename}"')
    source = dataset_writer.Hdf5Images(hdf5_filename)
    path = os.path.splitext(hdf5_filename)[0] + '-labels.npy'
    labels = tfrecords.read_label_file(path) if os.path.exists(path) else None
    if labels is not None and len(labels) != len(source):
        raise UserError(f'{path}: {len(labels)} labels for {len(source)} images')
    _create(tfrecord_dir, source, shuffle, workers, labels, world)


def _create(tfrecord_dir, source, shuffle, workers, labels, world):
    from preprocess import dataset_writer
    print(f'Creating dataset "{tfrecord_dir}"', flush=True)
    skipped, count = dataset_writer.write_dataset(os.path.abspath(tfrecord_dir), source, shuffle, workers, labels,
                                                  world)
    _report_skipped(skipped, 'images')
    print(f'Added {count} images.' + (f' Skipped {len(skipped)}.' if skipped else ''))


def _world_of(image_dir):
    """The world named in the folder of the images, or, as preprocess_data.py leaves it, in the folder above."""
    from worlds import label
    folder = os.path.dirname(os.path.abspath(image_dir))
    return (label.read(image_dir) if os.path.isdir(image_dir) else None) or label.read(folder)


def display(tfrecord_dir, save, start, count, resolution):
    """Show a sheet of a dataset's images, or save it as a picture."""
    if save is None and not _has_screen():
        raise UserError('display: there is no screen here; write the sheet to a file with --save FILE.png')
    from PIL import Image

    from dnnlib import tfrecords
    if save is not None:
        save = _new_picture(save)
    print(f'Loading dataset "{tfrecord_dir}"')
    level = tfrecords.read_levels(tfrecord_dir, resolution)[0]
    if start >= level.count:
        raise UserError(f'--start {start}: the dataset has {level.count} images only')
    count = min(count, level.count - start, max(1, MOST_SHEET_PIXELS // level.shape[1] ** 2))
    images = list(itertools.islice(tfrecords.read_images(level.path), start, start + count))
    picture = Image.fromarray(_sheet(images))
    if save is None:
        picture.show()
    else:
        data = io.BytesIO()
        picture.save(data, Image.registered_extensions()[os.path.splitext(save)[1].lower()])
        write_atomic(save, data.getvalue())
    print(f'Images {start} to {start + len(images) - 1} of {level.count}'
          + (f' saved to "{save}"' if save else ''))


def _new_picture(path):
    """The path, with .png where it has no extension. UserError when it is there already, or of an unknown kind."""
    from PIL import Image
    path = path if os.path.splitext(path)[1] else path + '.png'
    kinds = Image.registered_extensions()
    if kinds.get(os.path.splitext(path)[1].lower()) not in Image.SAVE:
        raise UserError(f'--save {path}: not the name of a picture that can be written; a name ending in .png was '
                        'expected')
    if os.path.lexists(path):
        raise UserError(f'--save {path}: there already; choose another name, or remove it')
    return path


def _has_screen():
    return sys.platform in ('win32', 'darwin') or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


def _sheet(images):
    """Images [C, H, W] side by side in rows, about as wide as high -> [H, W, 3] uint8."""
    import numpy as np
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    _, height, width = images[0].shape
    sheet = np.zeros([rows * height, columns * width, 3], np.uint8)
    for k, image in enumerate(images):
        y, x = k // columns * height, k % columns * width
        sheet[y:y + height, x:x + width] = image.transpose(1, 2, 0)
    return sheet


def extract(tfrecord_dir, output_dir, workers):
    """Write a dataset's images as img00000000.png, ..."""
    from tqdm import tqdm

    from dnnlib import places, tfrecords
    print(f'Loading dataset "{tfrecord_dir}"')
    level = tfrecords.read_levels(tfrecord_dir)[0]
    print(f'Extracting images to "{output_dir}"', flush=True)
    with places.filling(output_dir) as temporary:
        bar = tqdm(tfrecords.read_images(level.path), total=level.count, unit='image', dynamic_ncols=True)
        _write_pngs(temporary, bar, workers)
    print(f'Extracted {level.count} images.')


def _write_pngs(folder, images, workers):
    """Encode in threads (OpenCV works outside Python's lock), with few images waiting."""
    from concurrent.futures import ThreadPoolExecutor

    import cv2
    import numpy as np

    def write(index, image):
        _, data = cv2.imencode('.png', np.ascontiguousarray(image[::-1].transpose(1, 2, 0)))        # BGR
        write_atomic(os.path.join(folder, f'img{index:08d}.png'), data.tobytes())

    running = collections.deque()
    with ThreadPoolExecutor(workers) as pool:
        for index, image in enumerate(images):
            running.append(pool.submit(write, index, image))
            while len(running) > 4 * workers:
                running.popleft().result()
        for future in running:
            future.result()


def compare(tfrecord_dir_a, tfrecord_dir_b, ignore_labels):
    """Compare two datasets image by image; -> exit code, 1 when they differ."""
    import numpy as np

    from dnnlib import tfrecords
    print(f'Loading dataset "{tfrecord_dir_a}"')
    a = tfrecords.read_levels(tfrecord_dir_a)[0]
    print(f'Loading dataset "{tfrecord_dir_b}"')
    b = tfrecords.read_levels(tfrecord_dir_b)[0]
    total = same = 0
    for total, (image_a, image_b) in enumerate(zip(tfrecords.read_images(a.path), tfrecords.read_images(b.path)), 1):
        if np.array_equal(image_a, image_b):
            same += 1
        else:
            print(f'Image {total - 1} is different')
    if a.count != b.count:
        print('Datasets contain different number of images')
    print(f'Identical images: {same} / {total}')
    same_labels = total if ignore_labels else _compare_labels(tfrecord_dir_a, tfrecord_dir_b, total)
    return int(same < total or a.count != b.count or same_labels < total)


def _compare_labels(folder_a, folder_b, total):
    """Print which labels differ; -> how many of the first `total` are equal. Two datasets without labels are equal."""
    import numpy as np

    from dnnlib import tfrecords
    a, b = [tfrecords.read_labels(folder) for folder in (folder_a, folder_b)]
    if a is None or b is None:
        same = [a is b] * total
    else:
        same = [np.array_equal(a[i:i + 1], b[i:i + 1]) for i in range(total)]
    for index, equal in enumerate(same):
        if not equal:
            print(f'Label {index} is different')
    print(f'Identical labels: {sum(same)} / {total}')
    return sum(same)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', metavar='COMMAND')
    workers = dict(type=whole(1), default=os.cpu_count() or 1, metavar='N', help='threads (default: one per core)')
    for name, argument, what in (
            ('create_from_images', 'image_dir',
             'folder (those in it too) or zip file of square pictures, RGB or grey'),
            ('create_from_hdf5', 'hdf5_filename', 'HDF5 file with arrays data* of shape [n, C, H, W]')):
        command = commands.add_parser(name, help=globals()[name].__doc__)
        command.add_argument('tfrecord_dir', help='dataset folder to make; an older one made by this tool is replaced')
        command.add_argument(argument, help=what)
        command.add_argument('--shuffle', type=int, default=1, help='1: shuffled order; 0: as sorted (default: 1)')
        command.add_argument('--world', help='name of the world, kept in the dataset (default: that of the images)')
        command.add_argument('--workers', **workers)
    command = commands.add_parser('display', help=display.__doc__)
    command.add_argument('tfrecord_dir', help='dataset folder')
    command.add_argument('--save', metavar='FILE', help='write the sheet here (default: show it on the screen)')
    command.add_argument('--start', type=whole(0), default=0, help='first image (default: 0)')
    command.add_argument('--count', type=whole(1), default=64, help='number of images (default: 64)')
    command.add_argument('--resolution', type=whole(4), help='level to show (default: the finest)')
    command = commands.add_parser('extract', help=extract.__doc__)
    command.add_argument('tfrecord_dir', help='dataset folder')
    command.add_argument('output_dir', help='new folder for the pictures')
    command.add_argument('--workers', **workers)
    command = commands.add_parser('compare', help='Compare two datasets; exit code 1 when they differ.')
    command.add_argument('tfrecord_dir_a', help='dataset folder')
    command.add_argument('tfrecord_dir_b', help='dataset folder')
    command.add_argument('--ignore_labels', type=int, default=0, help='1: compare the images only (default: 0)')
    return parser


def main():
    """Command line."""
    parser = _parser()
    options = vars(parser.parse_args())
    name = options.pop('command')
    if name is None:
        parser.print_help()
        return 0
    return globals()[name](**options)


if __name__ == '__main__':
    run_main(main)
