"""What was drawn at random for the recorded networks, by its rule: the weights of snapshots and the pictures.

Every variable but lod is RandomState(seed).standard_normal(shape) times its deviation: own variables, then components.
A packed snapshot holds the deviations in place of the weights.
"""

import numpy as np

from dnnlib.tflib import pickles

NAME = 'networks.pkl'
SEEDS = {64: (319281, 320281, 321281), 128: (319299, 320299, 321299)}       # of G, D and Gs, by resolution
INPUTS = {64: (318286, 8), 128: (318304, 2)}                                # seed and batch


def _drawn(path):
    """(what the snapshot holds, what standard_normal gave) for each random variable, in the order of drawing."""
    states = pickles.load_states(path)
    for state, seed in zip(states, SEEDS[states[0].static_kwargs['resolution']]):
        random = np.random.RandomState(seed)
        for part in [state] + list(state.components.values()):
            for name, value in part.variables:
                if name != 'lod':
                    yield value, random.standard_normal(value.shape)


def _replace(path, pairs):
    """Put the bytes of each pair's second array where those of the first lie in the file."""
    with open(path, 'rb') as file:
        content = bytearray(file.read())
    for old, new in pairs:
        at = content.index(old.tobytes())
        content[at:at + old.nbytes] = new.tobytes()
    with open(path, 'wb') as file:
        file.write(content)


def _deviation(value, drawn):
    deviation = float('%.3g' % np.median(value / drawn))
    assert np.array_equal((drawn * deviation).astype(np.float32), value)
    return np.full_like(value, deviation)


def store_deviations(path):
    """Replace the weights of a recorded snapshot by their deviations, which pack to almost nothing."""
    _replace(path, [(value, _deviation(value, drawn)) for value, drawn in _drawn(path)])


def draw_weights(path):
    """Undo store_deviations: the file has the recorded bytes again."""
    _replace(path, [(value, (drawn * float('%.3g' % value.flat[0])).astype(np.float32))
                    for value, drawn in _drawn(path)])


def pictures(resolution):
    """The recorded input `images` of D [N, 3, H, W]: squares of 8 pixels under noise, drawn after the coefficients."""
    seed, count = INPUTS[resolution]
    random = np.random.RandomState(seed)
    random.standard_normal([count, 286])
    squares = random.standard_normal([count, 3, resolution // 8, resolution // 8]).repeat(8, axis=2).repeat(8, axis=3)
    return np.tanh(0.7 * squares + 0.35 * random.standard_normal(squares.shape)).astype(np.float32)
