"""Network snapshots of runs and the released model: find, fetch, load, save; the world a model belongs to."""

import contextlib
import json
import os
import re
import time
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy as np

import config
from dnnlib import download
from dnnlib.tflib import pickles
from dnnlib.util import UserError, atomic_path

MODEL_NAME = 'network-snapshot-020126.pkl'                          # released, FFHQ, 256x256
MODEL_DRIVE_ID = '1nT_cf610q5mxD_jACvV43w4SYBxsPUBq'
MODEL_PREFIX = 'e42c6d2dcb3ea6479d593c576c99ecc1_'                  # MD5 of the download address
AVERAGE_SUFFIX = '-average_w_id.txt'
AVERAGE_NAME = 'network-snapshot-020126' + AVERAGE_SUFFIX
AVERAGE_DRIVE_ID = '17L6-ENX3NbMsS3MSCshychZETLPtJnbS'
AVERAGE_PREFIX = 'fd19667fb7f2984f21b20696f84410e4_'
WORLDS = ('real', 'synthetic')
VAE_FOLDER = 'vae'                  # in a run's directory: the decoders that its snapshots belong to
MAX_OPTION = 65536                  # of a stored network; the largest in use is fmap_base


#----------------------------------------------------------------------------
# Load and save. TensorFlow comes in only here.

def load_networks(path: str) -> Tuple[Any, Any, Any]:
    """(G, D, Gs) of a snapshot as Networks in the default session. UserError if it is not one."""
    G, D, Gs = [_build(path, state) for state in _load_three(path)]
    return G, D, Gs


def read_options(path: str) -> List[Dict[str, Any]]:
    """All options of a snapshot's G, D and Gs, read without building them. UserError if it is not one."""
    from dnnlib.tflib.network import options_of
    return [options_of(state) for state in _load_three(path)]


def describe_networks(networks: Tuple[Any, Any, Any]) -> List[Dict[str, Any]]:
    """What (G, D, Gs) are built from, JSON values: all of a snapshot but the values of variables."""
    return [_describe(network) for network in networks]


def build_networks(described: List[Dict[str, Any]], path: str) -> Tuple[Any, Any, Any]:
    """(G, D, Gs) from `describe_networks`, with start values, in the default session.

    path: of the file it was kept in, for a UserError.
    """
    try:
        states = [_state_of(network) for network in described]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{path}: its description of the networks is damaged ({type(error).__name__}: {error})')
    G, D, Gs = [_build(path, state) for state in states]
    return G, D, Gs


def _describe(network):
    return dict(name=network.name, build_func_name=network.build_func_name, static_kwargs=_plain(network.static_kwargs),
                components={key: _describe(component) for key, component in network.components.items()})


def _state_of(described):
    components = {key: _state_of(component) for key, component in described['components'].items()}
    return pickles.NetworkState(name=described['name'], build_func_name=described['build_func_name'],
                                static_kwargs=dict(described['static_kwargs']), components=components)


def _plain(value):
    """Options as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def load_generator(path: str) -> Any:
    """Gs of a snapshot, or the only network of the file, as a Network in the default session; builds nothing else."""
    states = _load(path)
    if len(states) not in (1, 3):
        raise UserError(f'{path}: holds {len(states)} networks; expected the three of a snapshot (G, D, Gs) or one')
    return _build(path, states[-1])


def save_networks(networks: Tuple[Any, Any, Any], path: str) -> None:
    """Write (G, D, Gs) as a snapshot, whole or not at all. UserError for weights that are not finite."""
    states = [network.state() for network in networks]
    pickles.save_states(states, path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(path + '.sha256')     # it belonged to the file that was here before


def _load_three(path):
    states = _load(path)
    if len(states) != 3:
        raise UserError(f'{path}: holds {len(states)} networks; expected the three of a snapshot (G, D, Gs)')
    return states


def _load(path):
    download.verify_checksum(path)
    return pickles.load_states(path)


def _build(path, state):
    """The Network of a state. What its stored options bring about, an untrusted file decides: UserError names it."""
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.network import Network
    _check_options(path, state)
    try:
        return Network.from_state(state)
    except UserError as error:
        raise UserError(f'{path}: {error}') from error
    except (ArithmeticError, TypeError, ValueError, tf.errors.OpError) as error:
        reason = ' '.join(str(error).split())[:160]
        raise UserError(f'{path}: network {state.name} cannot be built with the options the file holds ({reason}); '
                        'the file is wrong or needs a larger machine') from error


def _check_options(path, state):
    """No option is so large that building alone would use up the machine."""
    for key, value in state.static_kwargs.items():
        if isinstance(value, (int, float, np.number)) and not abs(value) <= MAX_OPTION:
            raise UserError(f'{path}: network {state.name} has option {key} = {value}; expected at most {MAX_OPTION}')
    for component in state.components.values():
        _check_options(path, component)


#----------------------------------------------------------------------------
# Find a snapshot of a run.

def find_snapshot(run_id_or_path: Union[str, int], snapshot: Union[str, int, None] = None,
                  result_dir: str = config.RESULT_DIR) -> str:
    """Path of a snapshot.

    run_id_or_path: the .pkl itself; or a run's directory, its name below `result_dir`, or its number.
    snapshot: number in the file's name (20126 or '020126'), 'final', or a path; None takes network-final.pkl, or the
    highest number. Raises UserError that says what there is instead.
    """
    for candidate in (run_id_or_path, snapshot):
        if isinstance(candidate, str) and os.path.isfile(candidate):
            return candidate
    run_dir = find_run(str(run_id_or_path), result_dir)
    found = {_last_field(name): os.path.join(run_dir, name) for name in sorted(os.listdir(run_dir))
             if name.startswith('network-') and name.endswith('.pkl')}
    if not found:
        raise UserError(f'{run_dir}: no snapshot (network-*.pkl) there; give another run, or the path of a .pkl')
    if snapshot is None:
        numbers = [field for field in found if isinstance(field, int)]
        return found['final'] if 'final' in found or not numbers else found[max(numbers)]
    wanted = _as_field(str(snapshot))
    if wanted not in found:
        raise UserError(f'{run_dir}: no snapshot {snapshot}; there are {_listing([str(field) for field in found])}')
    return found[wanted]


def _as_field(text):
    return int(text) if re.fullmatch('[0-9]+', text) else text


def _last_field(file_name):
    return _as_field(os.path.splitext(file_name)[0].rpartition('-')[2])


def _listing(names):
    return ', '.join(names[:10]) + (f' and {len(names) - 10} more' if len(names) > 10 else '') if names else 'none'


def find_run(run: str, result_dir: str = config.RESULT_DIR) -> str:
    """Directory of a run: the path itself, its name below `result_dir`, or its number. UserError otherwise."""
    for candidate in (run, os.path.join(result_dir, run)):
        if run and os.path.isdir(candidate):
            return candidate
    if run.endswith('.pkl') or not run:
        raise UserError(f'{run or "the run"}: no such snapshot; expected an existing .pkl, a run directory or a run '
                        'number')
    there = sorted(os.listdir(result_dir)) if os.path.isdir(result_dir) else []
    runs = [name for name in there if re.match('[0-9]+-', name) and os.path.isdir(os.path.join(result_dir, name))]
    pattern = '0*' + re.escape(run.lstrip('0') if re.fullmatch('0*[1-9][0-9]*', run) else run) + '-'
    matches = [name for name in runs if re.match(pattern, name)]
    if len(matches) != 1:
        found = f'{len(matches)} runs match: {_listing(matches)}' if matches else f'the runs there: {_listing(runs)}'
        raise UserError(f'run {run}: expected a directory, or the number of one run in {result_dir}; {found}')
    return os.path.join(result_dir, matches[0])


#----------------------------------------------------------------------------
# The released model and its average of w.

def find_default_model() -> Optional[str]:
    """Path of the released model in one of the cache folders, plain or under its prefixed name; None if absent."""
    return _in_cache([MODEL_NAME, MODEL_PREFIX + MODEL_NAME])


def average_w_path(model_path: str) -> str:
    """Where a model's average of w over identities is kept: `<model>-average_w_id.txt` beside it."""
    return os.path.splitext(model_path)[0] + AVERAGE_SUFFIX


def find_average_w(model_path: str) -> Optional[str]:
    """Path of the stored average of w of this model, None if there is none yet.

    The released average belongs to the released model alone, so only a model that lies in a cache folder under one of
    the released names gets it.
    """
    beside = average_w_path(model_path)
    if os.path.isfile(beside):
        return beside
    return _in_cache([AVERAGE_NAME, AVERAGE_PREFIX + AVERAGE_NAME]) if _is_default_model(model_path) else None


def fetch_default_model(timeout_s: float = 3600.0) -> str:
    """Path of the released model, downloaded into the cache if it is absent; its average of w comes with it.

    Takes at most about `timeout_s` seconds; what has come is taken up by the next call. The SHA-256 of the first whole
    download is remembered beside it and checked when it is loaded. Raises UserError, one line, when it cannot be had;
    without its average it is still usable.
    """
    path, end = find_default_model(), time.monotonic() + timeout_s
    if path is None:
        path = _fetch_model(timeout_s)
    if find_average_w(path) is None:
        with contextlib.suppress(UserError):    # sampling computes it then
            _fetch_average(max(end - time.monotonic(), 1.0))
    return path


def _fetch_model(timeout_s):
    path = os.path.join(config.CACHE_DIR, MODEL_NAME)
    try:
        download.download(MODEL_DRIVE_ID, path, timeout_s)
    except UserError as error:
        raise UserError(f'the released model is not in {config.CACHE_DIR}, and {error}') from error
    _keep_if(pickles.load_states, path)
    download.write_checksum(path)
    return path


def _fetch_average(timeout_s):
    path = os.path.join(config.CACHE1_DIR, AVERAGE_NAME)
    download.download(AVERAGE_DRIVE_ID, path, timeout_s)
    _keep_if(load_average_w, path)


def _keep_if(load, path):
    """Remove a downloaded file that does not load, so that the next call tries again."""
    try:
        load(path)
    except UserError:
        os.remove(path)
        raise


def load_average_w(path: str) -> np.ndarray:
    """A stored average of w, float32 [num_layers, dlatent_size], from text of one row per layer. UserError if bad."""
    try:
        rows = np.loadtxt(path, dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not a table of numbers, one row per layer ({error}); remove it and it is made '
                        'again') from error
    if not rows.size or not np.isfinite(rows).all():
        raise UserError(f'{path}: empty or not finite; expected one row of numbers per layer; remove it and it is made '
                        'again')
    return rows


def _cache_folders() -> List[str]:
    return [config.CACHE_DIR, config.CACHE1_DIR]


def _in_cache(names):
    paths = [os.path.join(folder, name) for folder in _cache_folders() for name in names]
    return next((path for path in paths if os.path.isfile(path)), None)


def _is_default_model(path):
    folder, name = os.path.split(os.path.abspath(path))
    return name in (MODEL_NAME, MODEL_PREFIX + MODEL_NAME) and \
        os.path.realpath(folder) in [os.path.realpath(known) for known in _cache_folders()]


#----------------------------------------------------------------------------
# The world of a model.

def read_world(model_path: str) -> Dict[str, Any]:
    """{'world': 'real' or 'synthetic', ...} from `<model>-world.json` beside the model; {'world': 'real'} if absent."""
    path = _world_path(model_path)
    if not os.path.exists(path):
        return {'world': 'real'}
    try:
        with open(path, encoding='utf-8') as file:
            facts = json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: not readable JSON ({error}); expected {{"world": "real"}} or the like') from error
    if not isinstance(facts, dict) or facts.get('world') not in WORLDS:
        raise UserError(f'{path}: names no known world; expected "world": one of {", ".join(WORLDS)}')
    return facts


def write_world(model_path: str, world: str, **facts: Any) -> str:
    """Write `<model>-world.json`; returns its path. facts: further JSON values to keep."""
    if world not in WORLDS:
        raise UserError(f'world {world!r} is unknown; expected one of {", ".join(WORLDS)}')
    with atomic_path(_world_path(model_path)) as temporary:
        with open(temporary, 'w', encoding='utf-8') as file:
            json.dump(dict(facts, world=world), file, indent=1, sort_keys=True)
            file.write('\n')
    return _world_path(model_path)


def _world_path(model_path):
    return os.path.splitext(model_path)[0] + '-world.json'
