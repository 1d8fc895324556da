"""Experts: what they are shown, how they are restored, what they say when files are missing; the Reconstructor."""

import json

import cv2
import numpy as np
import pytest

from benchmarks import preprocess
from dnnlib.tflib import checkpoints, images, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError
from perception import experts as perception
from perception import networks_small
from tests.common import assert_close, kept, recording, shared
from tests.oracle_networks import oracle_weight, recorded_variables

SMALL = {'recon': dict(network='small_recon', size=32, width=8, weights='recon/w'),
         'id': dict(network='small_id', size=16, width=6, weights='id/w'),
         'parser': dict(network='small_parser', size=32, width=8, weights='parser/w')}


@pytest.fixture(scope='module')
def recorded():
    return np.load(recording('face', 'losses_io.npz'))


@pytest.fixture(scope='module')
def small_world(tmp_path_factory):
    """A table of small networks with random weights, stored as float16, as a world would have it."""
    tmp_path = tmp_path_factory.mktemp('world')
    with tf.Graph().as_default() as graph, tfutil.create_session(threads=2, graph=graph) as session:
        tf.set_random_seed(1)
        for entry in SMALL.values():
            build = perception.KINDS[entry['network']].build
            build(tf.zeros([1, entry['size'], entry['size'], 3]), width=entry['width'], trainable=True)
        session.run(tf.global_variables_initializer())
        for entry in SMALL.values():
            values = {v.op.name: session.run(v).astype(np.float16) for v in tf.global_variables()
                      if v.op.name.startswith(entry['network'] + '/')}
            checkpoints.save(str(tmp_path / entry['weights']), values)
    path = tmp_path / 'world.json'
    path.write_text(json.dumps(dict(SMALL, name='small')))
    return str(path)


def _pictures(count, size, seed=0):
    return np.random.RandomState(seed).uniform(-1.3, 1.3, [count, 3, size, size]).astype(np.float32)


def _empty_released_weights(folder):
    """Files that are there, so that the released networks can be built without being restored."""
    for spec in perception.released_specs(str(folder)).values():
        for ending in ('.index', '.data-00000-of-00001'):
            path = folder.joinpath(spec.weights + ending)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b'')
    return perception.released_specs(str(folder))


def test_inputs_of_the_released_networks(tf_session, recorded, tmp_path):
    experts = perception.Experts(_empty_released_weights(tmp_path), perception.EXPERTS)
    shown = experts.network_input('recon', tf.constant(recorded['rec_fake']))
    assert_close(*kept(tf_session.run(shown), recorded['rec_net_input']), atol=2e-3)
    mask = tf.constant(recorded['id_mask'][:, None])
    shown = experts.network_input('id', tf.constant(recorded['id_fake']), mask)
    assert_close(*kept(tf_session.run(shown), recorded['id_net_input_fake']), atol=2e-3)
    shown = experts.network_input('id', tf.constant(recorded['id_render']))
    assert_close(*kept(tf_session.run(shown), recorded['id_net_input_render']), atol=2e-3)
    small = experts.network_input('parser', tf.constant(recorded['id_render']))
    assert small.shape.as_list() == [2, 256, 256, 3]


def test_small_networks_see_averages(tf_session, small_world):
    """By area where a picture is larger than they see, however much; as before where it is not."""
    experts = perception.Experts(perception.load_specs(small_world), ('recon',))
    for size in (32, 64, 112):
        x = np.random.RandomState(size).uniform(0, 255, [2, size, size, 3]).astype(np.float32)
        shown = tf_session.run(experts.resized('recon', tf.constant(x)))
        assert_close(shown, [cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA) for picture in x], atol=1e-2)
        of_any_size = tf.placeholder(tf.float32, [None, None, None, 3])
        assert_close(tf_session.run(experts.resized('recon', of_any_size), {of_any_size: x}), shown, atol=1e-4)
    small = tf.constant(x[:, :16, :16])
    assert_close(*tf_session.run([experts.resized('recon', small), images.resize(small, 32, 32)]))


def test_released_networks_share_their_variables(tf_session, tmp_path):
    experts = perception.Experts(_empty_released_weights(tmp_path), perception.EXPERTS)
    fakes, landmarks = tf.zeros([2, 3, 64, 64]), tf.zeros([2, 68, 2])
    outputs = [experts.reconstruct(fakes), experts.identity(fakes), experts.hair(fakes, landmarks)]
    assert [x.shape.as_list() for x in outputs] == [[2, 257], [2, 128], [2, 256, 256]]
    count = len(tf.global_variables())
    assert count == 279 + 490 + 124
    with tf.variable_scope('tower1'):
        experts.identity(fakes, tf.ones([2, 1, 64, 64]))
    assert len(tf.global_variables()) == count and not tf.trainable_variables()


def test_missing_weights_are_listed_together(tmp_path):
    specs = perception.released_specs(str(tmp_path))
    with pytest.raises(UserError) as caught:
        perception.Experts(specs, perception.STAGE_EXPERTS[2])
    text = str(caught.value)
    for part in ('FaceReconModel', '20170512-110547', 'faceparser_public', 'github.com', '3 perception'):
        assert part in text
    with pytest.raises(UserError) as caught:
        perception.Experts(specs)
    assert 'faceparser_public' not in str(caught.value)      # stage 1 does without
    assert 'pretrained_weights' in perception.released_specs()['id'].weights


def test_small_world_end_to_end(tf_session, small_world):
    experts = perception.Experts(perception.load_specs(small_world), perception.EXPERTS)
    fakes = tf.constant(_pictures(3, 64))
    outputs = [experts.reconstruct(fakes), experts.identity(fakes), experts.hair(fakes, tf.zeros([3, 68, 2]))]
    gradients = [tf.gradients(x, fakes)[0] for x in outputs]
    assert not tf.trainable_variables()
    experts.restore()
    values, slopes = tf_session.run([outputs, gradients])
    assert [x.shape for x in values] == [(3, 257), (3, 128), (3, 32, 32)]
    assert (values[2] >= 0).all() and (values[2] <= 1).all() and values[2].std() > 0.01
    outside = np.abs(_pictures(3, 64)) > 1
    for slope in slopes:
        assert np.abs(slope).max() > 0 and not slope[outside].any()
    stored = checkpoints.read(experts.specs['recon'].weights, ['small_recon/dense/kernel'])
    kernel, = [v for v in tf.global_variables() if v.op.name == 'small_recon/dense/kernel']
    assert_close(tf_session.run(kernel), stored['small_recon/dense/kernel'].astype(np.float32))


def test_restoring_networks_that_were_not_used_yet(tf_session, small_world):
    experts = perception.Experts(perception.load_specs(small_world), ('id',))
    experts.restore()
    assert tf.global_variables()[0].op.name.startswith('small_id/')


def test_weights_of_another_width(tf_session, small_world):
    specs = perception.load_specs(small_world)
    specs['id'].width = 10
    with pytest.raises(UserError, match='other shape'):
        perception.Experts(specs, ('id',)).restore()


@pytest.mark.parametrize('entry, word', [
    (dict(network='R_Net', weights='w'), 'small_id'),
    (dict(network='small_id', weights='w'), 'size None'),
    (dict(network='small_id', weights='w', size=50), '50'),
    (dict(network='small_parser', weights='w', size=64, classes=4), "unknown: 'classes'"),
    (dict(network='small_id', size=64), 'weights is missing'),
    (dict(network='Perceptual_Net', weights='w', width=3), 'fixed size'),
    (dict(network='small_id', weights='w', size=64, depth=3), 'depth'),
    (5, 'a table')])
def test_bad_specs_are_named(tmp_path, entry, word):
    path = tmp_path / 'world.json'
    path.write_text(json.dumps({'id': entry}))
    with pytest.raises(UserError, match=word):
        perception.load_specs(str(path))


@pytest.mark.parametrize('content', [None, '{"id": ', '[]'])
def test_bad_tables_are_named(tmp_path, content):
    path = tmp_path / 'world.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match='world.json'):
        perception.load_specs(str(path))


def test_an_empty_table_lacks_networks(tmp_path):
    path = tmp_path / 'world.json'
    path.write_text('{}')
    with pytest.raises(UserError, match='recon, id'):
        perception.Experts(perception.load_specs(str(path)))


def test_reconstructor_of_a_small_world(tf_session, small_world):
    specs = perception.load_specs(small_world)
    photos = np.random.RandomState(0).randint(0, 256, [5, 224, 224, 3]).astype(np.uint8)
    with perception.Reconstructor(specs, batch=2) as reconstruct:
        coeff = reconstruct(photos)
        assert reconstruct(photos[:0]).shape == (0, 257)
        for wrong in (photos.astype(np.float32), photos[:, :200], photos[0]):
            with pytest.raises(ValueError, match='224'):
                reconstruct(wrong)
    experts = perception.Experts(specs, ('recon',))
    rgb = images.from_255(tf.constant(photos[..., ::-1].astype(np.float32)))
    expected = experts.reconstruct(images.nhwc_to_nchw(rgb))
    experts.restore()
    assert_close(coeff, tf_session.run(expected), atol=1e-3)


def test_reconstructor_in_bfloat16_is_near_float32(small_world):
    try:
        tfutil.check_precision('bfloat16')
    except UserError as error:
        pytest.skip(str(error))
    photos = np.random.RandomState(0).randint(0, 256, [6, 224, 224, 3]).astype(np.uint8)
    rms, largest = preprocess.differences(perception.load_specs(small_world), photos, batch=3)
    assert 0 < rms < 0.2 and rms < largest < 1


def test_reconstructor_gives_the_recorded_coefficients(tmp_path):
    known = np.load(shared('oracle', 'perception', 'networks', 'rnet.npz'))
    specs = perception.released_specs(str(tmp_path))
    checkpoints.save(specs['recon'].weights, {v['name']: oracle_weight(v['name'], v['shape'])
                                              for v in recorded_variables('R_Net')})
    with perception.Reconstructor(specs) as reconstruct:
        assert_close(reconstruct(known['input_bgr']), known['coeff'], atol=1e-4)


@pytest.mark.parametrize('name', ['small_recon', 'small_id', 'small_parser'])
def test_small_networks_learn(tf_session, name):
    """Each fits a handful of pictures: a wrong graph (dead branch, lost channel) would not."""
    tf.set_random_seed(0)
    rnd = np.random.RandomState(0)
    pictures = tf.constant(rnd.uniform(0, 255, [6, 32, 32, 3]).astype(np.float32))
    if name == 'small_parser':
        wanted = tf.argmax(pictures, axis=3)        # the strongest colour
        logits = networks_small.small_parser_logits(pictures, width=8, trainable=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=wanted, logits=logits))
    else:
        y = getattr(networks_small, name)(pictures, width=8, trainable=True)
        loss = tf.reduce_mean(tf.square(y - rnd.randn(*y.shape.as_list()).astype(np.float32)))
    step = tf.train.AdamOptimizer(3e-3).minimize(loss)
    tf_session.run(tf.global_variables_initializer())
    before = tf_session.run(loss)
    for _ in range(60):
        tf_session.run(step)
    assert tf_session.run(loss) < 0.5 * before


def test_small_networks_fit_their_budget(tf_session):
    for build in (networks_small.small_recon, networks_small.small_id, networks_small.small_parser):
        before = len(tf.global_variables())
        build(tf.zeros([1, 64, 64, 3]))
        numbers = sum(int(np.prod(v.shape.as_list())) for v in tf.global_variables()[before:])
        assert 0.2e6 < numbers < 0.75e6         # as float16 below 1.5 MB
    with pytest.raises(ValueError, match='multiple of 16'):
        networks_small.small_id(tf.zeros([1, 40, 40, 3]))
    with pytest.raises(ValueError, match='do not halve'):
        networks_small.small_id(tf.zeros([1, 144, 144, 3]))


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
def test_variables_do_not_depend_on_the_data_format(data_format, monkeypatch):
    monkeypatch.setenv('DISCO_DATA_FORMAT', data_format)
    with tf.Graph().as_default():
        for build in (networks_small.small_recon, networks_small.small_id, networks_small.small_parser):
            assert build(tf.zeros([2, 32, 32, 3]), width=8).shape.as_list()[0] == 2
        shapes = {v.op.name: v.shape.as_list() for v in tf.global_variables()}
    assert shapes['small_recon/dense/kernel'] == [512, 257]
    assert shapes['small_parser/up0/kernel'] == [3, 3, 8, 4]


@pytest.mark.parametrize('size, side', [(16, 4), (48, 6), (80, 5), (96, 6), (112, 7), (128, 4)])
def test_small_networks_see_pictures_of_many_sizes(tf_session, size, side):
    assert networks_small.small_id(tf.zeros([1, size, size, 3]), width=4).shape.as_list() == [1, 128]
    kernel = next(v for v in tf.global_variables() if v.op.name == 'small_id/dense/kernel')
    assert kernel.shape.as_list()[0] == side * side * 32
    assert networks_small.small_parser(tf.zeros([1, size, size, 3]), 4, 4).shape.as_list() == [1, size, size, 4]
