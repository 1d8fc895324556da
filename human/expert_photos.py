"""Photos that the human world's experts learn from: every person several times, each time with another
expression, light, pose and hair, photographed and drawn bare; and what is done to a picture before an expert sees it.
"""

import concurrent.futures
import functools
import math
import os
import zipfile
import zlib
from collections import namedtuple

import cv2
import numpy as np
from tqdm import tqdm

from dnnlib.json_files import keep_facts
from dnnlib.util import UserError, atomic_path
from human import face_model, photos, prior
from renderer import camera, factors

SIZE = 160                      # pixels of stored pictures: more than the experts see, so that windows can be cut
QUALITY = 95                    # of their JPEG part
PER_PERSON = 4                  # photos of a person: two in the middle with a bare render each, two anywhere
WITH_RENDER = 2
PART = 256                      # photos in one file
CROP_SCALE = camera.ZOOM * camera.RECON_SIZE / camera.RENDER_SIZE     # training crop against R_Net's picture
CENTRE = camera.RECON_SIZE / 2

# What of R_Net's 224 picture an expert sees: enlarged by `scale` about its middle, then moved by (x, y) pixels, y UP.
Window = namedtuple('Window', 'scale x y')
CROP, WIDE = Window(CROP_SCALE, 0.0, 0.0), Window(1.0, 0.0, 0.0)        # the training crop; R_Net's picture itself

# photos: Pictures [n, S, S, 5] of RGB, hair, background; renders: Pictures [n / 2, S, S, 4] of RGB, mask of the drawn
# face, one for each photo that has one; coeff [n, 257]; landmarks [n, 68, 2] pixels of R_Net's picture, y UP.
Album = namedtuple('Album', 'photos renders coeff landmarks')


class Pictures:
    """Square pictures [S, S, C] uint8 of RGB and masks, kept packed: colours as JPEG, masks below each other as PNG.

    `pictures[i]` unpacks one; `pictures[a:b]` are some of them; + joins.
    """

    def __init__(self, packed):
        self.packed = list(packed)          # pairs of bytes

    @classmethod
    def of(cls, arrays):
        """Pack pictures [n, S, S, C]."""
        return cls([cls._pack(array) for array in arrays])

    @staticmethod
    def _pack(array):
        masks = np.concatenate(np.moveaxis(array[..., 3:], 2, 0))
        color = cv2.imencode('.jpg', array[..., 2::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
        return color.tobytes(), cv2.imencode('.png', masks)[1].tobytes()

    def __len__(self):
        return len(self.packed)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Pictures(self.packed[index])
        color, masks = (self._unpack(part) for part in self.packed[index])
        size = len(color)
        return np.concatenate([color[..., ::-1], np.moveaxis(masks.reshape(-1, size, size), 0, 2)], axis=2)

    def color(self, index):
        """[S, S, 3] uint8 RGB: one picture without its masks, which takes less time."""
        return self._unpack(self.packed[index][0])[..., ::-1]

    @staticmethod
    def _unpack(part):
        return cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_UNCHANGED)

    def __add__(self, others):
        return Pictures(self.packed + others.packed)

    def arrays(self, name):
        """What to store, {name: array}; see `stored`."""
        parts = [part for pair in self.packed for part in pair]
        return {name: np.frombuffer(b''.join(parts), np.uint8), name + '_ends': np.cumsum([len(x) for x in parts])}

    @classmethod
    def stored(cls, file, name):
        """Pictures out of what `arrays` gave."""
        whole, ends = file[name].tobytes(), file[name + '_ends']
        parts = [whole[start:end] for start, end in zip([0] + list(ends[:-1]), ends)]
        return cls(zip(parts[::2], parts[1::2]))


def joined(albums):
    """Albums one after the other, as one."""
    join = lambda parts: np.concatenate(parts) if isinstance(parts[0], np.ndarray) else sum(parts[1:], parts[0])
    return Album(*(join(parts) for parts in zip(*albums)))


def has_render(index):
    """Whether photo `index` (number or array) is one of those without translation, which have a bare render."""
    return index % PER_PERSON < WITH_RENDER


def render_index(index):
    """Row in Album.renders of photo `index`, one of those that have a render."""
    return index // PER_PERSON * WITH_RENDER + index % PER_PERSON


def draw_person(seed, index):
    """Photo `index` of `seed` -> (coefficients [257], Scene, RandomState): neighbours share the identity only."""
    coeff, scene, random = prior.draw(seed, index, free=not has_render(index))
    identity = factors.BY_NAME['id'].coeffs
    coeff[identity] = prior.draw(seed, index - index % PER_PERSON)[0][identity]
    return coeff, scene, random


class Studio:
    """Draws photos with their bare renders. Builds graphs of its own; close it."""

    def __init__(self, threads=None):
        from dnnlib.tflib import tfutil
        from dnnlib.tflib.compat import tf
        from renderer import rasterize_triangles
        from renderer.face_decoder import FaceDecoder, world_projection
        self._photographer = photos.Photographer(SIZE, 'free', threads)
        model = face_model.load_model()
        with tf.Graph().as_default() as graph:
            self._coeff = tf.placeholder(tf.float32, [None, factors.NUM_RECON])
            face = FaceDecoder(model).decode(self._coeff)
            fov = math.degrees(2 * math.atan(CENTRE / camera.FOCAL_224))
            image, mask = rasterize_triangles.rasterize_triangles(
                face.vertices, face.colors, model.region_triangles, world_projection(tf.shape(self._coeff)[0], fov),
                SIZE, SIZE, [0.0] * 3)
            picture = tf.concat([tf.clip_by_value(image, 0.0, 255.0), 255.0 * mask], axis=3)
            self._render = tf.cast(tf.round(tf.reverse(picture, [1])), tf.uint8)
        self._session = tfutil.create_session(threads, graph)

    def draw(self, seed, start, count):
        """Photos `start` .. `start + count - 1` of `seed` -> Album."""
        drawn = [draw_person(seed, i) for i in range(start, start + count)]
        coeff, scenes, randoms = zip(*drawn)
        coeff = np.stack(coeff)
        rgb, masks, points = self._photographer.draw(coeff, scenes, randoms)
        masks = np.rint(255 * masks).astype(np.uint8)
        bare = coeff[has_render(np.arange(start, start + count))]
        return Album(photos=Pictures.of(np.concatenate([rgb, masks], axis=3)),
                     renders=Pictures.of(self._session.run(self._render, {self._coeff: bare})),
                     coeff=coeff, landmarks=points * (camera.RECON_SIZE / SIZE))

    def close(self):
        """Free the sessions."""
        self._photographer.close()
        self._session.close()


# ------------------------------------------------------------------------------------------------ albums on disk

def make_album(folder, count, seed):
    """Draw what is not there yet of `count` photos of `seed` in `folder`, then load them all -> Album.

    Interrupted, it goes on where it was. Raises UserError when the folder holds photos of another seed or world.
    """
    keep_facts(os.path.join(folder, 'album.json'), dict(seed=seed, size=SIZE, world=_world_checksum()))
    paths = [os.path.join(folder, f'part-{i:05d}.npz') for i in range(-(-count // PART))]
    missing = [i for i, path in enumerate(paths) if not os.path.exists(path)]
    if missing:
        _draw_parts(paths, missing, seed)
    return take(joined([_load_part(path) for path in paths]), count // PER_PERSON)


def take(album, persons):
    """The first `persons` of an album."""
    sizes = [persons * WITH_RENDER if field == 'renders' else persons * PER_PERSON for field in Album._fields]
    return Album(*(array[:size] for array, size in zip(album, sizes)))


def _draw_parts(paths, missing, seed):
    studio = Studio()
    batch = photos.BATCH
    try:
        with concurrent.futures.ThreadPoolExecutor(photos.THREADS) as pool, \
                tqdm(total=len(missing) * PART, unit='photo', desc='album') as bar:
            for part in missing:
                pieces = []
                for piece in pool.map(lambda start: studio.draw(seed, start, batch),
                                      range(part * PART, (part + 1) * PART, batch)):
                    pieces.append(piece)
                    bar.update(batch)
                album = joined(pieces)
                with atomic_path(paths[part]) as temporary:
                    np.savez(temporary, coeff=album.coeff, landmarks=album.landmarks, **album.photos.arrays('photos'),
                             **album.renders.arrays('renders'))
    finally:
        studio.close()


def _load_part(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            photos, renders = (Pictures.stored(file, name) for name in ('photos', 'renders'))
            return Album(photos, renders, file['coeff'], file['landmarks'])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f'{path}: damaged ({error}); delete it and run again: it will be drawn again')


def _world_checksum():
    """A number that changes with the head or its prior, so that photos of different worlds are never mixed."""
    arrays = face_model.arrays()
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), checksum)
    for index in range(8):
        checksum = zlib.crc32(draw_person(0, index)[0].tobytes(), checksum)
    return checksum


# ------------------------------------------------------------------------------------------------ windows

def random_window(random, index):
    """A window for photo `index`: often exactly what is wanted of experts, otherwise somewhere near."""
    exact = CROP if has_render(index) else WIDE
    if random.uniform() < 0.5:
        return exact
    x, y = np.clip(4.0 * random.standard_normal(2), -12, 12)
    return Window(exact.scale * random.uniform(0.93, 1.08), x, y)


def look(picture, window, size):
    """[S, S, C] -> [size, size, C] float32: the window, read bilinearly (sharp: nothing is averaged)."""
    stored = picture.shape[0]
    step = stored / (size * window.scale)
    per_pixel = stored / (camera.RECON_SIZE * window.scale)             # stored pixels per pixel of the 224 window
    first = 0.5 * step - 0.5 + stored / 2 - CENTRE * per_pixel
    matrix = np.array([[step, 0, first - window.x * per_pixel], [0, step, first + window.y * per_pixel]])
    warp = lambda part: cv2.warpAffine(
        np.ascontiguousarray(part), matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE).reshape(size, size, -1)
    return np.dstack([warp(picture[..., i:i + 3]) for i in range(0, picture.shape[2], 3)]).astype(np.float32)


def picture_of(album, index, kind, window, size):
    """[size, size, 3] float32 RGB of photo `index` through `window`; kind: 'photo', 'render', or 'masked', the photo
    with everything outside of the render's face black.
    """
    if kind == 'photo':
        return look(album.photos.color(index), window, size)
    render = look(album.renders[render_index(index)], window, size)
    if kind == 'render':
        return render[..., :3].copy()
    return look(album.photos.color(index), window, size) * (render[..., 3:] > 127.5)


def shares(album, index, window, size):
    """[size, size, 4] float32: shares of face, the rest of the person, hair, background."""
    seen = look(album.photos[index], window, size) / 255
    hair = seen[..., 3]
    background = np.minimum(seen[..., 4], 1 - hair)
    face = look(album.renders[render_index(index)], window, size)[..., 3] / 255
    face = np.minimum(face, 1 - hair - background)
    return np.stack([face, 1 - hair - background - face, hair, background], axis=-1)


def windowed_landmarks(landmarks, window):
    """Landmarks [68, 2] of the 224 picture, y up -> of the window, in 224ths of its width."""
    return (landmarks - CENTRE) * window.scale + CENTRE + [window.x, window.y]


def windowed_coeff(coeff, window):
    """Reconstruction vector [257] of what the window shows: the translation that R_Net's camera would need."""
    coeff = coeff.copy()
    x, y, z = coeff[factors.TRANSLATION]
    middle = _landmark_depth()
    depth = (camera.DISTANCE - z - middle) / window.scale
    per_pixel = depth / camera.FOCAL_224
    coeff[factors.TRANSLATION] = x + window.x * per_pixel, y + window.y * per_pixel, camera.DISTANCE - middle - depth
    return coeff


@functools.lru_cache(maxsize=None)
def _landmark_depth():
    model = face_model.load_model()
    return float(model.mean_shape[model.landmarks[17:], 2].mean())


# ------------------------------------------------------------------------------------------------ pictures made worse

def degrade(random, picture, color=1.0):
    """A worse version of [n, n, 3] float32 RGB, 0-255: what generators in training make, and what would fool experts.

    Coarse, blurred, noisy at fine and coarse scales, a little brighter or tinted (`color` times as much), partly
    hidden. Returns float32 in 0-255.
    """
    size = picture.shape[0]
    if random.uniform() < 0.30:
        picture = _coarse(picture, size // (2, 2, 2, 2, 4, 4, 8)[random.randint(7)], random.randint(2))
    if random.uniform() < 0.40:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 1.2))
    gain, shift = 1 + color * 0.03 * random.standard_normal(), color * 3 * random.standard_normal(3)
    picture = picture * np.float32(gain) + shift.astype(np.float32)
    if random.uniform() < 0.30:
        grid = int(2 ** random.uniform(2, 5.5))
        noise = (random.uniform(2, 9) * random.standard_normal([grid, grid, 3])).astype(np.float32)
        picture = picture + cv2.resize(noise, (size, size), interpolation=cv2.INTER_LINEAR)
    if random.uniform() < 0.60:
        top, left = random.randint(size + 1, size=2)
        picture = picture + random.uniform(0, 9) * _noise_sheet(2 * size)[top:top + size, left:left + size]
    if random.uniform() < 0.10:
        _hide(random, picture)
    return np.clip(picture, 0, 255).astype(np.float32)


@functools.lru_cache(maxsize=None)
def _noise_sheet(size):
    """[size, size, 3] float32 of N(0, 1): pieces of it are many times faster than fresh numbers."""
    return np.random.RandomState(0).standard_normal([size, size, 3]).astype(np.float32)


def _coarse(picture, cells, smooth):
    small = cv2.resize(picture, (cells, cells), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.resize(small, picture.shape[1::-1], interpolation=how)


def _hide(random, picture):
    """Paint a rectangle of one colour, in place."""
    size = picture.shape[0]
    height, width = random.randint(size // 10, size // 4, 2)
    top, left = random.randint(size - height), random.randint(size - width)
    picture[top:top + height, left:left + width] = random.uniform(0, 255, 3)
