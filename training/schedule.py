"""What changes as training goes on (progressive growing): kimg -> lod, resolution, minibatch, rates, tick.

Pure Python: a schedule is a named tuple of tables, its state at a number of images another named tuple.
"""

import math
from collections import namedtuple

import numpy as np

Schedule = namedtuple('Schedule', (
    'resolution',               # of the finished network, a power of two
    'initial_resolution',       # where growing starts
    'training_kimg',            # thousands of images shown at each resolution before the next fades in
    'transition_kimg',          # thousands of images shown while it fades in
    'learning_rate',            # default, of G and D alike
    'learning_rate_dict',       # active resolution -> learning rate
    'minibatch_base',           # default, all devices together
    'minibatch_dict',           # active resolution -> minibatch, all devices together
    'tick_kimg',                # default thousands of images between status lines
    'tick_kimg_dict',           # active resolution -> the same
))

State = namedtuple('State', (
    'kimg',                     # thousands of images shown
    'lod',                      # 0 = full resolution; the fraction is how much of the finest block is still missing
    'resolution',               # active: the FINER one during a fade
    'minibatch',                # all devices together, a multiple of their number
    'learning_rate',
    'tick_kimg',
))

_MINIBATCHES = {                # number of devices -> active resolution -> minibatch of all devices, as released
    1: {4: 128, 8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8, 512: 4},
    2: {4: 256, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8},
    4: {4: 512, 8: 256, 16: 128, 32: 64, 64: 32, 128: 16},
    8: {4: 512, 8: 256, 16: 128, 32: 64, 64: 32},
}
_BASE_PER_DEVICE = 4


def minibatches(num_devices):
    """(base, {resolution: minibatch}) of all devices together, as released for 1, 2, 4 and 8 devices.

    Any other number takes each device's share of the released table with the next smaller number of devices.
    """
    known = max(n for n in _MINIBATCHES if n <= num_devices)
    table = {res: total // known * num_devices for res, total in _MINIBATCHES[known].items()}
    return _BASE_PER_DEVICE * num_devices, table


def _kimg_of(value, resolution):
    """A phase's length: one number for all resolutions, or a table by resolution."""
    return value[resolution] if isinstance(value, dict) else value


def lod_at(schedule, kimg):
    """Level of detail after `kimg` thousand images: log2(resolution / initial) at the start, 0 when fully grown.

    `training_kimg` and `transition_kimg` may be tables: the time at a resolution, and of the fade that leaves it.
    """
    lod = math.log2(schedule.resolution) - math.log2(schedule.initial_resolution)
    resolution = schedule.initial_resolution
    while lod > 0:
        kimg -= _kimg_of(schedule.training_kimg, resolution)
        fade = _kimg_of(schedule.transition_kimg, resolution)
        if kimg <= 0:
            return float(lod)
        if kimg < fade:
            return float(lod - kimg / fade)
        kimg -= fade
        lod -= 1
        resolution *= 2
    return 0.0


def state_at(schedule, cur_nimg):
    """The schedule's State after `cur_nimg` images were shown."""
    kimg = cur_nimg / 1000.0
    lod = float(np.float32(lod_at(schedule, kimg)))     # as the graph sees it: both must round to the same levels
    resolution = 2 ** (int(math.log2(schedule.resolution)) - int(math.floor(lod)))
    return State(
        kimg=kimg, lod=lod, resolution=resolution,
        minibatch=schedule.minibatch_dict.get(resolution, schedule.minibatch_base),
        learning_rate=schedule.learning_rate_dict.get(resolution, schedule.learning_rate),
        tick_kimg=schedule.tick_kimg_dict.get(resolution, schedule.tick_kimg))
