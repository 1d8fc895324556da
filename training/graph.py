"""What a training runs, built once: networks on every device, their steps, the moving average, the state to keep."""

from collections import OrderedDict

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.tflib.optimizer import Optimizer
from dnnlib.util import UserError
from perception import experts
from renderer import factors
from renderer.face_renderer import FaceRenderer
from training import objectives, snapshots
from vae.model import Decoders

MOST_LEFT_OUT = 100         # steps in a row without finite gradients, then there is no hope
SPREAD_FLOOR = 0.2          # of a factor's largest spread: coefficients well below it are residue of the VAE
SPREAD_SAMPLES = 4096
LARGEST_ERROR = 0.5         # that a precision other than float32 may bring, see `check_precision`


def load_context(world, config, stage, weights, noise_dim, forms):
    """objectives.Context with everything frozen in the default graph, without values yet. UserError: missing files.

    world: worlds.parts.World. forms: of G's steps, see objectives.is_full.
    """
    specs, names = None, []
    if stage == 2 or True in forms:
        specs, names = world.expert_specs(), experts.STAGE_EXPERTS[stage]
    return objectives.Context(
        stage=stage, config=config, noise_dim=noise_dim, weights=weights, decoders=Decoders(world.vae_weights),
        faces=FaceRenderer(world.face_model()), experts=experts.Experts(specs, names) if names else None)


def new_networks(config, num_channels, noise_dim, coeff_scale=None):
    """(G, D, Gs) with start values. coeff_scale: of G's input, see `unit_scale`; None: 1."""
    size = dict(num_channels=num_channels, resolution=config.resolution)
    options = dict(size, latent_size=factors.NUM_COEFFS + noise_dim, **config.generator)
    if coeff_scale is not None:
        options['coeff_scale'] = coeff_scale
    G = Network('G', 'training.networks_stylegan.G_style', **options)
    D = Network('D', 'training.networks_stylegan.D_basic', **size, **config.discriminator)
    return G, D, G.clone('Gs')


def unit_scale(decoders, noise_dim):
    """Factors, 254 + noise_dim, that bring the coefficients random latents decode to near standard deviation 1.

    What hardly varies within its factor is residue of the VAE: it is not blown up. Restores the decoders.
    """
    decoders.restore()
    spread = decoders.run(np.random.RandomState(0).standard_normal([SPREAD_SAMPLES, factors.NUM_LATENTS])).std(axis=0)
    scale = np.ones(factors.NUM_COEFFS + noise_dim)
    for factor in factors.FACTORS:
        own = spread[factor.coeffs].astype(np.float64)
        scale[factor.coeffs] = own / (own ** 2 + (SPREAD_FLOOR * own.max()) ** 2)
    return [float(f'{x:.4g}') for x in scale]


class TrainingGraph:
    """Everything that a training runs, in the default graph; after `initialize`, `step_D` and `step_G` train.

    cluster: distributed.Cluster. context: objectives.Context. networks: (G, D, Gs) on the first device.
    reals: uint8 [images of all this process's devices, C, S, S], S the active resolution.
    forms: of G's step, see objectives.is_full; those that are not among them cannot be run.

    Attributes: G, D and Gs, the moving average of G; context; inputs, objectives.Inputs; state, {name in a checkpoint:
    variable} of all that training changes.
    """

    def __init__(self, cluster, context, networks, reals, forms=(False, True)):
        self.G, self.D, self.Gs = networks
        self.context, self._cluster, self._reals = context, cluster, reals
        self._copies = [(self.G, self.D)]
        for device in cluster.devices[1:]:
            with tf.device(device):
                self._copies.append((self.G.clone(), self.D.clone()))
        self.inputs, rate = objectives.placeholders(), tf.placeholder(tf.float32, [], 'learning_rate')
        self._placeholders = dict(self.inputs._asdict(), learning_rate=rate)
        self._optimizers = OrderedDict([('G', Optimizer('TrainG', rate)), ('D', Optimizer('TrainD', rate))])
        self._checked = {}          # {'D', ('G', form): (loss, gradients)} of a step on the first device
        self._lod = None            # that networks were told last
        self._D_steps = {r1: self._build_D_step(r1) for r1 in (True, False)[:context.config.r1_interval]}
        self._G_steps = {full: self._build_G_step(full) for full in forms}
        self._forget = tf.group(*[optimizer.reset_state() for optimizer in self._optimizers.values()])
        self.state = self._named_state()

    # ---- steps

    def step_D(self, feed):
        """A step of the discriminator, then of Gs -> {TensorBoard name: number}.

        feed: {lod, minibatch, nimg, seed, learning_rate}; minibatch: images of a device in one of the session runs
        that make a step, config.accumulate. UserError when the gradients of many steps in a row are not finite.
        """
        config = self.context.config
        together = feed['minibatch'] * self._cluster.num_replicas * config.accumulate
        return self._run('TrainD', self._D_steps[objectives.has_r1(config, feed['nimg'], together)], feed)

    def step_G(self, feed):
        """A step of the generator, as `step_D`."""
        return self._run('TrainG', self._G_steps[self.is_full(feed['lod'])], feed)

    def is_full(self, lod):
        """Which form of the generator's step is run at this level of detail, see objectives.is_full."""
        return objectives.is_full(self.context.config, self.resolution(lod))

    def resolution(self, lod):
        """The active resolution, the finer one during a fade."""
        return self.context.config.resolution >> int(np.floor(lod))

    def reset_optimizers(self):
        """They forget what they have learned of the gradients."""
        tfutil.run(self._forget)

    def precision_errors(self, feed):
        """How far the session's precision is off float32 -> {'D', 'G': (error of the loss, error of the gradients)}.

        Of one step of each, relative: gradients by the L2 norm of all together. feed: as for step_D; the reals are
        pictures by chance. Nothing changes in the end. What new networks hold as constants is spread for it: they
        would be normalised by a deviation that is nothing but rounding.
        """
        size = self.resolution(feed['lod'])
        shape = [feed['minibatch'] * len(self._copies), self._reals.shape.as_list()[1], size, size]
        given = {self._placeholders[key]: value for key, value in feed.items()}
        given[self._reals] = np.random.RandomState(size).randint(0, 256, shape, np.uint8)
        variables = [variable for net in (self.G, self.D) for variable in net.vars.values()]
        before = dict(zip(variables, tfutil.run(variables)))
        random = np.random.RandomState(0)
        tfutil.set_vars({variable: value + 0.1 * random.standard_normal(value.shape) for variable, value in
                         before.items() if variable.trainable and np.ptp(value) == 0})
        self._tell_lod(feed['lod'])
        steps = {'D': self._checked['D'], 'G': self._checked['G', self.is_full(feed['lod'])]}
        with tfutil.float32_session(tf.global_variables()):
            exact = {name: tfutil.run(step, given) for name, step in steps.items()}
        found = {name: tfutil.run(step, given) for name, step in steps.items()}
        tfutil.set_vars(before)                         # lod and the average of w have moved, too
        self._lod = None
        return {name: tuple(_relative_error(*pair) for pair in zip(found[name], exact[name])) for name in found}

    def _run(self, name, steps, feed):
        """All session runs of a step -> means of their terms."""
        self._tell_lod(feed['lod'])
        keep, last = steps
        feed, found = dict(feed), []
        for step in [keep] * (self.context.config.accumulate - 1) + [last]:
            found.append(run_step(name, step, {self._placeholders[key]: value for key, value in feed.items()}))
            feed['nimg'] += feed['minibatch'] * self._cluster.num_replicas      # other latents in each
        return {term: np.mean([values[term] for values in found if term in values]) for term in found[-1]}

    def _tell_lod(self, lod):
        """Set the networks' lod before a step: in bfloat16 TensorFlow may read it before the step's own assignment."""
        if lod != self._lod:
            networks = [net for G, D in self._copies for net in (G, G.components.synthesis, D)]
            tfutil.set_vars({net.find_var('lod'): lod for net in networks})
            self._lod = lod

    def _build_D_step(self, r1):
        """The discriminator's step, together with the update of Gs."""
        each = self.inputs.minibatch

        def objective(i, G, D):
            return objectives.discriminator_step(self.context, G, D, self.inputs, self._reals[i * each:(i + 1) * each],
                                                 device=self._cluster.first_replica + i, r1=r1)

        keep, step = self._build_step('D', objective, trained=1, checked='D')
        total = tf.cast(each * self._cluster.num_replicas * self.context.config.accumulate, tf.float32)
        with tf.device(self._cluster.devices[0]), tf.control_dependencies([step['op']]):    # which sets G's lod
            beta = tf.pow(0.5, total / (self.context.config.average_kimg * 1000))
            return keep, dict(step, op=self.Gs.setup_as_moving_average_of(self.G, beta))

    def _build_G_step(self, full):
        """The generator's step. full: with the full imitative terms instead of L1."""
        def objective(i, G, D):
            return objectives.generator_step(self.context, G, D, self.inputs, full,
                                             device=self._cluster.first_replica + i)
        return self._build_step('G', objective, trained=0, checked=('G', full))

    def _build_step(self, name, objective, trained, checked):
        """All devices compute gradients, then all make the same step with their mean: two steps for `run_step`.

        The first only keeps the gradients for the second (config.accumulate - 1 runs of it come before that).
        objective(i, G, D) -> (loss, terms) on device i. trained: 0 for G, 1 for D. checked: the step's name for
        `precision_errors`.
        """
        optimizer, devices, towers = self._optimizers[name], self._cluster.devices, []
        for i, (device, copy) in enumerate(zip(devices, self._copies)):
            with tf.device(device), tf.name_scope(f'{name}_tower{i}'):
                loss, terms = objective(i, *copy)
                gradients = optimizer.register(loss, copy[trained].trainables)
                if i == 0:
                    self._checked.setdefault(checked, (loss, gradients))
                towers.append(OrderedDict(terms, **{'Loss/' + name: loss}))
        runs = self.context.config.accumulate
        keep = optimizer.accumulate(runs) if runs > 1 else None
        train = optimizer.apply(self._cluster.all_reduce)
        with tf.device(devices[0]):
            values = OrderedDict((term, tf.add_n([tower[term] for tower in towers]) / len(towers))
                                 for term in towers[0])
            with tf.control_dependencies([train]):
                left_out = optimizer.overflow_streak.read_value()
        return dict(op=keep, values=values), dict(op=train, values=values, left_out=left_out)

    # ---- values

    def initialize(self, checkpoint=None):
        """Give everything but the networks its first value, frozen networks theirs; then take up a checkpoint.

        All devices of all hosts get the chief's values. UserError when the checkpoint is another training's.
        """
        networks = [self.Gs] + [net for copy in self._copies for net in copy]
        ready = {variable.name for net in networks for variable in net.vars.values()}
        tfutil.run([v.initializer for v in tf.global_variables() if v.name not in ready])
        self.context.decoders.restore()
        if self.context.experts is not None:
            self.context.experts.restore()
        if checkpoint is not None:
            restore_state(self.state, checkpoint)
        tfutil.run(self._cluster.broadcast([self._equal_variables(i) for i in range(len(self._copies))]))

    def _equal_variables(self, device):
        """The variables that must be the same on all devices, of one of them."""
        groups = [net.vars for net in self._copies[device]]
        groups += [optimizer.state_variables(device) for optimizer in self._optimizers.values()]
        return [variable for group in groups for variable in group.values()]

    def _named_state(self):
        groups = [('G', self.G.vars), ('D', self.D.vars), ('Gs', self.Gs.vars)]
        groups += [(name, optimizer.state_variables()) for name, optimizer in self._optimizers.items()]
        return OrderedDict((f'{group}/{name}', variable) for group, variables in groups
                           for name, variable in variables.items())

    def describe(self):
        """JSON values from which snapshots.build_networks makes the same networks again."""
        return snapshots.describe_networks((self.G, self.D, self.Gs))


def run_step(name, step, feed):
    """Make a step of `name`'s optimizer -> {TensorBoard name: number}.

    step: {op, values: {TensorBoard name: scalar}, left_out: steps left out in a row, after this one; or absent}.
    UserError when its gradients are not finite again and again.
    """
    found = tfutil.run(step, feed)
    values = found['values']
    if 'left_out' not in found:         # gradients were kept for a later run, which makes the step
        return values
    left_out = found['left_out']
    if left_out >= MOST_LEFT_OUT:
        raise UserError(f'the last {left_out} gradients of {name} were not finite, so training stands still; see '
                        'stats.jsonl when it began, lower the learning rate (--config), and --resume from the last '
                        'checkpoint')
    values[f'{name}/overflow_frequency'] = float(left_out > 0)
    return values


def _relative_error(found, exact):
    """|found - exact| / |exact| of a number, or of a list of arrays as one vector."""
    found, exact = (np.concatenate([np.ravel(x) for x in (value if isinstance(value, (list, tuple)) else [value])])
                    for value in (found, exact))
    return float(np.linalg.norm(found - exact) / max(np.linalg.norm(exact), 1e-6))


def check_precision(graph, feed, precision):
    """Compare a step with float32 -> a line that says how far it is off. UserError above LARGEST_ERROR."""
    errors = graph.precision_errors(feed)
    line = ', '.join(f'{name}: loss {loss:.2%}, gradients {gradients:.2%}' for name, (loss, gradients) in
                     sorted(errors.items()))
    if not all(error <= LARGEST_ERROR for pair in errors.values() for error in pair):       # so NaN is refused, too
        raise UserError(f'--precision {precision}: a step is off float32 by more than {LARGEST_ERROR:.0%} ({line}); '
                        'leave the option out')
    size = graph.resolution(feed['lod'])
    return f'{precision} against float32, one step at {size} pixels: {line}'


def restore_state(variables, checkpoint):
    """Give {name: variable} the values of a checkpoint. UserError when it is another training's."""
    arrays = checkpoint.arrays
    different = [name for name in set(variables) | set(arrays) if name not in arrays or name not in variables
                 or list(arrays[name].shape) != variables[name].shape.as_list()]
    if different:
        raise UserError(f'{checkpoint.path}: belongs to other networks ({len(different)} variables differ, e.g. '
                        f'{min(different)}); resume with the options the run was started with')
    tfutil.set_vars({variable: arrays[name] for name, variable in variables.items()})
