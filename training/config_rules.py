"""What each entry of a configuration may be (training/configs.py), so that a mistake in a user's file is one line."""

from dnnlib.util import UserError

SIZES = [2 ** level for level in range(2, 13)]      # of networks and pictures
_MOST = 10 ** 6


# Rules: (value -> whether it fits, what was expected).


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(least, most=_MOST):
    return lambda value: _is_whole(value) and least <= value <= most, f'a whole number from {least} to {most}'


def _number(least, most=_MOST):
    return (lambda value: (_is_whole(value) or isinstance(value, float)) and least <= value <= most,
            f'a number from {least:g} to {most:g}')


def _one_of(*choices):
    return (lambda value: any(type(value) is type(choice) and value == choice for choice in choices),
            ' or '.join(repr(choice) for choice in choices))


def _list(rule, lengths, what):
    fits, _ = rule
    return lambda value: isinstance(value, (list, tuple)) and len(value) in lengths and all(map(fits, value)), what


def _or_none(rule):
    fits, expected = rule
    return lambda value: value is None or fits(value), f'{expected}, or null'


def _by_resolution(rule, or_one=False):
    """A table {resolution: value}; or_one: a value alone will do, too."""
    fits, expected = rule
    return (lambda value: or_one and fits(value) or isinstance(value, dict) and all(
                _is_size(key) and fits(item) for key, item in value.items()),
            (f'{expected}, or ' if or_one else '') + f'a table of resolutions (powers of two from {SIZES[0]} to '
            f'{SIZES[-1]})' + ('' if or_one else f', each with {expected}'))


def _is_size(value):
    return _is_whole(value) and value in SIZES


_SIZE = (_is_size, f'a power of two from {SIZES[0]} to {SIZES[-1]}')
_NAME = (lambda value: isinstance(value, str) and bool(value.strip()) and '\0' not in value, 'a name')
_TABLE = (lambda value: isinstance(value, dict), 'a table of options')
_FLAG, _NONLINEARITY = _one_of(True, False), _one_of('lrelu', 'relu')

RULES = dict(
    data_dir=_NAME, resolution=_SIZE, generator=_TABLE, discriminator=_TABLE, unit_coefficients=_FLAG,
    average_kimg=_number(1e-6), total_kimg=_number(0), stage2_kimg=_number(0), initial_resolution=_SIZE,
    training_kimg=_by_resolution(_number(0), or_one=True), transition_kimg=_by_resolution(_number(0), or_one=True),
    learning_rate=_number(0, 1), learning_rate_dict=_by_resolution(_number(0, 1)), minibatch=_or_none(_whole(1)),
    accumulate=_whole(1, 1000), tick_kimg=_number(1e-6), tick_kimg_dict=_by_resolution(_number(1e-6)),
    snapshot_ticks=_whole(1),
    grid=_or_none(_list(_whole(1, 256), (2,), '[columns, rows], whole numbers from 1 to 256')),
    l1_resolution=_number(0), full_resolution=_number(0), w_l1=_number(0), w_l1_above=_number(0), r1_gamma=_number(0),
    core_share=_number(0.01, 1), r1_interval=_whole(1, 1000), stage1_weights=_TABLE, stage2_weights=_TABLE)

LOSS_WEIGHTS = (        # flags of train.py
    'w_id', 'w_lm', 'w_gamma', 'w_skin', 'w_exp_warp', 'w_gamma_change',
    'w_shape', 'w_albedo', 'w_exp',
    'w_light_hair', 'w_light_background', 'w_pose_hair', 'w_pose_background', 'w_pose_exp', 'w_id_exp')

TABLES = ('training_kimg', 'transition_kimg', 'learning_rate_dict', 'tick_kimg_dict')      # may be by resolution

_BOTH = dict(
    fmap_base=_number(1), fmap_decay=_number(0, 8), fmap_max=_whole(1, 1 << 14), nonlinearity=_NONLINEARITY,
    use_wscale=_FLAG, fused_scale=_one_of('auto', True, False),
    structure=_one_of('auto', 'fixed', 'linear', 'recursive'),
    blur_filter=_or_none((lambda value: value in ([1, 2, 1], (1, 2, 1)), '[1, 2, 1]')))

NETWORKS = dict(            # options of G_style and D_basic that matter; sizes of the data are no choice
    generator=dict(
        _BOTH, dlatent_size=_whole(1, 1 << 14), mapping_layers=_whole(1, 64), mapping_fmaps=_whole(1, 1 << 14),
        mapping_lrmul=_number(1e-6), mapping_nonlinearity=_NONLINEARITY, dlatent_avg_beta=_or_none(_number(0, 1)),
        use_styles=_FLAG, use_noise=_FLAG, use_pixel_norm=_FLAG, use_instance_norm=_FLAG,
        coeff_scale=_or_none(_list(_number(-_MOST), range(1, _MOST), 'a list of numbers'))),
    discriminator=dict(_BOTH, mbstd_group_size=_whole(0), mbstd_num_features=_whole(1, 1 << 10)))


def check(config, where):
    """The configuration itself, an EasyDict with all entries. UserError that names `where` and what is wrong first."""
    for key, rule in RULES.items():
        _check_entry(where, key, config[key], rule)
    weights = dict.fromkeys(LOSS_WEIGHTS, _number(0))
    for table, rules in dict(NETWORKS, stage1_weights=weights, stage2_weights=weights).items():
        refuse_unknown(config[table], rules, f'{where}: {table}')
        for key, value in config[table].items():
            _check_entry(where, f'{table}.{key}', value, rules[key])
    for network in NETWORKS:
        _check_fmaps(where, network, config)
    if config.initial_resolution > config.resolution:
        raise UserError(f'{where}: initial_resolution is {config.initial_resolution}; expected a power of two, at most '
                        f'"resolution", {config.resolution}')
    for key in ('training_kimg', 'transition_kimg'):
        _check_coverage(where, key, config)
    return config


def refuse_unknown(given, known, where):
    """UserError for keys of the table `given` that are not in `known`."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise UserError(f'{where}: unknown {", ".join(short(ascii(key)[1:-1]) for key in unknown)}; expected some of '
                        f'{", ".join(sorted(known))}')


def _check_entry(where, key, value, rule):
    fits, expected = rule
    if not fits(value):
        raise UserError(f'{where}: {key} is {short(repr(value))}; expected {expected}')


def short(text):
    """The text, cut where it is too long for a message."""
    return text if len(text) <= 80 else text[:76] + ' ...'


def _check_coverage(where, key, config):
    """A table of phases must say how long each resolution lasts that another one follows."""
    needed = [size for size in SIZES if config.initial_resolution <= size < config.resolution]
    missing = [str(size) for size in needed if isinstance(config[key], dict) and size not in config[key]]
    if missing:
        raise UserError(f'{where}: {key} has nothing for resolution {", ".join(missing)}; growing to '
                        f'{config.resolution} needs one number, or one for each of {", ".join(map(str, needed))}')


def _check_fmaps(where, network, config):
    """The finest block must keep a feature map."""
    base, decay = [config[network].get(key, default) for key, default in (('fmap_base', 8192), ('fmap_decay', 1.0))]
    stage = SIZES.index(config.resolution) + 1
    if base / 2.0 ** (stage * decay) < 1:
        raise UserError(f'{where}: {network}.fmap_base is {base:g}; expected at least '
                        f'{2.0 ** (stage * decay):.6g} for a resolution of {config.resolution}')
