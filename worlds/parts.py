"""A world: the face model, the VAEs, the perception networks and the template that belong together, by name.

config.WORLDS names the module of each world; imported when the world is first asked for, it registers its parts here.
"""

import importlib
import os
from typing import Any, Callable, Dict, NamedTuple, Optional

import numpy as np

import config
from dnnlib.util import UserError
from worlds import label
from worlds.agree import one_world

EXPERTS_TABLE = 'experts.json'
PARTS = ('face_model', 'vae_weights', 'experts')        # what options may replace


class Parts(NamedTuple):
    """What a world brings along. Each function raises UserError when its files are missing."""

    face_model: Callable[[Optional[str]], Any]      # folder of a model in its place, or None -> renderer's FaceModel
    template: Callable[[Optional[str]], np.ndarray]     # likewise -> 68 landmarks for the alignment, [68, 3] float32
    vae_weights: Optional[str] = None               # folder of the four VAEs; None: config.VAE_WEIGHTS_DIR
    experts: Optional[str] = None                   # table of the perception networks; None: the released ones
    resolution: int = 256                           # of renders and photos, unless the user says
    photographer: Optional[Callable[..., Any]] = None   # photos of coefficients, see metrics.sources.PhotoSource
    names: Optional[Callable[[], Dict[str, Any]]] = None    # -> {name: (factor, vector of its coefficients, low, high)}


_registered: Dict[str, Parts] = {}      # cache: worlds whose module was imported


def register(name: str, parts: Parts) -> None:
    """Called by a world's own module when it is imported."""
    _registered[name] = parts


def _find(name):
    if name not in config.WORLDS:
        raise UserError(f'world {name!r} is unknown; expected one of {", ".join(label.NAMES)}')
    if name not in _registered:
        importlib.import_module(config.WORLDS[name])
    return _registered[name]


class World:
    """The parts of the world `name`; what is given replaces the world's own.

    vae_weights: folder of the four VAEs. face_model: folder with BFM_model_front_gan.mat, or what it is made from.
    experts: table of the perception networks, a .json file or the folder that holds experts.json.
    Attributes: name, vae_weights (always a folder), experts (path of a table, None: the released networks),
    resolution (pixels), photographer (None where there are no photos to be drawn).
    UserError for an unknown name, and when a part says that it is of another world.
    """

    def __init__(self, name: str, vae_weights: Optional[str] = None, face_model: Optional[str] = None,
                 experts: Optional[str] = None) -> None:
        self._own = own = _find(name)
        self.name, self._face_model_folder = name, face_model
        self.vae_weights = os.path.abspath(vae_weights or own.vae_weights or config.VAE_WEIGHTS_DIR)
        for part, path in (('face_model', face_model), ('vae_weights', self.vae_weights), ('experts', experts)):
            check_part(part, path, name)
        self.experts = experts_table(experts) if experts else own.experts
        self.resolution, self.photographer = own.resolution, own.photographer

    def face_model(self) -> Any:
        """The renderer.face_model.FaceModel. UserError when files are missing."""
        return self._own.face_model(self._face_model_folder)

    def template(self) -> np.ndarray:
        """The 68 landmarks that the alignment of photos fits, [68, 3] float32. UserError when files are missing."""
        return self._own.template(self._face_model_folder)

    def names(self) -> Dict[str, Any]:
        """What can be asked of a face by name, see sampling.controls; {} where the world names nothing."""
        return self._own.names() if self._own.names else {}

    def expert_specs(self) -> Dict[str, Any]:
        """The specs of the perception networks, for perception.experts.Experts. UserError for a broken table."""
        from perception import experts
        if self.experts and not os.path.isfile(self.experts):
            raise UserError(f'the {self.name} world has no perception networks yet ({self.experts} is missing); name a '
                            'table of some with --experts (preprocess_data.py: --weights)')
        return experts.load_specs(self.experts) if self.experts else experts.released_specs()


def of_model(model_path: str, vae_weights: Optional[str] = None, face_model: Optional[str] = None,
             experts: Optional[str] = None, name: Optional[str] = None) -> World:
    """The World a snapshot belongs to, by the JSON beside it; paths there count from the snapshot's folder.

    name: what the user says of a snapshot without such a file; UserError when the file names another world.
    """
    facts = label.read_model(model_path)
    if name and facts == {'world': label.REAL}:         # this is what a missing file reads as
        facts = {'world': name}
    one_world({model_path: facts['world'], 'the world asked for': name})
    folder = os.path.dirname(os.path.abspath(model_path))
    own = {part: os.path.join(folder, facts[part]) for part in PARTS if facts.get(part)}
    return World(facts['world'], vae_weights or own.get('vae_weights'), face_model or own.get('face_model'),
                 experts or own.get('experts'))


def of_part(part: str, path: str) -> Optional[str]:
    """Name of the world that a part says it is of, in a world.json of its folder; None where it says nothing.

    part: 'vae_weights'; or another, whose path is a folder, a file, or a checkpoint without .index.
    """
    if part == 'vae_weights':
        from vae import model
        return model.world_of(path)
    return label.read(path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path)))


def check_part(part: str, path: Optional[str], name: str) -> None:
    """UserError when the part at `path` (None: there is none) says that it is of another world than `name`."""
    if path:
        one_world({f'--{part} {path}': of_part(part, path), 'all else': name})


def experts_table(path: str) -> str:
    """Path of a table of perception networks: the .json itself, or experts.json in the folder. UserError if absent."""
    table = os.path.join(path, EXPERTS_TABLE) if os.path.isdir(path) else path
    if not os.path.isfile(table):
        raise UserError(f'{path}: no table of perception networks there; expected a .json file, or a folder with '
                        f'{EXPERTS_TABLE}, as `python -m human.experts --output DIR` makes it')
    return table
