"""A detector's word: whether MTCNN, which was trained on photographs and knows no world of ours, finds the face."""

import os
import subprocess
import tempfile
from typing import Any, Dict, Iterator

import numpy as np

from dnnlib import pictures as files
from dnnlib.util import UserError
from preprocess import detect

BLOCK = 256             # pictures in one process of the detector's
ENLARGED = 256          # pictures of fewer pixels are shown at twice their size
OF_A_SUBJECT = 5        # pictures for each of --subjects


def found(pictures: np.ndarray) -> np.ndarray:
    """Whether MTCNN finds a face in pictures [N, R, R, 3] uint8: bool [N]. UserError when it does not run."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f'{i:06d}.png' for i in range(len(pictures))]
        for name, picture in zip(names, pictures):
            files.save_image(shown(picture), os.path.join(folder, name))
        reasons = detect.detect_apart(subprocess.DEVNULL, image_path=folder)
    if reasons is None:
        raise UserError('faces cannot be detected; the reason is above')
    return np.array([name not in reasons for name in names])


def shown(picture: np.ndarray) -> np.ndarray:
    """A picture [R, R, 3] uint8 as the detector gets it: small ones at twice their size, bicubic."""
    return files.enlarge(picture[np.newaxis], 2 if len(picture) < ENLARGED else 1, 'bicubic')[0]


def faces(context: Any) -> Iterator[Dict[str, Any]]:
    """The metric `faces`: one Result."""
    count = OF_A_SUBJECT * context.options.subjects
    facts = dict(source=context.source().facts, seed=context.options.seed, rate=context.rate, enlarged=ENLARGED)
    seen = context.store.collect('faces', facts, count, BLOCK, lambda start, number: {
        'found': found(context.random_pictures(start, number, context.rate))})['found']
    yield context.result('faces', float(seen.mean()), 'share of random pictures in which MTCNN finds a face; below '
                         f'{ENLARGED} pixels enlarged twice' + context.drawn(context.rate, 'stored'),
                         counts=dict(pictures=count))
