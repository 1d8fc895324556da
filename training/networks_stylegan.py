"""Generator and discriminator: StyleGAN (arXiv 1812.04948) on face coefficients instead of random latents
(DiscoFaceGAN, arXiv 2004.11660, section 3). Images are NCHW, nominally in [-1, 1], at every network's door.

The options are those of users' snapshots and configurations; G_style, G_mapping and G_synthesis share one dict of
them. What is marked "no effect" has none in the released system either.
"""

import numpy as np

from dnnlib.tflib import layers
from dnnlib.tflib.compat import tf
from dnnlib.tflib.network import Network, register_build_func
from dnnlib.tflib.tfutil import lerp
from dnnlib.util import UserError

_NONLINEARITIES = {     # name: (function, gain of the weights before it)
    'relu': (tf.nn.relu, np.sqrt(2)),
    'lrelu': (layers.leaky_relu, np.sqrt(2)),
}
_G_FAMILY = ('G_style', 'G_mapping', 'G_synthesis')
W_AVERAGE_BETA = 0.995          # of the moving average of w, at each evaluation of the generator


# ---- weighted layers: each makes `weight` or `bias` in the current variable scope

def _weight(shape, gain, use_wscale, lrmul=1.0):
    """Weight as it is used; equalised learning rate keeps the stored one at standard deviation 1 / lrmul."""
    std = gain / np.sqrt(np.prod(shape[:-1]))
    stored_std, factor = (1.0 / lrmul, std * lrmul) if use_wscale else (std / lrmul, lrmul)
    stored = tf.get_variable('weight', shape, initializer=tf.initializers.random_normal(0, stored_std))
    return stored * np.float32(factor)


def _bias(size, lrmul=1.0):
    bias = tf.get_variable('bias', [size], initializer=tf.initializers.zeros())
    return bias if lrmul == 1.0 else bias * np.float32(lrmul)


def _dense(x, size, gain, use_wscale, lrmul=1.0):
    """[N, in] -> [N, size], with bias."""
    return tf.matmul(x, _weight([x.shape.as_list()[1], size], gain, use_wscale, lrmul)) + _bias(size, lrmul)


def _kernel(x, size, fmaps, gain, use_wscale):
    return _weight([size, size, layers.num_channels(x), fmaps], gain, use_wscale)


def _nonlinearity(name):
    if name not in _NONLINEARITIES:
        raise UserError(f'nonlinearity {name!r}: expected one of {", ".join(_NONLINEARITIES)}')
    return _NONLINEARITIES[name]


def _blur(x, blur_filter):
    if not blur_filter:
        return x
    if list(blur_filter) != [1, 2, 1]:
        raise UserError(f'blur_filter {blur_filter!r}: expected [1, 2, 1], or None for no blur')
    return layers.blur2d(x)


def _levels(resolution):
    """log2 of the resolution."""
    if resolution not in [2 ** level for level in range(2, 13)]:
        raise UserError(f'resolution {resolution!r}: expected a power of two from 4 to 4096')
    return int(np.log2(resolution))


def _feature_counts(fmap_base, fmap_decay, fmap_max):
    """Function of s, the stage: number of feature maps."""
    return lambda stage: min(int(fmap_base / 2.0 ** (stage * fmap_decay)), fmap_max)


def _check_dtype(dtype):
    if dtype != 'float32':
        raise UserError(f'dtype {dtype!r}: expected float32')


def _structure(structure, is_template_graph):
    """'auto' -> 'recursive', and 'linear' for the template graph, which makes the variables of all resolutions."""
    if structure not in ('auto', 'fixed', 'linear', 'recursive'):
        raise UserError(f'structure {structure!r}: expected auto, fixed, linear or recursive')
    if is_template_graph:
        return 'linear'
    return 'recursive' if structure == 'auto' else structure


def _lod_variable():
    """The present level of detail: 0 full resolution, k the resolution 2^k times coarser, fractions fade."""
    return tf.get_variable('lod', [], initializer=tf.initializers.zeros(), trainable=False).read_value()


# ---- generator

@register_build_func(shares_options_with=_G_FAMILY, components=dict(synthesis='G_synthesis', mapping='G_mapping'))
def G_style(
        latents_in,                     # [N, latent_size] coefficients and noise vector
        labels_in,                      # [N, label_size]
        truncation_psi=0.7,             # no effect
        truncation_cutoff=8,            # no effect
        truncation_psi_val=None,        # no effect
        truncation_cutoff_val=None,     # no effect
        dlatent_avg_beta=W_AVERAGE_BETA,        # decay of the moving average of w; None: no average
        dlatent_avg_rows=None,          # it moves by so many rows first, then by the others: two evaluations in one
        style_mixing_prob=0.9,          # no effect
        is_training=False,              # no effect
        is_validation=False,            # True leaves dlatent_avg alone
        return_dlatents=False,          # also return w, [N, num_layers, dlatent_size]
        is_template_graph=False,
        components=None,
        **kwargs):
    """The whole generator -> images [N, num_channels, resolution, resolution].

    Unless is_validation, EVERY evaluation moves the variable dlatent_avg towards the batch mean of w; and every one
    copies the generator's lod into the synthesis network.
    """
    if 'synthesis' not in components:
        components.synthesis = Network('G_synthesis', 'G_synthesis', **kwargs)
    num_layers, dlatent_size = components.synthesis.input_shapes[0][1:]
    if 'mapping' not in components:
        components.mapping = Network('G_mapping', 'G_mapping', **dict(kwargs, dlatent_broadcast=num_layers))

    lod = _lod_variable()
    dlatent_avg = tf.get_variable('dlatent_avg', [dlatent_size], initializer=tf.initializers.zeros(), trainable=False)
    latents_in.set_shape(components.mapping.input_shapes[0])
    labels_in.set_shape(components.mapping.input_shapes[1])
    if is_template_graph:       # tells the shapes only
        images, dlatents = [tf.placeholder(tf.float32, shape) for shape in
                            (components.synthesis.output_shapes[0], components.synthesis.input_shapes[0])]
        return (images, dlatents) if return_dlatents else images

    dlatents = components.mapping.get_output_for(latents_in, labels_in, **kwargs)
    side_effects = [tf.assign(components.synthesis.find_var('lod'), lod)]
    if not is_validation and dlatent_avg_beta is not None:
        average = dlatent_avg
        for w in tf.split(dlatents[:, 0], [-1] if dlatent_avg_rows is None else [dlatent_avg_rows, -1]):
            average = lerp(tf.reduce_mean(w, axis=0), average, dlatent_avg_beta)
        side_effects.append(tf.assign(dlatent_avg, average))
    with tf.control_dependencies(side_effects):
        dlatents = tf.identity(dlatents)
        images = tf.identity(components.synthesis.get_output_for(dlatents, **kwargs), name='images_out')
    return (images, dlatents) if return_dlatents else images


@register_build_func(shares_options_with=_G_FAMILY)
def G_mapping(
        latents_in,                     # [N, latent_size]
        labels_in,                      # [N, label_size]
        latent_size=512,
        label_size=0,
        dlatent_size=512,
        dlatent_broadcast=None,         # number of rows of the output; None: one vector, [N, dlatent_size]
        mapping_layers=8,
        mapping_fmaps=512,              # width of the layers but the last
        mapping_lrmul=0.01,             # learning rate of these layers, relative
        mapping_nonlinearity='lrelu',   # 'lrelu' or 'relu'
        use_wscale=True,                # equalised learning rate
        normalize_latents=False,        # no effect
        coeff_scale=None,               # factor of each input, latent_size numbers; None: 1
        dtype='float32',
        **_others):
    """Coefficients -> w, [N, dlatent_broadcast, dlatent_size], all rows equal."""
    _check_dtype(dtype)
    latents_in.set_shape([None, latent_size])
    labels_in.set_shape([None, label_size])
    act, gain = _nonlinearity(mapping_nonlinearity)
    if not 1 <= mapping_layers <= 64:
        raise UserError(f'mapping_layers {mapping_layers}: expected 1 to 64')
    x = latents_in if coeff_scale is None else latents_in * _coeff_scale(coeff_scale, latent_size)
    if label_size:
        with tf.variable_scope('LabelConcat'):
            weight = tf.get_variable('weight', [label_size, latent_size], initializer=tf.initializers.random_normal())
            x = tf.concat([x, tf.matmul(labels_in, weight)], axis=1)
    for index in range(mapping_layers):
        with tf.variable_scope(f'Dense{index}'):
            size = dlatent_size if index == mapping_layers - 1 else mapping_fmaps
            x = act(_dense(x, size, gain, use_wscale, mapping_lrmul))
    if dlatent_broadcast is not None:
        x = tf.tile(x[:, np.newaxis], [1, dlatent_broadcast, 1])
    return tf.identity(x, name='dlatents_out')


def _coeff_scale(coeff_scale, latent_size):
    scale = np.asarray(coeff_scale, np.float32)
    if scale.shape != (latent_size,):
        raise UserError(f'coeff_scale: {latent_size} numbers expected (latent_size), got shape {list(scale.shape)}')
    return scale


@register_build_func(shares_options_with=_G_FAMILY)
def G_synthesis(
        dlatents_in,                    # [N, num_layers, dlatent_size]
        dlatent_size=512,
        num_channels=3,
        resolution=1024,
        fmap_base=8192,                 # feature maps: min(fmap_base / 2^(stage * fmap_decay), fmap_max)
        fmap_decay=1.0,
        fmap_max=512,
        use_styles=True,
        use_noise=True,
        randomize_noise=True,           # fresh noise per sample; False: the stored noise maps
        noise_seed=None,                # [2] integers that decide the fresh noise, or [N, 2]; None: other ones each run
        nonlinearity='lrelu',
        use_wscale=True,
        use_pixel_norm=False,
        use_instance_norm=True,
        dtype='float32',
        fused_scale='auto',             # True, False, 'auto'
        blur_filter=(1, 2, 1),          # or None
        structure='auto',               # 'fixed' (lod is 0), 'linear', 'recursive', 'auto'
        is_template_graph=False,
        **_others):
    """w -> images [N, num_channels, resolution, resolution]."""
    _check_dtype(dtype)
    top = _levels(resolution)
    fmaps = _feature_counts(fmap_base, fmap_decay, fmap_max)
    act, gain = _nonlinearity(nonlinearity)
    dlatents_in.set_shape([None, 2 * top - 2, dlatent_size])
    lod = _lod_variable()
    noise_maps = _noise_variables(top) if use_noise else None
    batch = tf.shape(dlatents_in)[0]
    in_one = _is_noise_style(act, use_styles and use_noise and use_instance_norm and not use_pixel_norm)

    def epilogue(x, layer):
        noise = None
        if use_noise:
            shape = [batch] + noise_maps[layer].shape.as_list()[1:]
            noise = _fresh_noise(shape, noise_seed, layer) if randomize_noise else noise_maps[layer]
        if in_one:
            return _noise_style(x, noise, dlatents_in[:, layer], use_wscale)
        x = act(_noise_and_bias(x, noise))
        if use_pixel_norm:
            x = layers.pixel_norm(x)
        style = _style(dlatents_in[:, layer], layers.num_channels(x), use_wscale) if use_styles else (None, None)
        if use_instance_norm:
            return layers.instance_norm(x, *style)
        return layers.scale_and_shift(x, *style) if use_styles else x

    def conv(x, level):
        return layers.conv2d(x, _kernel(x, 3, fmaps(level - 1), gain, use_wscale))

    def up(x, level):
        kernel = _kernel(x, 3, fmaps(level - 1), gain, use_wscale)
        # The fused form of the released networks, 'auto' from 128 pixels up, turns the stored kernel round.
        kernel = kernel[::-1, ::-1] if (level >= 7 if fused_scale == 'auto' else fused_scale) else kernel
        return _blur(layers.upscale_conv2d(x, kernel), blur_filter)

    def start():
        with tf.variable_scope('4x4'):
            with tf.variable_scope('Const'):
                const = tf.get_variable('const', [1, fmaps(1), 4, 4], initializer=tf.initializers.ones())
                x = epilogue(layers.from_nchw(tf.tile(const, [batch, 1, 1, 1])), 0)
            with tf.variable_scope('Conv'):
                return epilogue(conv(x, 2), 1)

    def block(x, level):
        with tf.variable_scope(f'{2 ** level}x{2 ** level}'):
            with tf.variable_scope('Conv0_up'):
                x = epilogue(up(x, level), 2 * level - 4)
            with tf.variable_scope('Conv1'):
                return epilogue(conv(x, level), 2 * level - 3)

    def to_rgb(x, level):
        with tf.variable_scope(f'ToRGB_lod{top - level}'):
            return layers.bias_add(layers.conv2d(x, _kernel(x, 1, num_channels, 1, use_wscale)), _bias(num_channels))

    grow = _G_STRUCTURES[_structure(structure, is_template_graph)]
    images = layers.to_nchw(grow(start, block, to_rgb, top, lod))
    images.set_shape([None, num_channels, resolution, resolution])
    return tf.identity(images, name='images_out')


def _noise_variables(top):
    """The stored noise maps noise0, noise1, ...: two per resolution, [1, 1, size, size]."""
    sizes = [2 ** (layer // 2 + 2) for layer in range(2 * top - 2)]
    return [tf.get_variable(f'noise{layer}', [1, 1, size, size], initializer=tf.initializers.random_normal(),
                            trainable=False) for layer, size in enumerate(sizes)]


def _fresh_noise(shape, seed, layer):
    """N(0, 1) [N, 1, H, W]. seed: [2], of the whole batch, or [N, 2], of each image alone; layer k draws by [1] + k."""
    if seed is None:
        return tf.random_normal(shape)
    seed = tf.convert_to_tensor(seed)
    seed += tf.constant([0, layer], seed.dtype)
    if seed.shape.ndims == 1:
        return tf.random.stateless_normal(shape, seed)
    return tf.map_fn(lambda one: tf.random.stateless_normal(shape[1:], one), seed, dtype=tf.float32)


def _noise_and_bias(x, noise):
    """noise: [N or 1, 1, H, W], the same for all channels up to a weight for each; or None."""
    if noise is None:
        return layers.bias_add(x, _bias(layers.num_channels(x)))
    return layers.add_noise_and_bias(x, noise, *_noise_weight_and_bias(x))


def _noise_weight_and_bias(x):
    """Two tensors [channels]."""
    channels = layers.num_channels(x)
    with tf.variable_scope('Noise'):
        weight = tf.get_variable('weight', [channels], initializer=tf.initializers.zeros())
    return weight, _bias(channels)


def _is_noise_style(act, usual):
    """Whether `_noise_style` can take the place of what follows a convolution. usual: the options are the paper's."""
    return layers.has_ops() and usual and act is layers.leaky_relu


def _noise_style(x, noise, dlatent, use_wscale):
    """`_noise_and_bias`, leaky ReLU, instance norm and `_style` as one op."""
    weight_and_bias = _noise_weight_and_bias(x)
    return layers.noise_style(x, noise, *weight_and_bias, *_style(dlatent, layers.num_channels(x), use_wscale))


def _style(dlatent, channels, use_wscale):
    """Scale and shift of each channel, computed from w: two tensors [N, channels]."""
    with tf.variable_scope('StyleMod'):
        style = _dense(dlatent, 2 * channels, 1, use_wscale)
    return style[:, :channels] + 1, style[:, channels:]


# ---- growing: `lod` says which resolutions are there

def _mix(x, y, t):
    """x where t <= 0, y where t >= 1, the mixture between."""
    return lerp(x, y, tf.clip_by_value(t, 0.0, 1.0))


def _mix_if_needed(x, y, t):
    """`_mix`, with y a function that is evaluated only where t > 0."""
    return tf.cond(t > 0, lambda: _mix(x, y(), t), lambda: x)


def _grow_G_fixed(start, block, to_rgb, top, lod):
    """Full resolution, whatever lod is."""
    x = start()
    for level in range(3, top + 1):
        x = block(x, level)
    return to_rgb(x, top)


def _grow_G_linear(start, block, to_rgb, top, lod):
    """All resolutions are evaluated, and mixed by lod."""
    x = start()
    images = to_rgb(x, 2)
    for level in range(3, top + 1):
        x = block(x, level)
        images = _mix(to_rgb(x, level), layers.upscale2d(images), lod - (top - level))
    return images


def _grow_G_recursive(start, block, to_rgb, top, lod):
    """A finer block is evaluated only where lod says it is there."""
    def images(x, level, coarser):
        def here():
            y = to_rgb(x, level)
            if coarser is not None:
                y = _mix_if_needed(y, lambda: layers.upscale2d(to_rgb(coarser, level - 1)), lod - (top - level))
            return layers.upscale2d(y, 2 ** (top - level))
        if level == top:
            return here()
        return tf.cond(lod < top - level, lambda: images(block(x, level + 1), level + 1, x), here)
    return images(start(), 2, None)


_G_STRUCTURES = {'fixed': _grow_G_fixed, 'linear': _grow_G_linear, 'recursive': _grow_G_recursive}


def _grow_D_fixed(images, block, from_rgb, top, lod):
    """Full resolution, whatever lod is."""
    x = from_rgb(images, top)
    for level in range(top, 2, -1):
        x = block(x, level)
    return x


def _grow_D_linear(images, block, from_rgb, top, lod):
    """All resolutions are evaluated, and mixed by lod."""
    x = from_rgb(images, top)
    for level in range(top, 2, -1):
        x = block(x, level)
        images = layers.downscale2d(images)
        x = _mix(x, from_rgb(images, level - 1), lod - (top - level))
    return x


def _grow_D_recursive(images, block, from_rgb, top, lod):
    """A finer block is evaluated only where lod says it is there."""
    def features(level):
        def here():
            return from_rgb(layers.downscale2d(images, 2 ** (top - level)), level)

        def from_finer():
            return _mix_if_needed(block(features(level + 1), level + 1), here, lod - (top - level - 1))
        return here() if level == top else tf.cond(lod < top - level, from_finer, here)
    return features(2)


_D_STRUCTURES = {'fixed': _grow_D_fixed, 'linear': _grow_D_linear, 'recursive': _grow_D_recursive}


# ---- discriminator

@register_build_func()
def D_basic(
        images_in,                      # [N, num_channels, resolution, resolution]
        labels_in,                      # [N, label_size]
        num_channels=3,
        resolution=1024,
        label_size=0,
        fmap_base=8192,
        fmap_decay=1.0,
        fmap_max=512,
        nonlinearity='lrelu',
        use_wscale=True,
        mbstd_group_size=4,             # at most; 0 or 1: no minibatch statistic
        mbstd_num_features=1,
        dtype='float32',
        fused_scale='auto',             # no effect: both forms compute the same
        blur_filter=(1, 2, 1),          # or None
        structure='auto',               # 'fixed' (lod is 0), 'linear', 'recursive', 'auto'
        is_training=False,              # no effect
        is_template_graph=False,
        components=None):
    """Images -> scores [N, 1]; with labels, the score that belongs to the label."""
    _check_dtype(dtype)
    top = _levels(resolution)
    fmaps = _feature_counts(fmap_base, fmap_decay, fmap_max)
    act, gain = _nonlinearity(nonlinearity)
    images_in.set_shape([None, num_channels, resolution, resolution])
    labels_in.set_shape([None, label_size])
    lod = _lod_variable()

    def biased(x):
        return act(layers.bias_add(x, _bias(layers.num_channels(x))))

    def from_rgb(images, level):
        with tf.variable_scope(f'FromRGB_lod{top - level}'):
            return biased(layers.conv2d(images, _kernel(images, 1, fmaps(level - 1), gain, use_wscale)))

    def block(x, level):
        with tf.variable_scope(f'{2 ** level}x{2 ** level}'):
            with tf.variable_scope('Conv0'):
                x = biased(layers.conv2d(x, _kernel(x, 3, fmaps(level - 1), gain, use_wscale)))
            with tf.variable_scope('Conv1_down'):
                x = _blur(x, blur_filter)
                return biased(layers.conv_downscale2d(x, _kernel(x, 3, fmaps(level - 2), gain, use_wscale)))

    def scores(x):
        with tf.variable_scope('4x4'):
            if mbstd_group_size > 1:
                x = layers.minibatch_stddev(x, mbstd_group_size, mbstd_num_features)
            with tf.variable_scope('Conv'):
                x = biased(layers.conv2d(x, _kernel(x, 3, fmaps(1), gain, use_wscale)))
            x = layers.to_nchw(x)
            x = tf.reshape(x, [-1, int(np.prod(x.shape.as_list()[1:]))])
            with tf.variable_scope('Dense0'):
                x = act(_dense(x, fmaps(0), gain, use_wscale))
            with tf.variable_scope('Dense1'):
                return _dense(x, max(label_size, 1), 1, use_wscale)

    grow = _D_STRUCTURES[_structure(structure, is_template_graph)]
    y = scores(grow(layers.from_nchw(images_in), block, from_rgb, top, lod))
    if label_size:
        y = tf.reduce_sum(y * labels_in, axis=1, keepdims=True)
    return tf.identity(y, name='scores_out')
