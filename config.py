"""Where things lie: every folder the project reads or writes, found from this file, never from the working directory.

Each folder can be moved by the environment variable named beside it.
"""

import os

ROOT = os.path.dirname(os.path.abspath(__file__))


def _folder(variable, *default):
    """The folder named by environment variable `variable`, else `default` below the project's root."""
    return os.path.abspath(os.path.expanduser(os.environ.get(variable) or os.path.join(ROOT, *default)))


def _user_cache(variable, name):
    """As `_folder`, by default below the user's home; where nobody knows a home, below the project's cache."""
    home = os.path.expanduser('~')
    if os.path.isabs(home):
        return _folder(variable, home, '.cache', 'discofacegan', name)
    return _folder(variable, 'cache', name)


RESULT_DIR = _folder('DISCO_RESULT_DIR', 'results')                             # numbered run directories
DATASET_DIR = _folder('DISCO_DATASET_DIR', 'datasets')                          # TFRecords
CACHE_DIR = _folder('DISCO_CACHE_DIR', 'cache')                                 # downloaded models
CACHE1_DIR = _folder('DISCO_CACHE1_DIR', 'cache1')                              # downloaded averages of w
VAE_WEIGHTS_DIR = _folder('DISCO_VAE_WEIGHTS_DIR', 'vae', 'weights')            # <factor>/stage1_epoch_395.ckpt.*
FACE_MODEL_DIR = _folder('DISCO_FACE_MODEL_DIR', 'renderer', 'BFM face model')  # BFM09 and its index files
PRETRAINED_DIR = _folder('DISCO_PRETRAINED_DIR', 'training', 'pretrained_weights')  # recon_net, id_net, parsing_net
OP_CACHE_DIR = _user_cache('DISCO_OP_CACHE_DIR', 'ops')                         # compiled ops
AVERAGE_CACHE_DIR = _user_cache('DISCO_AVERAGE_CACHE_DIR', 'averages')          # of w, of models in read-only folders
DEMO_DIR = _folder('DISCO_DEMO_DIR', 'demo')                                    # the small model of the project itself
DEMO_NAME = 'demo128.pkl'                 # which of the models there draws where the released one is not at hand

HEARTBEAT_PORT = os.environ.get('DISCO_HEARTBEAT_PORT', '')     # of the chief, training on several hosts; '': by rule

# Worlds (worlds/parts.py) and the module that registers each.
WORLDS = {'real': 'worlds.real', 'human': 'human.world'}
