"""Trains the human world's experts: small networks for reconstruction, identity, hair and background.

`python -m human.experts` draws people, trains the networks and writes their weights with experts.json, the table
that --weights options and perception.experts.load_specs read. Run again to go on; `--network recon --seed 1 --output
DIR` makes a second reconstruction network, from other photos, to measure with.
"""

from dnnlib.util import run_main
from perception import expert_training


def world():
    """What the lessons are about."""
    from human import expert_photos, face_model
    from perception.expert_lessons import World
    return World(expert_photos, face_model.load_model())


SCHOOL = expert_training.School('human', __doc__, 96, world)


def main():
    """Command line -> weights."""
    expert_training.main(SCHOOL)


if __name__ == '__main__':
    run_main(main)
