"""`make soak`: 2,000 mutated inputs for each reader of pictures, landmarks, TFRecords and records of what was made.

In a process of its own with limited memory: no crash, no hang, no error but ours, no damaged PNG or record taken.
"""

import io
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import config
from dnnlib import places, tfrecords
from dnnlib.util import UserError
from preprocess import conventions, landmarks, picture_files

COUNT = 2000
MEMORY = 3 << 30
TEMPLATE = np.array([[-0.31, 0.29, 0.13], [0.31, 0.29, 0.13], [0.0, -0.05, 0.55], [-0.25, -0.38, 0.22],
                     [0.25, -0.38, 0.22]])
LANDMARKS = '78.45\t100.04\n148.61\t98.75\n101.24\t138.20\n76.78\t174.58\n139.13\t181.91\n'


def _mutated(data, random):
    """The data with up to three bytes changed, cut, inserted or set to 255."""
    data = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, kind = random.randint(len(data) or 1), random.randint(6)
        if kind < 3 and data:
            data[at] = random.randint(256)
        elif kind == 3:
            del data[at:]
        else:
            data[at:at + (kind == 5)] = random.bytes(random.randint(1, 9)) if kind == 4 else b'\xff' * 4
    return bytes(data)


def _encoded(picture, format, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format, **options)
    return file.getvalue()


def _seeds():
    smooth = cv2.resize(np.random.RandomState(0).randint(0, 256, [8, 8, 3]).astype(np.uint8), (48, 48))
    grey = smooth[:, :, 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = io.BytesIO()
    Image.fromarray(smooth).quantize(16).save(palette, 'PNG')
    return {'png': _encoded(smooth, 'PNG'), 'png by OpenCV': cv2.imencode('.png', smooth)[1].tobytes(),
            'png palette': palette.getvalue(), 'png 16 bits': _encoded(grey.astype(np.uint16) * 257, 'PNG'),
            'jpeg': _encoded(smooth, 'JPEG', exif=exif), 'webp': _encoded(smooth, 'WEBP'),
            'bmp': _encoded(smooth, 'BMP'), 'tiff': _encoded(smooth, 'TIFF', compression='tiff_lzw', exif=exif),
            'gif': _encoded(smooth, 'GIF'), 'ppm': _encoded(smooth, 'PPM')}


def _read_picture(data, name, right):
    picture = picture_files.read_picture(data)
    assert not name.startswith('png') or np.array_equal(picture, right), 'a damaged PNG was taken'


def _read_records(data, path):
    with open(path, 'wb') as file:
        file.write(data)
    for image in tfrecords.read_images(path):
        assert np.array_equal(image, np.arange(192, dtype=np.uint8).reshape(3, 8, 8)), 'a damaged record was taken'


def _read_landmarks(data, path, orientation):
    with open(path, 'wb') as file:
        file.write(data)
    conventions.understand(landmarks.read(path), TEMPLATE, (256, 256), orientation)


def _read_made(data, folder):
    with open(os.path.join(folder, places.RECORD), 'wb') as file:
        file.write(data)
    record = places.Record(folder)
    record.why_again('n', {'photo': os.path.join(folder, 'photo')}, {'network': 'x'})
    record.known(['img/n.png'])


def _readers(folder):
    """{name: (seed, function of mutated bytes and a RandomState)}."""
    path = os.path.join(folder, 'x')
    found = {}
    for name, data in _seeds().items():
        right = picture_files.read_picture(data)
        found[name] = data, lambda data, random, name=name, right=right: _read_picture(data, name, right)
    image = np.arange(192, dtype=np.uint8).reshape(3, 8, 8)
    found['records'] = tfrecords.frame_images(np.stack([image] * 3)), lambda data, _: _read_records(data, path)
    for encoding in ('utf-8', 'utf-16'):
        found['landmarks ' + encoding] = LANDMARKS.encode(encoding), lambda data, random: _read_landmarks(
            data, path, int(random.randint(1, 9)))
    with open(os.path.join(folder, 'photo'), 'w') as file:
        file.write('photo')
    places.Record(folder).put('n', {'img/n.png': b'12'}, {'photo': places.content(file.name)}, {'network': 'x'})
    with open(os.path.join(folder, places.RECORD), 'rb') as file:
        found['made.jsonl'] = file.read(), lambda data, _: _read_made(data, folder)
    return found


def soak(readers, memory):
    """COUNT mutated inputs for each of {name: (seed, function of bytes and a RandomState)}: nothing but UserError.

    memory: bytes of addresses that this process may take.
    """
    import resource  # not everywhere

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for name, (seed, read) in readers.items():
        random, refused = np.random.RandomState(1), 0
        for k in range(COUNT):
            data = _mutated(seed, random)
            try:
                read(data, random)
            except UserError:
                refused += 1
            except BaseException:
                print(f'{name}, input {k}: {data[:2000]!r}')
                raise
        print(f'{name}: {refused} of {COUNT} refused, the others read', flush=True)


def run_apart(module, folder):
    """Run `python -m module folder` in a process of its own; its tables on the terminal."""
    done = subprocess.run([sys.executable, '-m', module, str(folder)], cwd=config.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=2400)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    print(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == 'win32', reason='limits of memory are of other systems')
def test_readers_of_mutated_inputs(tmp_path):
    run_apart('tests.test_soak_inputs', tmp_path)


if __name__ == '__main__':
    soak(_readers(sys.argv[1]), MEMORY)
