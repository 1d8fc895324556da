"""What G and D are trained for: seeds -> latents -> fakes, renders, experts -> weighted terms (paper sections 3.1-3.3).

A step is a function of tensors for one device. All that varies while training (lod, minibatch, image counter) is fed,
so one graph serves the whole run; all randomness follows from (run seed, image counter, step, device), so a resumed
run draws what an uninterrupted one would have drawn.
"""

import contextlib
from collections import OrderedDict, namedtuple

import numpy as np

from dnnlib.tflib import images
from dnnlib.tflib.compat import tf
from renderer import surface
from renderer.factors import BY_NAME, NUM_LATENTS
from training import loss
from training.loss_contrastive import CONSTANCY, constancy_terms, expression_terms, lighting_terms
from training.loss_imitative import FULL_TERMS, L1_TERMS, SURFACE_TERMS, imitative_terms
from training.networks_stylegan import W_AVERAGE_BETA

# What does not change within a run.
Context = namedtuple('Context', (
    'stage',            # 1; or 2, with the contrastive terms
    'config',           # configs.load: R, of the finished networks, is its resolution
    'noise_dim',        # length of the noise vector
    'weights',          # {flag of train.py: number}; what is ours (CONSTANCY, SURFACE_TERMS) may be absent: 0
    'decoders',         # vae.model.Decoders
    'faces',            # renderer.face_renderer.FaceRenderer
    'experts',          # perception.experts.Experts; None where only L1 is built, in stage 1
))

# What is fed at every step: scalars.
Inputs = namedtuple('Inputs', (
    'lod',              # float32, level of detail; the active resolution is R / 2^floor(lod)
    'minibatch',        # int32, images per device
    'nimg',             # int64, images shown so far
    'seed',             # int64, of the run
))

PAIRED = ('exp', 'gamma')       # the paper's pairs of fakes in a contrastive step: what the two of each differ in
CONTRASTIVE_NAMES = OrderedDict([('exp_warp', 'Exp_warp_loss'), ('hair', 'Hair_region_loss'),
                                 ('id', 'ID_consistent_loss'), ('lm', 'Lm_consistent_loss')])

STEPS = ('D', 'G')
_MAX_DEVICES = 1 << 12
_LATENTS, _NOISE_VECTOR, MIRROR, _PAIRS, _OTHERS, _PAIR_NOISE = range(6)       # what a seed is for
_NOISE_MAPS, _PURPOSES = 64, 128                                                # noise maps: one number per layer


def placeholders():
    """Inputs made of placeholders."""
    with tf.name_scope('Inputs'):
        return Inputs(*[tf.placeholder(dtype, [], name) for name, dtype in
                        zip(Inputs._fields, (tf.float32, tf.int32, tf.int64, tf.int64))])


def is_full(config, resolution):
    """Whether the full imitative terms count at this active resolution: so which form of a generator step to run."""
    return resolution >= config.full_resolution


def has_r1(config, nimg, minibatch):
    """Whether the discriminator's step after `nimg` images has the R1 penalty: every r1_interval-th step has.

    minibatch: of all devices together.
    """
    return nimg // minibatch % config.r1_interval == 0


def active_resolution(context, lod):
    """R / 2^floor(lod), a scalar int32 tensor: the finer resolution during a fade."""
    return tf.cast(tf.round(context.config.resolution * tf.pow(2.0, -tf.floor(lod))), tf.int32)


# ---- steps

def generator_step(context, G, D, inputs, full, device=0):
    """The generator's objective on one device -> (loss, terms), scalars; terms by TensorBoard name, unweighted.

    full: the full imitative terms (see `is_full`) instead of L1 alone. device: number among all replicas.
    """
    coeff, fakes = generate(context, G, inputs, 'G', device)
    losses = [tf.reduce_mean(loss.generator_loss(scores(D, inputs, part))) for part in fakes]
    imitative, terms = imitative_loss(context, coeff[0], fakes[0], inputs, full)
    losses.append(imitative)
    if context.stage == 2:
        contrastive, more = contrastive_loss(context, coeff[1], fakes[1])
        losses.append(contrastive)
        terms.update(more)
    return tf.add_n(losses), terms


def discriminator_step(context, G, D, inputs, reals, device=0, r1=True):
    """The discriminator's objective on one device -> (loss, terms), as `generator_step`.

    reals: [minibatch, 3, S, S], 0-255, uint8 or float, S the active resolution (see `process_reals`). In stage 2 the
    contrastive fakes have adversarial terms of their own against the same reals, which so count twice.
    r1: with the R1 penalty, for all of the r1_interval steps of which this is the first; False: nothing of it is
    computed.
    """
    _, fakes = generate(context, G, inputs, 'D', device)
    reals = process_reals(reals, inputs.lod, context.config.resolution, seed_of(inputs, 'D', device, MIRROR))
    real_scores = scores(D, inputs, reals)
    fake_scores = [scores(D, inputs, part) for part in fakes]
    about_reals = tf.reduce_mean(loss.real_loss(real_scores))
    terms = OrderedDict([('Loss/scores/real', tf.reduce_mean(real_scores)),
                         ('Loss/scores/fake', tf.reduce_mean(tf.concat(fake_scores, axis=0)))])
    if r1:
        terms['Loss/r1_penalty'] = penalty = tf.reduce_mean(loss.r1_penalty(real_scores, reals))
        about_reals += penalty * (0.5 * context.config.r1_gamma * context.config.r1_interval)
    losses = [tf.reduce_mean(loss.fake_loss(x)) + about_reals for x in fake_scores]
    return tf.add_n(losses), terms


def process_reals(reals, lod, resolution, seed=None):
    """Pictures [N, C, S, S], 0-255, as the networks see them at `lod`: [N, C, R, R] float32, [-1, 1].

    seed: two integers that decide which are mirrored, each with probability 1/2; None: none is. S * 2^floor(lod) must
    be `resolution`.
    """
    x = images.from_255(tf.cast(reals, tf.float32))
    x = x if seed is None else images.mirror_at_random(x, seed)
    return _as_shown(x, lod, resolution)


# ---- parts

def imitative_loss(context, coeff, fakes, inputs, full):
    """(weighted sum, {name: term}) that compares fakes [N, 3, R, R] with renders of their coefficients [N, 254].

    Renders are drawn at the active resolution, then faded and upscaled as reals are, their masks too.
    """
    render = _rendered(context, coeff, inputs.lod)
    weights = imitative_weights(context, inputs, full)
    terms = imitative_terms(list(weights), fakes, render.image, render.mask, context.experts, coeff, render.landmarks,
                            context.faces.landmarks_224, context.faces.model)
    total = tf.add_n([terms[name] * weight for name, weight in weights.items()])
    return total, OrderedDict((f'Loss/{name}_loss', terms[name]) for name in weights)


def contrastive_loss(context, coeff, fakes):
    """(weighted sum, {name: term}) of the pictures of `pair_latents`, [4 or more, 3, R, R], at full resolution."""
    before = context.faces.render(coeff[0:1], context.config.resolution).mask
    flow, after = context.faces.flow(coeff[0:1], coeff[1:2], context.config.resolution)
    masks = [images.nhwc_to_nchw(mask) for mask in (before, after)]
    expression = expression_terms(fakes[0:1], fakes[1:2], flow, *masks)
    lighting = lighting_terms(fakes[2:3], fakes[3:4], context.experts, context.faces.landmarks_224)
    total = (expression.exp_warp * context.weights['w_exp_warp']
             + lighting.gamma_change * context.weights['w_gamma_change'])
    terms = dict(expression, **lighting)
    shown = OrderedDict((f'Loss/{shown}', terms[name]) for name, shown in CONTRASTIVE_NAMES.items())
    for name, term in _constancy(context, coeff, fakes).items():
        total += term * context.weights['w_' + name]
        shown[f'Loss/{name.capitalize()}_loss'] = term
    return total, shown


def constancy_names(weights):
    """The terms of loss_contrastive.CONSTANCY that count; the others are not built."""
    return [name for name in CONSTANCY if weights.get('w_' + name)]


def paired_factors(weights):
    """In what the pairs of a contrastive step differ: the paper's, then those that terms of ours need."""
    wanted = {CONSTANCY[name].factor for name in constancy_names(weights)}
    return PAIRED + tuple(factor for factor in ('rot', 'id') if factor in wanted)


def _constancy(context, coeff, fakes):
    names = constancy_names(context.weights)
    wanted = {CONSTANCY[name].factor for name in names}
    pictures = OrderedDict((factor, (fakes[2 * i:2 * i + 1], fakes[2 * i + 1:2 * i + 2]))
                           for i, factor in enumerate(paired_factors(context.weights)) if factor in wanted)
    moves = 'exp' in [CONSTANCY[name].what for name in names]
    expression = surface.quantity(context.faces.model, 'expression') if moves else None
    lamp = _lamp(context, coeff[2:4]) if 'light_hair' in names else None
    return constancy_terms(names, pictures, context.experts, context.faces.landmarks_224, expression, lamp)


def _lamp(context, coeff):
    """[1, 3]: how much brighter the second of two renders is than the first, which only differ in the light."""
    render = context.faces.render(coeff, context.config.resolution)
    level = tf.reduce_sum(render.image, axis=[1, 2]) / (tf.reduce_sum(render.mask, axis=[1, 2]) + 1.0) + 1.0    # of 255
    return tf.stop_gradient(level[1:2] / level[0:1])


def imitative_weights(context, inputs, full):
    """{term: weight} of the imitative terms that are there: numbers, L1's a scalar tensor that follows the lod."""
    config, weights = context.config, OrderedDict()
    if not full or config.w_l1_above or config.full_resolution <= config.l1_resolution:
        low = active_resolution(context, inputs.lod) <= config.l1_resolution
        weights.update((name, tf.where(low, config.w_l1, config.w_l1_above)) for name in L1_TERMS)
    if full:
        weights.update((name, context.weights['w_' + name]) for name in FULL_TERMS)
        ours = [name for name in SURFACE_TERMS if context.weights.get('w_' + name)]
        weights.update((name, context.weights['w_' + name]) for name in ours)
    return weights


def _rendered(context, coeff, lod):
    """Render as the networks see it: image [N, 3, R, R] in [-1, 1], mask [N, 1, R, R], landmarks of a 256 picture."""
    render = context.faces.render(coeff, active_resolution(context, lod))
    image, mask = [images.nhwc_to_nchw(x) for x in (images.from_255(render.image), render.mask)]
    return render._replace(image=_as_shown(image, lod, context.config.resolution),
                           mask=_as_shown(mask, lod, context.config.resolution))


def _as_shown(x_nchw, lod, resolution):
    x = images.fade_and_upscale(x_nchw, lod)
    x.set_shape([None, None, resolution, resolution])
    return x


def scores(D, inputs, pictures):
    """The discriminator's scores [N, 1] of pictures [N, 3, R, R] at the fed lod."""
    with _at_lod(inputs, D):
        return D.get_output_for(pictures, None, is_training=True)


@contextlib.contextmanager
def _at_lod(inputs, net):
    """Evaluations of `net` in this block see the fed lod."""
    with tf.control_dependencies([tf.assign(net.find_var('lod'), inputs.lod)]):
        yield


# ---- fakes

def generate(context, G, inputs, step, device):
    """([coefficients [N, 254]], [fakes [N, 3, R, R]]) of one step: of the minibatch and, in stage 2, of the two pairs.

    The generator makes them in one go: its pictures do not depend on each other. Its average of w moves as if they
    were two evaluations, one after the other; and as far in a step when several session runs share its minibatch.
    """
    latents, noise = draw(context, inputs, step, device)
    coeff = context.decoders.lambda_from_latents(latents)
    with _at_lod(inputs, G):
        fakes = G.get_output_for(
            tf.concat([coeff, noise], axis=1), None, is_training=True,
            noise_seed=seed_of(inputs, step, device, _NOISE_MAPS),
            dlatent_avg_rows=inputs.minibatch if context.stage == 2 else None,
            dlatent_avg_beta=_w_average_beta(G, context.config.accumulate))
    if context.stage == 1:
        return [coeff], [fakes]
    pairs = len(paired_factors(context.weights))
    return [[x[:inputs.minibatch], _pair_rows(x[inputs.minibatch:], pairs)] for x in (coeff, fakes)]


def _w_average_beta(G, runs):
    """Decay of G's average of w in each of the session runs that share a minibatch; None: G keeps no average."""
    beta = G.static_kwargs.get('dlatent_avg_beta', W_AVERAGE_BETA)
    return None if beta is None else beta ** (1 / runs)


def draw(context, inputs, step, device=0):
    """Latents [M, 179] and noise vectors [M, noise_dim] of a step ('D' or 'G') on a device.

    M is the minibatch; in stage 2 the rows of `pair_latents` follow, two for each of `paired_factors`.
    """
    def normal(rows, columns, purpose):
        return tf.random.stateless_normal(tf.stack([rows, columns]), seed_of(inputs, step, device, purpose))

    latents = normal(inputs.minibatch, NUM_LATENTS, _LATENTS)
    noise = normal(inputs.minibatch, context.noise_dim, _NOISE_VECTOR)
    if context.stage == 2:
        paired = paired_factors(context.weights)
        rows = pair_latents(*[normal(len(paired), NUM_LATENTS, purpose) for purpose in (_PAIRS, _OTHERS)], paired)
        vectors = normal(len(paired), context.noise_dim, _PAIR_NOISE)
        latents = tf.concat([latents, rows], axis=0)
        noise = tf.concat([noise, tf.gather(vectors, np.repeat(np.arange(len(paired)), 2))], axis=0)
    latents.set_shape([None, NUM_LATENTS])
    noise.set_shape([None, context.noise_dim])
    return latents, noise


def pair_latents(latents, others, paired=PAIRED):
    """Independent pairs [2 F, 179] from latents [F, 179]: rows 0, 1 differ in the first factor of `paired`, and so on.

    The second row of a pair is the first with that factor taken from `others` [F, 179].
    """
    rows = []
    for i, name in enumerate(paired):
        own, part = latents[i:i + 1], BY_NAME[name].latents
        rows += [own, tf.concat([own[:, :part.start], others[i:i + 1, part], own[:, part.stop:]], axis=1)]
    return tf.concat(rows, axis=0)


def _pair_rows(x, pairs):
    x.set_shape([2 * pairs] + x.shape.as_list()[1:])
    return x


def seed_of(inputs, step, device, purpose):
    """[2] int64, another one for each run seed, image counter, step, device and purpose (a number below 128)."""
    if not 0 <= device < _MAX_DEVICES:
        raise ValueError(f'device {device}: 0 to {_MAX_DEVICES - 1} expected')
    place = (STEPS.index(step) * _MAX_DEVICES + device) * _PURPOSES + purpose
    with tf.device('/cpu:0'):       # seeds are read by the host
        number = tf.cast(inputs.nimg, tf.int64) * (len(STEPS) * _MAX_DEVICES * _PURPOSES) + place
        return tf.stack([tf.cast(inputs.seed, tf.int64), number])
