"""Detect the five landmarks of photos that have none, with MTCNN: `python -m preprocess.detect --image_path DIR`.

A process of its own, because the package mtcnn (1.0) works only in eager mode of TensorFlow 2.
"""

import argparse
import os

import dnnlib  # noqa: F401       first, so that Ctrl-C during the imports leaves no traceback

# isort: split
import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError, run_main
from preprocess import landmarks, photos

_KEYS = ('left_eye', 'right_eye', 'nose', 'mouth_left', 'mouth_right')      # left in the picture comes first


def load_detector():
    """The MTCNN detector. Raises UserError when the package is not there or does not work here."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    try:
        from mtcnn import MTCNN
        return MTCNN()
    except ImportError as error:
        raise UserError(f'detecting landmarks needs the package mtcnn on TensorFlow 2 ({error}): pip install '
                        '"mtcnn==1.0.0" on Python 3.10 or newer, or write the .txt files yourself')


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


def detect_folder(photo_folder, landmark_folder, detector):
    """Write NAME.txt for each photo that has none -> number written, {photo file name: reason it was skipped}."""
    todo = [file for file in photos.list_photos(photo_folder)
            if not os.path.exists(landmarks.path_of(landmark_folder, os.path.splitext(file)[0]))]
    skipped = {}
    for file in tqdm(todo, unit='photo', desc='landmarks', dynamic_ncols=True):
        try:
            points = find_face(detector, photos.read_rgb(os.path.join(photo_folder, file)))
        except UserError as error:
            skipped[file] = str(error)
            continue
        landmarks.write(landmarks.path_of(landmark_folder, os.path.splitext(file)[0]), points)
    return len(todo) - len(skipped), skipped


def main():
    """Command line."""
    parser = argparse.ArgumentParser(prog='python -m preprocess.detect', description=__doc__)
    parser.add_argument('--image_path', required=True, metavar='DIR', help='photos (required)')
    parser.add_argument('--lm_path', metavar='DIR', help='where NAME.txt go (default: the folder of the photos)')
    options = parser.parse_args()
    if not photos.list_photos(options.image_path):
        raise UserError(f'{options.image_path}: no photos; files ending in {", ".join(photos.EXTENSIONS)} expected')
    count, skipped = detect_folder(options.image_path, options.lm_path or options.image_path, load_detector())
    for file in sorted(skipped):
        print(f'{file}: {skipped[file]}')
    print(f'landmarks of {count} photos written, {len(skipped)} photos skipped')


if __name__ == '__main__':
    run_main(main)
