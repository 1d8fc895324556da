"""Photos of the synthetic world: heads with hair, neck, clothes and background, with landmarks, coefficients and hair
masks that are right by construction. `python -m synthetic.photos --save_path DIR --count 20000` writes a data set:

  DIR/img/NAME.png    photo                         DIR/coeff/NAME.mat  coeff [1, 257]
  DIR/lm/NAME.txt     five landmarks, y down        DIR/hair/NAME.png   hair mask, 255 where hair is
  DIR/photos.json     how they were made            DIR/world.json      {"world": "synthetic"}
"""

import argparse
import concurrent.futures
import functools
import math
import os

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from dnnlib.json_files import keep_facts
from dnnlib.options import SEED, whole
from dnnlib.util import UserError, atomic_path, run_main
from preprocess import landmarks
from renderer import camera, factors
from synthetic import face_model, prior, surroundings
from worlds import label

VIEWS = ('crop', 'free')        # camera of the training pictures, face in the middle; R_Net's, face somewhere
SUPERSAMPLE = 2                 # pictures are drawn at this many times their size, then averaged: smooth edges
NOISE = 2.0                     # deviation of the sensor's noise, of 255
BATCH = 8
THREADS = 3                     # batches in the making at a time
FOLDERS = ('img', 'lm', 'coeff', 'hair')


class Photographer:
    """Draws photos of one size and view. size: pixels; view: 'crop' or 'free' (see VIEWS). Builds its own graph."""

    def __init__(self, size=camera.RENDER_SIZE, view='crop', threads=None):
        if view not in VIEWS:
            raise ValueError(f'view must be one of {VIEWS}, got {view!r}')
        from dnnlib.tflib import tfutil
        from dnnlib.tflib.compat import tf
        self.size, self.view = size, view
        self.model = face_model.load_model()
        with tf.Graph().as_default() as graph:
            self._build(tf)
        self._session = tfutil.create_session(threads=threads, graph=graph)

    def _build(self, tf):
        from renderer import rasterize_triangles
        from renderer.face_decoder import FaceDecoder, harmonic_light, project_224, project_256, world_projection
        self._coeff = tf.placeholder(tf.float32, [None, factors.NUM_RECON])
        self._extra = tf.placeholder(tf.float32, [3, None, None, 3])            # shape, normals, texture of the others
        self._behind = tf.placeholder(tf.float32, [None, self.size, self.size, 3])
        batch, fine = tf.shape(self._coeff)[0], self.size * SUPERSAMPLE
        head = FaceDecoder(self.model, np.arange(self.model.num_vertices)).decode(self._coeff)
        light = harmonic_light(self._extra[1], tf.eye(3, batch_shape=[batch]), self._coeff[:, factors.LIGHTING])
        colors = tf.concat([head.colors, self._extra[2] * light], axis=1)
        vertices = tf.concat([head.vertices, self._extra[0]], axis=1)
        is_hair = np.zeros([1, _num_vertices(), 1], np.float32)
        is_hair[:, self.model.num_vertices:self.model.num_vertices + _num_hair()] = 1
        attributes = tf.concat([colors, tf.tile(is_hair, [batch, 1, 1])], axis=2)
        crop = self.view == 'crop'
        fov = camera.FOV_Y_DEGREES if crop else math.degrees(2 * math.atan(camera.RECON_SIZE / 2 / camera.FOCAL_224))
        picture, mask = rasterize_triangles.rasterize_triangles(
            vertices, attributes, _triangles(self.model), world_projection(batch, fov), fine, fine, [0.0] * 4)
        picture = tf.concat([tf.clip_by_value(picture[..., :3], 0.0, 255.0), picture[..., 3:], mask], axis=3)
        picture = tf.nn.avg_pool(picture, [1, SUPERSAMPLE, SUPERSAMPLE, 1], [1, SUPERSAMPLE, SUPERSAMPLE, 1], 'VALID')
        picture = tf.reverse(picture, [1])                                      # row 0 on top
        self._photo = picture[..., :3] + self._behind * (1 - picture[..., 4:])
        self._hair = picture[..., 3]
        points = FaceDecoder(self.model, self.model.landmarks).points(self._coeff)
        scale = self.size / (camera.RENDER_SIZE if crop else camera.RECON_SIZE)
        self._landmarks = (project_256 if crop else project_224)(points) * scale

    def draw(self, coeffs, scenes, randoms=None):
        """Photos of faces in their surroundings.

        coeffs: [B, 257]; scenes: B of prior.Scene; randoms: B of RandomState for the noise, None: no noise.
        Returns photos [B, size, size, 3] uint8 RGB; hair [B, size, size] float32 0-1; landmarks [B, 68, 2] float32 in
        pixels of the photo: x right, y UP from the bottom left. May be called from several threads at once.
        """
        coeffs = np.asarray(coeffs, np.float32)
        extra = [_surroundings(coeff, scene) for coeff, scene in zip(coeffs, scenes)]
        feed = {self._coeff: coeffs, self._extra: np.stack(extra, axis=1),
                self._behind: np.stack([surroundings.background(scene, self.size) for scene in scenes])}
        photos, hair, points = self._session.run([self._photo, self._hair, self._landmarks], feed)
        if randoms is not None:
            photos += np.stack([_noise(random, self.size) for random in randoms])
        return np.clip(np.rint(photos), 0, 255).astype(np.uint8), hair, points

    def close(self):
        """Free the session."""
        self._session.close()


@functools.lru_cache(maxsize=None)
def _noise_sheet(size):
    return (NOISE * np.random.RandomState(0).standard_normal([2 * size, 2 * size, 3])).astype(np.float32)


def _noise(random, size):
    """[size, size, 3] float32: a piece of one sheet of noise, many times faster than fresh numbers."""
    top, left = random.randint(size + 1), random.randint(size + 1)
    return _noise_sheet(size)[top:top + size, left:left + size]


def photo_landmarks(points, size):
    """68 landmarks [68, 2], y up from the bottom left -> the five as landmark files have them: [5, 2] pixels, y down,
    whole numbers at pixel centres."""
    five = landmarks.five_points(points)
    return np.stack([five[:, 0] - 0.5, size - five[:, 1] - 0.5], axis=1)


def _num_hair():
    return surroundings.HAIR_ROWS * face_model.head()[0].p.shape[1]


def _num_vertices():
    return face_model.load_model().num_vertices + _num_hair() + surroundings.BODY_ROWS * surroundings.BODY_COLUMNS


def _triangles(model):
    """Head, hair, body in one list."""
    parts = [model.triangles, surroundings.hair_triangles() + model.num_vertices,
             surroundings.body_triangles() + model.num_vertices + _num_hair()]
    return np.concatenate(parts).astype(np.int32)


def _surroundings(coeff, scene):
    """Shape, normals and texture of hair and body: [3, m, 3] float32."""
    model = face_model.load_model()
    cheek = model.landmarks[2]
    skin = model.mean_texture[cheek] + model.texture_basis[3 * cheek:3 * cheek + 3] @ coeff[factors.TEXTURE]
    meshes = surroundings.hair(scene, coeff), surroundings.body(scene, coeff, np.clip(skin, 0, 255))
    return np.concatenate([np.stack(mesh) for mesh in meshes], axis=1).astype(np.float32)


# ------------------------------------------------------------------------------------------------ writing

def write_photos(save_path, count, size=camera.RENDER_SIZE, seed=0, view='crop', start=0):
    """Make photos number `start` .. `count` - 1 of `seed` in `save_path`, those that are not there yet -> how many.

    Photo number i of a seed is always the same. Raises UserError when the folder holds photos made otherwise.
    """
    _check_folder(save_path, dict(world=face_model.WORLD, size=size, seed=seed, view=view))
    todo = [i for i in range(start, count) if not os.path.exists(_path(save_path, 'img', i, '.png'))]
    if not todo:
        return 0
    photographer = Photographer(size, view)
    wanted = set(todo)

    def make(block):
        # Always the same BATCH neighbours, wanted or not: sums of another batch may round otherwise.
        indices = range(block * BATCH, (block + 1) * BATCH)
        coeffs, scenes, randoms = zip(*[prior.draw(seed, i, view == 'free') for i in indices])
        rows = zip(indices, *(photographer.draw(coeffs, scenes, randoms) + (coeffs,)))
        return sum(_write(save_path, *row) for row in rows if row[0] in wanted)

    # Threads: drawing and packing release Python's lock, so one batch is prepared while another is drawn.
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(todo), unit='photo') as bar:
        batches = [pool.submit(make, block) for block in sorted({i // BATCH for i in todo})]
        try:
            for done in concurrent.futures.as_completed(batches):
                bar.update(done.result())
        finally:
            for batch in batches:
                batch.cancel()      # after a failure or Ctrl-C: what has begun is finished, the rest is dropped
    photographer.close()
    return len(todo)


def _path(save_path, folder, index, extension):
    return os.path.join(save_path, folder, f'{index:06d}{extension}')


def _check_folder(save_path, facts):
    """Make the folders; facts about how the photos are made go into photos.json, and must agree with those there."""
    try:
        for folder in FOLDERS:
            os.makedirs(os.path.join(save_path, folder), exist_ok=True)
    except OSError as error:
        raise UserError(f'--save_path {save_path}: cannot be used ({error.strerror}); choose a folder to write into')
    keep_facts(os.path.join(save_path, 'photos.json'), facts)
    label.write(save_path, face_model.WORLD)


def _write(save_path, index, photo, hair, points, coeff):
    """The four files of one photo, the picture last: where it is, the others are. Returns 1."""
    landmarks.write(_path(save_path, 'lm', index, '.txt'), photo_landmarks(points, len(photo)))
    with atomic_path(_path(save_path, 'coeff', index, '.mat')) as temporary:
        scipy.io.savemat(temporary, {'coeff': coeff.reshape(1, -1)})
    for folder, picture in (('hair', np.rint(255 * hair).astype(np.uint8)), ('img', photo[..., ::-1])):
        done, content = cv2.imencode('.png', picture)
        assert done
        with atomic_path(_path(save_path, folder, index, '.png')) as temporary, open(temporary, 'wb') as file:
            file.write(content.tobytes())
    return 1


def main():
    """Command line -> a folder of photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add('--save_path', metavar='DIR', required=True, help='folder to write into; a half-finished one is continued '
        '(no default)')
    add('--count', metavar='N', type=whole(1), default=20000, help='number of photos (default: %(default)s)')
    add('--size', metavar='PIXELS', type=whole(16, 4096), default=camera.RENDER_SIZE,
        help='width and height (default: %(default)s)')
    add('--seed', type=SEED, default=0, help='another seed, other photos (default: %(default)s)')
    add('--view', choices=VIEWS, default='crop', help='crop: as training pictures, face in the middle; free: as photos '
        'that nobody aligned, for preprocess_data.py (default: %(default)s)')
    args = parser.parse_args()
    made = write_photos(args.save_path, args.count, args.size, args.seed, args.view)
    print(f'{args.save_path}: {made} photos made, {args.count - made} were there already')


if __name__ == '__main__':
    run_main(main)
