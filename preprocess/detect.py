"""Detect the five landmarks of photos that have none, with MTCNN: `python -m preprocess.detect --image_path DIR`.

A process of its own, because the package mtcnn (1.0) works only in eager mode of TensorFlow 2.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np
from tqdm import tqdm

import config
from dnnlib.json_files import read_json, write_json
from dnnlib.util import UserError, one_line, run_main
from preprocess import landmarks, picture_files, plan

_ON_ITS_SIDE = (6, 8, 3)        # orientations that are tried when no face is seen upright
_NEEDS = 'needs the package mtcnn on TensorFlow 2: pip install "mtcnn==1.0.0" on Python 3.10 or newer'
_KEYS = ('left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right')      # left in the picture comes first


def load_detector():
    """The MTCNN detector. Raises UserError when the package is not there or does not work here."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    try:
        from mtcnn import MTCNN
        return MTCNN()
    except (ImportError, OSError) as error:     # OSError: its weights are not there
        raise UserError(f'detecting landmarks {_NEEDS} ({error}), or write the .txt files yourself')


def check_installed():
    """UserError, which names the file where one is missing, when the package mtcnn or its weights do not work here."""
    if importlib.util.find_spec('mtcnn') is None:
        raise UserError(f'finding faces {_NEEDS} (no mtcnn/__init__.py is found)')
    code = 'from preprocess import detect; detect.run_main(lambda: detect.load_detector() and None)'
    tried = subprocess.run([sys.executable, '-c', code], cwd=config.ROOT, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
    if tried.returncode:
        lines = tried.stderr.decode(errors='replace').strip().splitlines()
        last = one_line(lines[-1] if lines else '')
        raise UserError(last.replace('error: ', '', 1) or f'the detector does not start; it {_NEEDS}')


def detect_apart(stdout=None, **paths):
    """As main with --image_path, --lm_path, --save_path, in a process of its own -> {photo: why it has no landmarks}.

    stdout: where its lines go, as for subprocess.call. None when it failed; the reason is on stderr.
    """
    with tempfile.TemporaryDirectory() as folder:
        reasons = os.path.join(folder, 'reasons.json')
        command = [sys.executable, '-m', 'preprocess.detect', '--reasons', reasons]
        for name, path in paths.items():
            command += ['--' + name, os.path.abspath(path)]
        code = subprocess.call(command, cwd=config.ROOT, stdout=stdout)
        return None if code else read_json(reasons)


def find_face(detector, picture):
    """Landmarks [5, 2], pixels, of the largest face in `picture` [H, W, 3] RGB uint8. Raises UserError: no face."""
    try:
        faces = detector.detect_faces(picture)
    except (ValueError, IndexError) as error:       # mtcnn fails on pictures too small for its first stage
        raise UserError(f'the detector failed ({error})')
    if not faces:
        raise UserError('no face was found')
    face = max(faces, key=lambda face: face['box'][2] * face['box'][3])
    points = np.array([face['keypoints'][key] for key in _KEYS], np.float64)
    landmarks.check(points, (picture.shape[1], picture.shape[0]))
    return points


def find_face_in(detector, file):
    """Landmarks [5, 2] of the largest face of a picture file, pixels of it as a viewer shows it. Raises UserError."""
    shown = picture_files.read_rgb(file)
    try:
        return find_face(detector, shown)
    except UserError as error:
        for orientation in _ON_ITS_SIDE:
            if _sees_a_face(detector, picture_files.turn(shown, orientation)):
                raise UserError(f'{error}, but one when it is {picture_files.TURNS[orientation]}: the photo is stored '
                                'turned; turn it and save it')
        raise


def _sees_a_face(detector, picture):
    try:
        return find_face(detector, picture) is not None
    except UserError:
        return False


def detect_folder(photo_folder, landmark_folder, detector, save_path=None):
    """Write NAME.txt for each photo that has none -> number written, {photo: reason it was skipped}.

    save_path: where results of the photos lie, whose pictures are no photos. Of two photos of one name the one that
    has the name (see `plan.photo_names`) is looked at.
    """
    names, skipped = plan.photo_names(photo_folder, save_path)
    paths = plan.landmark_paths(list(names.values()), landmark_folder)
    todo = sorted(photo for photo, path in paths.items() if not os.path.exists(path))
    for photo in tqdm(todo, unit='photo', desc='landmarks', dynamic_ncols=True):
        try:
            landmarks.write(paths[photo], find_face_in(detector, os.path.join(photo_folder, photo)))
        except UserError as error:
            skipped[photo] = str(error)
    return sum(photo not in skipped for photo in todo), skipped


def main():
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m preprocess.detect', description=__doc__)
    parser.add_argument('--image_path', required=True, metavar='DIR', help='photos (required)')
    parser.add_argument('--lm_path', metavar='DIR', help='where NAME.txt go (default: the folder of the photos)')
    parser.add_argument('--save_path', metavar='DIR', help='results of preprocess_data.py, which are no photos')
    parser.add_argument('--reasons', metavar='FILE', help='write here, as JSON, which photos have no landmarks and why')
    options = parser.parse_args()
    count, skipped = detect_folder(options.image_path, options.lm_path or options.image_path, load_detector(),
                                   options.save_path)
    if options.reasons:
        write_json(options.reasons, skipped)
    for file in sorted(skipped):
        print(one_line(f'{file}: {skipped[file]}'))
    print(f'landmarks of {count} photos written, {len(skipped)} photos skipped')


if __name__ == '__main__':
    run_main(main)
