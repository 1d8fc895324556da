"""Photos of the human world: heads with hair, neck, clothes and background, with landmarks, coefficients and hair
masks that are right by construction. `python -m human.photos --save_path DIR --count 20000` writes a data set:

  DIR/img/NAME.png    photo                         DIR/coeff/NAME.mat  coeff [1, 257]
  DIR/lm/NAME.txt     five landmarks, y down        DIR/hair/NAME.png   share of hair in each pixel, 0-255
  DIR/photos.json     how they were made            DIR/background/NAME.png  share of background, 0-255
  DIR/world.json      {"world": "human"}
"""

import argparse
import concurrent.futures
import math
import os

import cv2
import numpy as np
import scipy.io
from tqdm import tqdm

from dnnlib.json_files import keep_facts
from dnnlib.options import SEED, whole
from dnnlib.util import UserError, atomic_path, run_main
from human import background, face_model, film, portrait, prior
from human.canvas import Canvas
from preprocess import landmarks
from renderer import camera, factors
from worlds import label

VIEWS = ('crop', 'free')        # camera of the training pictures, face in the middle; R_Net's, face somewhere
BATCH = 8                       # photos at a time, for those who draw many
THREADS = 3                     # photos in the making at a time
MASKS = ('hair', 'background')
FOLDERS = ('img', 'lm', 'coeff') + MASKS


class Photographer:
    """Draws photos of one size and view. size: pixels; view: 'crop' or 'free' (see VIEWS). Builds its own graphs."""

    def __init__(self, size=camera.RENDER_SIZE, view='crop', threads=None):
        if view not in VIEWS:
            raise ValueError(f'view must be one of {VIEWS}, got {view!r}')
        from dnnlib.tflib import tfutil
        from dnnlib.tflib.compat import tf
        from renderer.face_decoder import FaceDecoder, project_224, project_256
        self.size, self.view = size, view
        self.model = face_model.load_model()
        crop = view == 'crop'
        with tf.Graph().as_default() as graph:
            self._coeff = tf.placeholder(tf.float32, [2, factors.NUM_RECON])    # one face, with expression and without
            head = FaceDecoder(self.model, np.arange(self.model.num_vertices)).decode(self._coeff)
            self._head = [head.shape, head.normals, head.colors, head.texture, head.vertices, head.rotation]
            points = FaceDecoder(self.model, self.model.landmarks).points(self._coeff)
            self._landmarks = (project_256 if crop else project_224)(points)[0]
        self._session = tfutil.create_session(threads=threads, graph=graph)
        fov = camera.FOV_Y_DEGREES if crop else math.degrees(2 * math.atan(camera.RECON_SIZE / 2 / camera.FOCAL_224))
        self._canvas = Canvas(3, fov, threads)

    def draw(self, coeffs, scenes, randoms=None):
        """Photos of faces in their scenes. Every photo is drawn by itself: others of the batch change nothing.

        coeffs: [B, 257]; scenes: B of scenes.Scene; randoms: B of RandomState for the noise, None: no noise.
        Returns photos [B, size, size, 3] uint8 RGB; masks [B, size, size, 2] float32 0-1: the shares of hair and of
        background; landmarks [B, 68, 2] float32 in pixels of the photo: x right, y UP from the bottom left.
        May be called from several threads at once.
        """
        rows = [self._photo(np.asarray(coeff, np.float32), scene, randoms and randoms[i])
                for i, (coeff, scene) in enumerate(zip(coeffs, scenes))]
        return tuple(np.stack(column) for column in zip(*rows))

    def _photo(self, coeff, scene, random):
        rest = coeff.copy()
        rest[factors.EXPRESSION] = 0
        fields, points = self._session.run([self._head, self._landmarks], {self._coeff: np.stack([coeff, rest])})
        head = portrait.Head(*(field[0] for field in fields), rest=fields[0][1], rest_normals=fields[1][1])
        color, masks = portrait.draw(self._canvas, head, coeff, scene, self.size)
        color += background.background(scene.backdrop, self.size) * masks[..., 1:]
        photo = film.exposed(color, scene.film, random)
        scale = self.size / (camera.RENDER_SIZE if self.view == 'crop' else camera.RECON_SIZE)
        return photo, masks, points * scale

    def close(self):
        """Free the sessions."""
        self._session.close()
        self._canvas.close()


def photo_landmarks(points, size):
    """68 landmarks [68, 2], y up from the bottom left -> the five as landmark files have them: [5, 2] pixels, y down,
    whole numbers at pixel centres."""
    five = landmarks.five_points(points)
    return np.stack([five[:, 0] - 0.5, size - five[:, 1] - 0.5], axis=1)


# ------------------------------------------------------------------------------------------------ writing

def write_photos(save_path, count, size=camera.RENDER_SIZE, seed=0, view='crop', start=0):
    """Make photos number `start` .. `count` - 1 of `seed` in `save_path`, those that are not there yet -> how many.

    Photo number i of a seed is always the same. Raises UserError when the folder holds photos made otherwise.
    """
    _check_folder(save_path, dict(world=face_model.WORLD, size=size, seed=seed, view=view))
    todo = [i for i in range(start, count) if not os.path.exists(_path(save_path, 'img', i, '.png'))]
    made = len(todo)
    if not todo:
        return 0
    photographer = Photographer(size, view)

    def make(index):
        coeff, scene, random = prior.draw(seed, index, view == 'free')
        photo, masks, points = (array[0] for array in photographer.draw([coeff], [scene], [random]))
        _write(save_path, index, photo, masks, points, coeff)

    make(todo.pop(0))               # what is worked out once is worked out before there are threads
    # Threads: most of drawing and packing releases Python's lock, so one photo is prepared while another is drawn.
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool, tqdm(total=len(todo), unit='photo') as bar:
        jobs = [pool.submit(make, index) for index in todo]
        try:
            for done in concurrent.futures.as_completed(jobs):
                done.result()
                bar.update()
        finally:
            for job in jobs:
                job.cancel()        # after a failure or Ctrl-C: what has begun is finished, the rest is dropped
    photographer.close()
    return made


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


def _write(save_path, index, photo, masks, points, coeff):
    """The files of one photo, the picture last: where it is, the others are."""
    landmarks.write(_path(save_path, 'lm', index, '.txt'), photo_landmarks(points, len(photo)))
    with atomic_path(_path(save_path, 'coeff', index, '.mat')) as temporary:
        scipy.io.savemat(temporary, {'coeff': coeff.reshape(1, -1)})
    masks = np.rint(255 * masks).astype(np.uint8)
    for folder, picture in list(zip(MASKS, np.moveaxis(masks, 2, 0))) + [('img', photo[..., ::-1])]:
        done, content = cv2.imencode('.png', picture)
        assert done
        with atomic_path(_path(save_path, folder, index, '.png')) as temporary, open(temporary, 'wb') as file:
            file.write(content.tobytes())


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
