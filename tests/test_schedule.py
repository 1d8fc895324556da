"""The training schedule against the table of the released configuration."""

import math

import pytest

from training import configs, schedule


def ffhq256(devices=4, **changes):
    """The schedule of the released configuration."""
    return configs.schedule_of(configs.load('ffhq256'), devices)._replace(**changes)


def formula(kimg, log2_resolution=8):
    """lod as the specification writes it."""
    return max(log2_resolution - 3 - math.floor(kimg / 1200) - max(kimg % 1200 - 600, 0) / 600, 0)


@pytest.mark.parametrize('kimg', [0, 1, 599.9, 600, 600.1, 900, 1199.9, 1200, 1500, 1800, 2100, 2400, 3000, 3001, 5999,
                                  6000, 9000, 25000])
def test_lod_is_the_formula(kimg):
    assert schedule.lod_at(ffhq256(), kimg) == pytest.approx(formula(kimg), abs=1e-9)


@pytest.mark.parametrize('devices,expected', [
    (1, {8: 128, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}),
    (2, {8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 8}),
    (4, {8: 256, 16: 128, 32: 64, 64: 32, 128: 16, 256: 16}),
    (8, {8: 256, 16: 128, 32: 64, 64: 32, 128: 32, 256: 32}),
])
def test_minibatch_by_devices(devices, expected):
    plan = ffhq256(devices)
    kimg_of = {8: 0, 16: 1200, 32: 2400, 64: 3600, 128: 4800, 256: 6000}
    for resolution, minibatch in expected.items():
        state = schedule.state_at(plan, kimg_of[resolution] * 1000)
        assert (state.resolution, state.minibatch) == (resolution, minibatch)


@pytest.mark.parametrize('devices', range(1, 17))
def test_minibatch_divides_among_devices(devices):
    base, table = schedule.minibatches(devices)
    assert base % devices == 0 and all(total % devices == 0 and total > 0 for total in table.values())


def test_rates_ticks_and_the_active_resolution_of_a_fade():
    plan = ffhq256(4)
    rates = {0: (8, 0.001, 140), 700: (16, 0.001, 120), 3000: (32, 0.001, 100), 3001: (64, 0.001, 80),
             4201: (128, 0.0015, 60), 5401: (256, 0.002, 40), 6000: (256, 0.002, 40), 25000: (256, 0.002, 40)}
    for kimg, expected in rates.items():
        state = schedule.state_at(plan, kimg * 1000)
        assert (state.resolution, state.learning_rate, state.tick_kimg) == expected, kimg


def test_phases_of_different_length():
    plan = ffhq256(1, resolution=64, training_kimg={8: 20, 16: 75, 32: 250, 64: 0},
                   transition_kimg={8: 20, 16: 75, 32: 250, 64: 0})
    lods = {0: 3, 20: 3, 30: 2.5, 40: 2, 115: 2, 152.5: 1.5, 190: 1, 440: 1, 690: 0, 900: 0}
    for kimg, lod in lods.items():
        assert schedule.lod_at(plan, kimg) == pytest.approx(lod), kimg
