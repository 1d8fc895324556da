"""The four VAEs (paper section 3.1): encoder, decoder and loss of one factor, and the way from latents z to lambda.

Encoder and decoder are MLPs with three hidden ReLU layers. Variables carry the released checkpoints' exact names,
`<factor>/stage1/encoder|decoder/...`.

Which checkpoint of a factor is used: `<weights>/<factor>/stage1_epoch_395.ckpt` (the released name, whatever the
epoch: vae/demo.py puts its result there), else the one with the highest number in `<weights>/<factor>/from_scratch/`.
"""

import os
import re
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

import config
from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from renderer.factors import BY_COEFFS, BY_NAME, FACTORS, NUM_LATENTS, num_coeffs, num_latents
from worlds import label
from worlds.agree import one_world

HIDDEN = ('fc0', 'fc1', 'fc2')
CHECKPOINT = 'stage1_epoch_{}.ckpt'
RELEASED = CHECKPOINT.format(395)       # the one name the released software looks for
TRAINED = 'from_scratch'                # folder that vae/demo.py saves its epochs in
HALF_LOG_2PI = 0.91893


# Variables


def decoder_shapes(name: str, width: Optional[int] = None) -> 'OrderedDict[str, List[int]]':
    """{variable name: shape} of factor `name`'s decoder, without loggamma_x. width: of hidden layers, else released."""
    return _mlp_shapes(f'{name}/stage1/decoder', num_latents(name), width or BY_NAME[name].width,
                       OrderedDict(x_hat=num_coeffs(name)))


def encoder_shapes(name: str, width: Optional[int] = None) -> 'OrderedDict[str, List[int]]':
    """{variable name: shape} of factor `name`'s encoder; `dense` gives the mean, `dense_1` the log sigma."""
    heads = OrderedDict([('dense', num_latents(name)), ('dense_1', num_latents(name))])
    return _mlp_shapes(f'{name}/stage1/encoder', num_coeffs(name), width or BY_NAME[name].width, heads)


def _mlp_shapes(scope, inputs, width, heads):
    shapes = OrderedDict()
    for layer in HIDDEN:
        shapes[f'{scope}/{layer}/kernel'], shapes[f'{scope}/{layer}/bias'] = [inputs, width], [width]
        inputs = width
    for head, outputs in heads.items():
        shapes[f'{scope}/{head}/kernel'], shapes[f'{scope}/{head}/bias'] = [inputs, outputs], [outputs]
    return shapes


def model_shapes(name: str, width: Optional[int] = None) -> 'OrderedDict[str, List[int]]':
    """{variable name: shape} of all 19 variables of factor `name`."""
    shapes = encoder_shapes(name, width)
    shapes.update(decoder_shapes(name, width))
    shapes[f'{name}/stage1/decoder/loggamma_x'] = []
    return shapes


def create_variables(shapes: Dict[str, List[int]], trainable: bool = True, seed: Optional[int] = None,
                     use_resource: Optional[bool] = None) -> 'OrderedDict[str, Any]':
    """{name: variable}: Glorot-uniform kernels, zeros elsewhere. Names count from the root of the graph.

    A name that the graph has already gives the same variable again.

    seed: int; each kernel gets its own stream from it.
    """
    variables = OrderedDict()
    with tf.variable_scope(tf.VariableScope(reuse=tf.AUTO_REUSE), auxiliary_name_scope=False):
        for i, (name, shape) in enumerate(shapes.items()):
            kernel = tf.glorot_uniform_initializer(seed=None if seed is None else seed + i, dtype=tf.float32)
            variables[name] = tf.get_variable(name, shape, tf.float32, trainable=trainable, use_resource=use_resource,
                                              initializer=kernel if len(shape) == 2 else tf.zeros_initializer())
    return variables


# Graph


def _dense(x, weights, layer):
    return tf.nn.bias_add(tf.matmul(x, weights[f'{layer}/kernel']), weights[f'{layer}/bias'])


def _hidden(x, weights, scope):
    for layer in HIDDEN:
        x = tf.nn.relu(_dense(x, weights, f'{scope}/{layer}'))
    return x


def encoder(x: tf.Tensor, name: str, weights: Dict[str, Any]) -> Tuple[tf.Tensor, tf.Tensor]:
    """Coefficients [N, coeffs] of factor `name` -> (mean, log sigma), each [N, latents], float32.

    weights: {variable name: variable or tensor}, as from `create_variables`.
    """
    scope = f'{name}/stage1/encoder'
    x = _hidden(x, weights, scope)
    return _dense(x, weights, f'{scope}/dense'), _dense(x, weights, f'{scope}/dense_1')


def decoder(z: tf.Tensor, name: str, weights: Dict[str, Any]) -> tf.Tensor:
    """Latents [N, latents] of factor `name` -> coefficients x_hat [N, coeffs], float32, in the .mat files' units."""
    scope = f'{name}/stage1/decoder'
    return _dense(_hidden(z, weights, scope), weights, f'{scope}/x_hat')


def kl_loss(mean: tf.Tensor, log_sigma: tf.Tensor) -> tf.Tensor:
    """Kullback-Leibler divergence to N(0, 1), summed over latents and averaged over the batch; a scalar."""
    per_latent = tf.square(mean) + tf.exp(2 * log_sigma) - 2 * log_sigma - 1
    return tf.reduce_mean(tf.reduce_sum(per_latent, axis=1)) / 2


def gaussian_loss(x: tf.Tensor, x_hat: tf.Tensor, log_gamma: tf.Tensor) -> tf.Tensor:
    """-log N(x; x_hat, gamma^2), summed over coefficients and averaged over the batch; log_gamma: scalar."""
    squares = tf.square(x - x_hat) * (tf.exp(-2 * log_gamma) / 2)
    return tf.reduce_mean(tf.reduce_sum(squares + log_gamma + HALF_LOG_2PI, axis=1))


def cross_entropy_loss(x: tf.Tensor, x_hat: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of coefficients in [0, 1], summed over coefficients and averaged over the batch."""
    per_coeff = x * tf.log(tf.maximum(x_hat, 1e-8)) + (1 - x) * tf.log(tf.maximum(1 - x_hat, 1e-8))
    return -tf.reduce_mean(tf.reduce_sum(per_coeff, axis=1))


def losses(x: tf.Tensor, noise: tf.Tensor, name: str, weights: Dict[str, Any],
           cross_entropy: bool = False) -> Tuple[tf.Tensor, tf.Tensor]:
    """(KL, generation loss), scalars, of a batch x [N, coeffs] with N(0, 1) noise [N, latents]."""
    mean, log_sigma = encoder(x, name, weights)
    x_hat = decoder(mean + noise * tf.exp(log_sigma), name, weights)
    if cross_entropy:
        return kl_loss(mean, log_sigma), cross_entropy_loss(x, x_hat)
    return kl_loss(mean, log_sigma), gaussian_loss(x, x_hat, weights[f'{name}/stage1/decoder/loggamma_x'])


# Checkpoints


def epochs_in(folder: str) -> List[int]:
    """Numbers N of the complete checkpoints stage1_epoch_N.ckpt in a folder, ascending; [] where there is none."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [re.match(r'stage1_epoch_(\d+)\.ckpt\.index$', name) for name in names]
    epochs = sorted(int(match.group(1)) for match in found if match)
    return [epoch for epoch in epochs if checkpoints.exists(os.path.join(folder, CHECKPOINT.format(epoch)))]


def find_checkpoint(name: str, weights: Optional[str] = None) -> str:
    """Path (without .index) of factor `name`'s checkpoint below the folder `weights`, default config.VAE_WEIGHTS_DIR.

    The rule stands at the top of this file. UserError when there is none.
    """
    weights = weights or config.VAE_WEIGHTS_DIR
    found = _checkpoint_in(os.path.join(weights, name))
    if found is None:
        released = os.path.join(weights, name, RELEASED)
        trained = os.path.join(weights, name, TRAINED, CHECKPOINT.format('N'))
        copy = ''
        if os.path.realpath(weights) == os.path.realpath(config.VAE_WEIGHTS_DIR):       # others are of another world
            copy = f'copy the folder vae/weights of the released DiscoFaceGAN repository to {weights}, or '
        raise UserError(f'no weights of the {BY_NAME[name].word} VAE: neither {released}.index nor {trained}.index is '
                        f'there; {copy}train with `python vae/demo.py --factor {name} --datapath <coefficient folder> '
                        f'--output-path {weights}`')
    return found


def _checkpoint_in(folder):
    """The checkpoint that is used of a factor's folder, or None."""
    released, trained = os.path.join(folder, RELEASED), os.path.join(folder, TRAINED)
    if os.path.exists(released + '.index') or checkpoints.data_files(released):
        return released         # if half of it is missing, reading it says so
    epochs = epochs_in(trained)
    return os.path.join(trained, CHECKPOINT.format(epochs[-1])) if epochs else None


def world_of(weights: str) -> Optional[str]:
    """Name of the world that the VAEs in a folder are of; None when they do not say.

    They say it by a world.json beside the checkpoints, or in the folder itself. UserError: they are of several worlds.
    """
    found = [_checkpoint_in(os.path.join(weights, factor.name)) for factor in FACTORS]
    folders = [weights] + [os.path.dirname(path) for path in found if path]
    return one_world({f'VAEs in {folder}': label.read(folder) for folder in folders})


def stored_width(prefix: str, name: str) -> int:
    """Width of the hidden layers in a checkpoint of factor `name`: the released one's, or a smaller decoder's."""
    shape = checkpoints.read_names(prefix).get(f'{name}/stage1/decoder/fc0/kernel', [])
    return shape[1] if len(shape) == 2 else BY_NAME[name].width


def export_decoder(source: str, target: str, name: str) -> None:
    """Copy what sampling needs of checkpoint `source` (about a sixth: no encoder, no Adam) to checkpoint `target`."""
    checkpoints.copy(source, target, decoder_shapes(name))


# From z to lambda


class Decoders:
    """The four frozen decoders in the default graph: latents z [N, 179] -> lambda [N, 254].

    The checkpoints are found, and their widths read, at once. Call `restore` when there is a default session. A second
    one in the same graph shares the variables of the first.
    weights: folder of the factors' folders, default config.VAE_WEIGHTS_DIR.
    UserError when weights are missing (one message for all factors) or damaged.
    """

    def __init__(self, weights: Optional[str] = None) -> None:
        self.paths = _find_all(weights)
        shapes = OrderedDict()
        for name, path in self.paths.items():
            shapes.update(decoder_shapes(name, stored_width(path, name)))
        self.variables = create_variables(shapes, trainable=False)
        self._run_ends = None

    def restore(self) -> None:
        """Read the weights into the variables, in the default session."""
        for name, path in self.paths.items():
            scope = f'{name}/stage1/decoder/'
            checkpoints.restore(path, {n: v for n, v in self.variables.items() if n.startswith(scope)})

    def coefficients(self, name: str, z: tf.Tensor) -> tf.Tensor:
        """Latents [N, latents] of one factor -> its coefficients [N, coeffs]; no gradient flows back."""
        return tf.stop_gradient(decoder(z, name, self.variables))

    def lambda_from_latents(self, z: tf.Tensor) -> tf.Tensor:
        """z [N, 179], order id, exp, gamma, rot -> lambda [N, 254], order id, exp, rot, gamma; float32 tensors."""
        parts = [self.coefficients(factor.name, z[:, factor.latents]) for factor in BY_COEFFS]
        return tf.concat(parts, axis=1)

    def run(self, z: np.ndarray) -> np.ndarray:
        """`lambda_from_latents` on an array, in the default session: z [N, 179] -> float32 [N, 254]."""
        z = _checked_latents(z)
        if self._run_ends is None:
            z_in = tf.placeholder(tf.float32, [None, NUM_LATENTS])
            self._run_ends = z_in, self.lambda_from_latents(z_in)
        z_in, coeffs = self._run_ends
        return tfutil.run(coeffs, {z_in: z})


def _find_all(weights):
    """{factor name: checkpoint path}; one UserError that names every missing factor."""
    paths, errors = OrderedDict(), []
    for factor in FACTORS:
        try:
            paths[factor.name] = find_checkpoint(factor.name, weights)
        except UserError as error:
            errors.append((factor.name, error))
    if len(errors) == 1:
        raise errors[0][1]
    if errors:
        names = ', '.join(name for name, _ in errors)
        raise UserError(f'VAE weights of {len(errors)} factors ({names}) are missing; the first: {errors[0][1]}')
    return paths


def _checked_latents(z):
    z = np.asarray(z, np.float32)
    if z.ndim != 2 or z.shape[1] != NUM_LATENTS:
        raise ValueError(f'latents of shape {list(z.shape)}: [N, {NUM_LATENTS}] expected')
    return z


def decode_latents(z: np.ndarray, weights: Optional[str] = None) -> np.ndarray:
    """Latents z [N, 179] -> lambda [N, 254], float32 arrays; builds, runs and drops a graph of its own.

    weights: folder of the factors' folders, default config.VAE_WEIGHTS_DIR. For more than a few calls use `Decoders`.
    """
    z = _checked_latents(z)
    with tf.Graph().as_default() as graph, tfutil.create_session(graph=graph):
        decoders = Decoders(weights)
        decoders.restore()
        return decoders.run(z)
