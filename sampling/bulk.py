"""Many pictures: jobs for subjects and their variations, made in batches into a folder."""

import sys
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np
from tqdm import tqdm

from dnnlib.util import UserError, pace
from sampling.health import find_trouble
from sampling.image_folder import ImageFolder
from sampling.options import RATE


class Job(NamedTuple):
    """A picture to be made: file name without extension, and its Face (or Edit)."""

    name: str
    face: Any


def picture_name(subject: int, variation: int) -> str:
    """'003_01' for subject 3, variation 1; wider where the numbers are."""
    return f'{subject:03d}_{variation:02d}'


def subject_jobs(faces: Any, subjects: Iterable[Any], wanted: Callable[[str], bool], fixed: Sequence[Any] = (),
                 columns: Sequence[Any] = ()) -> Iterator[Job]:
    """Yield the Jobs of Subjects whose pictures are wanted: picture name -> bool. faces: a FaceGenerator.

    fixed: changes of every face, for controls.apply. columns: changes for each picture of a subject, of whom then
    nothing else moves; none: the subject's variations.
    """
    for block in _chunks(subjects, 32):
        for subject, variations in zip(block, faces.subject_faces(block, own=bool(columns))):
            for i, face in enumerate(_changed(variations, fixed, columns)):
                if wanted(picture_name(subject.index, i)):
                    yield Job(picture_name(subject.index, i), face)


def _changed(variations, fixed, columns):
    """Faces with the changes in `fixed`; with columns, the first (and only) one with each column's."""
    if not fixed and not columns:
        return variations
    if columns:
        return [variations[0].changed(list(fixed) + list(change)) for change in columns]
    return [face.changed(fixed) for face in variations]


def generate(faces: Any, jobs: Iterable[Job], folder: ImageFolder, total: int, rate: float = RATE,
             batch: int = 8) -> int:
    """Make the pictures of `jobs` with a FaceGenerator and put them into the folder; returns how many hold NaN.

    A PhotoEditor serves as well; then each Job's face is an Edit. total: number of jobs, for the bar.
    Says on stderr what is made again and why, warns once when the first pictures look broken, and goes on.
    """
    again = folder.explain()
    if again:
        print(again, file=sys.stderr)
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


def check_finite(broken: int) -> None:
    """UserError when some pictures hold NaN or infinity, which `generate` counts."""
    if broken:
        raise UserError(f'{broken} pictures hold NaN or infinity; they are black where they do')


def _chunks(items, size):
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
