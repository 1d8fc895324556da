"""Many pictures: jobs for subjects and their variations, made in batches into a folder, and a look at the first."""

import sys
from collections import namedtuple

import numpy as np
from tqdm import tqdm

from dnnlib.util import pace
from sampling.options import RATE

Job = namedtuple('Job', 'name face')        # a picture to be made: file name without extension, Face


def picture_name(subject, variation):
    """'003_01' for subject 3, variation 1; wider where the numbers are."""
    return f'{subject:03d}_{variation:02d}'


def subject_jobs(faces, subjects, has):
    """Yield the Jobs of Subjects, without those whose picture name is already there. has: name -> bool."""
    for block in _chunks(subjects, 32):
        for subject, variations in zip(block, faces.subject_faces(block)):
            for i, face in enumerate(variations):
                if not has(picture_name(subject.index, i)):
                    yield Job(picture_name(subject.index, i), face)


def generate(faces, jobs, folder, total, rate=RATE, batch=8):
    """Make the pictures of `jobs` (iterable of Job) with a FaceGenerator and put them into an ImageFolder.

    A PhotoEditor serves as well; then each Job's face is an Edit.
    total: number of jobs, for the bar. Returns the number of pictures that hold NaN. Warns once on stderr when the
    first pictures look broken, and goes on.
    """
    broken, first = 0, True
    with folder, tqdm(total=total, unit='img', mininterval=pace(), disable=not total) as bar:
        for chunk in _chunks(jobs, batch):
            pictures, finite = faces.images_and_health([job.face for job in chunk], rate, batch)
            trouble = find_trouble(pictures, finite) if first else None
            if trouble:
                bar.write(f'warning: {trouble}', file=sys.stderr)
            for job, picture in zip(chunk, pictures):
                folder.save(job.name, picture, job.face)
            broken, first = broken + int(np.sum(~finite)), False
            bar.update(len(chunk))
    return broken


def find_trouble(images, finite=None):
    """One line that says why pictures (uint8 [N, H, W, 3]) look broken, None when they look like pictures.

    finite: bool [N] as from `images_and_health`. Broken: NaN, almost one colour, or noise without form: GPUs that an
    old TensorFlow does not know were seen to give such.
    """
    hint = 'a wrong --model, a training that failed, or a GPU this TensorFlow does not know; compare with the CPU ' \
           '(CUDA_VISIBLE_DEVICES=-1)'
    if finite is not None and not np.all(finite):
        return f'{np.sum(~np.asarray(finite))} of {len(finite)} pictures hold NaN or infinity: {hint}'
    grey = np.asarray(images, np.float32).mean(axis=3)
    spread = np.median(grey.std(axis=(1, 2)))
    if spread < 2.0:
        return f'pictures are almost one colour (standard deviation {spread:.1f} of 255): {hint}'
    likeness = np.median([_neighbour_correlation(image) for image in grey])
    if likeness < 0.2:
        return f'pictures look like noise (correlation of neighbouring pixels {likeness:.2f}): {hint}'
    return None


def _neighbour_correlation(grey):
    """Correlation of horizontally and vertically neighbouring pixels, the smaller of the two; [H, W] -> float."""
    x = grey - grey.mean()
    power = max(float(np.mean(x * x)), 1e-6)
    return min(float(np.mean(x[:, 1:] * x[:, :-1])), float(np.mean(x[1:] * x[:-1]))) / power


def _chunks(items, size):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
