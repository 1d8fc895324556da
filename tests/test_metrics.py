"""Metrics on the human world: its own photos pass, renders pass, an untrained generator fails; the Inception graph,
growing networks, path length, run_metrics.py end to end with good and bad input.
"""

import contextlib
import json
import os
import runpy
import shutil
import sys
import zlib
from unittest import mock

import numpy as np
import pytest

import config
from benchmarks.sampling import write_random_model
from dnnlib import hashes
from dnnlib.tflib import pickles
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from human import photos, prior
from metrics import inputs, metric_base, sources
from metrics.judges import InceptionFeatures, Judge
from perception import experts
from renderer import factors
from sampling import pretrained
from tests.common import assert_close
from training import networks_stylegan
from worlds import label, parts

SIZE, SUBJECTS, VARIATIONS, NUM = 64, 6, 4, 136
WORDS = ['identity', 'expression', 'lighting', 'pose']
QUANTITIES = ['shape', 'albedo', 'expression', 'lighting', 'pose']
SCRIPT = os.path.join(config.ROOT, 'run_metrics.py')


def write_untrained(path, resolution=SIZE, **options):
    """A generator with random weights that belongs to the human world."""
    write_random_model(path, resolution=resolution, fmap_base=16 * resolution, fmap_max=32, dlatent_size=64,
                       mapping_fmaps=64, mapping_layers=2, **options)
    label.write_model(path, 'human')
    np.savetxt(pretrained.average_w_path(path), np.zeros([2 * int(np.log2(resolution)) - 2, 64]))
    return path


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    """A folder with photos and model.pkl, an untrained generator."""
    folder = str(tmp_path_factory.mktemp('metrics'))
    photos.write_photos(os.path.join(folder, 'photos'), NUM, SIZE, seed=7)
    write_untrained(os.path.join(folder, 'model.pkl'))
    return folder


def _options(place, **changes):
    usual = dict(model=os.path.join(place, 'model.pkl'), data_dir=os.path.join(place, 'photos'), num=NUM, pairs=6,
                 subjects=SUBJECTS, variations=VARIATIONS, batch=16, cache=os.path.join(place, 'cache'))
    return metric_base.Options(**dict(usual, **changes))


def _measure(names, options):
    """{(metric, factor or None): result}."""
    results = metric_base.measure(metric_base.choose(names), options)
    return {(result['metric'], result.get('factor')): result for result in results}


def _decode(self, latents):
    """Stands in for the VAE decoders: each factor as the world's prior has it, decided by its own latents."""
    rows = np.zeros([len(latents), factors.NUM_COEFFS], np.float32)
    for row, z in zip(rows, np.asarray(latents, np.float64)):
        for factor in factors.FACTORS:
            drawn, _, _ = prior.draw(99, zlib.crc32(z[factor.latents].tobytes()))
            row[factor.coeffs] = drawn[factor.coeffs]
    return rows


@pytest.fixture(scope='module')
def of_photos(place):
    """Results of the human world's own photos."""
    with mock.patch.object(sources.PhotoSource, 'decode', _decode):
        return _measure('groups,fid,kid', _options(place, source='photos', model=None, resolution=SIZE))


@pytest.fixture(scope='module')
def of_untrained(place):
    """Results of the untrained generator; all there are."""
    return _measure('all', _options(place))


def _values(results, metric):
    return [results[metric, word]['value'] for word in WORDS if (metric, word) in results]


# ---- the world's own pictures pass, an untrained generator fails

def test_slope(of_photos, of_untrained):
    assert min(_values(of_photos, 'slope')) > 0.55 and max(_values(of_photos, 'slope')) < 1.2
    assert max(of_untrained['slope', factor]['value'] for factor in ('expression', 'lighting', 'pose')) < 0.3
    assert of_untrained['slope', 'identity']['value'] < 0.5        # colours of skin alone bring some


def test_control(of_photos, of_untrained):
    good, bad = [{word: result['value'] for (metric, word), result in results.items() if metric == 'control'}
                 for results in (of_photos, of_untrained)]
    assert set(good) == set(bad) == set(QUANTITIES)
    assert good['pose'] > 0.85 and good['expression'] > 0.6 and good['lighting'] > 0.4
    assert good['shape'] > 0.2 and good['albedo'] > 0.4
    assert of_photos['control', 'pose']['details']['r2_yaw'] > 0.9
    assert max(bad.values()) < 0.1


def test_errors_are_told_in_millimetres_levels_and_degrees(of_photos):
    """R2 is one less the square of error over spread, and a head of 150 mm differs by some mm from another."""
    units = {'shape': 'mm', 'albedo': 'levels', 'expression': 'mm', 'lighting': '', 'pose': 'degrees'}
    for word, unit in units.items():
        result = of_photos['control', word]
        details = result['details']
        assert details['unit'] == unit
        assert_close(result['value'], 1 - (details['error'] / details['spread']) ** 2, rtol=1e-6)
    for word, least, most in (('shape', 1, 12), ('expression', 1, 8), ('albedo', 5, 60), ('pose', 5, 40)):
        assert least < of_photos['control', word]['details']['spread'] < most


def test_leakage(of_photos, of_untrained):
    """What does not react does not leak, so only the worst factor of an untrained generator tells."""
    assert max(_values(of_photos, 'leakage')) < 0.4
    assert max(_values(of_untrained, 'leakage')) > 0.5
    result = of_photos['leakage', 'pose']
    assert list(result['details']['into']) == QUANTITIES[:-1]
    assert sorted(result['details']['coefficients']) == ['expression', 'identity', 'lighting']
    assert result['value'] == max(result['details']['into'].values())


def test_landmarks(of_photos, of_untrained):
    good, bad = of_photos['landmarks', 'all'], of_untrained['landmarks', 'all']
    assert good['value'] < 3.5 < good['details']['of_the_mean_face'] - 2
    assert bad['value'] > bad['details']['of_the_mean_face']
    assert good['counts']['pictures'] == len(WORDS) * SUBJECTS * VARIATIONS


def test_identity(of_photos, of_untrained):
    """Pictures of a subject are much alike for any generator; likeness asks whether they are who was wanted."""
    assert min(_values(of_photos, 'identity')) > 0.35
    assert min(_values(of_photos, 'likeness')) > 0.5
    assert np.mean(_values(of_untrained, 'likeness')) < 0.15 and min(_values(of_untrained, 'likeness')) < 0.1


def test_hair(of_photos, of_untrained):
    assert of_photos['hair', 'lighting']['value'] > 0.85 and of_photos['hair', 'expression']['value'] > 0.85
    assert of_photos['hair', 'lighting']['details']['between'] < 0.7
    assert min(_values(of_untrained, 'hair')) < 0.8


def test_constancy(of_photos):
    """Photos keep hair and background; the human world lights them with the face, so light changes them."""
    spread = {word: of_photos['constancy', word]['details'] for word in WORDS[1:]}
    assert max(spread['expression'].values()) < 2
    assert spread['pose']['hair'] < 10 and spread['lighting']['hair'] > 2 * spread['expression']['hair']
    result = of_photos['constancy', 'pose']
    assert result['value'] == max(result['details'].values())
    assert 'what is behind the person' in result['convention'] and result['counts']['subjects_without_background'] == 0


def test_disentanglement_score(of_photos, of_untrained):
    assert min(_values(of_photos, 'ds')) > 300
    assert max(_values(of_untrained, 'ds')) < 100
    result = of_photos['ds', 'pose']
    sigma = result['details']['sigma']
    expected = np.prod([sigma['pose'] / sigma[word] for word in WORDS[:3]])
    assert_close(result['value'], expected, rtol=1e-6)
    assert result['counts']['reals'] == NUM and 0.5 < sigma['pose'] < 2


def test_distances_of_distributions(of_photos, of_untrained):
    fid, kid = of_photos['fid', None], of_photos['kid', None]
    assert fid['value'] < 0.25 * of_untrained['fid', None]['value']
    assert abs(kid['value']) < 0.1 * of_untrained['kid', None]['value']
    assert fid['counts'] == dict(reals=NUM, fakes=NUM) and 'rank_deficient' not in fid['details']
    assert 'small_id, 128 numbers' in fid['features'] and 'of human/weights, a generator may' in fid['features']
    assert 'reals in file order' in fid['convention']


def test_without_a_data_set_the_world_draws_photos(place):
    """Photos of one world are alike, whoever draws them; a judge's own identity network is told."""
    judge = os.path.join(config.ROOT, 'human', 'weights')
    options = _options(place, data_dir=None, recon=judge)
    with mock.patch.object(sources.PhotoSource, 'decode', _decode):
        photos = _measure('fid', options._replace(source='photos', model=None, resolution=SIZE))['fid', None]
    untrained = _measure('fid', options)['fid', None]
    assert photos['counts'] == untrained['counts'] == dict(reals=NUM, fakes=NUM)
    assert 0 < photos['value'] < 0.25 * untrained['value']
    assert 'photos that the world draws' in photos['convention'] and "of no generator's training" in photos['features']


def test_path_length_of_the_untrained_generator(of_untrained):
    for space in 'zw':
        for sampling in ('full', 'end'):
            result = of_untrained[f'ppl_{space}_{sampling}', None]
            assert 0.1 < result['value'] < 1e4 and result['counts'] == dict(pairs=6)
            assert 'epsilon 0.0001' in result['convention'] and 'not comparable' in result['convention']


def test_every_result_says_how_and_on_how_many(of_photos, of_untrained):
    assert {name for name, _ in of_untrained} | {'faces'} == set(metric_base.METRICS)
    for result in list(of_photos.values()) + list(of_untrained.values()):
        assert len(result['convention']) > 30 and result['counts'] and result['seed'] == 1
        assert result['world'] == 'human' and result['resolution'] == result['grown_to'] == SIZE
        assert 'features' in result or set(result['experts']) == {'recon', 'id', 'parser'}
        assert result['value'] is None or np.isfinite(result['value'])


# ---- growing networks, other experts

def test_a_growing_generator_is_compared_at_the_size_it_has(tmp_path):
    path = write_untrained(str(tmp_path / 'growing.pkl'), 8)
    states = pickles.load_states(path)
    for state in [states[0]] + list(states[0].components.values()):
        state.variables[:] = [(name, np.float32(1) if name == 'lod' else value) for name, value in state.variables]
    pickles.save_states(states, path)
    with contextlib.closing(sources.GeneratorSource(path, parts.of_model(path).vae_weights)) as source:
        coeffs = np.random.RandomState(0).standard_normal([3, 286]).astype(np.float32)
        assert source.resolution == 8 and source.active_resolution == 4
        stored, fresh = source.pictures(coeffs), source.pictures(coeffs, seed=(1, 2), batch=2)
        assert stored.shape == fresh.shape == (3, 8, 8, 3) and stored.dtype == fresh.dtype == np.uint8
        assert_close(fresh, source.pictures(coeffs, seed=(1, 2), batch=2))
        assert_close(stored[:, ::2, ::2], stored[:, 1::2, 1::2])
        w = source.dlatents(coeffs)
        exact = source.float_pictures(w)
        assert_close(np.floor(np.clip(exact, 0, 255)), stored.astype(np.float32), atol=1)


def test_noise_maps_belong_to_their_picture_whatever_the_batch(tmp_path):
    path = write_untrained(str(tmp_path / 'noisy.pkl'), 8)
    states = pickles.load_states(path)
    for state in [states[0]] + list(states[0].components.values()):
        state.variables[:] = [(name, np.ones_like(value) if name.endswith('Noise/weight') else value)
                              for name, value in state.variables]
    pickles.save_states(states, path)
    coeffs = np.ones([6, 286], np.float32)
    with contextlib.closing(sources.GeneratorSource(path, parts.of_model(path).vae_weights)) as source:
        whole = source.pictures(coeffs, seed=(1, 5), batch=6).astype(np.int16)
        assert min(np.abs(whole[i] - whole[j]).max() for i in range(6) for j in range(i)) > 10
        for batch in (1, 4):
            assert np.abs(source.pictures(coeffs, seed=(1, 5), batch=batch) - whole).max() <= 1     # rounding
        later = source.pictures(coeffs[:2], seed=(1, 8), batch=2)
        assert np.abs(later - whole[3:5]).max() <= 1


def test_no_layer_of_a_picture_repeats_one_of_another(tf_session):
    shape, seeds = [3, 1, 4, 4], sources.noise_seeds((7, 2 ** 31), 3)
    maps = np.concatenate(tf_session.run([networks_stylegan._fresh_noise(shape, seeds, layer) for layer in range(20)]))
    assert len({values.tobytes() for values in maps}) == 60 and abs(maps.std() - 1) < 0.1


def test_another_reconstruction_network(place, tmp_path):
    table = os.path.join(config.ROOT, 'human', 'weights')
    shutil.copytree(table, str(tmp_path / 'second'))
    options = _options(place, source='renders', model=None, resolution=SIZE, world='human')
    recon = [inputs.Inputs(options._replace(recon=path)).specs['recon'].weights
             for path in (None, str(tmp_path / 'second'))]
    assert recon == [os.path.join(folder, 'small_recon') for folder in (table, str(tmp_path / 'second'))]
    with pytest.raises(UserError, match='--recon .*nowhere: not there'):
        inputs.Inputs(options._replace(recon=str(tmp_path / 'nowhere')))
    (tmp_path / 'table.json').write_text('{}')
    with pytest.raises(UserError, match='names no reconstruction network'):
        inputs.Inputs(options._replace(recon=str(tmp_path / 'table.json')))


def test_the_background_is_a_class_of_its_own_where_the_parser_has_one():
    def parse(self, x, _):
        shown = x[..., :1] / 255
        return tf.concat([0 * shown, 0 * shown, shown, 1 - shown], axis=3)

    world = parts.World('human')
    size = world.expert_specs()['parser'].size
    picture = np.zeros([1, size, size, 3], np.uint8)
    picture[:, :20] = 255
    with mock.patch.object(experts.Experts, 'parse', parse), \
            contextlib.closing(Judge(world.expert_specs(), world.face_model(), True)) as judge:
        seen = judge.look(picture)
    assert judge.background == 'what is behind the person'
    assert seen['hair'][0, :20].all() and seen['background'][0, 20:].all()
    assert not (seen['hair'] & seen['background']).any() and seen['hair'].sum() == 20 * size
    assert_close(seen['parsed'], picture.astype(np.float32), atol=1e-3)


# ---- the Inception graph

def _node(graph, name, op, inputs=(), **attributes):
    node = graph.node.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        if isinstance(value, (np.ndarray, np.generic)):
            node.attr[key].tensor.CopyFrom(tf.make_tensor_proto(value))
        elif isinstance(value, list):
            node.attr[key].list.i.extend(value)
        elif isinstance(value, str):
            node.attr[key].s = value.encode()
        elif isinstance(value, bool):
            node.attr[key].b = value
        elif isinstance(value, float):
            node.attr[key].f = value
        else:
            node.attr[key].type = value.as_datatype_enum


def write_small_inception(path):
    """A frozen graph with the public one's ends: JPEG decoding, a resize to 299, an op of 2015, pool_3 [1, 1, 1, 5]."""
    graph = tf.GraphDef()
    graph.versions.producer = 8
    rng = np.random.RandomState(0)
    kernel = rng.standard_normal([299, 299, 3, 5]).astype(np.float32) / 300
    constant = lambda name, value: _node(graph, name, 'Const', value=value, dtype=tf.as_dtype(value.dtype))
    constant('DecodeJpeg/contents', np.array(b''))
    _node(graph, 'DecodeJpeg', 'DecodeJpeg', ['DecodeJpeg/contents'])
    _node(graph, 'Cast', 'Cast', ['DecodeJpeg'], SrcT=tf.uint8, DstT=tf.float32)
    constant('ExpandDims/dim', np.int32(0))
    _node(graph, 'ExpandDims', 'ExpandDims', ['Cast', 'ExpandDims/dim'], T=tf.float32)
    constant('ResizeBilinear/size', np.array([299, 299], np.int32))
    _node(graph, 'ResizeBilinear', 'ResizeBilinear', ['ExpandDims', 'ResizeBilinear/size'], T=tf.float32)
    constant('Sub/y', np.float32(128))
    _node(graph, 'Sub', 'Sub', ['ResizeBilinear', 'Sub/y'], T=tf.float32)
    constant('kernel', kernel)
    _node(graph, 'conv', 'Conv2D', ['Sub', 'kernel'], T=tf.float32, strides=[1, 1, 1, 1], padding='VALID')
    for name, value in (('mean', 0.0), ('variance', 1.0), ('beta', 0.5), ('gamma', 1.0)):
        constant(name, np.full(5, value, np.float32))
    _node(graph, 'norm', 'BatchNormWithGlobalNormalization', ['conv', 'mean', 'variance', 'beta', 'gamma'],
          T=tf.float32, variance_epsilon=0.001, scale_after_normalization=False)
    _node(graph, 'pool_3', 'AvgPool', ['norm'], T=tf.float32, ksize=[1, 1, 1, 1], strides=[1, 1, 1, 1], padding='VALID')
    _node(graph, 'softmax', 'Squeeze', ['pool_3'], T=tf.float32)
    for node in graph.node:
        if node.name == 'pool_3':       # as the public graph, which was made for one picture
            shape = node.attr['_output_shapes'].list.shape.add()
            for size in (1, 1, 1, 5):
                shape.dim.add(size=size)
    with open(path, 'wb') as file:
        file.write(graph.SerializeToString())
    return kernel


def test_inception_sees_batches_of_any_size_in_0_255(tmp_path):
    path = str(tmp_path / 'graph.pb')
    kernel = write_small_inception(path)
    pictures = np.random.RandomState(1).randint(0, 256, [5, 299, 299, 3]).astype(np.uint8)
    features = InceptionFeatures(path)
    expected = np.tensordot(pictures.astype(np.float64) - 128, kernel, 3) / np.sqrt(1.001) + 0.5
    assert_close(features(pictures, 2), expected, atol=1e-2)
    flat = np.full([3, 16, 16, 3], 200.0, np.float32)
    assert_close(features(flat, 8), np.tile(72 * kernel.sum(axis=(0, 1, 2)) / np.sqrt(1.001) + 0.5, [3, 1]), atol=1e-2)
    assert features.size == 5 and features.title == 'Inception graph.pb, pool_3, 5 numbers'
    features.close()


def test_fid_with_the_inception_graph(place, tmp_path):
    path = str(tmp_path / 'graph.pb')
    write_small_inception(path)
    options = _options(place, source='renders', model=None, resolution=SIZE, world='human', num=12, inception=path)
    result = _measure('fid', options)['fid', None]
    assert result['features'] == 'Inception graph.pb, pool_3, 5 numbers' and result['value'] > 0
    assert 'experts' not in result


def test_files_that_are_not_the_inception_graph(tmp_path):
    path = str(tmp_path / 'graph.pb')
    with open(path, 'wb') as file:
        file.write(b'\x99 nothing')
    with pytest.raises(UserError, match='graph.pb: not a frozen graph'):
        InceptionFeatures(path)
    with open(path, 'wb') as file:
        file.write(tf.Graph().as_graph_def().SerializeToString())
    with pytest.raises(UserError, match='without ExpandDims and pool_3'):
        InceptionFeatures(path)


# ---- the script

def _run(capsys, *arguments):
    """run_metrics.py in this process -> (exit code, standard output, errors)."""
    before = sys.argv
    sys.argv = [SCRIPT] + [str(argument) for argument in arguments]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(SCRIPT, run_name='__main__')
    finally:
        sys.argv = before
    return (end.value.code,) + tuple(capsys.readouterr())


def _usual(place):
    return ['--model', os.path.join(place, 'model.pkl'), '--cache', os.path.join(place, 'cache'), '--batch', 16,
            '--subjects', SUBJECTS, '--variations', VARIATIONS]


def test_one_command_gives_the_proof_table(place, of_untrained, capsys):
    """Results beside the model and on standard output, a table for people; what needs reals is left out and named."""
    code, out, err = _run(capsys, *_usual(place))
    assert code == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    with open(os.path.join(place, 'model-metrics.jsonl')) as file:
        assert file.read() == out
    for metric in ('control', 'leakage', 'identity', 'hair', 'constancy', 'landmarks', 'slope'):
        assert [x['factor'] for x in lines if x['metric'] == metric][:3]
    control = {x['factor']: x['value'] for x in lines if x['metric'] == 'control'}
    assert_close([control[word] for word in QUANTITIES],
                 [of_untrained['control', word]['value'] for word in QUANTITIES], rtol=1e-5)
    assert 'left out: ds: it compares with real pictures' in err
    shown = [line.split()[0] for line in err.split('\n') if line.startswith(tuple(WORDS + QUANTITIES + ['all']))]
    assert sorted(shown) == sorted(set(WORDS + QUANTITIES + ['all']))


def test_renders_pass_and_an_interrupted_run_goes_on(tmp_path, capsys, monkeypatch):
    made, arguments = [], ['--source', 'renders', '--resolution', SIZE, '--metrics', 'slope,landmarks,control',
                           '--world', 'human', '--subjects', 6, '--variations', 2, '--cache', tmp_path / 'cache',
                           '--output', tmp_path / 'out.jsonl']
    pictures = sources.RenderSource.pictures

    def interrupted(self, *args, **kwargs):
        made.append(1)
        if len(made) == 6:
            raise KeyboardInterrupt
        return pictures(self, *args, **kwargs)

    monkeypatch.setattr(sources.RenderSource, 'pictures', interrupted)
    assert _run(capsys, *arguments)[0] == 130
    assert not (tmp_path / 'out.jsonl').exists()
    code, out, _ = _run(capsys, *arguments)
    assert code == 0 and len(made) == 6 + 2 + 3 * 6     # the first block of four groups was kept
    values = {(x['metric'], x['factor']): x['value'] for x in map(json.loads, out.splitlines())}
    assert_close([values['slope', word] for word in WORDS], np.ones(4), atol=0.01)
    assert values['landmarks', 'all'] < 3.5 and values['control', 'pose'] > 0.85


@pytest.mark.parametrize('arguments, message', [
    (['--metrics', 'beauty'], '--metrics beauty: unknown; expected some of slope'),
    (['--variations', '1'], 'argument --variations: 1 is out of range'),
    (['--model', 'nowhere.pkl'], '--model nowhere.pkl: no such file'),
    (['--inception', 'nowhere.pb'], '--inception nowhere.pb: not there'),
    (['--experts', 'nowhere'], '--experts nowhere: not there'),
    (['--resolution', '32'], '--resolution belongs to --source renders and photos'),
    (['--metrics', 'ds'], '--metrics ds: it compares with real pictures; name them with --data_dir'),
    (['--metrics', 'ds,fid', '--data_dir', 'nowhere'], 'nowhere: no such dataset folder'),
    (['--world', 'real'], 'is of the human world, the world asked for is of the real world'),
    (['--source', 'photos', '--world', 'real'], '--source photos: the real world draws no photos'),
    (['--source', 'renders', '--metrics', 'ppl_w_full'], 'it measures a generator, not renders'),
    (['--output', 'model.pkl/x.jsonl'], 'results cannot be written there'),
])
def test_mistakes_are_one_line(place, capsys, arguments, message, monkeypatch):
    monkeypatch.chdir(place)
    model = [] if '--model' in arguments or '--source' in arguments else ['--model', 'model.pkl']
    code, out, err = _run(capsys, '--cache', 'cache', '--metrics', 'slope', *model, *arguments)
    assert code == 1 and out == ''
    assert err.startswith('error: ') and message in err and err.count('\n') == 1, err


def test_worlds_are_not_mixed(place, tmp_path):
    os.mkdir(str(tmp_path / 'img'))
    name = sorted(os.listdir(os.path.join(place, 'photos', 'img')))[0]
    shutil.copy(os.path.join(place, 'photos', 'img', name), str(tmp_path / 'img'))
    (tmp_path / 'world.json').write_text('{"world": "real"}')
    with pytest.raises(UserError, match='--data_dir .* is of the real world, the model is of the'):
        _measure('ds', _options(place, data_dir=str(tmp_path)))


def test_a_generator_that_gives_nan_is_named(tmp_path):
    from dnnlib.tflib import pickles
    path = write_untrained(str(tmp_path / 'broken.pkl'), 8)
    states = pickles.load_states(path)
    synthesis = states[0].components['synthesis']
    large = {'ToRGB_lod0/weight': 3e38, '8x8/Conv1/StyleMod/bias': 1e5}
    synthesis.variables[:] = [(name, np.full_like(value, large[name]) if name in large else value)
                              for name, value in synthesis.variables]
    pickles.save_states(states, path)
    with contextlib.closing(sources.GeneratorSource(path, parts.of_model(path).vae_weights)) as source:
        for seed in (None, (0, 0)):
            with pytest.raises(UserError, match='broken.pkl: its pictures hold NaN or infinity'):
                source.pictures(np.ones([1, 286], np.float32), seed=seed)


def test_digests_follow_contents(tmp_path):
    paths = [str(tmp_path / name) for name in 'ab']
    for path in paths:
        with open(path, 'w') as file:
            file.write('same')
    assert hashes.files_digest(paths[:1]) == hashes.files_digest(paths[1:]) != hashes.files_digest(paths)
