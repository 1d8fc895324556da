"""A world: the face model, the VAEs and the experts that belong together, by name; options may replace each part.

The real world is the Basel model with the released networks, the synthetic one needs no licence and comes along.
"""

import os

import config
from dnnlib.util import UserError
from preprocess import world
from training import snapshots

EXPERTS_TABLE = 'experts.json'
_SYNTHETIC_EXPERTS = os.path.join(config.ROOT, 'synthetic', 'weights', EXPERTS_TABLE)
_SYNTHETIC_VAES = os.path.join(config.DEMO_DIR, 'vae')


class World:
    """The parts of world `name` ('real' or 'synthetic'); what is given replaces the world's own.

    vae_weights: folder of the four VAEs. face_model: folder with BFM_model_front_gan.mat, or what it is made from.
    experts: table of the perception networks, a .json file or the folder that holds experts.json.
    Attributes: name, vae_weights (always a folder), experts (path of a table, None: the released networks).
    """

    def __init__(self, name, vae_weights=None, face_model=None, experts=None):
        if name not in snapshots.WORLDS:
            raise UserError(f'world {name!r} is unknown; expected one of {", ".join(snapshots.WORLDS)}')
        self.name = name
        synthetic = name == 'synthetic'
        self.vae_weights = os.path.abspath(vae_weights or (_SYNTHETIC_VAES if synthetic else config.VAE_WEIGHTS_DIR))
        self._face_model_dir, self._given_experts = face_model, experts
        self.experts = experts_table(experts) if experts else _SYNTHETIC_EXPERTS if synthetic else None

    def check(self):
        """The world itself. UserError when a part says that it is of another one."""
        parts = dict(vae_weights=self.vae_weights, face_model=self._face_model_dir, experts=self._given_experts)
        for part, path in parts.items():
            check_part(part, path, self.name)
        return self

    def face_model(self):
        """The FaceModel. UserError when files are missing."""
        from renderer import face_model
        if self._face_model_dir:
            return face_model.load_face_model(self._face_model_dir)
        if self.name == 'synthetic':
            from synthetic.face_model import load_model
            return load_model()
        return face_model.load_face_model()

    def expert_specs(self):
        """The specs of the perception networks, for training.perception.Experts. UserError for a broken table."""
        from training import perception
        return perception.load_specs(self.experts) if self.experts else perception.released_specs()


def of_model(model_path, vae_weights=None, face_model=None, experts=None, name=None):
    """The World a snapshot belongs to, by the JSON beside it; paths there count from the snapshot's folder.

    name: what the user says of a snapshot without such a file; UserError when the file names another world.
    """
    facts = snapshots.read_world(model_path)
    there = facts['world']
    if name and name != there:
        if facts != {'world': 'real'}:          # this is what a missing file reads as
            raise UserError(f'{model_path}: belongs to the world "{there}", not "{name}"; worlds cannot be '
                            'mixed')
        facts = {'world': name}
    folder = os.path.dirname(os.path.abspath(model_path))
    own = {key: os.path.join(folder, facts[key]) for key in ('vae_weights', 'face_model', 'experts') if facts.get(key)}
    return World(facts['world'], vae_weights or own.get('vae_weights'), face_model or own.get('face_model'),
                 experts or own.get('experts'))


def of_part(part, path):
    """Name of the world that a part says it is of, in a world.json of its folder; None where it says nothing.

    part: 'vae_weights'; or another, whose path is a folder, a file, or a checkpoint without .index.
    """
    if part == 'vae_weights':
        from vae import model
        return model.world_of(path)
    return world.read(path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path)))


def check_part(part, path, name):
    """UserError when the part at `path` (None: there is none) says that it is of another world than `name`."""
    there = of_part(part, path) if path else None
    if there not in (None, name):
        raise UserError(f'--{part} {path}: belongs to the world "{there}", but all else is of the world "{name}"; '
                        'worlds cannot be mixed')


def experts_table(path):
    """Path of a table of perception networks: the .json itself, or experts.json in the folder. UserError if absent."""
    table = os.path.join(path, EXPERTS_TABLE) if os.path.isdir(path) else path
    if not os.path.isfile(table):
        raise UserError(f'{path}: no table of perception networks there; expected a .json file, or a folder with '
                        f'{EXPERTS_TABLE}, as `python -m synthetic.experts --output DIR` makes it')
    return table
