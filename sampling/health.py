"""Does a generator draw faces, those that were asked for, and could it draw a photo? Warnings before the work.

Three looks: at the first pictures of a run (NaN, one colour, noise, colours that no face has); at a model, by its
world's reconstruction network, once (the answer is kept in the user's cache folder); at photos that are to be edited.
"""

import os
import sys
from typing import Any, Optional, Sequence

import numpy as np
from PIL import Image

import config
from dnnlib.hashes import digest, files_digest
from dnnlib.json_files import read_json, write_json
from dnnlib.tflib import checkpoints
from dnnlib.tflib import images as image_ops
from dnnlib.tflib.compat import tf
from dnnlib.tflib.runner import GraphRunner
from dnnlib.util import UserError, listed
from perception.experts import Experts, check_weights
from renderer import factors
from worlds import parts

_HINT = 'a wrong --model, a training that failed or only began, or a GPU this TensorFlow does not know; compare with ' \
        'the CPU (CUDA_VISIBLE_DEVICES=-1)'
LEAST_SKIN = 0.85           # share of the middle where red >= green >= blue: faces .95 and more, untrained .3 to .75
_MOST_OFF = 6               # levels of 255 by which a channel may break that order
LEAST_AGREEMENT = 0.5       # trained models reach .9, untrained ones stay below .2
_ASKED = 16                 # random faces that tell agreement
_LIGHTS = (1, 3)            # harmonics that a face shows best: light from above, from the side


# ---- the first pictures of a run

def find_trouble(images: np.ndarray, finite: Optional[np.ndarray] = None) -> Optional[str]:
    """One line that says why pictures (uint8 [N, H, W, 3]) look broken, None when they look like faces.

    finite: bool [N] as from `images_and_health`. Colours are looked at from four pictures on.
    """
    if finite is not None and not np.all(finite):
        return f'{np.sum(~np.asarray(finite))} of {len(finite)} pictures hold NaN or infinity: {_HINT}'
    grey = np.asarray(images, np.float32).mean(axis=3)
    spread = np.median(grey.std(axis=(1, 2)))
    if spread < 2.0:
        return f'pictures are almost one colour (standard deviation {spread:.1f} of 255): {_HINT}'
    likeness = np.median([_neighbour_correlation(image) for image in grey])
    if likeness < 0.2:
        return f'pictures look like noise (correlation of neighbouring pixels {likeness:.2f}): {_HINT}'
    skin = np.median([_skin_share(image) for image in images])
    if len(images) >= 4 and skin < LEAST_SKIN:
        return f'pictures look like blobs of colour, not like faces ({skin:.0%} of their middle could be skin): {_HINT}'
    return None


def _neighbour_correlation(grey):
    """Correlation of horizontally and vertically neighbouring pixels, the smaller of the two; [H, W] -> float."""
    x = grey - grey.mean()
    power = max(float(np.mean(x * x)), 1e-6)
    return min(float(np.mean(x[:, 1:] * x[:, :-1])), float(np.mean(x[1:] * x[:-1]))) / power


def _skin_share(image):
    """Share of the picture's middle whose colours are ordered as those of all human skin: red, green, blue."""
    red, green, blue = np.moveaxis(_thumbnail(image, 16)[4:12, 4:12], 2, 0)
    return float(np.mean((red >= green - _MOST_OFF) & (green >= blue - _MOST_OFF)))


def _thumbnail(image, size):
    """uint8 [H, W, 3] -> float32 [size, size, 3], by averages."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.BOX), np.float32)


# ---- a model

class Judge(GraphRunner):
    """The reconstruction network of a world for pictures of one size; specs: as for perception.experts.Experts."""

    def __init__(self, specs, resolution):
        super().__init__()
        with self.building():
            experts = Experts(specs, names=('recon',))
            self._pictures = tf.placeholder(tf.uint8, [None, resolution, resolution, 3])
            x = image_ops.from_255(image_ops.nhwc_to_nchw(tf.cast(self._pictures, tf.float32)))
            self._found = experts.reconstruct(x)
            experts.restore()

    def __call__(self, pictures):
        """uint8 [N, R, R, 3] RGB -> coefficients [N, 257]."""
        return self.run(self._found, {self._pictures: pictures}, batch=16)


def agreement(asked: np.ndarray, found: np.ndarray) -> float:
    """Mean correlation of what was asked of pictures and what a reconstruction network finds in them, -1 to 1.

    asked, found: [N, 254 or more], N from 3 on. Of pose angles and of the light from above and from the side.
    """
    def numbers(coeffs):
        light = coeffs[:, factors.LIGHTING].reshape(len(coeffs), 3, 9).mean(axis=1)
        return np.concatenate([coeffs[:, factors.ANGLES], light[:, _LIGHTS]], axis=1).T

    scores = [np.corrcoef(a, b)[0, 1] if b.std() > 0 else 0.0
              for a, b in zip(numbers(asked), numbers(found)) if a.std() > 1e-6]
    return float(np.mean(np.nan_to_num(scores))) if scores else 0.0


def agreement_of(faces: Any) -> Optional[float]:
    """`agreement` of a FaceGenerator with its world's reconstruction network; None where that is not at hand.

    Told once for each model and network, in a second or some; kept in config.AVERAGE_CACHE_DIR.
    """
    try:
        specs = parts.of_model(faces.path).expert_specs()
        check_weights(specs, ('recon',))
    except UserError:
        return None
    network = files_digest(checkpoints.data_files(specs['recon'].weights))
    tag = digest(['agreement', faces.identify()['model'], faces.identify()['vae_weights'], network])
    path = os.path.join(config.AVERAGE_CACHE_DIR, f'agreement-{tag[:16]}.json')
    if os.path.exists(path):
        try:
            return float(read_json(path)['agreement'])
        except (UserError, KeyError, TypeError, ValueError):
            pass                            # damaged: told again
    people = faces.random_faces(_ASKED, seed=0)
    with Judge(specs, faces.resolution) as judge:
        value = agreement(np.stack([face.coeffs for face in people]), judge(faces.images(people, rate=1)))
    try:
        write_json(path, {'agreement': round(value, 3), 'model': faces.path})
    except UserError:
        pass                                # told again the next time
    return value


def warn_of_model(faces: Any) -> None:
    """A line on stderr when a FaceGenerator's pictures do not show what was asked of them."""
    value = agreement_of(faces)
    if value is not None and value < LEAST_AGREEMENT:
        print(f'warning: {faces.path} does not draw the faces that are asked for: pose and light found in its pictures '
              f'agree with those asked by {value:.2f}; trained models reach 0.9. {_HINT[0].upper()}{_HINT[1:]}',
              file=sys.stderr)


# ---- photos

_SIZE = 8                   # pixels of the thumbnails that are compared
_LEARNT, _TRIED = 96, 32    # own pictures that the components come from, and that tell what is usual
_COMPONENTS = 60
MOST_STRANGE = 2.05         # times the usual: one photo in thirty of the model's own world, nearly all of another


def strangeness(own: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """How badly each photo fits what a generator draws, [N], 1 for its usual own picture.

    own: its pictures, uint8 [128, H, W, 3]; photos: uint8 [N, H, W, 3]. Error of thumbnails in principal components.
    """
    def flat(pictures):
        return np.stack([_thumbnail(picture, _SIZE).reshape(-1) for picture in pictures])

    learnt, tried = np.split(flat(own), [_LEARNT])
    mean = learnt.mean(axis=0)
    basis = np.linalg.svd(learnt - mean, full_matrices=False)[2][:_COMPONENTS]

    def error(rows):
        rest = rows - mean
        rest = rest - rest @ basis.T @ basis
        return np.sqrt(np.mean(np.square(rest), axis=1))

    return error(flat(photos)) / max(float(np.median(error(tried))), 1e-6)


def photo_trouble(faces: Any, photos: Sequence[np.ndarray], names: Any, world: str) -> Optional[str]:
    """A line when photos, uint8 [N, R, R, 3], look like nothing the FaceGenerator draws; None when all do."""
    own = faces.images(faces.random_faces(_LEARNT + _TRIED, seed=0), rate=1)
    photos = np.asarray(photos)
    strange = [name for name, value in zip(names, strangeness(own, photos)) if value > MOST_STRANGE]
    if not strange:
        return None
    return (f'{len(strange)} of {len(photos)} photos look like nothing that this model draws ({listed(strange)}): it '
            f'knows pictures of the {world} world only, and will turn them into such. '
            + ('Photos of real people need the released model.' if world != 'real' else
               'Faces of photographs, cropped by preprocess_data.py, were expected.'))


def warn_of_photos(faces: Any, photos: Sequence[np.ndarray], names: Any, world: str) -> None:
    """`photo_trouble` as a warning on stderr."""
    trouble = photo_trouble(faces, photos, names, world)
    if trouble:
        print(f'warning: {trouble}', file=sys.stderr)
