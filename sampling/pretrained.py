"""The released model: found in the cache folders or fetched, else the small one that comes along; averages of w."""

import contextlib
import os
import subprocess
import sys
import time
import warnings
from typing import List, Optional

import numpy as np

import config
from dnnlib import download, hashes
from dnnlib.tflib import pickles
from dnnlib.util import UserError
from renderer import factors
from vae.model import find_checkpoint

MODEL_NAME = 'network-snapshot-020126.pkl'                          # released, FFHQ, 256x256
MODEL_DRIVE_ID = '1nT_cf610q5mxD_jACvV43w4SYBxsPUBq'
MODEL_PREFIX = 'e42c6d2dcb3ea6479d593c576c99ecc1_'                  # MD5 of the download address
AVERAGE_SUFFIX = '-average_w_id.txt'
AVERAGE_NAME = 'network-snapshot-020126' + AVERAGE_SUFFIX
AVERAGE_DRIVE_ID = '17L6-ENX3NbMsS3MSCshychZETLPtJnbS'
AVERAGE_PREFIX = 'fd19667fb7f2984f21b20696f84410e4_'
ANSWER_SECONDS = 7          # how long the download server may take to answer


def small_model() -> Optional[str]:
    """Path of the small model that comes with the project in the folder demo, None where there is none."""
    path = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    return path if os.path.isfile(path) else None


def find_model(path: Optional[str] = None, vae_weights: Optional[str] = None) -> str:
    """Path of a model: `path`, else the released model from the cache or the network, else the small one.

    Waits at most ANSWER_SECONDS for a server that does not answer, and asks none when the released model could not be
    used: its VAEs (in vae_weights, default config.VAE_WEIGHTS_DIR) do not come with it. UserError where there is no
    model at all.
    """
    if path:
        if not os.path.isfile(path):
            raise UserError(f'--model {path}: no such file; expected a network-snapshot-*.pkl')
        return path
    found = find_default_model()
    if found:
        return found
    try:
        if small_model() and not has_vaes(vae_weights):
            raise UserError(f'the released model and its VAEs are not in {config.CACHE_DIR} and '
                            f'{vae_weights or config.VAE_WEIGHTS_DIR}')
        _check_server_answers()
        return fetch_default_model()
    except UserError as error:
        if small_model():
            print(f'{error}: put {MODEL_NAME} there; using the small model {small_model()}',
                  file=sys.stderr)
            return small_model()
        raise UserError(f'no model: {error}; put {MODEL_NAME} into {config.CACHE_DIR} (and '
                        f'{AVERAGE_NAME} into {config.CACHE1_DIR}), or name another with --model')


def has_vaes(folder: Optional[str]) -> bool:
    """Whether the four VAEs are in a folder (None: config.VAE_WEIGHTS_DIR)."""
    try:
        return all(find_checkpoint(factor.name, folder) for factor in factors.BY_COEFFS)
    except UserError:
        return False


def _check_server_answers():
    """UserError when Google Drive does not answer soon. In a child: a name look-up cannot be stopped otherwise."""
    code = ('import sys, urllib.error, urllib.request\n'
            'try: urllib.request.urlopen("https://drive.google.com", timeout=float(sys.argv[1])).close()\n'
            'except urllib.error.HTTPError: pass\n'
            'except Exception: sys.exit(1)\n')
    try:
        done = subprocess.run([sys.executable, '-c', code, str(ANSWER_SECONDS)], timeout=ANSWER_SECONDS,
                              stdin=subprocess.DEVNULL).returncode == 0
    except subprocess.TimeoutExpired:
        done = False
    if not done:
        raise UserError(f'the released model is not in {config.CACHE_DIR}, Google Drive does not answer')


# ---- the released model and its average of w

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
    hashes.write_checksum(path)
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
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')         # of an empty file, which is refused below
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
