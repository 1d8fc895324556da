"""Named configurations of a training: sizes of the networks, schedule, settings of the losses (paper section 3).

A user's own is a JSON file that says what differs from a named one: {"base": "demo64", "resolution": 32, ...}.
"""

import json
import os
from collections import namedtuple

from dnnlib.util import EasyDict, UserError
from training import schedule

# What a configuration decides of the losses; see training/objectives.py.
Settings = namedtuple('Settings', (
    'l1_resolution',    # active resolution up to which L1 has its first weight
    'w_l1',             # that weight
    'w_l1_above',       # its weight at higher resolutions
    'full_resolution',  # active resolution from which landmarks, lighting, identity and skin colour count
    'r1_gamma',         # R1 penalty times half of this
))

_RELEASED = schedule.ffhq256()

FFHQ256 = dict(
    data_dir='ffhq_align',          # dataset, below config.DATASET_DIR
    resolution=256,                 # R, of the finished networks
    generator={},                   # options of G_style other than its defaults
    discriminator={},               # options of D_basic other than its defaults
    unit_coefficients=False,        # scale the generator's input to standard deviation 1
    average_kimg=10.0,              # half-life of the moving average of G, thousands of images
    total_kimg=15000,               # where stage 1 ends
    stage2_kimg=5000,               # thousands of images of stage 2
    # Growing.
    initial_resolution=_RELEASED.initial_resolution,
    training_kimg=_RELEASED.training_kimg,          # at each resolution, or {resolution: kimg}
    transition_kimg=_RELEASED.transition_kimg,      # of the fade that leaves a resolution, or {resolution: kimg}
    learning_rate=_RELEASED.learning_rate,          # where learning_rate_dict has nothing for the active resolution
    learning_rate_dict=_RELEASED.learning_rate_dict,
    minibatch=None,                 # of all devices together, rounded up to their multiple; None: the released table
    tick_kimg=_RELEASED.tick_kimg,  # between two lines of the log, where tick_kimg_dict has nothing
    tick_kimg_dict=_RELEASED.tick_kimg_dict,
    snapshot_ticks=10,              # between two network snapshots
    grid=None,                      # [columns, rows] of the pictures fakesKKKKKK.png; None: what fits a screen
    # Losses, as in Settings.
    l1_resolution=32, w_l1=20.0, w_l1_above=0.0, full_resolution=64, r1_gamma=10.0,
)

# The small synthetic world on a CPU, some six hours.
DEMO64 = dict(
    FFHQ256,
    data_dir='demo64', resolution=64,
    generator=dict(fmap_base=1024, fmap_max=64, dlatent_size=256, mapping_fmaps=256, mapping_layers=4,
                   mapping_lrmul=1.0),
    discriminator=dict(fmap_base=1024, fmap_max=64),
    unit_coefficients=True, average_kimg=3.0, total_kimg=1040, stage2_kimg=100,
    training_kimg={8: 40, 16: 75, 32: 250, 64: 0}, transition_kimg={8: 75, 16: 250, 32: 175, 64: 0},
    learning_rate=0.002, learning_rate_dict={}, minibatch=16,
    tick_kimg=10, tick_kimg_dict={}, snapshot_ticks=5,
    w_l1_above=5.0, full_resolution=32, r1_gamma=1.0,
)

CONFIGS = {'ffhq256': FFHQ256, 'demo64': DEMO64}


def load(name):
    """The configuration called `name`, or of the JSON file of that path -> EasyDict with `name`, the file's stem.

    UserError for an unknown name or key, and for values that no training can be made of.
    """
    if name in CONFIGS:
        return EasyDict(CONFIGS[name], name=name)
    if not name.endswith('.json'):
        raise UserError(f'--config {name}: expected {" or ".join(sorted(CONFIGS))}, or a .json file of your own')
    content = _read(name)
    base = content.pop('base', 'ffhq256')
    if base not in CONFIGS:
        raise UserError(f'{name}: "base" is {base!r}; expected one of {", ".join(sorted(CONFIGS))}')
    unknown = sorted(set(content) - set(FFHQ256))
    if unknown:
        raise UserError(f'{name}: unknown {", ".join(unknown)}; a configuration has {", ".join(sorted(FFHQ256))}')
    own = {key: _with_numbers(value) for key, value in content.items()}
    return check(EasyDict(CONFIGS[base], **own, name=os.path.splitext(os.path.basename(name))[0]), name)


def _read(path):
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f'--config {path}: cannot be read ({error}); expected a JSON file such as '
                        '{"base": "demo64", "resolution": 32}') from error
    if not isinstance(content, dict):
        raise UserError(f'--config {path}: holds no table; expected JSON such as {{"base": "demo64"}}')
    return content


def _with_numbers(value):
    """JSON has no numbers as keys: {"64": 10} -> {64: 10}."""
    if isinstance(value, dict):
        return {int(key) if str(key).isdigit() else key: item for key, item in value.items()}
    return value


def from_options(stored):
    """A configuration that went through JSON, as a run's directory holds it."""
    return check(EasyDict({key: _with_numbers(value) for key, value in stored.items()}), stored.get('name'))


def check(config, where):
    """The configuration itself; UserError naming the first entry that makes no sense."""
    sizes = [2 ** level for level in range(2, 13)]
    rules = (
        ('resolution', config.resolution in sizes, 'a power of two from 4 to 4096'),
        ('initial_resolution', config.initial_resolution in sizes and config.initial_resolution <= config.resolution,
         'a power of two, at most "resolution"'),
        ('minibatch', config.minibatch is None or _is_number(config.minibatch, 1), 'a number from 1 on'),
        ('generator', isinstance(config.generator, dict), 'a table of options'),
        ('discriminator', isinstance(config.discriminator, dict), 'a table of options'),
        ('grid', config.grid is None or len(config.grid) == 2 and all(_is_number(x, 1) for x in config.grid),
         '[columns, rows]'),
    ) + tuple((key, _is_number(config[key], least), f'a number, at least {least}') for key, least in (
        ('total_kimg', 0), ('stage2_kimg', 0), ('average_kimg', 1e-6), ('tick_kimg', 1e-6), ('snapshot_ticks', 1),
        ('learning_rate', 0), ('r1_gamma', 0), ('w_l1', 0), ('w_l1_above', 0)))
    for key, fits, expected in rules:
        if not fits:
            raise UserError(f'{where}: {key} is {config[key]!r}; expected {expected}')
    return config


def _is_number(value, least):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least


def settings_of(config):
    """Its Settings."""
    return Settings(*[config[name] for name in Settings._fields])


def schedule_of(config, num_devices):
    """Its schedule.Schedule for so many devices of all hosts together."""
    base, table = schedule.minibatches(num_devices)
    if config.minibatch is not None:
        base, table = -(-config.minibatch // num_devices) * num_devices, {}
    return schedule.Schedule(
        resolution=config.resolution, initial_resolution=config.initial_resolution,
        training_kimg=config.training_kimg, transition_kimg=config.transition_kimg,
        learning_rate=config.learning_rate, learning_rate_dict=config.learning_rate_dict,
        minibatch_base=base, minibatch_dict=table, tick_kimg=config.tick_kimg, tick_kimg_dict=config.tick_kimg_dict)


def final_kimg(config, stage):
    """Where a stage ends if nobody says otherwise, thousands of images."""
    return config.total_kimg + (config.stage2_kimg if stage == 2 else 0)
