"""What a training leaves in its run directory: pictures, snapshots, checkpoints; and when it is time for them."""

import itertools
import os
import time

import numpy as np

from dnnlib import pictures, tfrecords
from dnnlib.tflib import tfutil
from dnnlib.util import UserError, atomic_path
from training import snapshots
from training.checkpoints import Checkpoints
from training.fixed_faces import FixedFaces
from vae.model import RELEASED, export_decoder
from worlds import label

RETRY_SECONDS = 60          # after a checkpoint that could not be written
MEASURING_SECONDS = 86400   # that other hosts wait for metrics


class RunWriter:
    """Everything the chief writes, within cluster.maintenance: the other hosts wait.

    run: RunContext. graph: graph.TrainingGraph. world: worlds.label.write_model's arguments: {name, face_model,
    experts}, the latter where they are not the world's own. snapshot_ticks: between two network snapshots.
    checkpoint_minutes: between two checkpoints. evaluation: metrics.evaluation.Evaluation of the snapshots, or None.
    What cannot be written on the way is told, and training goes on; at the end it is a UserError.
    """

    def __init__(self, run, cluster, graph, telemetry, world, snapshot_ticks, checkpoint_minutes, evaluation=None):
        self._run, self._cluster, self._graph, self._telemetry = run, cluster, graph, telemetry
        self._world, self._evaluation, self._snapshot_ticks = world, evaluation, snapshot_ticks
        self._checkpoints, self._checkpoint_seconds = Checkpoints(run.run_dir), 60 * checkpoint_minutes
        self._next_checkpoint = time.monotonic() + self._checkpoint_seconds
        self._fixed = None

    def begin(self, dataset, grid_size, seed, nimg, lod):
        """Before the first step: reals.png, the first fakes, and the decoders that belong to all snapshots.

        Adds to the graph, as nothing does later.
        """
        context, Gs = self._graph.context, self._graph.Gs
        with self._cluster.maintenance('drawing the first pictures'):
            self._keep_decoders(context.decoders.paths)
            self._fixed = FixedFaces(Gs, context.decoders, context.faces, context.noise_dim, grid_size, seed)
            if not os.path.exists(self._run.path('reals.png')):
                columns, rows = self._fixed.grid_size
                reals = itertools.islice(tfrecords.read_images(dataset.levels[0].path), columns * rows)
                pictures.save_image_grid(np.stack(list(reals)), self._run.path('reals.png'), (columns, rows),
                                         layout='NCHW')
            Gs.set_var('lod', lod)
            self._draw_fakes(nimg)

    def tick(self, progress, now, last):
        """At the end of a tick: line and pictures, sometimes a snapshot; then `progress` begins the next.

        now: schedule.State.
        """
        began = time.monotonic()
        progress.tick += 1
        progress.seconds += progress.tick_seconds + progress.maintenance_seconds
        path = None
        with self._cluster.maintenance('writing pictures and snapshots'):
            self._try(self._telemetry.tick, progress, now, must=False)
            self._try(self._draw_fakes, progress.nimg, must=last)
            if last or progress.tick == 1 or progress.tick % self._snapshot_ticks == 0:
                path = self._run.path(f'network-snapshot-{progress.nimg // 1000:06d}.pkl')
                path = path if self._try(self._save_networks, path, must=last) else None
        progress.update(tick_start_nimg=progress.nimg, tick_seconds=0.0, maintenance_seconds=time.monotonic() - began)
        if path and self._evaluation is not None:
            self._evaluate(path, progress)

    def _evaluate(self, path, progress):
        """The snapshot's metrics. They may take long, and whoever wants to end the run then may kill it: save first."""
        began = time.monotonic()
        with self._cluster.maintenance('measuring a snapshot', MEASURING_SECONDS):
            self._checkpoint(progress, must=False)
            self._try(self._evaluation.measure, path, progress.nimg, must=False)
        progress.maintenance_seconds += time.monotonic() - began

    def checkpoint_if_due(self, progress, must):
        """A checkpoint when the last is old enough, or when it must be."""
        if must or time.monotonic() >= self._next_checkpoint:
            began = time.monotonic()
            with self._cluster.maintenance('writing a checkpoint'):
                self._checkpoint(progress, must)
            progress.maintenance_seconds += time.monotonic() - began

    def finish(self):
        """network-final.pkl."""
        with self._cluster.maintenance('writing the final snapshot'):
            self._save_networks(self._run.path('network-final.pkl'))

    def _keep_decoders(self, paths):
        """The run's own copy of the decoders: its snapshots stay whole wherever the directory goes."""
        folder = self._run.path(snapshots.VAE_FOLDER)
        if not os.path.isdir(folder):
            with atomic_path(folder, directory=True) as temporary:
                label.write(temporary, self._world['name'])
                for name, path in paths.items():
                    export_decoder(path, os.path.join(temporary, name, RELEASED), name)

    def _draw_fakes(self, nimg):
        path = self._run.path(f'fakes{nimg // 1000:06d}.png')
        self._fixed.save(path)
        self._telemetry.picture('fakes beside renders', path, nimg)

    def _save_networks(self, path):
        label.write_model(path, **dict(self._world, vae_weights=snapshots.VAE_FOLDER))
        snapshots.save_networks((self._graph.G, self._graph.D, self._graph.Gs), path)

    def _checkpoint(self, progress, must):
        written = self._try(self._save_checkpoint, progress, must=must)
        wait = self._checkpoint_seconds if written else min(RETRY_SECONDS, self._checkpoint_seconds)
        self._next_checkpoint = time.monotonic() + wait

    def _save_checkpoint(self, progress):
        facts = dict(progress, means=self._telemetry.means.state())
        self._checkpoints.save(progress.nimg, tfutil.run(self._graph.state), facts)

    def _try(self, write, *args, must):
        """Whether it was written; a full disk shall not end a run of days that somebody may still rescue."""
        try:
            write(*args)
            return True
        except UserError as error:
            if must:
                raise
            self._telemetry.say(f'warning: {error}; training goes on')
            return False
