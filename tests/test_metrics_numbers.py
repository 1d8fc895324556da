"""The metrics' numbers against closed forms, brute force and properties; no network, no TensorFlow."""

import argparse
from unittest import mock

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from dnnlib.util import UserError
from metrics import consistency, control, detection, disentanglement, groups, metric_base, proof, reals
from metrics import frechet_inception_distance as fid
from metrics import kernel_inception_distance as kid
from metrics import perceptual_path_length as ppl
from renderer import factors, surface
from tests.common import assert_close

SEEDS = st.integers(0, 2 ** 32 - 1)


def _rotation(rng, size):
    return np.linalg.qr(rng.standard_normal([size, size]))[0]


# ---- FID

def test_moments_are_those_of_numpy_whatever_the_chunks():
    x = np.random.RandomState(0).standard_normal([50, 7]).astype(np.float32) * 3 + 100
    mean, covariance = fid.moments(x, chunk=8)
    assert_close(mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
    assert_close(covariance, np.cov(x.astype(np.float64), rowvar=False), atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(1, 12))
def test_frechet_distance_of_gaussians_with_common_axes(seed, size):
    """|m1 - m2|^2 + sum of (sqrt a - sqrt b)^2; some variances are 0: no full rank is needed."""
    rng = np.random.RandomState(seed)
    a, b = rng.uniform(0, 4, [2, size]) * (rng.uniform(size=[2, size]) < 0.7)
    means, turn = rng.standard_normal([2, size]), _rotation(rng, size)
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    got = fid.frechet_distance((means[0], (turn * a) @ turn.T), (means[1], (turn * b) @ turn.T))
    assert abs(got - expected) < 1e-6 * (1 + expected)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.integers(1, 10))
def test_frechet_distance_of_any_gaussians_agrees_with_the_matrix_root(seed, size):
    rng = np.random.RandomState(seed)
    factor = rng.standard_normal([2, size, size])
    first, second = [(rng.standard_normal(size), m @ m.T + 0.1 * np.eye(size)) for m in factor]
    root = scipy.linalg.sqrtm(first[1] @ second[1]).real
    expected = np.sum((first[0] - second[0]) ** 2) + np.trace(first[1] + second[1] - 2 * root)
    assert abs(fid.frechet_distance(first, second) - expected) < 1e-6 * (1 + expected)
    assert abs(fid.frechet_distance(second, first) - expected) < 1e-6 * (1 + expected)
    assert fid.frechet_distance(first, first) < 1e-6 * np.trace(first[1])


def test_frechet_distance_with_fewer_pictures_than_features():
    x = np.random.RandomState(0).standard_normal([10, 40])
    assert fid.frechet_distance(fid.moments(x), fid.moments(x)) < 1e-5
    assert abs(fid.frechet_distance(fid.moments(x), fid.moments(x + 2)) - 160) < 1e-5
    with pytest.raises(ValueError, match='not finite'):
        fid.frechet_distance(fid.moments(x * np.nan), fid.moments(x))


# ---- KID

def test_squared_mmd_by_its_definition():
    rng = np.random.RandomState(0)
    x, y = rng.standard_normal([6, 3]), rng.standard_normal([5, 3]) + 1
    k = lambda a, b: (np.dot(a, b) / 3 + 1) ** 3
    pairs = lambda z: np.mean([k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])
    expected = pairs(x) + pairs(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert abs(kid.squared_mmd(x, y) - expected) < 1e-10 * abs(expected)


def test_kernel_distance_of_gaussians():
    """In one dimension (ab + 1)^3 compares three moments: 3 d1^2 + 3 d2^2 + d3^2. Unbiased: 0 for equal ones."""
    rng = np.random.RandomState(1)
    m, s = np.array([0.0, 0.5]), np.array([1.0, 1.5])
    moments = np.stack([m, m ** 2 + s ** 2, m ** 3 + 3 * m * s ** 2])
    d1, d2, d3 = moments[:, 0] - moments[:, 1]
    x, y = [rng.normal(m[i], s[i], [20000, 1]) for i in (0, 1)]
    mean, deviation, size = kid.kernel_distance(x, y, seed=0, subsets=100, size=200)
    assert size == 200
    expected = 3 * d1 ** 2 + 3 * d2 ** 2 + d3 ** 2
    assert abs(mean - expected) < 5 * deviation / 10 and deviation / 10 < 0.2 * expected
    equal, deviation, _ = kid.kernel_distance(x[:10000], x[10000:], seed=0, subsets=100, size=200)
    assert abs(equal) < 5 * deviation / 10 < 0.1 * expected
    assert kid.kernel_distance(x[:50], y, seed=0, subsets=2)[2] == 50


# ---- path length

@settings(deadline=None, max_examples=30)
@given(SEEDS, st.integers(2, 40))
def test_slerp_turns_and_grows_evenly(seed, size):
    rng = np.random.RandomState(seed)
    a, b = rng.standard_normal([2, 3, size])
    t = np.full([3, 1], 0.25)
    x = [ppl.slerp(a, b, t * i) for i in range(5)]
    assert_close(x[0], a, atol=1e-9)
    assert_close(x[4], b, atol=1e-6)
    lengths = [np.linalg.norm(v, axis=1) for v in x]
    assert_close(lengths[1] - lengths[0], lengths[4] - lengths[3], atol=1e-6)
    angles = [np.arccos(np.clip(np.sum(p * q, axis=1) / (n * m), -1, 1))
              for p, q, n, m in zip(x, x[1:], lengths, lengths[1:])]
    assert_close(angles[0], angles[3], atol=1e-5)


def test_path_length_of_points_on_the_sphere_is_the_angle_squared():
    rng = np.random.RandomState(0)
    a, b = rng.standard_normal([2, 200, 60])
    t = rng.uniform(size=[200, 1])
    got = ppl.distances(ppl.slerp(a, b, t), ppl.slerp(a, b, t + ppl.EPSILON))
    cosine = np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert_close(got, np.arccos(cosine) ** 2, rtol=1e-5)


def test_ends_go_through_coefficients_and_w():
    rng = np.random.RandomState(0)
    normals, t = rng.standard_normal([2, 4, factors.NUM_LATENTS + 3]), rng.uniform(size=[4, 1])
    seen = []

    def dlatents(coeffs):
        seen.append(coeffs)
        return np.tile(coeffs[:, np.newaxis, :5] ** 2, [1, 2, 1])

    decode = lambda z: z[:, :factors.NUM_LATENTS - 4] + 1
    first, second = ppl.ends('z', 'full', normals, t, decode, dlatents)
    z = ppl.slerp(normals[0], normals[1], t)
    assert_close(first[:, 1], (z[:, :5] + 1) ** 2, rtol=1e-5)
    assert np.abs(second - first).max() > 0
    assert_close(seen[0][:, -3:], z[:, -3:].astype(np.float32))     # noise vector behind the coefficients
    w = [(normal[:, :5] + 1) ** 2 for normal in normals]
    first, second = ppl.ends('w', 'full', normals, t, decode, dlatents)
    assert_close(first[:, 0], w[0] + (w[1] - w[0]) * t, rtol=1e-5, atol=1e-5)
    first, second = ppl.ends('w', 'end', normals, t, decode, dlatents)
    assert_close(first[:, 0], w[0], rtol=1e-5)
    assert_close((second - first)[:, 0] / ppl.EPSILON, w[1] - w[0], atol=2e-2)


def test_crop_and_mean_between_percentiles():
    pictures = np.arange(16 * 16).reshape(1, 16, 16, 1)
    assert_close(ppl.crop(pictures)[0, :, :, 0], pictures[0, 6:14, 4:12, 0])
    values = np.concatenate([np.full(98, 3.0), [1e9, -1e9, 3.0]])
    assert ppl.mean_within(values) == 3.0
    assert ppl.mean_within([5.0]) == 5.0


# ---- disentanglement

def test_variances_and_leakage():
    rng = np.random.RandomState(0)
    between, within = rng.standard_normal([4000, 1, 3]) * [1, 2, 0], rng.standard_normal([4000, 8, 3]) * [0, 1, 1]
    values = between + within
    assert abs(disentanglement.within_variance(values) - 2) < 0.05
    assert abs(disentanglement.total_variance(values) - 7) < 0.3
    assert abs(disentanglement.leakage(values) - 2 / 7) < 0.02
    assert disentanglement.leakage(np.tile(between, [1, 8, 1])) < 1e-20
    assert abs(disentanglement.leakage(within) - 1) < 0.01
    assert disentanglement.leakage(np.ones([5, 4, 3])) is None


def test_score_is_the_product_over_the_other_factors():
    sigma = {'id': {'id': 2.0, 'exp': 0.5, 'rot': 0.25}, 'exp': {'id': 1.0, 'exp': 1.0, 'rot': 1.0},
             'rot': {'id': 0.0, 'exp': 0.0, 'rot': 0.0}}
    assert disentanglement.scores(sigma) == {'id': 4.0 * 8.0, 'exp': 1.0, 'rot': 0.0}


# ---- control

def test_explained_share_of_noisy_and_shrunk_answers():
    rng = np.random.RandomState(0)
    wanted = rng.standard_normal([20000, 3]) * [2.0, 1.0, 0.0]
    noisy = control.explained(wanted, wanted + rng.standard_normal(wanted.shape) * 0.5)
    assert abs(noisy['r2'] - (1 - 0.75 / 5)) < 0.01 and abs(noisy['slope'] - 1) < 0.01
    assert abs(noisy['mean_r2'] - (1 - (0.0625 + 0.25) / 2)) < 0.01        # the third never varies
    half = control.explained(wanted, wanted * 0.5 + 7)
    assert abs(half['slope'] - 0.5) < 1e-9 and abs(half['correlation'] - 1) < 1e-9 and half['r2'] < 0
    assert abs(control.explained(wanted, np.zeros_like(wanted))['r2']) < 1e-3
    assert control.explained(wanted, wanted)['r2'] == 1
    assert set(control.explained(np.ones([4, 2]), np.ones([4, 2])).values()) == {None}


def test_landmark_error_is_a_distance():
    wanted = np.zeros([2, 68, 2])
    assert control.landmark_error(wanted, wanted + [3.0, 4.0]) == 5.0


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.floats(-2, 2))
def test_slope_of_pictures_that_change_by_a_share(seed, share):
    """Only inside both masks, and whatever the pictures have in common."""
    rng = np.random.RandomState(seed)
    renders, masks = rng.uniform(0, 255, [4, 6, 6, 3]), (rng.uniform(size=[4, 6, 6, 1]) < 0.7) * 1.0
    masks[:, 0, 0] = 1
    pictures = rng.uniform(0, 255, [1, 6, 6, 3]) + share * renders + (1 - masks) * rng.uniform(0, 255, [4, 6, 6, 3])
    sums = [groups.image_slope(pictures, renders, masks)]
    assert abs(control.slope_of(sums * 3) - share) < 1e-6
    assert control.slope_of([groups.image_slope(pictures, renders[:1].repeat(4, 0), masks)]) is None


def test_growing_pictures_are_shrunk_by_means():
    small = np.random.RandomState(0).randint(0, 256, [2, 4, 4, 3]).astype(np.uint8)
    assert_close(groups.shrunk(small.repeat(4, axis=1).repeat(4, axis=2), 4), small.astype(np.float32))


# ---- consistency

def test_intersection_over_union():
    maps = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert_close(groups.intersection_over_union(maps), [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, np.nan]], atol=1e-6)


def test_mean_of_pairs_leaves_out_the_diagonal_and_the_bald():
    matrices = np.array([[[1, 0.5], [0.5, 1]], [[np.nan, np.nan], [np.nan, np.nan]]])
    assert consistency.mean_of_pairs(matrices) == 0.5
    assert consistency.mean_of_pairs(matrices[1:]) is None


def test_identity_cosines_by_all_pairs():
    x = np.random.RandomState(0).standard_normal([4, 3, 5]) + 0.5
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    inside, outside = [], []
    for a in np.ndindex(4, 3):
        for b in np.ndindex(4, 3):
            if a != b:
                (inside if a[0] == b[0] else outside).append(x[a] @ x[b])
    assert_close(consistency.identity_cosines(x), [np.mean(inside), np.mean(outside)], atol=1e-12)


def test_identity_of_faces_that_have_nothing_to_do_with_their_group_is_zero():
    x = np.random.RandomState(0).standard_normal([300, 4, 8]) + 1
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    within, between = consistency.identity_cosines(x)
    assert within > 0.3 and abs(within - between) < 0.03


def test_likeness_by_all_pairs():
    x, y = np.random.RandomState(0).standard_normal([2, 4, 3, 5])
    own = np.mean([x[i] @ y[i] for i in np.ndindex(4, 3)])
    others = np.mean([x[a] @ y[b] for a in np.ndindex(4, 3) for b in np.ndindex(4, 3) if a[0] != b[0]])
    assert_close(consistency.likeness_cosines(x, y), [own, others], atol=1e-12)


def _painted(colors, masks):
    """Pictures [V, 8, 8, 3] of one colour each inside their masks, of any colour outside."""
    pictures = np.random.RandomState(1).uniform(0, 255, masks.shape + (3,))
    pictures[masks] = np.repeat(colors, masks.sum(axis=(1, 2)), axis=0)
    return pictures


@pytest.mark.parametrize('common', [False, True])
def test_spread_of_a_mean_colour_is_the_standard_deviation(common):
    rng = np.random.RandomState(0)
    masks, colors = rng.uniform(size=[5, 8, 8]) < 0.7, rng.uniform(0, 255, [5, 3])
    expected = np.sqrt(colors.var(axis=0, ddof=1).mean())
    assert_close(groups.color_spread(_painted(colors, masks), masks, common), expected, rtol=1e-9)
    same = np.tile(colors[:1], [5, 1])
    assert groups.color_spread(_painted(same, masks), masks, common) < 1e-9


def test_what_a_moving_head_hides_does_not_count():
    """A background that gets lighter to the right and never changes; the head hides more and more of its left."""
    pictures = np.tile(np.arange(0, 80, 10.0)[:, np.newaxis], [4, 8, 1, 3])
    masks = np.arange(8) >= np.arange(4)[:, np.newaxis, np.newaxis] + np.zeros([1, 8, 1])
    assert groups.color_spread(pictures, masks, common=True) == 0
    assert groups.color_spread(pictures, masks, common=False) > 5


def test_spread_needs_two_pictures_that_show_something():
    masks = np.zeros([3, 8, 8], bool)
    masks[0] = True
    assert np.isnan(groups.color_spread(np.zeros([3, 8, 8, 3]), masks, False))
    masks[1, :4] = True
    colors = np.array([[0.0] * 3, [20.0] * 3, [0.0] * 3])
    assert_close(groups.color_spread(_painted(colors, masks), masks, False), np.sqrt(200), rtol=1e-9)


# ---- the surface

def _face_model(seed=0):
    """A model of six vertices, five of which are drawn, in two triangles of areas 1 and 3 (decimetres)."""
    rng = np.random.RandomState(seed)
    mean = np.array([[9, 9, 9], [0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 3], [0, 2, 0]], np.float32)
    return argparse.Namespace(
        num_vertices=6, mean_shape=mean, region=np.arange(1, 6), region_triangles=np.array([[0, 1, 2], [0, 3, 4]]),
        shape_basis=rng.standard_normal([18, 144]), texture_basis=rng.standard_normal([18, 80]))


def test_vertices_count_by_the_area_around_them():
    assert_close(surface.vertex_weights(_face_model()), np.array([4, 1, 1, 3, 3]) / 12, rtol=1e-12)


@settings(deadline=None, max_examples=20)
@given(SEEDS)
def test_lengths_are_those_of_decoded_faces(seed):
    """Millimetres and levels by decoding every vertex, against the closed form."""
    model, coeff = _face_model(seed), np.random.RandomState(seed).standard_normal([2, 257])
    weights = surface.vertex_weights(model)
    bases = {'shape': model.shape_basis[:, :80] * 100, 'expression': model.shape_basis[:, 80:] * 100,
             'albedo': model.texture_basis / np.sqrt(3)}
    known = {quantity.name: quantity for quantity in surface.quantities(model)}
    for name, basis in bases.items():
        change = coeff[1, known[name].coeffs] - coeff[0, known[name].coeffs]
        moved = (basis @ change).reshape(6, 3)[model.region]
        first, second = known[name].of(coeff)
        expected = np.sqrt(np.sum(weights * np.sum(moved ** 2, axis=1)))
        assert_close(np.linalg.norm(second - first), expected, rtol=1e-6)
    assert_close(known['pose'].of(np.full([1, 254], np.pi)), np.full([1, 3], 180), rtol=1e-12)
    assert [known[name].factor for name in known] == ['id', 'id', 'exp', 'gamma', 'rot']


def test_shares_of_displacement_do_not_ask_how_coefficients_are_scaled():
    """A coefficient that moves nothing counts for nothing; half of the moved millimetres are three quarters of R2."""
    matrix = surface.length_matrix(np.stack([np.ones([4, 3]), np.zeros([4, 3])], axis=2), np.full(4, 0.25))
    wanted = np.random.RandomState(0).standard_normal([500, 2])
    estimate = np.stack([wanted[:, 0] * 0.5, -5 * wanted[:, 1]], axis=1)
    wanted = wanted - wanted.mean(axis=0)
    numbers = control.explained(wanted @ matrix.T, (estimate - estimate.mean(axis=0)) @ matrix.T)
    assert abs(numbers['r2'] - 0.75) < 1e-9 and control.explained(wanted, estimate)['r2'] < -10
    assert_close(control.distances(np.array([[3.0, 0], [-3, 0]]), np.array([[3.0, 4], [0, 0]]))['error'],
                 np.sqrt((16 + 9) / 2), rtol=1e-9)


@pytest.mark.parametrize('seed', [0, 2 ** 32 - 1])
def test_the_ends_of_seeds_draw_photos_too(seed):
    asked = []
    source = mock.Mock(noise_dim=2, facts={}, decode=lambda latents: latents,
                       pictures=lambda coeffs, seed: asked.append(np.random.RandomState([seed[0], seed[1]])))
    reals.DrawnReals(source, seed, 4).read(0, 4)
    assert len(asked) == 1


# ---- the proof table

def _result(metric, value, factor=None, source='generator', **details):
    return dict(metric=metric, factor=factor, value=value, details=details, source=source, model='x/small.pkl',
                counts=dict(subjects=2, variations=3, fakes=5, reals=6), world='human', features='some',
                experts=dict(recon='/there/demo/judge/small_recon', id='/there/human/weights/small_id'))


def test_proof_table_knows_what_misses_its_aim():
    leaks = dict(expression=0.2, lighting=0.01, pose=0.06)
    results = [_result('control', 0.5, 'pose'), _result('control', 0.98, 'pose'), _result('control', 0.8, 'expression'),
               _result('leakage', 0.2, 'identity', into=leaks), _result('faces', 0.995), _result('fid', 12.34),
               _result('constancy', 11, 'expression', hair=7.5, background=11.0),
               _result('identity', None, 'lighting', within=0.9, between=0.3),
               _result('control', 0.99, 'expression', 'photos'), _result('faces', 0.9, None, 'photos'),
               _result('leakage', 0.1, 'identity', 'photos', into=dict(expression=0.1, lighting=0, pose=0.04))]
    lines = [[cell.strip() for cell in line.strip('|').split('|')] for line in proof.markdown(results).split('\n')]
    cells = {line[0]: line[1:] for line in lines}
    assert lines[0] == ['', 'small.pkl', 'photos', 'target'] and lines[1] == [':--', '--:', '--:', '--:']
    assert cells['R² of pose'] == ['.98', '', '≥ .97']
    assert cells['R² of expression (mesh)'] == ['**.80**', '.99', '≥ .84; 85 % of photos\'']
    assert cells['leakage when identity moves: of expression, lighting, pose'][:2] == ['**.20**, .01, .06',
                                                                                     '.10, .00, .04']
    assert cells['leakage when identity moves: of expression, lighting, pose'][2].startswith('≤ .15, .05, .06;')
    assert cells['constancy of hair colour when expression, lighting, pose moves'][0] == '7.50, -, -'
    assert cells['constancy of background colour when expression, lighting, pose moves'][0] == '**11.0**, -, -'
    assert cells['identity between subjects (cosine) when expression, lighting, pose moves'][0] == '-, **.30**, -'
    assert cells['face found by mtcnn'] == ['.99', '**.90**', '≥ .99'] and cells['FID'] == ['12.3', '', '']
    assert 'R² of lighting' not in cells
    assert ['small.pkl: 2 subjects of 3 pictures for each factor, world human, judged by judge/small_recon, '
            'weights/small_id.'] in lines


def test_models_of_two_runs_have_a_column_each():
    runs = [dict(_result('control', value, 'pose'), model=f'results/0000{i}-sgan/network-final.pkl')
            for i, value in enumerate((0.5, 0.98))]
    lines = proof.markdown(runs).split('\n')
    assert lines[0] == '| | 00000-sgan/network-final.pkl | 00001-sgan/network-final.pkl | target |'
    assert lines[2] == '| R² of pose | **.50** | .98 | ≥ .97 |'


def test_each_truncation_of_a_model_has_a_column():
    results = [dict(_result('control', 0.5, 'pose'), rate=rate) for rate in (None, 1.0)]
    results.append(dict(_result('control', 0.9, 'pose', 'photos'), rate=1.0))
    assert proof.markdown(results).split('\n')[0] == '| | small.pkl | small.pkl, rate 1 | photos | target |'


def test_results_are_read_and_nothing_else(tmp_path):
    path = str(tmp_path / 'results.jsonl')
    with open(path, 'w') as file:
        file.write(metric_base.result_line(_result('fid', 1.5)) + '\n')
    assert proof.read_results(path)[0]['value'] == 1.5
    nameless = '{"metric": "fid", "source": "generator"}\n'
    for content in (nameless, nameless.replace('}', ', "model": 5}'), ''):
        with open(path, 'w') as file:
            file.write(content)
        with pytest.raises(UserError, match='results.jsonl: empty, or lines without "metric", "source" and "model"'):
            proof.read_results(path)
    with pytest.raises(UserError, match='nowhere: cannot be read'):
        proof.read_results(str(tmp_path / 'nowhere'))


def test_small_pictures_are_enlarged_for_the_detector():
    assert [detection.shown(np.zeros([size, size, 3], np.uint8)).shape[0] for size in (64, 128, 256)] == [128, 256, 256]


# ---- groups

@pytest.mark.parametrize('factor', [f.name for f in factors.FACTORS])
def test_a_group_varies_in_its_factor_alone(factor):
    latents, noise = groups.draw_group(3, factor, 5, 6, 7)
    where = factors.BY_NAME[factor].latents
    moves = np.zeros(factors.NUM_LATENTS, bool)
    moves[where] = True
    assert ((latents != latents[:1]).any(axis=0) == moves).all() and noise.shape == (7,)
    again, _ = groups.draw_group(3, factor, 5, 6, 7)
    other, _ = groups.draw_group(3, factor, 6, 6, 7)
    assert_close(latents, again)
    assert np.abs(latents[0] - other[0]).min() > 0


def test_what_stays_within_a_group_is_exactly_the_same_number():
    rng = np.random.RandomState(0)
    decode = lambda z: np.tile(z, [1, 2])[:, :254] + 1e-7 * rng.standard_normal([len(z), 254])   # rounds by batch
    coeffs = groups.group_coeffs(decode, 1, 'rot', 0, 4, 32)
    same = (coeffs == coeffs[:1]).all(axis=0)
    where = factors.BY_NAME['rot'].coeffs
    assert coeffs.shape == (4, 286) and same[:where.start].all() and same[where.stop:].all()


# ---- names and results

def test_choose():
    assert list(metric_base.choose('kid, control')) == ['control', 'kid']
    assert metric_base.choose('groups,ds')['ds'] and not metric_base.choose('groups')['ds']
    assert list(metric_base.choose('all')) == list(metric_base.METRICS)
    with pytest.raises(UserError, match='fidd: unknown; expected some of slope'):
        metric_base.choose('fid,fidd')


def test_result_lines_are_json_without_nan():
    line = metric_base.result_line(dict(metric='x', value=float('nan'), counts=dict(n=np.int64(3)),
                                        details=dict(a=[np.float32(0.1), float('inf')])))
    assert line == '{"metric": "x", "value": null, "counts": {"n": 3}, "details": {"a": [0.1, null]}}'


def test_table():
    text = metric_base.table([dict(metric='control', factor='pose', value=0.5), dict(metric='fid', value=12.0),
                              dict(metric='hair', factor='identity', value=None)])
    assert [line.split() for line in text.split('\n')] == [['control', 'hair'], ['pose', '0.5'], ['identity', '-'],
                                                           ['fid', '12']]
