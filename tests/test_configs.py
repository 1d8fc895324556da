"""A user's own configuration: whatever the file holds, one line or a schedule that can be walked to its end."""

import inspect
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dnnlib.util import EasyDict, UserError
from training import config_rules, configs, schedule

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from('4 8 16 64 x ²'.split()), inner,
                                                                max_size=3), max_leaves=4)
LIKELY = dict(
    resolution=st.sampled_from([4, 8, 32, 64, 128, 256]), initial_resolution=st.sampled_from([4, 8, 64]),
    training_kimg=st.floats(0, 50) | st.dictionaries(st.sampled_from(['8', '16', '32']), st.integers(0, 50)),
    transition_kimg=st.integers(0, 50), minibatch=st.integers(1, 64), grid=st.lists(st.integers(1, 5), min_size=2,
                                                                                    max_size=2),
    generator=st.fixed_dictionaries({}) | st.fixed_dictionaries({'fmap_base': st.integers(1, 1024)}),
    base=st.sampled_from(sorted(configs.CONFIGS)))
KEYS = sorted(configs.FFHQ256) + ['base']
LIKELY_ENTRY = st.sampled_from(sorted(LIKELY)).flatmap(lambda key: LIKELY[key].map(lambda value: (key, value)))
CONTENT = st.lists(LIKELY_ENTRY, max_size=4).map(dict) | st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=2)


def _walk(config):
    """States of all of a training; they must go on and never back."""
    end = configs.final_kimg(config, 2)
    for devices in (1, 3):
        plan = configs.schedule_of(config, devices)
        states = [schedule.state_at(plan, end * 1000 * step / 40) for step in range(41)]
        for before, state in zip([states[0]] + states, states):
            assert config.initial_resolution <= before.resolution <= state.resolution <= config.resolution
            assert 0 <= state.lod <= before.lod and state.minibatch % devices == 0 < state.minibatch
            assert math.isfinite(state.learning_rate) and state.tick_kimg > 0


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(content=CONTENT)
def test_any_file_is_one_line_or_a_whole_schedule(tmp_path_factory, content):
    path = tmp_path_factory.mktemp('own') / 'own.json'
    path.write_text(json.dumps(content))
    try:
        config = configs.load(str(path))
    except UserError as error:
        assert str(error).replace('--config ', '').startswith(str(path))
        assert '\n' not in str(error) and len(str(error)) < 800
    else:
        _walk(config)
        assert configs.from_options(json.loads(json.dumps(config))) == config


@pytest.mark.parametrize('content,message', [
    ({'base': 'demo64', 'resolution': 256}, 'training_kimg has nothing for resolution 64, 128; growing to 256 needs'),
    ({'training_kimg': {'8': 10, '32': 10}}, 'training_kimg has nothing for resolution 16, 64, 128;'),
    ({'transition_kimg': {'8': 10}, 'resolution': 32}, 'transition_kimg has nothing for resolution 16'),
    ({'training_kimg': {'8': 10, '24': 10}}, 'training_kimg is .*expected a number from 0 .* or a table'),
    ({'grid': 5}, r'grid is 5; expected \[columns, rows\]'), ({'grid': [2, 1.5]}, 'grid is'),
    ({'base': ['x']}, r'"base" is \[\'x\'\]'), ({'resolution': [4]}, r'resolution is \[4\]; expected a power of two'),
    ({'resolution': 64.0}, 'resolution is 64.0'), ({'training_kimg': 'x'}, "training_kimg is 'x'; expected a number"),
    ({'learning_rate_dict': None}, 'learning_rate_dict is None; expected a table'),
    ({'learning_rate_dict': {'²': 1}}, 'learning_rate_dict is'), ({'tick_kimg_dict': {'8': 0}}, 'tick_kimg_dict is'),
    ({'minibatch': 16.5}, 'minibatch is 16.5; expected a whole number'), ({'data_dir': 5}, 'data_dir is 5'),
    ({'full_resolution': 'a'}, "full_resolution is 'a'"), ({'total_kimg': math.nan}, 'not readable JSON .*NaN'),
    ({'total_kimg': 10 ** 400}, r'total_kimg is 10+ \.\.\.'), ({'unit_coefficients': 1}, 'unit_coefficients is 1'),
    ({'generator': {'fmap_bass': 64}}, 'generator: unknown fmap_bass; expected some of'),
    ({'generator': {'resolution': 64}}, 'generator: unknown resolution'),
    ({'discriminator': {'fmap_max': '8'}}, "discriminator.fmap_max is '8'"),
    ({'stage1_weights': {'w_lmm': 1}}, 'stage1_weights: unknown w_lmm; expected some of w_albedo, w_exp'),
    ({'stage2_weights': {'w_lm': -1}}, 'stage2_weights.w_lm is -1; expected a number from 0'),
    ({'generator': {'fmap_base': 64}}, 'generator.fmap_base is 64; expected at least 128 for a resolution of 256')])
def test_mistakes_are_named(tmp_path, content, message):
    path = tmp_path / 'wrong.json'
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match='wrong.json: ' + message):
        configs.load(str(path))


def test_accumulated_minibatches_divide_evenly():
    for name in configs.CONFIGS:
        for devices, runs in ((1, 3), (4, 8)):
            plan = configs.schedule_of(EasyDict(configs.load(name), accumulate=runs), devices)
            totals = [plan.minibatch_base] + list(plan.minibatch_dict.values())
            assert all(total % (devices * runs) == 0 < total for total in totals)


def test_endlessly_nested_file(tmp_path):
    path = tmp_path / 'deep.json'
    path.write_text('[' * 100000)
    with pytest.raises(UserError, match='deep.json: not readable JSON'):
        configs.load(str(path))


@pytest.mark.parametrize('name', sorted(configs.CONFIGS))
def test_named_configurations_keep_the_rules(name):
    config = configs.load(name)
    assert set(config) == set(config_rules.RULES) | {'name'}
    _walk(config_rules.check(EasyDict(config), name))


def test_options_of_networks_are_those_the_networks_take():
    from training import networks_stylegan as networks
    functions = dict(generator=(networks.G_style, networks.G_mapping, networks.G_synthesis),
                     discriminator=(networks.D_basic,))
    for network, rules in config_rules.NETWORKS.items():
        taken = set().union(*(inspect.signature(function).parameters for function in functions[network]))
        assert set(rules) <= taken
