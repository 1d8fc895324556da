"""Network snapshots of runs: find, load, save."""

import contextlib
import os
import re
from typing import Any, Dict, List, Tuple, Union

import numpy as np

import config
from dnnlib import hashes
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from renderer.factors import NUM_COEFFS

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
    from training import networks_stylegan  # noqa: F401       its functions register themselves
    return [options_of(state) for state in _load_three(path)]


def check_fits(path: str, resolution: int, num_channels: int, noise_dim: int) -> None:
    """UserError when the networks of a snapshot are not for such data; they are read, not built."""
    G, D, Gs = [{name: value for name, value in options.items() if isinstance(value, int)}
                for options in read_options(path)]
    for options in (G, D, Gs):
        size, channels = options.get('resolution'), options.get('num_channels')
        if (size, channels) != (resolution, num_channels):
            raise UserError(f'{path}: a network for pictures of {size} pixels and {channels} channels, but '
                            f'{resolution} and {num_channels} are wanted; give another --config or --data_dir')
    for options in (G, Gs):
        there = options.get('latent_size', 0) - NUM_COEFFS
        if there != noise_dim:
            raise UserError(f'{path}: its noise vector has {there} numbers, not {noise_dim}; '
                            + (f'give --noise_dim {there}' if there >= 0 else 'it is no generator of this kind'))


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
    hashes.verify_checksum(path)
    return pickles.load_states(path)


def _build(path, state):
    """The Network of a state. What its stored options bring about, an untrusted file decides: UserError names it."""
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.network import Network
    from training import networks_stylegan  # noqa: F401       its functions register themselves
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


def kimg_of(path: str) -> float:
    """Thousands of images shown to a snapshot's networks, by the numbers in the file names. UserError: unknown."""
    folder, name = os.path.split(os.path.abspath(path))
    names = os.listdir(folder) if name == 'network-final.pkl' else [name]
    found = [re.match(r'network-snapshot-(\d+)\.pkl$', other) for other in names]
    if not any(found):
        raise UserError(f'{path}: how many images its networks were shown is unknown; give --kimg')
    return float(max(int(match.group(1)) for match in found if match))


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
