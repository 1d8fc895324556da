"""A folder of photos with landmarks -> img/NAME.png and coeff/NAME.mat (paper section 4): worker processes decode,
align and write while the caller's reconstruction network runs in batches in this process. No TensorFlow.

`img/NAME.png` is written last, so a photo whose two results are there is done and is not done again.
"""

import io
import multiprocessing.sharedctypes
import os
import queue
from collections import namedtuple
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from dnnlib.util import UserError, write_atomic
from preprocess import alignment, landmarks, photos
from preprocess.workers import start as start_workers
from renderer.camera import ALIGNED_SIZE, RECON_SIZE
from renderer.factors import NUM_RECON, TRANSLATION

SKIPPED_FILE = 'skipped.txt'
Job = namedtuple('Job', 'name photo landmarks')         # name: without extension; photo, landmarks: paths

_ALIGNED_SHAPE = (ALIGNED_SIZE, ALIGNED_SIZE, 3)        # RGB uint8
_INPUT_SHAPE = (RECON_SIZE, RECON_SIZE, 3)              # BGR uint8
# All threads of the network wait for the slowest, so a worker that takes a core from one of them stops all: workers
# stand back, and catch up between two batches.
_NICE = 19
_SLOT_BYTES = int(np.prod(_ALIGNED_SHAPE) + np.prod(_INPUT_SHAPE))


class Outcome:
    """What became of the photos: `new` done in this run, `before` done earlier, `skipped` {file name: reason}."""

    def __init__(self):
        self.new, self.before, self.skipped = 0, 0, {}


def image_path(save_path, name):
    """The 256-pixel crop of photo `name` (without extension)."""
    return os.path.join(save_path, 'img', name + '.png')


def coeff_path(save_path, name):
    """The coefficients of photo `name` (without extension)."""
    return os.path.join(save_path, 'coeff', name + '.mat')


def plan(photo_folder, landmark_folder, save_path):
    """What there is to do: -> ([Job], Outcome so far). Raises UserError when there are no photos at all."""
    files = photos.list_photos(photo_folder)
    if not files:
        raise UserError(f'{photo_folder}: no photos; files ending in {", ".join(photos.EXTENSIONS)} were expected')
    jobs, outcome, owner = [], Outcome(), {}
    for file in sorted(files, key=lambda file: (not file.lower().endswith('.png'), file)):      # PNG wins over JPEG
        name = os.path.splitext(file)[0]
        points = landmarks.path_of(landmark_folder, name)
        if name in owner:
            outcome.skipped[file] = f'has the name of {owner[name]}, whose results it would overwrite; rename it'
            continue
        owner[name] = file
        if os.path.exists(image_path(save_path, name)) and os.path.exists(coeff_path(save_path, name)):
            outcome.before += 1
        elif not os.path.exists(points):
            outcome.skipped[file] = f'no landmarks: {points} is missing'
        else:
            jobs.append(Job(name, os.path.join(photo_folder, file), points))
    return sorted(jobs), outcome


def process(jobs, outcome, template, save_path, reconstruct, batch=16, workers=2):
    """Do the jobs and add to `outcome` what became of them.

    template: [5, 3], see `landmarks.five_points`; reconstruct: callable, [N, 224, 224, 3] BGR uint8 with N <= batch ->
    coefficients [N, 257]. Finished photos stay when it is interrupted. Raises UserError when results cannot be written.
    """
    slots = multiprocessing.sharedctypes.RawArray('B', (2 * batch + 2 * workers) * _SLOT_BYTES)
    pool = start_workers(workers, _start_worker, (slots, np.asarray(template), save_path), _NICE)
    run = _Run(jobs, outcome, pool, slots, reconstruct, batch)
    try:
        run.loop()
    except BrokenProcessPool:
        raise UserError('a worker process died, probably for lack of memory; what is finished stays: run the same '
                        'command again with fewer --workers')
    finally:
        pool.shutdown(wait=True)
        run.settle()


class _Run:
    """The state of one `process`: photos move from jobs to prepared slots to the network to finished files."""

    def __init__(self, jobs, outcome, pool, slots, reconstruct, batch):
        self.jobs, self.outcome = list(reversed(jobs)), outcome
        self.pool, self.slots, self.reconstruct, self.batch = pool, slots, reconstruct, batch
        self.free = list(range(len(slots) // _SLOT_BYTES))
        self.ready = []                     # (job, slot): aligned, waits for the network
        self.running = {}                   # future -> (kind, job, slot)
        self.events = queue.Queue()         # futures that ended

    def loop(self):
        with tqdm(total=len(self.jobs), unit='photo', dynamic_ncols=True, smoothing=0.1) as bar:
            try:
                while self.jobs or self.running or self.ready:
                    self._fill()
                    if self._batch_is_full():
                        self._run_network()
                    else:
                        self._collect(self.events.get(), bar)
                    while not self.events.empty():
                        self._collect(self.events.get(), bar)
            finally:
                for future in list(self.running):
                    future.cancel()

    def settle(self):
        """After an interruption: count the photos that were being written and are done now."""
        for future, (kind, _, _) in self.running.items():
            if kind == 'finish' and not future.cancelled() and not future.exception() and future.result() is None:
                self.outcome.new += 1

    def _batch_is_full(self):
        waiting = self.jobs or any(kind == 'prepare' for kind, _, _ in self.running.values())
        return len(self.ready) >= self.batch or bool(self.ready and not waiting)

    def _fill(self):
        while self.jobs and self.free:
            job, slot = self.jobs.pop(), self.free.pop()
            self._submit('prepare', job, slot, _prepare, job, slot)

    def _submit(self, kind, job, slot, *call):
        future = self.pool.submit(*call)
        self.running[future] = kind, job, slot
        future.add_done_callback(self.events.put)

    def _collect(self, future, bar):
        kind, job, slot = self.running.pop(future)
        reason = future.result()
        if reason is None and kind == 'prepare':
            self.ready.append((job, slot))
            return
        self.free.append(slot)
        bar.update()
        if reason is None:
            self.outcome.new += 1
        else:
            self.outcome.skipped[os.path.basename(job.photo)] = reason

    def _run_network(self):
        group, self.ready = self.ready[:self.batch], self.ready[self.batch:]
        images = np.stack([_views(self.slots, slot)[1] for _, slot in group])
        coeffs = np.asarray(self.reconstruct(images), np.float32)
        if coeffs.shape != (len(group), NUM_RECON):
            raise ValueError(f'reconstruct returned shape {coeffs.shape}, expected {(len(group), NUM_RECON)}')
        for (job, slot), coeff in zip(group, coeffs):
            self._submit('finish', job, slot, _finish, job, slot, coeff)


# What happens in the worker processes.

_worker = {}        # cache of this process: slots, template, save_path


def _start_worker(slots, template, save_path):
    _worker.update(slots=slots, template=template, save_path=save_path)


def _views(slots, index):
    """Slot `index` of the shared memory -> arrays (aligned picture, network input)."""
    flat = np.frombuffer(slots, np.uint8, _SLOT_BYTES, index * _SLOT_BYTES)
    split = int(np.prod(_ALIGNED_SHAPE))
    return flat[:split].reshape(_ALIGNED_SHAPE), flat[split:].reshape(_INPUT_SHAPE)


def _prepare(job, slot):
    """Decode and align a photo into its slot -> None or the reason why it cannot be done."""
    try:
        photo = photos.read_rgb(job.photo)
        size = (photo.shape[1], photo.shape[0])
        points = landmarks.read(job.landmarks, size)
        aligned, network_input = _views(_worker['slots'], slot)
        aligned[:] = alignment.align(photo, alignment.fit(points, _worker['template'], size))
        network_input[:] = alignment.recon_input(aligned)
    except UserError as error:
        return str(error)
    except (MemoryError, cv2.error):
        return 'too large for the memory'
    return None


def _finish(job, slot, coeff):
    """Cut the final picture and write both results -> None or the reason why it cannot be done."""
    if not np.isfinite(coeff).all():
        return 'R_Net gave numbers that are not finite'
    try:
        crop = alignment.crop_face(_views(_worker['slots'], slot)[0], coeff[TRANSLATION])
    except UserError as error:
        return str(error)
    write_results(_worker['save_path'], job.name, crop, coeff)
    return None


def write_results(save_path, name, crop, coeff):
    """Write coeff/NAME.mat, then img/NAME.png; both or none. crop: [256, 256, 3] RGB uint8; coeff: [257].

    Raises UserError when they cannot be written.
    """
    _, png = cv2.imencode('.png', cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    mat = io.BytesIO()
    scipy.io.savemat(mat, {'coeff': np.asarray(coeff, np.float32)})
    write_atomic(coeff_path(save_path, name), mat.getvalue())
    try:
        write_atomic(image_path(save_path, name), png.tobytes())
    except BaseException:
        os.remove(coeff_path(save_path, name))
        raise


def write_skipped(save_path, skipped):
    """Write `skipped.txt`, a line "FILE: reason" for each photo; remove that of an earlier run when all went well."""
    path = os.path.join(save_path, SKIPPED_FILE)
    if not skipped:
        if os.path.exists(path):
            os.remove(path)
        return
    lines = [f'{name}: {skipped[name]}\n' for name in sorted(skipped)]
    write_atomic(path, ''.join(lines).encode('utf-8', 'surrogateescape'))
