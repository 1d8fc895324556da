"""What a training runs, built once: networks on every device, their steps, the moving average, the state to keep."""

from collections import OrderedDict, namedtuple

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network
from dnnlib.util import UserError
from perception import experts
from renderer import factors
from renderer.face_renderer import FaceRenderer
from training import configs, objectives, snapshots
from vae.model import Decoders

MOST_LEFT_OUT = 100         # steps in a row without finite gradients, then there is no hope
SPREAD_FLOOR = 0.2          # of a factor's largest spread: coefficients well below it are residue of the VAE
SPREAD_SAMPLES = 4096

Nets = namedtuple('Nets', (
    'copies',               # [(G, D)] for each of this process's devices; the first pair is the run's
    'Gs',                   # moving average of G, on the first device
))
Step = namedtuple('Step', (
    'name',                 # of the optimizer
    'op',                   # makes the step
    'values',               # {TensorBoard name: scalar}, means over this process's devices
    'left_out',             # steps left out in a row, after this one
))


# ---- what does not learn

def load_context(world, config, stage, weights, noise_dim, forms):
    """objectives.Context with everything frozen in the default graph, without values yet. UserError: missing files."""
    specs, names = None, []
    if stage == 2 or True in forms:
        specs, names = world.expert_specs(), experts.STAGE_EXPERTS[stage]
    return objectives.Context(
        stage=stage, resolution=config.resolution, noise_dim=noise_dim, weights=weights,
        settings=configs.settings_of(config), decoders=Decoders(world.vae_weights),
        faces=FaceRenderer(world.face_model()), experts=experts.Experts(specs, names) if names else None)


def restore_frozen(context):
    """Load the weights of decoders and experts into the default session."""
    context.decoders.restore()
    if context.experts is not None:
        context.experts.restore()


# ---- networks

def build_networks(devices, config, num_channels, context, snapshot=None, coeff_scale=None, described=None):
    """Nets on `devices`: those of the file `snapshot`, else new ones; with their values.

    coeff_scale: of new networks' input, see `unit_scale`; None: 1. described: `describe` of a checkpoint's networks,
    which are built then, with start values.
    """
    with tf.device(devices[0]):
        if described:
            G, D, Gs = snapshots.build_networks(described, 'the newest checkpoint')
        elif snapshot:
            check_snapshot(snapshot, context.resolution, num_channels, context.noise_dim)
            G, D, Gs = snapshots.load_networks(snapshot)
        else:
            G, D, Gs = _new_networks(config, num_channels, context.noise_dim, coeff_scale)
    copies = [(G, D)]
    for device in devices[1:]:
        with tf.device(device):
            copies.append((G.clone(), D.clone()))
    return Nets(copies, Gs)


def _new_networks(config, num_channels, noise_dim, coeff_scale):
    size = dict(num_channels=num_channels, resolution=config.resolution)
    options = dict(size, latent_size=factors.NUM_COEFFS + noise_dim, **config.generator)
    if coeff_scale is not None:
        options['coeff_scale'] = coeff_scale
    G = Network('G', 'training.networks_stylegan.G_style', **options)
    D = Network('D', 'training.networks_stylegan.D_basic', **size, **config.discriminator)
    return G, D, G.clone('Gs')


def describe(nets):
    """JSON values from which `build_networks` makes the same networks again, without the file they came from."""
    return snapshots.describe_networks(nets.copies[0] + (nets.Gs,))


def check_snapshot(path, resolution, num_channels, noise_dim):
    """UserError when the networks of a snapshot are not for such data; they are read, not built."""
    G, D, Gs = [{name: value for name, value in options.items() if isinstance(value, int)}
                for options in snapshots.read_options(path)]
    for options in (G, D, Gs):
        size, channels = options.get('resolution'), options.get('num_channels')
        if (size, channels) != (resolution, num_channels):
            raise UserError(f'{path}: a network for pictures of {size} pixels and {channels} channels, but '
                            f'{resolution} and {num_channels} are wanted; give another --config or --data_dir')
    for options in (G, Gs):
        there = options.get('latent_size', 0) - factors.NUM_COEFFS
        if there != noise_dim:
            raise UserError(f'{path}: its noise vector has {there} numbers, not {noise_dim}; '
                            + (f'give --noise_dim {there}' if there >= 0 else 'it is no generator of this kind'))


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
    return scale.tolist()


# ---- steps

def build_D_step(cluster, optimizer, context, nets, inputs, reals, average_kimg):
    """The discriminator's step, together with the update of Gs.

    reals: uint8 [images of all this process's devices, C, S, S], S the active resolution.
    """
    def objective(i, G, D):
        mine = reals[i * inputs.minibatch:(i + 1) * inputs.minibatch]
        return objectives.discriminator_step(context, G, D, inputs, mine, device=cluster.first_replica + i)

    step = _build_step('D', cluster, optimizer, nets, objective, trained=1)
    total = tf.cast(inputs.minibatch * cluster.num_replicas, tf.float32)
    with tf.device(cluster.devices[0]), tf.control_dependencies([step.op]):     # which sets G's lod
        beta = tf.pow(0.5, total / (average_kimg * 1000))
        return step._replace(op=nets.Gs.setup_as_moving_average_of(nets.copies[0][0], beta))


def build_G_step(cluster, optimizer, context, nets, inputs, full):
    """The generator's step. full: with the full imitative terms instead of L1."""
    def objective(i, G, D):
        return objectives.generator_step(context, G, D, inputs, full, device=cluster.first_replica + i)
    return _build_step('G', cluster, optimizer, nets, objective, trained=0)


def _build_step(name, cluster, optimizer, nets, objective, trained):
    """objective(i, G, D) -> (loss, terms) on device i; trained: 0 for G, 1 for D."""
    towers = []
    for i, (device, copy) in enumerate(zip(cluster.devices, nets.copies)):
        with tf.device(device), tf.name_scope(f'{name}_tower{i}'):
            loss, terms = objective(i, *copy)
            optimizer.register(loss, copy[trained].trainables)
            towers.append(OrderedDict(terms, **{'Loss/' + name: loss}))
    train = optimizer.apply(cluster.all_reduce)
    with tf.device(cluster.devices[0]):
        values = OrderedDict((term, tf.add_n([tower[term] for tower in towers]) / len(towers)) for term in towers[0])
        with tf.control_dependencies([train]):
            return Step(optimizer.name, train, values, optimizer.overflow_streak.read_value())


def run_step(step, feed):
    """Make a step -> {TensorBoard name: number}. UserError when its gradients are not finite again and again."""
    _, values, left_out = tfutil.run([step.op, step.values, step.left_out], feed)
    if left_out >= MOST_LEFT_OUT:
        raise UserError(f'the last {left_out} gradients of {step.name} were not finite, so training stands still; see '
                        'stats.jsonl when it began, lower the learning rate (--config), and --resume from the last '
                        'checkpoint')
    values[f'{step.name}/overflow_frequency'] = float(left_out > 0)
    return values


# ---- state

def initialize(nets):
    """First values of everything but the networks, which have theirs: optimizers, frozen variables."""
    ready = {v.name for net in [net for copy in nets.copies for net in copy] + [nets.Gs] for v in net.vars.values()}
    tfutil.run([v.initializer for v in tf.global_variables() if v.name not in ready])


def state_variables(nets, optimizers):
    """{name in a checkpoint: variable} of all that training changes. optimizers: {name: Optimizer}."""
    G, D = nets.copies[0]
    groups = [('G', G.vars), ('D', D.vars), ('Gs', nets.Gs.vars)]
    groups += [(name, optimizer.state_variables()) for name, optimizer in optimizers.items()]
    return OrderedDict((f'{group}/{name}', variable) for group, variables in groups
                       for name, variable in variables.items())


def copied_variables(nets, optimizers):
    """For each device the variables that must be equal on all."""
    return [[variable for group in [G.vars, D.vars] + [o.state_variables(i) for o in optimizers.values()]
             for variable in group.values()] for i, (G, D) in enumerate(nets.copies)]


def restore_state(variables, checkpoint):
    """Give `state_variables` the values of a checkpoint. UserError when it is another training's."""
    arrays = checkpoint.arrays
    different = [name for name in set(variables) | set(arrays) if name not in arrays or name not in variables
                 or list(arrays[name].shape) != variables[name].shape.as_list()]
    if different:
        raise UserError(f'{checkpoint.path}: belongs to other networks ({len(different)} variables differ, e.g. '
                        f'{min(different)}); resume with the options the run was started with')
    tfutil.set_vars({variable: arrays[name] for name, variable in variables.items()})
