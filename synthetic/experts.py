"""Trains the synthetic world's experts: small networks for reconstruction, identity, hair.

`python -m synthetic.experts` draws people, trains the networks and writes their weights with experts.json, the table
that --weights options and perception.experts.load_specs read. Run again to go on; `--network recon --seed 1 --output
DIR` makes a second reconstruction network, from other photos, to measure with.
"""

import os

import config
from dnnlib.util import run_main
from perception import expert_training


def world():
    """What the lessons are about."""
    from perception.expert_lessons import World
    from synthetic import expert_photos, face_model
    return World(expert_photos, face_model.load_model(), even=1.0)


SCHOOL = expert_training.School('synthetic', __doc__, os.path.join(config.ROOT, 'synthetic', 'weights'), 64, world)


def main():
    """Command line -> weights."""
    expert_training.main(SCHOOL)


if __name__ == '__main__':
    run_main(main)
