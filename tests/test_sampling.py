"""Sampling against the recorded numbers of the released system; latents, averages of w, the default model, checks."""

import os
import shutil
import socket
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import config
from benchmarks.sampling import write_random_model, write_random_vaes
from dnnlib.tflib import pickles, tfutil
from dnnlib.tflib.compat import IS_TF1, gpu_names, tf
from dnnlib.util import UserError
from renderer import factors
from sampling import bulk, generator, health, latents, pretrained, truncation
from tests.common import assert_close, data, kept, recording, shared
from worlds import label

SMALL = dict(resolution=8, fmap_base=64, fmap_max=16, dlatent_size=24, mapping_fmaps=16, mapping_layers=2)
RECORDED = np.load(recording('generator', 'truncate_io.npz'))
RATE = float(RECORDED['rate'])


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """Folder with random VAEs, a small random model and the recorded average of w."""
    folder = str(tmp_path_factory.mktemp('sampling'))
    write_random_vaes(os.path.join(folder, 'vaes'))
    write_random_model(os.path.join(folder, 'small.pkl'), **SMALL)
    np.savetxt(os.path.join(folder, 'average.txt'), RECORDED['average_w_id'])
    return folder


@pytest.fixture(scope='module')
def recorded(places):
    """The generator of the recorded numbers."""
    with generator.FaceGenerator(data('generator', 'networks.pkl'), os.path.join(places, 'vaes'),
                                os.path.join(places, 'average.txt'), threads=2) as faces:
        yield faces


@pytest.fixture
def small(places, tmp_path):
    """A fresh copy of the small model: (path of the model, folder of the VAEs)."""
    return shutil.copy(os.path.join(places, 'small.pkl'), str(tmp_path / 'small.pkl')), os.path.join(places, 'vaes')


# The recorded numbers

def test_recorded_dlatents(recorded):
    coeffs = RECORDED['inputcoeff']
    assert_close(recorded.dlatents(coeffs), RECORDED['dlatents'], atol=2e-5)
    assert_close(recorded.identity_dlatents(coeffs), RECORDED['dlatents_id'], atol=2e-5)
    assert_close(recorded.dlatents(coeffs, RATE), RECORDED['dlatents_final'], atol=2e-5)
    by_hand = truncation.truncate(RECORDED['dlatents'], RECORDED['dlatents_id'], RECORDED['average_w_id'], RATE)
    assert_close(by_hand, RECORDED['dlatents_final'], atol=2e-6)
    assert_close(recorded.dlatents(coeffs, 1.0), RECORDED['dlatents'], atol=2e-5)


@pytest.mark.parametrize('batch', [1, 3, 4])
def test_recorded_images_whatever_the_batch(recorded, batch):
    coeffs = RECORDED['inputcoeff']
    assert_close(*kept(recorded.images_float(coeffs, RATE, batch), RECORDED['images_float']), atol=0.05)
    pictures, finite = recorded.images_and_health(coeffs, RATE, batch)
    assert pictures.dtype == np.uint8 and finite.all()
    off = np.abs(pictures.astype(int) - RECORDED['images_uint8'].astype(int))
    assert off.max() <= 1 and np.mean(off > 0) <= 0.005


def test_recorded_images_from_dlatents(recorded):
    pictures = recorded.images_from_dlatents(RECORDED['dlatents_final'][:2], batch=1)
    off = np.abs(pictures.astype(int) - RECORDED['images_uint8'][:2].astype(int))
    assert off.max() <= 1 and np.mean(off > 0) <= 0.005


def test_recorded_latents_to_coefficients(recorded, monkeypatch):
    for factor in factors.FACTORS:
        shared('oracle', 'generator', 'vae_weights', factor.name)
    monkeypatch.setattr(recorded, 'vae_weights', shared('oracle', 'generator', 'vae_weights'))
    monkeypatch.setattr(recorded, '_decoders', None)
    people = recorded.faces_from_latents(RECORDED['latents'], RECORDED['noise'])
    assert_close([face.coeffs for face in people], RECORDED['inputcoeff'], atol=2e-5)


def test_identity_only_keeps_160():
    coeffs = np.random.RandomState(0).standard_normal([2, 286])
    kept = truncation.identity_only(coeffs)
    assert_close(kept[:, :160], coeffs[:, :160])
    assert not kept[:, 160:].any()


# Random latents

def _as_the_release_draws(seed, subjects, variations, moving):
    """Plain: np.random, one call for each vector, z in the order id, exp, gamma, rot."""
    np.random.seed(seed)
    result = []
    for _ in range(subjects):
        own, noise = np.random.normal(size=179), np.random.normal(size=32)
        for _ in range(variations):
            exp, gamma, rot = np.random.normal(size=32), np.random.normal(size=16), np.random.normal(size=3)
            z = own.copy()
            if 'exp' in moving:
                z[128:160] = exp
            if 'gamma' in moving:
                z[160:176] = gamma
            if 'rot' in moving:
                z[176:179] = rot
            result.append(np.concatenate([z, noise]))
    return np.array(result)


@pytest.mark.parametrize('number,moving', [(0, ['exp', 'gamma', 'rot']), (1, ['exp']), (2, ['gamma']), (3, ['rot'])])
def test_latents_are_drawn_as_in_the_release(number, moving):
    expected = _as_the_release_draws(1, 3, 4, moving)
    for factor in (number, factors.FACTOR_CHOICES[number][0]):
        drawn = [np.concatenate([z, subject.noise]) for subject in latents.draw_subjects(1, 3, 4, factor)
                 for z in subject.latents[1:]]
        assert_close(drawn, expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2 ** 32 - 1), st.sampled_from([0, 32]))
def test_shards_together_are_the_whole(subjects, variations, shards, seed, noise_dim):
    whole = {s.index: s for s in latents.draw_subjects(seed, subjects, variations, 0, noise_dim)}
    parts = [s for k in range(shards)
             for s in latents.draw_subjects(seed, subjects, variations, 0, noise_dim,
                                            lambda i, k=k: i % shards == k)]
    assert sorted(s.index for s in parts) == list(range(subjects))
    for part in parts:
        assert_close(part.latents, whole[part.index].latents)
        assert_close(part.noise, whole[part.index].noise)


def test_only_what_moves_moves(recorded):
    for number, (_, moving) in enumerate(factors.FACTOR_CHOICES):
        subjects = list(latents.draw_subjects(1, 2, 3, number))
        for people in recorded.subject_faces(subjects):
            for factor in factors.FACTORS:
                values = np.stack([face.coeffs[factor.coeffs] for face in people])
                if factor.name in moving:
                    assert np.ptp(values, axis=0).max() > 0.01
                else:
                    assert not np.ptp(values, axis=0).any()
            assert not np.ptp([face.noise for face in people], axis=0).any()
            decoded = recorded.decode(np.stack([face.latents for face in people]))
            assert_close([face.coeffs[:254] for face in people], decoded, atol=2e-5)


def test_random_faces_are_the_subjects_of_the_release(recorded):
    own = next(latents.draw_subjects(7, 1, 1))
    face = recorded.random_face(seed=7)
    assert_close(face.coeffs, recorded.faces_from_latents(own.latents[:1], own.noise)[0].coeffs)
    assert_close(recorded.random_faces(3, seed=7)[0].coeffs, face.coeffs, atol=2e-5)
    assert not recorded.mean_face().noise.any()


def test_unknown_factors():
    for factor in (4, -1, 'smile'):
        with pytest.raises(UserError, match='expected one of 0 .all.'):
            latents.moving_factors(factor)


# Pictures

def test_render_writes_pictures(recorded, tmp_path):
    people = recorded.random_faces(3, seed=2)
    single = recorded.render(people[0], str(tmp_path / 'a.png'))
    assert single.shape == (64, 64, 3)
    assert_close(np.asarray(Image.open(str(tmp_path / 'a.png'))), single)
    several = recorded.render(people, [str(tmp_path / f'{i}.png') for i in range(3)], batch=2)
    assert np.abs(several[0].astype(int) - single.astype(int)).max() <= 1
    with pytest.raises(UserError, match='3 file names'):
        recorded.render(people, str(tmp_path / 'b.png'))
    with pytest.raises(UserError, match='286 numbers'):
        recorded.render(np.zeros([1, 254]))
    with pytest.raises(UserError, match='shape'):
        recorded.images_from_dlatents(np.zeros([1, 3, 64]))


def test_two_generators_live_in_one_process_and_leave_the_outside_alone(recorded, small, tf_session):
    before = tf.get_default_graph().as_graph_def().ByteSize()
    with generator.FaceGenerator(*small) as other:
        assert (other.resolution, other.num_layers, recorded.resolution) == (8, 4, 64)
        assert other.images(other.mean_face(), rate=1).shape == (1, 8, 8, 3)
        assert recorded.images(RECORDED['inputcoeff'][:1]).shape == (1, 64, 64, 3)
    assert tf.get_default_session() is tf_session and tf.get_default_graph().as_graph_def().ByteSize() == before
    other.close()
    for use in (lambda: other.images(np.zeros([1, 286]), rate=1), lambda: other.decode(np.zeros([1, 179]))):
        with pytest.raises(RuntimeError, match='closed'):
            use()


def test_a_growing_network_gives_its_coarse_pictures(places, tmp_path):
    states = pickles.load_states(os.path.join(places, 'small.pkl'))
    synthesis = states[0].components['synthesis']
    synthesis.variables = [(name, np.float32(1) if name == 'lod' else value) for name, value in synthesis.variables]
    pickles.save_states(states, str(tmp_path / 'coarse.pkl'))
    with generator.FaceGenerator(str(tmp_path / 'coarse.pkl'), os.path.join(places, 'vaes')) as faces:
        picture = faces.images(np.ones([1, 286]), rate=1)
    assert_close(picture[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2), picture)


def test_a_generator_without_noise_vector(places, tmp_path):
    model, noise_dim = str(tmp_path / 'm.pkl'), 0
    write_random_model(model, latent_size=254 + noise_dim, **SMALL)
    with generator.FaceGenerator(model, os.path.join(places, 'vaes')) as faces:
        assert faces.noise_dim == faces.random_face(1).noise.size == noise_dim
        subject = next(latents.draw_subjects(1, 1, 2, 'pose', noise_dim))
        assert faces.images(faces.subject_faces([subject])[0], rate=1).shape == (2, 8, 8, 3)


def test_models_that_are_no_face_generators(places, tmp_path):
    model = str(tmp_path / 'm.pkl')
    write_random_model(model, **dict(SMALL, latent_size=200))
    with pytest.raises(UserError, match='takes 200 numbers.*286 in all'):
        generator.FaceGenerator(model)
    pickles.save_states([pickles.load_states(data('generator', 'networks.pkl'))[1]], model)
    with pytest.raises(UserError, match='D_basic; expected a generator'):
        generator.FaceGenerator(model)
    with pytest.raises(UserError, match='no such file'):
        generator.FaceGenerator(str(tmp_path / 'none.pkl'))
    with pytest.raises(UserError, match='VAE'):
        with generator.FaceGenerator(os.path.join(places, 'small.pkl'), str(tmp_path)) as faces:
            faces.random_face(1)


# Average of w

def _average_by_hand(faces, count):
    rng = np.random.RandomState(1)
    total = 0
    for _ in range(count):
        z, noise = rng.normal(size=[1, 179]), rng.normal(size=[1, 32])
        coeffs = np.concatenate([faces.decode(z), noise], axis=1)
        coeffs[:, 160:254] = 0
        total = total + faces.dlatents(coeffs.astype(np.float32))[0]
    return total / count


def test_average_of_w(small, monkeypatch):
    monkeypatch.setattr(truncation, '_BATCH', 7)
    monkeypatch.setattr(truncation, 'AVERAGE_COUNT', 20)
    with generator.FaceGenerator(*small) as faces:
        expected = _average_by_hand(faces, 20)
        assert_close(truncation.compute_average(faces, 20), expected, atol=2e-5)
        assert_close(faces.average_w, expected, atol=2e-5)
    kept = small[0][:-4] + '-average_w_id.txt'
    assert_close(np.loadtxt(kept), expected, atol=2e-5)
    monkeypatch.setattr(truncation, 'compute_average', lambda faces: pytest.fail('computed twice'))
    with generator.FaceGenerator(*small) as faces:
        assert_close(faces.average_w, expected, atol=2e-5)


@pytest.mark.skipif(IS_TF1 or gpu_names() or not tfutil.cpu_has_bfloat16(),
                    reason='bfloat16 needs TensorFlow 2.x and, without a GPU, a processor with AVX512_BF16 or AMX')
def test_bfloat16_changes_pictures_by_little_and_numbers_not_at_all(small, monkeypatch):
    monkeypatch.setattr(truncation, 'AVERAGE_COUNT', 20)
    found = {}
    for precision in ('bfloat16', 'float32'):
        with generator.FaceGenerator(*small, precision=precision) as faces:
            people = faces.random_faces(4, seed=1)
            found[precision] = np.stack([face.coeffs for face in people]), faces.images(people).astype(int)
            assert faces.identify().get('precision', 'float32') == precision
            average = truncation.compute_average(faces, 20)
            assert_close(average, found.setdefault('average', average), atol=1e-5)
    np.testing.assert_array_equal(found['bfloat16'][0], found['float32'][0])
    assert 0 < np.abs(found['bfloat16'][1] - found['float32'][1]).mean() < 2


def test_average_of_another_model_is_not_taken(small, places, monkeypatch, capsys):
    monkeypatch.setattr(truncation, 'AVERAGE_COUNT', 3)
    with generator.FaceGenerator(*small) as faces:
        first = faces.average_w
    write_random_model(small[0], latent_size=286 + 1, **SMALL)
    with generator.FaceGenerator(*small) as faces:
        assert np.abs(faces.average_w - first).max() > 1e-3
    assert 'computing it again' in capsys.readouterr().err


def test_average_without_a_tag_is_taken_if_its_shape_fits(small):
    path = small[0][:-4] + '-average_w_id.txt'
    np.savetxt(path, np.ones([4, 24]))
    with generator.FaceGenerator(*small) as faces:
        assert_close(faces.average_w, np.ones([4, 24]))
    np.savetxt(path, np.ones([4, 23]))
    with generator.FaceGenerator(*small) as faces, pytest.raises(UserError, match=r'holds \[4, 23\].*is \[4, 24\]'):
        faces.images(np.zeros([1, 286]))


def test_average_beside_a_read_only_model_goes_to_the_user(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(truncation, 'AVERAGE_COUNT', 3)
    monkeypatch.setattr(config, 'AVERAGE_CACHE_DIR', str(tmp_path / 'mine'))
    monkeypatch.setattr(pretrained, 'average_w_path', lambda path: os.path.join(path, 'average.txt'))   # in a file
    with generator.FaceGenerator(*small) as faces:
        first = faces.average_w
    assert 'is kept as ' + str(tmp_path / 'mine') in capsys.readouterr().err
    monkeypatch.setattr(truncation, 'compute_average', lambda faces: pytest.fail('computed twice'))
    with generator.FaceGenerator(*small) as faces:
        assert_close(faces.average_w, first)


# The default model

@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    for name in ('CACHE_DIR', 'CACHE1_DIR', 'DEMO_DIR'):
        monkeypatch.setattr(config, name, str(tmp_path / name))
        os.makedirs(str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize('folder,name', [
    ('CACHE1_DIR', 'network-snapshot-020126.pkl'),
    ('CACHE_DIR', 'e42c6d2dcb3ea6479d593c576c99ecc1_network-snapshot-020126.pkl')])
def test_default_model_and_its_average_from_the_caches(empty_home, small, folder, name, monkeypatch):
    monkeypatch.setattr(pretrained, '_check_server_answers', lambda: pytest.fail('asked the network'))
    shutil.copy(small[0], os.path.join(getattr(config, folder), name))
    np.savetxt(os.path.join(config.CACHE1_DIR, 'fd19667fb7f2984f21b20696f84410e4_network-snapshot-020126-'
                            'average_w_id.txt'), np.full([4, 24], 3.0))
    with generator.FaceGenerator(None, small[1]) as faces:
        assert_close(faces.average_w, np.full([4, 24], 3.0))
    monkeypatch.setattr(truncation, 'AVERAGE_COUNT', 2)
    with generator.FaceGenerator(*small) as faces:       # the downloaded average belongs to the default model only
        assert np.abs(faces.average_w - 3).max() > 0.1


def test_decoders_of_another_world_are_refused(small, tmp_path):
    weights = shutil.copytree(small[1], str(tmp_path / 'vaes'))
    label.write(weights, 'human')
    with pytest.raises(UserError, match='worlds cannot be mixed: --vae_weights '):
        generator.FaceGenerator(small[0], weights)


def test_offline_the_small_model_is_used_else_a_line_says_where_to_put_one(empty_home, small, monkeypatch, capsys):
    def silence():
        raise UserError('Google Drive does not answer')
    monkeypatch.setattr(pretrained, '_check_server_answers', silence)
    with pytest.raises(UserError, match='put network-snapshot-020126.pkl into .*CACHE_DIR.*--model'):
        pretrained.find_model()
    embedded = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    open(embedded, 'w').close()
    assert pretrained.find_model(None, small[1]) == embedded
    assert 'does not answer: put network-snapshot-020126.pkl there; using' in capsys.readouterr().err


def test_without_its_vaes_the_released_model_is_not_fetched(empty_home, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, '_check_server_answers', lambda: pytest.fail('asked the network'))
    embedded = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    open(embedded, 'w').close()
    vaes = str(empty_home / 'vaes')
    assert pretrained.find_model(None, vaes) == embedded
    assert f'the released model and its VAEs are not in {config.CACHE_DIR} and {vaes}' in capsys.readouterr().err


def test_a_silent_server_is_given_up(monkeypatch):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen(1)
        address = f'http://127.0.0.1:{server.getsockname()[1]}'
        for name in ('https_proxy', 'HTTPS_PROXY'):
            monkeypatch.setenv(name, address)
        for name in ('no_proxy', 'NO_PROXY'):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(pretrained, 'ANSWER_SECONDS', 1)
        start = time.time()
        with pytest.raises(UserError, match='does not answer'):
            pretrained._check_server_answers()
    assert time.time() - start < 30


def test_the_world_of_a_model_names_its_vaes(small, places, tmp_path):
    shutil.copytree(small[1], str(tmp_path / 'mine'))
    label.write_model(small[0], 'human', vae_weights='mine')
    with generator.FaceGenerator(small[0]) as faces:
        assert faces.vae_weights == str(tmp_path / 'mine')
        assert faces.mean_face().coeffs.shape == (286,)


# Trouble

def test_pictures_are_told_from_trouble(demo_pictures):
    rng = np.random.RandomState(0)
    assert health.find_trouble(demo_pictures, np.ones(8, bool)) is None
    assert 'noise' in health.find_trouble(rng.randint(0, 256, [4, 64, 64, 3]).astype(np.uint8))
    noise = (127 + 40 * rng.standard_normal([4, 64, 64, 3])).clip(0, 255)
    assert 'noise' in health.find_trouble(noise.astype(np.uint8))
    assert 'one colour' in health.find_trouble(np.zeros([4, 64, 64, 3], np.uint8))
    assert 'one colour' in health.find_trouble(np.full([4, 64, 64, 3], 200, np.uint8))
    assert '1 of 8 pictures hold NaN' in health.find_trouble(demo_pictures, np.arange(8) > 0)
    assert 'blobs of colour' in health.find_trouble(RECORDED['images_uint8'])      # of a random network
    blobs = rng.randint(0, 256, [8, 8, 8, 3]).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    assert 'blobs of colour' in health.find_trouble(blobs)                         # what 3 kimg at 8x8 give


@pytest.fixture(scope='module')
def demo_pictures():
    with generator.FaceGenerator(os.path.join(config.DEMO_DIR, config.DEMO_NAME)) as faces:
        return faces.images(faces.random_faces(8, seed=3))


def test_photos_are_no_trouble():
    folder = shared('data', 'photos')
    names = [name for name in sorted(os.listdir(folder)) if name.endswith(('.jpg', '.png'))]
    for size in (8, 32, 256):
        photos = [Image.open(os.path.join(folder, name)).convert('RGB').resize((size, size)) for name in names]
        assert health.find_trouble(np.stack([np.asarray(photo) for photo in photos])) is None, size


def test_a_model_that_draws_no_faces_is_named(tmp_path, monkeypatch, capsys):
    """The trained model agrees with what is asked; the same network with its weights shuffled does not."""
    monkeypatch.setattr(config, 'AVERAGE_CACHE_DIR', str(tmp_path / 'cache'))
    demo = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    with generator.FaceGenerator(demo) as faces:
        assert health.agreement_of(faces) > 0.8
        health.warn_of_model(faces)
    assert capsys.readouterr().err == ''
    state = pickles.load_states(demo)[0]
    rng = np.random.RandomState(1)
    synthesis = state.components['synthesis']
    synthesis.variables = [(name, rng.permutation(np.ravel(value)).reshape(np.shape(value)))
                           for name, value in synthesis.variables]
    path = str(tmp_path / 'shuffled.pkl')
    pickles.save_states([state], path)
    vaes = os.path.join(config.ROOT, 'human', 'weights', 'vae')
    label.write_model(path, 'human', vae_weights=os.path.relpath(vaes, str(tmp_path)))
    with generator.FaceGenerator(path) as faces:
        health.warn_of_model(faces)
        assert 'does not draw the faces that are asked for' in capsys.readouterr().err
        monkeypatch.setattr(health, 'Judge', None)         # the answer is kept
        assert health.agreement_of(faces) < 0.3
    unnamed = shutil.copytree(vaes, str(tmp_path / 'vaes'), ignore=shutil.ignore_patterns(label.FILE))
    with generator.FaceGenerator(data('generator', 'networks.pkl'), unnamed) as faces:
        monkeypatch.setattr(config, 'PRETRAINED_DIR', 'nowhere')
        assert health.agreement_of(faces) is None           # no network of that world at hand


def test_a_snapshot_copied_alone_says_what_belongs_beside_it(tmp_path, monkeypatch):
    demo = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
    path = shutil.copy(demo, str(tmp_path / 'alone.pkl'))
    with pytest.raises(UserError, match='copy alone-world.json and, if it is there, the folder vae along') as caught:
        generator.FaceGenerator(path)
    assert 'released DiscoFaceGAN' not in str(caught.value)
    label.write_model(path, 'human', vae_weights='vae')             # now without its VAEs
    with pytest.raises(UserError, match='the VAEs that belong to .* copy alone-world.json and') as caught:
        generator.FaceGenerator(path).load_all()
    assert 'released DiscoFaceGAN' not in str(caught.value)
    shutil.copytree(os.path.join(config.ROOT, 'human', 'weights', 'vae'), str(tmp_path / 'vae'))
    with generator.FaceGenerator(path) as faces:
        faces.load_all(rate=1)
    other = str(tmp_path / 'small.pkl')                                 # does not tell who trained it
    write_random_model(other, **SMALL)
    monkeypatch.setattr(config, 'VAE_WEIGHTS_DIR', str(tmp_path / 'none'))
    with pytest.raises(UserError, match='no weights of .* copy small-world.json'):
        generator.FaceGenerator(other).load_all(rate=1)


class _Faces:
    def __init__(self, picture, finite=True):
        self.picture, self.finite = picture, finite

    def images_and_health(self, faces, rate, batch):
        return np.stack([self.picture] * len(faces)), np.full(len(faces), self.finite)


@pytest.mark.parametrize('picture,finite,word', [
    (None, True, ''), (RECORDED['images_uint8'][0], True, 'blobs'),
    (np.zeros([64, 64, 3], np.uint8), True, 'one colour'), (np.zeros([64, 64, 3], np.uint8), False, 'NaN')])
def test_trouble_is_said_once_and_stops_nothing(tmp_path, capsys, demo_pictures, picture, finite, word):
    from sampling.faces import Face
    from sampling.image_folder import ImageFolder
    folder = ImageFolder(str(tmp_path), {}, {f'{i:03d}_00': {} for i in range(5)})
    jobs = (bulk.Job(f'{i:03d}_00', Face(np.zeros(286))) for i in range(5))
    drawn = _Faces(demo_pictures[0] if picture is None else picture, finite)
    assert bulk.generate(drawn, jobs, folder, 5, batch=4) == (0 if finite else 5)
    said = capsys.readouterr().err
    assert said.count('warning:') == (1 if word else 0) and word in said
    assert sorted(os.listdir(str(tmp_path))) == [f'{i:03d}_00.png' for i in range(5)] + ['made.jsonl', 'settings.json']
