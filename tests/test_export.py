"""export_model.py: SavedModel on both lines, ONNX where its tools are; the files draw what FaceGenerator draws."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import config
from dnnlib.tflib import layer_ops, layers, pickles
from dnnlib.tflib.compat import IS_TF1
from dnnlib.util import UserError
from sampling import export
from sampling.generator import FaceGenerator
from tests.test_generate_images import run_script, write_small_world

SCRIPT = os.path.join(config.ROOT, 'export_model.py')
DEMO = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
HAS_ONNX = all(importlib.util.find_spec(name) for name in ('tf2onnx', 'onnx', 'onnxruntime'))
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason='tf2onnx, onnx or onnxruntime is absent (TensorFlow 2.x only)')

# What a stranger runs: folder of the SavedModel, file of the inputs, file for the pictures.
LOAD_1 = '''
import sys
import numpy as np
import tensorflow as tf
given, found = np.load(sys.argv[2]), {}
with tf.compat.v1.Session(graph=tf.Graph()) as session:
    signatures = tf.compat.v1.saved_model.load(session, ['serve'], sys.argv[1]).signature_def
    for name, kind in (('serving_default', 'coefficients'), ('latents', 'latents')):
        ends = signatures[name]
        feed = {ends.inputs[key].name: given[key] for key in (kind, 'noise')}
        found[kind] = session.run(ends.outputs['pictures'].name, feed)
np.savez(sys.argv[3], **found)
'''
LOAD_2 = '''
import sys
import numpy as np
import tensorflow as tf
given, found = np.load(sys.argv[2]), {}
signatures = tf.saved_model.load(sys.argv[1]).signatures
for name, kind in (('serving_default', 'coefficients'), ('latents', 'latents')):
    feed = {key: tf.constant(given[key]) for key in (kind, 'noise')}
    found[kind] = signatures[name](**feed)['pictures'].numpy()
np.savez(sys.argv[3], **found)
'''


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Options that name a small model."""
    return write_small_world(str(tmp_path_factory.mktemp('export')))


@pytest.fixture(scope='module')
def demo():
    """The small model that comes along."""
    with FaceGenerator(DEMO, threads=2) as faces:
        yield faces


def _generator(world, **options):
    return FaceGenerator(world[1], world[3], threads=2, **options)


def _assert_same(pictures, wanted):
    assert pictures.dtype == np.uint8 and pictures.shape == wanted.shape
    assert np.abs(pictures.astype(int) - wanted.astype(int)).max() <= export.MOST_OFF
    assert pictures.std() > 5


def _arrays(people, kind):
    first = np.stack([face.latents if kind == 'latents' else face.coeffs[:254] for face in people])
    return {kind: first, 'noise': np.stack([face.noise for face in people])}


def _run(*arguments):
    done = subprocess.run([sys.executable] + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_saved_model_draws_without_this_project(world, tmp_path, capsys):
    """And replaces an older one."""
    folder, given, got = [str(tmp_path / name) for name in ('saved', 'given.npz', 'got.npz')]
    os.mkdir(folder)
    with open(os.path.join(folder, 'saved_model.pb'), 'w') as file:
        file.write('old')
    code, out, err = run_script(SCRIPT, world + ['--output', folder, '--rate', '0.5', '--overwrite'], capsys)
    assert code == 0 and 'largest difference' in out and 'serving_default: coefficients [N, 254]' in out, err
    with open(os.path.join(folder, 'assets.extra', 'layout.json'), encoding='utf-8') as file:
        assert json.load(file)['rate'] == 0.5
    assert os.listdir(str(tmp_path)) == ['saved']
    with _generator(world) as faces:
        people = faces.random_faces(3, seed=5)
        wanted = faces.images(people, rate=0.5)
    np.savez(given, **dict(_arrays(people, 'latents'), **_arrays(people, 'coefficients')))
    _run('-c', LOAD_1 if IS_TF1 else LOAD_2, folder, given, got)
    for kind in export.SIGNATURES:
        _assert_same(np.load(got)[kind], wanted)


@needs_onnx
@pytest.mark.parametrize('kind, noise_mode', [('coefficients', 'none'), ('latents', 'const')])
def test_onnx_draws_the_same(world, tmp_path, capsys, kind, noise_mode):
    import onnxruntime
    path = str(tmp_path / 'faces.onnx')
    code, out, err = run_script(SCRIPT, world + ['--output', path, '--input', kind, '--noise-mode', noise_mode], capsys)
    assert code == 0 and 'largest difference' in out, err
    session = onnxruntime.InferenceSession(path)
    with _generator(world, noise_mode=noise_mode) as faces:
        for count in (1, 5):
            people = faces.random_faces(count, seed=count)
            _assert_same(session.run(['pictures'], _arrays(people, kind))[0], faces.images(people))
        assert json.loads(session.get_modelmeta().custom_metadata_map['layout']) == export.layout(faces)
    assert sorted(os.listdir(str(tmp_path))) == ['faces.onnx']


@needs_onnx
def test_the_example_turns_a_face(demo, tmp_path):
    path, picture = str(tmp_path / 'faces.onnx'), str(tmp_path / 'turning.png')
    export.write_onnx(demo, path)
    face, yaw = demo.mean_face(), demo.controls.find('yaw')
    face.noise = np.random.RandomState(1).standard_normal(32)
    turned = [face.copy().set('yaw', value) for value in np.linspace(yaw.low, yaw.high, 5)]
    example = os.path.join(config.DEMO_DIR, 'draw_onnx.py')
    _run(example, path, picture)
    _assert_same(np.asarray(Image.open(picture)), np.concatenate(demo.images(turned), axis=1))
    with open(example, encoding='utf-8') as file:
        steps = [line for line in file if line.strip() and not line.startswith(('"""', 'import', 'from'))]
    assert len(steps) <= 10


def test_the_layout_sets_what_face_set_sets(demo):
    facts = json.loads(json.dumps(export.layout(demo)))
    face = demo.random_face(seed=2)
    assert {'yaw', 'light_left', 'smile', 'melanin'} <= set(facts['controls'])
    np.testing.assert_allclose(facts['coefficients']['mean'], demo.mean_face().coeffs[:254], rtol=1e-5)
    for name, control in facts['controls'].items():
        coeffs, vector = face.coeffs[:254].copy(), np.array(control['vector'])
        x = coeffs[control['index']]
        coeffs[control['index']] = x + (control['high'] - x @ vector / (vector @ vector)) * vector
        np.testing.assert_allclose(coeffs, face.copy().set(name, control['high']).coeffs[:254], atol=1e-5)
        assert control['low'] < control['high']


def test_a_model_that_is_still_fading(world, tmp_path):
    """What is compared is written without the switches that FaceGenerator's graph has."""
    states = pickles.load_states(world[1])
    synthesis = states[-1].components['synthesis']
    synthesis.variables = [(name, np.float32(0.5) if name == 'lod' else value) for name, value in synthesis.variables]
    model = str(tmp_path / 'fading.pkl')
    pickles.save_states(states, model)
    with FaceGenerator(model, world[3], threads=2) as faces:
        with _generator(world) as finished:
            people = faces.random_faces(2, seed=1)
            assert (faces.images(people, rate=1) != finished.images(people, rate=1)).mean() > 0.5
        assert export.write_saved_model(faces, str(tmp_path / 'saved'), rate=1) <= export.MOST_OFF
        if HAS_ONNX:
            assert export.write_onnx(faces, str(tmp_path / 'faces.onnx'), rate=1) <= export.MOST_OFF


@pytest.mark.parametrize('kind', ['saved', pytest.param('onnx', marks=needs_onnx)])
def test_a_file_that_draws_something_else_is_removed(world, tmp_path, monkeypatch, kind):
    path = str(tmp_path / 'out')
    with _generator(world) as faces:
        images = faces.images
        monkeypatch.setattr(faces, 'images', lambda *given: images(*given) // 2)
        with pytest.raises(UserError, match='differ from our own by up to [0-9]+ of 255, more than 1'):
            (export.write_onnx if kind == 'onnx' else export.write_saved_model)(faces, path)
    assert not os.listdir(str(tmp_path))


def test_a_saved_model_of_a_gpu_runs_on_a_cpu(world, monkeypatch):
    """Convolutions in NCHW would not."""
    monkeypatch.setenv('DISCO_DATA_FORMAT', 'NCHW')
    with _generator(world) as faces:
        frozen = export._freeze(faces, ['coefficients'], 0.7, 'NHWC')[0]
    formats = [node.attr['data_format'].s for node in frozen.node if 'onv2D' in node.op]
    assert formats and set(formats) == {b'NHWC'}


def test_nothing_of_our_own_ops_is_exported(world):
    """A stranger has not got them, whatever layers are built around an export."""
    with _generator(world) as faces, layers.use_data_format('NHWC'), layers.use_ops(True):
        frozen = export._freeze(faces, ['coefficients'], 0.7, 'NHWC')[0]
    assert not {node.op for node in frozen.node} & set(layer_ops.NAMES)
    assert 'ReluByOutput' not in str({str(node.attr['_gradient_op_type']) for node in frozen.node})


def test_nothing_of_the_users_is_written_over(world, tmp_path, capsys):
    def refused(*arguments):
        code, _, err = run_script(SCRIPT, world + list(arguments), capsys)
        assert code == 1 and err.startswith('error: ') and err.count('\n') == 1
        return err

    folder, file = tmp_path / 'mine', tmp_path / 'mine.onnx'
    folder.mkdir()
    (folder / 'thesis.txt').write_text('years of work')
    file.write_text('old')
    for path in (folder, file):
        assert 'is there already' in refused('--output', path)
    assert 'no SavedModel' in refused('--output', folder, '--overwrite')
    assert 'no SavedModel' in refused('--output', '', '--overwrite')
    assert 'same place' in refused('--output', world[1], '--overwrite')
    assert 'a SavedModel has both' in refused('--output', tmp_path / 'new', '--input', 'latents')
    assert (folder / 'thesis.txt').read_text() == 'years of work' and file.read_text() == 'old'
    assert len(os.listdir(str(tmp_path))) == 2


def test_missing_tools_are_named(world, tmp_path, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'tf2onnx' else found(name))
    code, _, err = run_script(SCRIPT, world + ['--output', tmp_path / 'faces.onnx'], capsys)
    assert code == 1 and 'tf2onnx' in err and 'pip install -e .[export]' in err
