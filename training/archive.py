"""What a training leaves in its run directory: pictures, snapshots, checkpoints; and when it is time for them."""

import itertools
import os
import time

import numpy as np

from dnnlib import pictures, tfrecords
from dnnlib.tflib import tfutil
from dnnlib.util import UserError, atomic_path
from training import snapshots
from training.fixed_faces import FixedFaces
from vae.model import RELEASED, export_decoder
from worlds import label

RETRY_SECONDS = 60          # after a checkpoint that could not be written
MEASURING_SECONDS = 86400   # that other hosts wait for metrics


class Archive:
    """Everything the chief writes, within cluster.maintenance: the other hosts wait.

    run: RunContext. nets: towers.Nets. state: {name: variable} of a checkpoint. world, world_parts: name of the
    world, and {'face_model', 'experts': path} where not its own. snapshot_ticks: between two network snapshots.
    checkpoint_minutes: between two checkpoints. evaluation: Evaluation of the network snapshots, or None.
    What cannot be written on the way is told, and training goes on; at the end it is a UserError.
    """

    def __init__(self, run, cluster, telemetry, checkpoints, nets, state, world, world_parts, snapshot_ticks,
                 checkpoint_minutes, evaluation=None):
        self.run, self.cluster, self.telemetry, self.checkpoints = run, cluster, telemetry, checkpoints
        self.state, self.world, self.world_parts = state, world, world_parts or {}
        self.networks = nets.copies[0] + (nets.Gs,)
        self.snapshot_ticks, self.checkpoint_seconds = snapshot_ticks, 60 * checkpoint_minutes
        self._next_checkpoint = time.monotonic() + self.checkpoint_seconds
        self._fixed, self._evaluation = None, evaluation

    def begin(self, context, dataset, grid_size, seed, nimg, lod):
        """Before the first step: reals.png, the first fakes, and the decoders that belong to all snapshots.

        Adds to the graph, as nothing does later.
        """
        if self.run is None:
            return
        Gs = self.networks[-1]
        with self.cluster.maintenance('drawing the first pictures'):
            self._keep_decoders(context.decoders.paths)
            self._fixed = FixedFaces(Gs, context.decoders, context.faces, context.noise_dim, grid_size, seed)
            if not os.path.exists(self.run.path('reals.png')):
                columns, rows = self._fixed.grid_size
                reals = itertools.islice(tfrecords.read_images(dataset.levels[0].path), columns * rows)
                pictures.save_image_grid(np.stack(list(reals)), self.run.path('reals.png'), (columns, rows),
                                         layout='NCHW')
            Gs.set_var('lod', lod)
            self._draw_fakes(nimg)

    def tick(self, progress, now, last):
        """At the end of a tick: line and pictures, sometimes a snapshot; then `progress` begins the next.

        now: schedule.State.
        """
        if self.run is None:
            return
        began = time.monotonic()
        progress.tick += 1
        progress.seconds += progress.tick_seconds + progress.maintenance_seconds
        shown = {name: progress[name] for name in ('tick', 'nimg', 'seconds', 'tick_seconds', 'maintenance_seconds')}
        shown.update(kimg=progress.nimg / 1000, tick_kimg=(progress.nimg - progress.tick_start_nimg) / 1000,
                     lod=now.lod, resolution=now.resolution, minibatch=now.minibatch)
        rates = {f'Train{name}/learning_rate': now.learning_rate for name in 'GD'}
        with self.cluster.maintenance('writing pictures and snapshots'):
            self._try(self.telemetry.tick, shown, rates, must=False)
            self._try(self._draw_fakes, progress.nimg, must=last)
            snapshot = last or progress.tick == 1 or progress.tick % self.snapshot_ticks == 0
            if snapshot:
                name = f'network-snapshot-{progress.nimg // 1000:06d}.pkl'
                snapshot = self._try(self._save_networks, name, must=last)
        progress.update(tick_start_nimg=progress.nimg, tick_seconds=0.0, maintenance_seconds=time.monotonic() - began)
        if snapshot and self._evaluation is not None:
            self._evaluate(self.run.path(name), progress)

    def _evaluate(self, path, progress):
        """The snapshot's metrics. They may take long, and whoever wants to end the run then may kill it: save first."""
        began = time.monotonic()
        with self.cluster.maintenance('measuring a snapshot', MEASURING_SECONDS):
            self._checkpoint(progress, must=False)
            self._try(self._evaluation.measure, path, progress.nimg, must=False)
        progress.maintenance_seconds += time.monotonic() - began

    def checkpoint_if_due(self, progress, must):
        """A checkpoint when the last is old enough, or when it must be."""
        if self.run is not None and (must or time.monotonic() >= self._next_checkpoint):
            began = time.monotonic()
            with self.cluster.maintenance('writing a checkpoint'):
                self._checkpoint(progress, must)
            progress.maintenance_seconds += time.monotonic() - began

    def finish(self):
        """network-final.pkl."""
        if self.run is None:
            return
        with self.cluster.maintenance('writing the final snapshot'):
            self._save_networks('network-final.pkl')

    def _keep_decoders(self, paths):
        """The run's own copy of the decoders: its snapshots stay whole wherever the directory goes."""
        folder = self.run.path(snapshots.VAE_FOLDER)
        if not os.path.isdir(folder):
            with atomic_path(folder, directory=True) as temporary:
                label.write(temporary, self.world)
                for name, path in paths.items():
                    export_decoder(path, os.path.join(temporary, name, RELEASED), name)

    def _draw_fakes(self, nimg):
        path = self.run.path(f'fakes{nimg // 1000:06d}.png')
        self._fixed.save(path)
        self.telemetry.picture('fakes beside renders', path, nimg)

    def _save_networks(self, name):
        path = self.run.path(name)
        label.write_model(path, self.world, **dict(self.world_parts, vae_weights=snapshots.VAE_FOLDER))
        snapshots.save_networks(self.networks, path)

    def _checkpoint(self, progress, must):
        written = self._try(self._save_checkpoint, progress, must=must)
        wait = self.checkpoint_seconds if written else min(RETRY_SECONDS, self.checkpoint_seconds)
        self._next_checkpoint = time.monotonic() + wait

    def _save_checkpoint(self, progress):
        facts = dict(progress, means=self.telemetry.means.state())
        self.checkpoints.save(progress.nimg, tfutil.run(self.state), facts)

    def _try(self, write, *args, must):
        """Whether it was written; a full disk shall not end a run of days that somebody may still rescue."""
        try:
            write(*args)
            return True
        except UserError as error:
            if must:
                raise
            self.telemetry.say(f'warning: {error}; training goes on')
            return False
