"""Photos with landmarks -> img/NAME.png and coeff/NAME.mat (paper section 4): worker processes decode, align and write
while the caller's reconstruction network runs in batches in this process. No TensorFlow.
"""

import io
import multiprocessing.sharedctypes
import queue
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from dnnlib import places
from dnnlib.util import UserError
from preprocess import alignment, conventions, landmarks, picture_files
from preprocess.plan import result_files
from preprocess.workers import start as start_workers
from renderer.camera import ALIGNED_SIZE, RECON_SIZE
from renderer.factors import NUM_RECON, TRANSLATION

_ALIGNED_SHAPE = (ALIGNED_SIZE, ALIGNED_SIZE, 3)        # RGB uint8
_INPUT_SHAPE = (RECON_SIZE, RECON_SIZE, 3)              # BGR uint8
# All threads of the network wait for the slowest, so a worker that takes a core from one of them stops all: workers
# stand back, and catch up between two batches.
_NICE = 19
_LEFT = '; its results of an earlier run no longer fit'
_SLOT_BYTES = int(np.prod(_ALIGNED_SHAPE) + np.prod(_INPUT_SHAPE))


def process(jobs, outcome, template, save_path, reconstruct, batch=16, workers=2, settings=None):
    """Do the jobs of `plan.plan` and add to `outcome` what became of them.

    settings: as for the plan. template: [5, 3], see `landmarks.five_points`; reconstruct: callable,
    [N, 224, 224, 3] BGR uint8 with N <= batch -> coefficients [N, 257]. Finished photos stay when it is interrupted.
    Raises UserError when results cannot be written.
    """
    slots = multiprocessing.sharedctypes.RawArray('B', (2 * batch + 2 * workers) * _SLOT_BYTES)
    pool = start_workers(workers, _start_worker, (slots, np.asarray(template), save_path, dict(settings or {})),
                         _NICE)
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
        self.ready = []                     # (job, slot, contents): aligned, waits for the network
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
        result = future.result()
        if kind == 'prepare' and not isinstance(result, str):
            contents, turned = result
            self.ready.append((job, slot, contents))
            if turned:
                self.outcome.turned[job.file] = turned
            return
        self.free.append(slot)
        bar.update()
        if result is None:
            self.outcome.new += 1
        else:
            self.outcome.skipped[job.file] = result + (_LEFT if any(job.known.values()) else '')

    def _run_network(self):
        group, self.ready = self.ready[:self.batch], self.ready[self.batch:]
        images = np.stack([_views(self.slots, slot)[1] for _, slot, _ in group])
        coeffs = np.asarray(self.reconstruct(images), np.float32)
        if coeffs.shape != (len(group), NUM_RECON):
            raise ValueError(f'reconstruct returned shape {coeffs.shape}, expected {(len(group), NUM_RECON)}')
        for (job, slot, contents), coeff in zip(group, coeffs):
            self._submit('finish', job, slot, _finish, job, slot, coeff, contents)


# What happens in the worker processes.

_worker = {}        # cache of this process: slots, template, save_path, settings


def _start_worker(slots, template, save_path, settings):
    _worker.update(slots=slots, template=template, save_path=save_path, settings=settings)


def _views(slots, index):
    """Slot `index` of the shared memory -> arrays (aligned picture, network input)."""
    flat = np.frombuffer(slots, np.uint8, _SLOT_BYTES, index * _SLOT_BYTES)
    split = int(np.prod(_ALIGNED_SHAPE))
    return flat[:split].reshape(_ALIGNED_SHAPE), flat[split:].reshape(_INPUT_SHAPE)


def _prepare(job, slot):
    """Decode and align a photo into its slot -> (contents of the files, how it was turned, if), or why it cannot be."""
    try:
        points, points_content = landmarks.read_with_content(job.landmarks)
        picture, photo_content = picture_files.read_with_content(job.photo)
        size = picture.pixels.shape[1::-1]
        try:
            reading = conventions.understand(points, _worker['template'], size, picture.orientation)
        except UserError as error:
            return f'{job.landmarks}: {error}'
        aligned, network_input = _views(_worker['slots'], slot)
        placement = alignment.fit(reading.points, _worker['template'], size)
        aligned[:] = alignment.align(picture_files.rgb(picture.pixels), placement)
        network_input[:] = alignment.recon_input(aligned)
    except UserError as error:
        return str(error)
    except (MemoryError, cv2.error):
        return 'too large for the memory'
    turned = ''
    if picture.orientation != 1:
        view = 'the picture as it is stored' if reading.stored else 'this view'
        turned = f'{picture_files.TURNS[picture.orientation]} by its EXIF data; the landmarks are of {view}'
    return {'photo': photo_content, 'landmarks': points_content}, turned


def _finish(job, slot, coeff, contents):
    """Cut the final picture and write both results -> None or the reason why it cannot be done."""
    if not np.isfinite(coeff).all():
        return 'R_Net gave numbers that are not finite'
    try:
        crop = alignment.crop_face(_views(_worker['slots'], slot)[0], coeff[TRANSLATION])
    except UserError as error:
        return str(error)
    try:
        write_results(_worker['save_path'], job.name, crop, coeff, contents, _worker['settings'], job.known)
    except places.InTheWay as error:
        return str(error)
    return None


def write_results(save_path, name, crop, coeff, contents=None, settings=None, known=None):
    """Write coeff/NAME.mat, then img/NAME.png; both or none. crop: [256, 256, 3] RGB uint8; coeff: [257].

    contents: {'photo', 'landmarks': places.Content}; known: digests of earlier results, which are replaced. Raises
    places.InTheWay where other files are in their places, UserError when they cannot be written.
    """
    _, png = cv2.imencode('.png', cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    mat = io.BytesIO()
    scipy.io.savemat(mat, {'coeff': np.asarray(coeff, np.float32)})
    files = dict(zip(result_files(name), (mat.getvalue(), png.tobytes())))
    digests = {file: places.digest(data) for file, data in files.items()}
    places.put(save_path, name, files, places.Made(digests, contents or {}, settings or {}), known or {})
