"""What is behind a photographed head: backdrops out of focus, as pictures of NumPy arrays."""

import cv2
import numpy as np

_SIZE = 96                          # pixels: drawn this small, blurred, then enlarged


def background(backdrop, size):
    """[size, size, 3] float32 RGB 0-255 of a scenes.Backdrop."""
    random = np.random.RandomState(backdrop.seed)
    picture = _KINDS[backdrop.kind](random, np.asarray(backdrop.colors, np.float32))
    picture = cv2.GaussianBlur(np.float32(picture), (0, 0), max(0.6, backdrop.blur * _SIZE))
    return cv2.resize(np.clip(picture, 0, 255), (size, size), interpolation=cv2.INTER_CUBIC)


def _plane(random, colors):
    """Colours that fade across the picture in a random direction."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, _SIZE, dtype=np.float32)])
    turn = random.uniform(0, 2 * np.pi)
    share = np.clip(0.5 + 0.5 * (np.cos(turn) * x + np.sin(turn) * y), 0, 1)[..., None]
    return colors[0] * (1 - share) + (0.7 * colors[0] + 0.3 * colors[1]) * share


def _studio(random, colors):
    """Paper with a pool of light behind the head."""
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, _SIZE, dtype=np.float32)])
    cx, cy, wide = random.uniform(-0.5, 0.5), random.uniform(-0.5, 0.5), random.uniform(0.7, 1.6)
    pool = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / wide ** 2)[..., None]
    return _plane(random, colors) * (0.62 + random.uniform(0.2, 0.5) * pool)


def _wall(random, colors):
    """Plaster: coarse and fine stains."""
    return _plane(random, colors) * (1 + 0.10 * _cloud(random, 6) + 0.05 * _cloud(random, 24))[..., None]


def _bokeh(random, colors):
    """Discs of light far behind."""
    picture = _plane(random, 0.55 * colors)
    for _ in range(random.randint(8, 26)):
        centre = tuple(int(v) for v in random.randint(0, _SIZE, 2))
        color = colors[random.randint(4)] * 0.5 + random.uniform(60, 190)
        disc = np.zeros([_SIZE, _SIZE], np.float32)
        cv2.circle(disc, centre, int(random.randint(3, 12)), 1.0, -1, cv2.LINE_AA)
        picture += disc[..., None] * (color - picture) * random.uniform(0.15, 0.6)
    return picture


def _room(random, colors):
    """Walls, door frames, shelves, windows: upright and level rectangles."""
    picture = np.ascontiguousarray(_plane(random, colors))
    for _ in range(random.randint(5, 12)):
        left, top = random.randint(-20, _SIZE, 2)
        wide, high = (random.randint(4, 30), random.randint(20, 110))[::random.choice([1, -1])]
        color = np.clip(colors[random.randint(4)] * random.uniform(0.5, 1.5), 0, 255)
        corners = (int(left), int(top)), (int(left + wide), int(top + high))
        cv2.rectangle(picture, *corners, [float(c) for c in color], -1)
    if random.uniform() < 0.4:
        left, top = random.randint(0, _SIZE - 20, 2)
        cv2.rectangle(picture, (int(left), int(top)), (int(left + 26), int(top + 34)), (238.0, 242.0, 245.0), -1)
    return picture


def _foliage(random, colors):
    """Leaves and sky between them."""
    green = np.float32([68, 84, 50]) * (random.uniform(0.6, 1.3) * random.uniform(0.85, 1.15, 3)).astype(np.float32)
    leaves = 0.55 * _cloud(random, 10) + 0.45 * _cloud(random, 28)
    picture = green * (1 + 0.6 * leaves)[..., None]
    sky = 1 / (1 + np.exp(-6 * (_cloud(random, 7) - random.uniform(0.3, 1.6))))[..., None]
    return picture + sky * (np.float32([205, 215, 215]) + 0.1 * colors[0] - picture)


def _cloud(random, cells):
    """[_SIZE, _SIZE] smooth noise of deviation 1."""
    coarse = random.standard_normal([cells, cells]).astype(np.float32)
    return cv2.resize(coarse, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC)


_KINDS = {'studio': _studio, 'wall': _wall, 'bokeh': _bokeh, 'room': _room, 'foliage': _foliage}
