"""What moves in a video: closed ways through values of a name, a subject's variations, people (paper section 3.1).

Values move straight in the coefficients. Walks move in the latents, the VAEs' N(0, 1), and the noise vector: on great
circles, since a straight line between two faces passes nearer the average than faces do; the 3 of the pose straight.
Each frame is truncated by its own identity, as any face is.
"""

import sys
from typing import Any, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from tqdm import tqdm

from dnnlib import pictures
from dnnlib.util import pace
from renderer import factors
from sampling.controls import Direction
from sampling.faces import Face
from sampling.health import find_trouble
from sampling.latents import Subject
from sampling.options import RATE

Frames = List[List[Face]]           # the face in each place, for each frame


class Step(NamedTuple):
    """Where a frame lies on the way of a move: `share`, 0 to below 1, of the way from stop `start` to stop `end`."""

    start: int
    end: int
    share: float


def closed_way(moves: Sequence[Any], count: int) -> Iterator[Tuple[Any, Step]]:
    """Yield (move, Step) for each of `count` frames: one move after the other, each through its stops and back.

    count: the number of all stops at least; each stop is a frame of its own. Speed is zero at the stops.
    """
    legs = [(move, i, (i + 1) % move.stops) for move in moves for i in range(move.stops)]
    edges = [i * count // len(legs) for i in range(len(legs) + 1)]
    for (move, start, end), first, last in zip(legs, edges, edges[1:]):
        for i in range(last - first):
            yield move, Step(start, end, (1 - np.cos(np.pi * i / (last - first))) / 2)


def between(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """z, or z with a noise vector behind it, [179 or more], on the way from a (share 0) to b (1)."""
    way = a + (b - a) * share                       # the pose's
    blocks = [factor.latents for factor in factors.FACTORS if factor.name != 'rot']
    for where in blocks + [slice(factors.NUM_LATENTS, None)]:
        way[where] = _on_great_circle(a[where], b[where], share)
    return way


def _on_great_circle(a, b, share):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / lengths, -1, 1)) if lengths else 0.0
    if np.sin(angle) < 1e-6:                        # the same direction, or the opposite: no circle is the right one
        return a + (b - a) * share
    return np.sin((1 - share) * angle) / np.sin(angle) * a + np.sin(share * angle) / np.sin(angle) * b


class Sweep:
    """The faces of all places take values by a name: `ends`, and before them their own unless this is all that moves.
    """

    def __init__(self, own: Sequence[Face], direction: Direction, ends: Sequence[float], alone: bool) -> None:
        self._own, self._direction = own, direction
        self._values = [([] if alone else [direction.value(face.coeffs)]) + list(ends) for face in own]
        self.stops = len(self._values[0])

    def frames(self, steps: Sequence[Step]) -> Frames:
        """The faces at these steps."""
        return [[self._at(face, values, step) for face, values in zip(self._own, self._values)] for step in steps]

    def _at(self, face, values, step):
        value = values[step.start] + (values[step.end] - values[step.start]) * step.share
        return face.changed([(self._direction, value)])


class Variations:
    """The Subjects of all places walk from their own latents through those of their variations. faces: FaceGenerator.

    fixed: changes of every face, see controls.apply.
    """

    def __init__(self, faces: Any, subjects: Sequence[Subject], fixed: Sequence[Any] = ()) -> None:
        self._faces, self._subjects, self._fixed = faces, subjects, fixed
        self.stops = len(subjects[0].latents)

    def frames(self, steps: Sequence[Step]) -> Frames:
        """The faces at these steps; what does not move is exactly the same in all of a place."""
        places = self._faces.subject_faces([self._moved(subject, steps) for subject in self._subjects])
        return [[place[i].changed(self._fixed) for place in places] for i in range(len(steps))]

    def _moved(self, subject, steps):
        z = subject.latents
        return subject._replace(latents=np.stack([z[0]] + [between(z[s.start], z[s.end], s.share) for s in steps]))


class People:
    """Each place walks from person to person, with all that they are. people: a list of Subjects for each place."""

    def __init__(self, faces: Any, people: Sequence[Sequence[Subject]], fixed: Sequence[Any] = ()) -> None:
        self._faces, self._fixed = faces, fixed
        self._rows = [[np.concatenate([subject.latents[0], subject.noise]) for subject in place] for place in people]
        self.stops = len(people[0])

    def frames(self, steps: Sequence[Step]) -> Frames:
        """The faces at these steps."""
        rows = np.stack([between(place[step.start], place[step.end], step.share)
                         for step in steps for place in self._rows])
        drawn = self._faces.faces_from_latents(rows[:, :factors.NUM_LATENTS], rows[:, factors.NUM_LATENTS:])
        changed = [face.changed(self._fixed) for face in drawn]
        width = len(self._rows)
        return [changed[i:i + width] for i in range(0, len(changed), width)]


def _in_blocks(way, size):
    """Yield the Frames of `closed_way`, up to `size` of them at a time."""
    move, steps = None, []
    for next_move, step in way:
        if steps and (next_move is not move or len(steps) == size):
            yield move.frames(steps)
            steps = []
        move = next_move
        steps.append(step)
    if steps:
        yield move.frames(steps)


def draw(faces: Any, way: Any, count: int, grid: Tuple[int, int], add: Callable[[np.ndarray], Any], rate: float = RATE,
         batch: int = 8, scale: Optional[int] = None, resample: str = 'bicubic') -> int:
    """Draw the `count` frames of `closed_way` with a FaceGenerator -> number of pictures that hold NaN.

    grid: (columns, rows) of the places. add: takes each frame, uint8 RGB [H, W, 3]. scale: enlarges the pictures; None:
    to at least 128 pixels. Warns once when the first pictures look broken, and goes on.
    """
    scale = scale or pictures.natural_scale(faces.resolution)
    size = max(1, 4 * batch // (grid[0] * grid[1]))
    broken, first = 0, True
    with tqdm(total=count, unit='frame', mininterval=pace()) as bar:
        for block in _in_blocks(way, size):
            drawn, finite = faces.images_and_health([face for frame in block for face in frame], rate, batch)
            trouble = find_trouble(drawn, finite) if first else None
            if trouble:
                bar.write(f'warning: {trouble}', file=sys.stderr)
            for images in np.split(drawn, len(block)):
                add(pictures.image_grid(images, grid, scale=scale, resample=resample))
            broken, first = broken + int(np.sum(~finite)), False
            bar.update(len(block))
    return broken
