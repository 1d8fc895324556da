"""Training of one factor's VAE (paper section 3.1; Adam): coefficients lie in the graph, many steps in one session run.

Order of samples and noise are functions of the seed and the step alone, so a resumed training equals one that was
never interrupted.
"""

from collections import OrderedDict
from typing import Dict, Iterator, Optional

import numpy as np

from dnnlib.tflib import checkpoints, tfutil
from dnnlib.tflib.compat import tf
from renderer.factors import num_coeffs, num_latents
from vae import model

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
BLOCK = 128             # steps per session run
EVALUATION_BATCH = 4096
KL_START = 0.02         # first weight of the KL divergence, in a warm-up
TERMS = ('kl_loss', 'gen_loss', 'loss', 'gamma')


def kl_weight(epoch: int, warmup: int) -> float:
    """Weight of the KL divergence in `epoch`: from KL_START up to 1 in the course of `warmup` epochs, geometrically.

    Where most coefficients hardly vary (a drawn world), full weight from the start teaches the decoder to ignore
    the latents before gamma has shrunk, and nothing brings them back (posterior collapse). A weight of 0, though, lets
    the code spread over more latents than are needed: then random latents decode to too little. warmup 0: weight 1.
    """
    return KL_START ** (1 - epoch / warmup) if epoch < warmup else 1.0


def holds_gamma(epoch: int, warmup: int) -> bool:
    """Whether the decoder keeps its first gamma in `epoch`: until the latents have settled at full KL weight.

    A gamma that shrinks at once makes the KL divergence, whatever its weight, too small a part of the loss to order
    the latents.
    """
    return epoch < 2 * warmup


class Trainer:
    """Encoder, decoder and Adam of factor `name` in the default graph; methods need the default session.

    data: float32 [n, coeffs], in the .mat files' units. batch_size is lowered to n when there are fewer samples.
    seed: 0 .. 2^32 - 1. width: of the hidden layers, default the released one. start_gamma: first standard deviation
    that the decoder gives the coefficients.
    """

    def __init__(self, name: str, data: np.ndarray, batch_size: int = 64, seed: int = 0,
                 width: Optional[int] = None, cross_entropy: bool = False, start_gamma: float = 1.0) -> None:
        self.name, self.seed, self.cross_entropy = name, seed, cross_entropy
        self.num_samples = len(data)
        self.batch_size = min(batch_size, len(data))
        self.steps_per_epoch = -(-len(data) // self.batch_size)
        self._gamma_name = f'{name}/stage1/decoder/loggamma_x'
        self._create_variables(model.model_shapes(name, width))
        self._data_in = tf.placeholder(tf.float32, [len(data), num_coeffs(name)])
        self._data = tf.get_variable('training_data', initializer=self._data_in, trainable=False, use_resource=True,
                                     collections=[tf.GraphKeys.LOCAL_VARIABLES])
        self._build_training()
        self._build_evaluation()
        tfutil.run(tf.variables_initializer(list(self.state.values())))
        tfutil.run(self._data.initializer, {self._data_in: data})
        tfutil.set_vars({self.weights[self._gamma_name]: np.log(start_gamma)})

    def _create_variables(self, shapes):
        """The model's 19 variables and the 41 of Adam, under the released checkpoints' names."""
        self.weights = model.create_variables(shapes, seed=self.seed % 2 ** 31, use_resource=True)
        slots = OrderedDict((f'{self.name}/{n}/{slot}', s) for n, s in shapes.items() for slot in ('Adam', 'Adam_1'))
        self.state = OrderedDict(self.weights)
        with tf.variable_scope('', use_resource=True):
            for slot, shape in slots.items():
                self.state[slot] = tf.get_variable(slot, shape, initializer=tf.zeros_initializer(), trainable=False)
            for key, value in (('beta1_power', BETA1), ('beta2_power', BETA2), ('global_step', 0)):
                self.state[f'{self.name}/{key}'] = tf.get_variable(f'{self.name}/{key}', initializer=value,
                                                                   trainable=False)

    def _build_training(self):
        """The op that trains on one block of batches; TERMS of each of its steps."""
        self._rows = tf.placeholder(tf.int32, [None, self.batch_size])
        self._rate = tf.placeholder(tf.float32, [])
        self._kl_weight = tf.placeholder(tf.float32, [])
        self._gamma_learns = tf.placeholder(tf.float32, [])     # 1; 0 holds it
        beta1, beta2, step = [self.state[f'{self.name}/{key}'] for key in ('beta1_power', 'beta2_power', 'global_step')]
        count = tf.shape(self._rows)[0]
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step.read_value(), tf.int64)])
        shape = tf.concat([tf.shape(self._rows), [num_latents(self.name)]], axis=0)
        noise = tf.random.stateless_normal(shape, seed)
        noise.set_shape([None, self.batch_size, num_latents(self.name)])
        x = tf.gather(self._data, self._rows)

        # Each weight has a token of its own: a step begins while the one before it still updates other weights.
        def body(i, power1, power2, terms, *tokens):
            values, tokens = self._step(x[i], noise[i], power1, power2, tokens)
            return (i + 1, power1 * BETA1, power2 * BETA2, terms.write(i, values), *tokens)

        start = [tf.constant(0), beta1.read_value(), beta2.read_value(),
                 tf.TensorArray(tf.float32, count, element_shape=[len(TERMS)])]
        tokens = [tf.constant(0) for _ in self.weights]
        _, power1, power2, terms, *tokens = tf.while_loop(lambda i, *_: i < count, body, start + tokens,
                                                          parallel_iterations=2, back_prop=False)
        self._terms = terms.stack()
        with tf.control_dependencies([self._terms, seed, *tokens]):
            self._train = tf.group(beta1.assign(power1), beta2.assign(power2), step.assign_add(count))

    def _step(self, x, noise, power1, power2, tokens):
        """One Adam step inside the loop -> (TERMS before it, [a tensor for each weight, there once it is updated]).

        tokens: those of the step before.
        """
        # Resource variables are read here, in the loop: a read outside would give every step the block's first values.
        weights = OrderedDict()
        for (name, variable), token in zip(self.weights.items(), tokens):
            with tf.control_dependencies([token]):
                weights[name] = variable.read_value()
        kl, generation = model.losses(x, noise, self.name, weights, self.cross_entropy)
        gradients = tf.gradients(self._kl_weight * kl + generation, list(weights.values()))
        updated = []
        for name, gradient, token in zip(weights, gradients, tokens):
            # loggamma_x has no gradient under the cross-entropy loss
            update = [] if gradient is None else [self._adam(name, gradient, power1, power2)]
            with tf.control_dependencies(update):
                updated.append(tf.identity(token))
        gamma = tf.exp(weights[self._gamma_name])
        return tf.stack([kl, generation, kl + generation, gamma]), updated

    def _adam(self, name, gradient, power1, power2):
        """The op that updates one weight, and its two slots, by its gradient."""
        if name == self._gamma_name:
            gradient = gradient * self._gamma_learns
        slots = [self.state[f'{self.name}/{name}/{slot}'].handle for slot in ('Adam', 'Adam_1')]
        return tf.raw_ops.ResourceApplyAdam(
            var=self.weights[name].handle, m=slots[0], v=slots[1], beta1_power=power1, beta2_power=power2,
            lr=self._rate, beta1=BETA1, beta2=BETA2, epsilon=EPSILON, grad=gradient)

    def _build_evaluation(self):
        """Sums over a batch: squared residuals of the decoded mean, and KL."""
        self._x = tf.placeholder(tf.float32, [None, num_coeffs(self.name)])
        mean, log_sigma = model.encoder(self._x, self.name, self.weights)
        residual = self._x - model.decoder(mean, self.name, self.weights)
        count = tf.cast(tf.shape(self._x)[0], tf.float32)
        self._code = [mean, log_sigma]
        self._sums = tf.reduce_sum(tf.square(residual)), model.kl_loss(mean, log_sigma) * count
        self._z = tf.placeholder(tf.float32, [None, num_latents(self.name)])
        self._decoded = model.decoder(self._z, self.name, self.weights)

    @property
    def global_step(self) -> int:
        """Steps taken so far, an int."""
        return int(tfutil.run(self.state[f'{self.name}/global_step']))

    def epoch_rows(self, epoch: int) -> np.ndarray:
        """int32 [steps_per_epoch, batch_size]: rows of the data in `epoch`; the last batch is filled from the first."""
        order = np.random.RandomState([self.seed, epoch]).permutation(self.num_samples)
        return np.resize(order, [self.steps_per_epoch, self.batch_size]).astype(np.int32)

    def train_epoch(self, epoch: int, rate: float, kl_weight: float = 1.0,
                    hold_gamma: bool = False) -> Iterator[np.ndarray]:
        """Generator: train on all samples once, at learning rate `rate`; yields TERMS of each block, [steps, 4].

        kl_weight: of the KL divergence in what is minimised; TERMS are the paper's, whatever it is. hold_gamma: leave
        gamma as it is.
        """
        rows = self.epoch_rows(epoch)
        for start in range(0, len(rows), BLOCK):
            terms, _ = tfutil.run([self._terms, self._train],
                                  {self._rows: rows[start:start + BLOCK], self._rate: rate,
                                   self._kl_weight: kl_weight, self._gamma_learns: float(not hold_gamma)})
            yield terms

    def evaluate(self, x: np.ndarray, centre: np.ndarray) -> Dict[str, Optional[float]]:
        """How well samples x [n, coeffs] are reconstructed from the mean of their latents.

        centre: [coeffs], the mean against which variance is explained. Returns a dict: rms (of x_hat - x, in the
        coefficients' units), explained_variance (1 is perfect; None without variance), kl (per sample, in nats),
        sampled_spread (standard deviation of coefficients decoded from random latents over that of x: what matters
        for sampling; well below 1 the latents in use are not N(0, 1) together, and samples crowd around the mean).
        """
        squares = kl = 0.0
        variance = float(np.square(x - centre, dtype=np.float64).sum())
        with tfutil.float32_session(self.weights.values()):     # what samples are decoded in
            for start in range(0, len(x), EVALUATION_BATCH):
                sums = tfutil.run(self._sums, {self._x: x[start:start + EVALUATION_BATCH]})
                squares, kl = squares + float(sums[0]), kl + float(sums[1])
            return {'rms': (squares / x.size) ** 0.5, 'kl': kl / len(x),
                    'explained_variance': 1 - squares / variance if variance > 0 else None,
                    'sampled_spread': self._sampled_spread(x) if variance > 0 else None}

    def _sampled_spread(self, x):
        """Spread of decoded N(0, 1) latents over the spread of x, over all coefficients together."""
        z = np.random.RandomState(0).standard_normal([EVALUATION_BATCH, num_latents(self.name)])
        sampled = tfutil.run(self._decoded, {self._z: z})
        return float(np.sqrt(sampled.var(axis=0, dtype=np.float64).sum() / x.var(axis=0, dtype=np.float64).sum()))

    def fit_latents(self, x: np.ndarray) -> None:
        """Move the latents of samples x [n, coeffs], all together, to mean 0 and covariance 1, by changing the weights.

        Training leaves them only roughly N(0, 1) (many that vary, more latents than the data has dimensions), and
        random latents then decode to too little. The Gaussian that all posteriors follow together goes into the
        decoder's first layer and its inverse into the encoder's last: what a sample is reconstructed as stays the same.
        """
        batches = [tfutil.run(self._code, {self._x: x[start:start + EVALUATION_BATCH]})
                   for start in range(0, len(x), EVALUATION_BATCH)]
        mean, log_sigma = (np.concatenate(parts).astype(np.float64) for parts in zip(*batches))
        noise = np.exp(2 * log_sigma).mean(axis=0)
        centre = mean.mean(axis=0)
        root = np.linalg.cholesky(np.cov(mean.T, bias=True).reshape(len(noise), -1) + np.diag(noise))
        inverse = np.linalg.inv(root)
        narrower = 0.5 * np.log(np.square(inverse) @ noise / noise)     # of the posteriors, along the new axes
        decoder, encoder = f'{self.name}/stage1/decoder/fc0/', f'{self.name}/stage1/encoder/'
        old = {name: tfutil.run(variable).astype(np.float64) for name, variable in self.weights.items()}
        tfutil.set_vars({self.weights[name]: value for name, value in {
            decoder + 'kernel': root.T @ old[decoder + 'kernel'],
            decoder + 'bias': centre @ old[decoder + 'kernel'] + old[decoder + 'bias'],
            encoder + 'dense/kernel': old[encoder + 'dense/kernel'] @ inverse.T,
            encoder + 'dense/bias': (old[encoder + 'dense/bias'] - centre) @ inverse.T,
            encoder + 'dense_1/bias': old[encoder + 'dense_1/bias'] + narrower}.items()})

    def save(self, prefix: str) -> None:
        """Write all 60 variables as the checkpoint `prefix`, which the released software can restore too."""
        checkpoints.save(prefix, self.state)

    def restore(self, prefix: str) -> None:
        """Go on from the checkpoint `prefix`; UserError when it is another factor's or width's."""
        checkpoints.restore(prefix, self.state)
