"""The small model of the folder demo: complete, small, and its faces follow their renders."""

import os

import numpy as np

import config
from metrics import metric_base
from sampling import generator, health, pretrained
from worlds import label

MODEL = os.path.join(config.DEMO_DIR, config.DEMO_NAME)
LARGEST, ALL = 6e6, 21e6        # bytes
SLOPES, HAIR = {'identity': 0.85, 'lighting': 0.72, 'pose': 0.42, 'expression': 0.22}, 0.72


def _files(folder):
    return [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]


def test_everything_is_there_and_small():
    files = _files(config.DEMO_DIR) + _files(os.path.join(config.ROOT, 'human', 'weights'))
    sizes = [os.path.getsize(path) for path in files]
    assert max(sizes) < LARGEST and sum(sizes) < ALL
    assert pretrained.small_model() == MODEL
    assert label.read_model(MODEL) == {'world': 'human'}


def test_average_belongs_to_the_model(capsys):
    """Else everybody's first picture waits until it is computed anew."""
    with generator.FaceGenerator(MODEL) as faces:
        faces.load_all()
        stored = pretrained.load_average_w(pretrained.average_w_path(MODEL))
        np.testing.assert_array_equal(faces.average_w, stored)
        pictures = faces.images(faces.random_faces(8, seed=1))
    assert health.find_trouble(pictures) is None
    assert 'computing' not in capsys.readouterr().err


def test_faces_follow_light_pose_and_expression(tmp_path):
    """An untrained generator has slopes about 0."""
    options = metric_base.Options(model=MODEL, subjects=6, variations=4, cache=str(tmp_path))
    slopes = {result['factor']: result['value'] for result in metric_base.measure({'slope': True}, options)}
    assert not {factor: slopes[factor] for factor, least in SLOPES.items() if slopes[factor] < least}


def test_a_judge_that_no_training_saw_finds_what_was_asked_for(tmp_path):
    options = metric_base.Options(model=MODEL, recon=os.path.join(config.DEMO_DIR, 'judge'), subjects=12, variations=6,
                                  cache=str(tmp_path))
    results = metric_base.measure(dict.fromkeys(('control', 'identity', 'hair'), True), options)
    found = {(result['metric'], result['factor']): result['value'] for result in results}
    assert found['control', 'pose'] > 0.95 and found['control', 'lighting'] > 0.65
    assert found['control', 'expression'] > 0.8
    assert found['control', 'albedo'] > 0.85 and found['control', 'shape'] > 0.4
    for factor in ('expression', 'lighting'):
        assert found['identity', factor] > 0.75 and found['hair', factor] > HAIR
