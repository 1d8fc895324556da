"""Truncation that keeps the attributes (paper section 4), and the average of w over identities that it moves to."""

import os
import sys
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

import config
from dnnlib.hashes import files_digest
from dnnlib.tflib import tfutil
from dnnlib.util import UserError, atomic_path, pace
from renderer import factors
from sampling import pretrained
from sampling.options import RATE

TRUNCATED_ROWS = 8          # the first rows of w, up to 32 pixels: form, not colour
AVERAGE_COUNT = 50000       # identities in the average of w
AVERAGE_SEED = 1
_BATCH = 1000
_IDENTITY = factors.BY_NAME['id'].coeffs


def truncated_rows(num_layers: int) -> np.ndarray:
    """Which rows of w truncation changes: float32 [num_layers, 1] of 1 and 0."""
    return (np.arange(num_layers) < TRUNCATED_ROWS).astype(np.float32)[:, np.newaxis]


def truncate(w: Any, w_identity: Any, average_w: Any, rate: Any = RATE) -> Any:
    """Truncated w [N, num_layers, dlatent_size]: moved as the identity alone would move towards the average.

    w: of the face; w_identity: of `identity_only` of its coefficients; average_w: [num_layers, dlatent_size].
    Arrays or tensors, float32.
    """
    return w + (average_w - w_identity) * (truncated_rows(int(average_w.shape[0])) * (1 - rate))


def identity_only(coeffs: Any) -> Any:
    """Coefficients [N, 254 + noise_dim] with everything but identity set to zero, noise too; arrays or tensors."""
    mask = np.zeros(int(coeffs.shape[-1]), np.float32)
    mask[_IDENTITY] = 1
    return coeffs * mask


def find_average(faces: Any, path: Optional[str] = None) -> np.ndarray:
    """Mean of w over random identities of a FaceGenerator, float32 [num_layers, dlatent_size].

    path: the user's own file; None: the one beside the model or in the cache, else it is computed and kept there.
    """
    if path:
        return _load(path, faces)
    tag = faces.average_tag()
    for kept in (pretrained.find_average_w(faces.path), _spare_path(faces.path, tag)):
        if kept and os.path.isfile(kept):
            if _stored_tag(kept) in (None, tag):        # no tag: another program's, e.g. the downloaded one
                return _load(kept, faces)
            print(f'{kept}: belongs to another model or other VAEs; computing it again', file=sys.stderr)
    average = compute_average(faces)
    _keep(average, faces.path, tag)
    return average


def stored_digest(faces: Any, path: Optional[str] = None) -> Optional[str]:
    """Digest of the average that `find_average` takes from a file of somebody else's; None for what is computed here.
    """
    kept = path or pretrained.find_average_w(faces.path)
    if not kept or not os.path.isfile(kept):
        return None
    return None if _stored_tag(kept) == faces.average_tag() else files_digest([kept])


def compute_average(faces: Any, count: Optional[int] = None) -> np.ndarray:
    """Mean of w over `count` (50000) random identities, float32; expression, lighting, pose zero, noise random."""
    count = count or AVERAGE_COUNT
    rng = np.random.RandomState(AVERAGE_SEED)
    total = np.zeros([faces.num_layers, faces.dlatent_size])
    variables = faces.Gs.components.mapping.vars.values()
    with faces.active(), tfutil.float32_session(variables) as session, \
            tqdm(total=count, desc='average of w', unit='id', mininterval=pace(), leave=False) as bar:
        for start in range(0, count, _BATCH):
            normals = rng.standard_normal([min(_BATCH, count - start), factors.NUM_LATENTS + faces.noise_dim])
            coeffs = np.zeros([len(normals), faces.num_coeffs], np.float32)
            coeffs[:, _IDENTITY] = faces.decode(normals[:, :factors.NUM_LATENTS])[:, _IDENTITY]
            coeffs[:, factors.NUM_COEFFS:] = normals[:, factors.NUM_LATENTS:]
            w = session.run(faces.w, {faces.coeffs_in: coeffs})
            total += w.sum(axis=0, dtype=np.float64)
            bar.update(len(normals))
    return (total / count).astype(np.float32)


def _load(path, faces):
    average = pretrained.load_average_w(path)
    if average.shape != (faces.num_layers, faces.dlatent_size):
        raise UserError(f'{path}: holds {list(average.shape)} numbers; the average of w of {faces.path} is '
                        f'[{faces.num_layers}, {faces.dlatent_size}]; remove the file and it is computed again')
    return average


def _spare_path(model, tag):
    """Where the average of a model in a folder that cannot be written is kept."""
    stem = os.path.splitext(os.path.basename(model))[0]
    return os.path.join(config.AVERAGE_CACHE_DIR, f'{stem}-{tag[:12]}{pretrained.AVERAGE_SUFFIX}')


def _keep(average, model, tag):
    """Beside the model; in the user's cache folder where that cannot be written; a line on stderr says so."""
    errors = []
    for path in (pretrained.average_w_path(model), _spare_path(model, tag)):
        try:
            with atomic_path(path) as temporary:
                np.savetxt(temporary, average, header=f'average of w over {AVERAGE_COUNT} identities {tag}')
            if errors:
                print(f'{errors[0]}; the average of w is kept as {path}', file=sys.stderr)
            return
        except UserError as error:
            errors.append(error)
    print(f'{errors[-1]}; the average of w is not kept and will be computed again', file=sys.stderr)


def _stored_tag(path):
    """The digest in the first line of an average of w that `find_average` wrote, None in others."""
    with open(path, encoding='utf-8', errors='replace') as file:
        words = file.readline(1000).split()
    return words[-1] if words[:1] == ['#'] and len(words[-1]) == 64 else None
