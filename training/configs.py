"""Named configurations of a training: sizes of the networks, schedule, settings of the losses (paper section 3).

A user's own is a JSON file that says what differs from a named one: {"base": "demo64", "resolution": 32, ...}.
"""

import json
import os
import re

from dnnlib.json_files import read_json
from dnnlib.util import EasyDict, UserError
from training import config_rules, schedule

FFHQ256 = dict(
    data_dir='ffhq_align',          # dataset, below config.DATASET_DIR
    resolution=256,                 # R, of the finished networks
    generator={},                   # options of G_style other than its defaults; config_rules.py lists them
    discriminator={},               # options of D_basic other than its defaults; likewise
    unit_coefficients=False,        # scale the generator's input to standard deviation 1
    average_kimg=10.0,              # half-life of the moving average of G, thousands of images
    total_kimg=15000,               # where stage 1 ends
    stage2_kimg=5000,               # thousands of images of stage 2
    # Growing.
    initial_resolution=8,           # where growing starts
    training_kimg=600,              # at each resolution, or {resolution: kimg}
    transition_kimg=600,            # of the fade that leaves a resolution, or {resolution: kimg}
    learning_rate=0.001,            # where learning_rate_dict has nothing for the active resolution
    learning_rate_dict={128: 0.0015, 256: 0.002, 512: 0.003, 1024: 0.003},
    minibatch=None,                 # of all devices together, rounded up to their multiple; None: the released table
    accumulate=1,                   # session runs that share a minibatch, one after the other, where memory is small
    tick_kimg=20,                   # between two lines of the log, where tick_kimg_dict has nothing
    tick_kimg_dict={4: 160, 8: 140, 16: 120, 32: 100, 64: 80, 128: 60, 256: 40, 512: 30, 1024: 20},
    snapshot_ticks=10,              # between two network snapshots
    grid=None,                      # [columns, rows] of the pictures fakesKKKKKK.png; None: what fits a screen
    # Losses.
    l1_resolution=32,               # active resolution up to which L1 has its first weight
    w_l1=20.0,                      # that weight
    w_l1_above=0.0,                 # its weight at higher resolutions
    full_resolution=64,             # active resolution from which landmarks, lighting, identity and skin colour count
    r1_gamma=10.0,                  # R1 penalty times half of this
    core_share=1.0,                 # of a CPU's cores, what one operation may take; small networks gain by .5
    r1_interval=1,                  # only every so many steps of D have the penalty, with so many times the weight
    stage1_weights={},              # {train.py's flag of a loss: weight} other than its default; the flag given wins
    stage2_weights={'w_lm': 100.0},
)
NEWER = ('accumulate', 'core_share', 'r1_interval', 'stage1_weights', 'stage2_weights')     # earlier runs lack them

# The human world at 64 pixels, for trials. Nothing shows below 32; a fade trains the coarse half only and costs as much
# as the finer resolution, so fades are short.
DEMO64 = dict(
    FFHQ256,
    data_dir='demo64', resolution=64,
    generator=dict(fmap_base=1024, fmap_max=64, dlatent_size=256, mapping_fmaps=256, mapping_layers=4,
                   mapping_lrmul=1.0),
    discriminator=dict(fmap_base=1024, fmap_max=64),
    unit_coefficients=True, average_kimg=3.0, total_kimg=700, stage2_kimg=100,
    training_kimg={8: 40, 16: 60, 32: 90}, transition_kimg={8: 40, 16: 60, 32: 60},
    learning_rate=0.002, learning_rate_dict={}, minibatch=16,
    tick_kimg=10, tick_kimg_dict={}, snapshot_ticks=5,
    w_l1_above=5.0, full_resolution=32, r1_gamma=1.0, r1_interval=8, core_share=0.5,
    # The paper's weights do not bring small faces to move their mouths, and its identity loss is content with 3 mm of a
    # head's shape. Terms of ours: at these their gradients on pictures are as large as those of the paper's like terms.
    stage1_weights=dict(w_lm=5000.0, w_shape=0.3, w_albedo=0.02, w_exp=0.4),
    # Adversarial terms count twice in stage 2, so imitation is doubled; contrast of the paper's size freezes faces.
    stage2_weights=dict(w_id=6.0, w_lm=10000.0, w_gamma=20.0, w_skin=40.0, w_exp_warp=2.5, w_gamma_change=3.5,
                        w_shape=0.6, w_albedo=0.04, w_exp=0.8, w_light_hair=5.0, w_light_background=3.0,
                        w_pose_hair=5.0, w_pose_background=3.0, w_pose_exp=0.1, w_id_exp=0.1),
)

# The human world, some ten hours on two cores with --precision bfloat16: eight tenths of them at 128 pixels.
DEMO128 = dict(
    DEMO64,
    data_dir='demo128', resolution=128,
    generator=dict(DEMO64['generator'], fmap_base=2048, fmap_max=96),
    discriminator=dict(fmap_base=2048, fmap_max=96),
    training_kimg={8: 40, 16: 60, 32: 90, 64: 100}, transition_kimg={8: 40, 16: 60, 32: 60, 64: 60},
    tick_kimg_dict={128: 5},
    # With w_gamma 20 and w_exp_warp 2.5 light lost .05 of its R2, and hair came and went; demo/README.md tells more.
    stage2_weights=dict(DEMO64['stage2_weights'], w_gamma=40.0, w_exp_warp=4.0, w_gamma_change=5.0, w_shape=1.0),
)

# What a run keeps when --resume --config brings another configuration: data, networks, what its pictures show, its end.
KEPT = ('data_dir', 'resolution', 'generator', 'discriminator', 'unit_coefficients', 'grid', 'total_kimg',
        'stage2_kimg')

CONFIGS = {'ffhq256': FFHQ256, 'demo64': DEMO64, 'demo128': DEMO128}


def load(name):
    """The configuration called `name`, or of the JSON file of that path -> EasyDict with `name`, the file's stem.

    UserError for an unknown name or key, and for values that no training can be made of. Tables by resolution: what
    `learning_rate_dict` and `tick_kimg_dict` lack is `learning_rate` and `tick_kimg`; `training_kimg` and
    `transition_kimg` must have all resolutions from the initial to the last but one (the last is never left).
    """
    if name in CONFIGS:
        return EasyDict(CONFIGS[name], name=name)
    if not name.endswith('.json'):
        raise UserError(f'--config {name}: expected {" or ".join(sorted(CONFIGS))}, or a .json file of your own')
    content = read_json(name, 'a configuration such as {"base": "demo64", "resolution": 32}')
    base = content.pop('base', 'ffhq256')
    if not isinstance(base, str) or base not in CONFIGS:
        raise UserError(f'{name}: "base" is {config_rules.short(repr(base))}; expected one of '
                        f'{", ".join(sorted(CONFIGS))}')
    config_rules.refuse_unknown(content, config_rules.RULES, name)
    own = EasyDict(CONFIGS[base], **_with_numbers(content), name=os.path.splitext(os.path.basename(name))[0])
    return config_rules.check(own, name)


def replacement(name, config):
    """The configuration called `name` for a run that began with `config`, and a line for each entry that differs.

    Learning rates, schedule, losses and ticks may. UserError where it asks for other networks, data or another end.
    """
    new = load(name)
    changes = [(key, json.dumps(config[key]), json.dumps(new[key])) for key in config_rules.RULES
               if new[key] != config[key]]
    for key, before, after in changes:
        if key in KEPT:
            raise UserError(f'--config {name}: a run keeps its "{key}"; expected {before}, not {after}'
                            + (' (--total_kimg moves the end)' if key.endswith('_kimg') else ''))
    return EasyDict(new, name=config.name), [f'{key}: {before} -> {after}' for key, before, after in changes]


def _with_numbers(config):
    """JSON has no numbers as keys: tables by resolution {"64": 10} -> {64: 10}; other keys stay, and are refused."""
    for key in config_rules.TABLES:
        if isinstance(config.get(key), dict):
            config[key] = {int(size) if re.match('[0-9]{1,4}$', str(size)) else size: value
                           for size, value in config[key].items()}
    return config


def from_options(stored):
    """A configuration that went through JSON, as a run's directory holds it."""
    config = EasyDict({name: FFHQ256[name] for name in NEWER}, **stored)
    return config_rules.check(_with_numbers(config), f'configuration {stored.get("name")}')


def schedule_of(config, num_devices):
    """Its schedule.Schedule for so many devices of all hosts together."""
    base, table = schedule.minibatches(num_devices) if config.minibatch is None else (config.minibatch, {})
    share = num_devices * config.accumulate
    base, table = -(-base // share) * share, {size: -(-total // share) * share for size, total in table.items()}
    return schedule.Schedule(
        resolution=config.resolution, initial_resolution=config.initial_resolution,
        training_kimg=config.training_kimg, transition_kimg=config.transition_kimg,
        learning_rate=config.learning_rate, learning_rate_dict=config.learning_rate_dict,
        minibatch_base=base, minibatch_dict=table, tick_kimg=config.tick_kimg, tick_kimg_dict=config.tick_kimg_dict)


def weights_of(config, stage):
    """{flag: weight} of the losses in which the configuration differs from train.py's defaults."""
    return config.stage2_weights if stage == 2 else config.stage1_weights


def final_kimg(config, stage):
    """Where a stage ends if nobody says otherwise, thousands of images."""
    return config.total_kimg + (config.stage2_kimg if stage == 2 else 0)
