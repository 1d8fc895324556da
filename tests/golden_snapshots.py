"""Writes the small snapshots of tests/data/golden and records what they compute: `python -m tests.golden_snapshots`.

Run once on each TensorFlow line; the files are never written again, so that they show that old snapshots still load.
"""

import os
import sys

import numpy as np

from tests.common import DATA

KWARGS = {'num_channels': 3, 'resolution': 16, 'label_size': 0, 'fmap_base': 96, 'fmap_max': 12}
GENERATOR_KWARGS = dict(KWARGS, latent_size=286, dlatent_size=24, mapping_fmaps=20)


def outputs(G, D, Gs, coeffs, images):
    """Images of Gs and G (float32 NCHW, stored noise) and scores of D."""
    run = {'is_validation': True, 'randomize_noise': False}
    return {'Gs_images': Gs.run(coeffs, None, **run), 'G_images': G.run(coeffs, None, **run),
            'D_scores': D.run(images, None)}


def main(name):
    """Write <name>.pkl and <name>.npz."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    from dnnlib.tflib.network import Network
    from training import snapshots
    rng = np.random.RandomState(len(name) + ord(name[-1]))
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph):
        G = Network('G', 'training.networks_stylegan.G_style', **GENERATOR_KWARGS)
        D = Network('D', 'training.networks_stylegan.D_basic', **KWARGS)
        Gs = G.clone('Gs')
        for network in (G, D, Gs):
            values = {v: rng.randn(*v.shape.as_list()) for k, v in network.vars.items() if not k.endswith('lod')}
            tfutil.set_vars(values)
        snapshots.save_networks((G, D, Gs), os.path.join(DATA, 'golden', name + '.pkl'))
        inputs = {'coeffs': rng.randn(2, 286).astype(np.float32), 'images': rng.rand(2, 3, 16, 16).astype(np.float32)}
        np.savez_compressed(os.path.join(DATA, 'golden', name + '.npz'), **inputs, **outputs(G, D, Gs, **inputs))


if __name__ == '__main__':
    main(*sys.argv[1:])
