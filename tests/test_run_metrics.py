"""run_metrics.py: where its results may go."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import config
from dnnlib.util import UserError
from metrics import detection
from preprocess import detect
from tests.test_generate_images import here, run_script, write_small_world  # noqa: F401  here: a fixture

SCRIPT = os.path.join(config.ROOT, 'run_metrics.py')


@pytest.mark.parametrize('content', [b'precious', b'{"a": 1}\n', b'\x80\x04', b'[1]\n'])
def test_results_are_not_added_to_other_files(here, capsys, content):  # noqa: F811
    with open('mine', 'wb') as file:
        file.write(content)
    code, _, err = run_script(SCRIPT, ['--source', 'photos', '--world', 'human', '--output', 'mine'], capsys)
    assert code == 1 and 'holds something else than results' in err and err.count('\n') == 1
    with open('mine', 'rb') as file:
        assert file.read() == content


def test_results_do_not_go_into_the_model(here, capsys):  # noqa: F811
    options = write_small_world('.')
    os.symlink('small.pkl', 'link')
    code, _, err = run_script(SCRIPT, options + ['--output', 'link'], capsys)
    assert code == 1 and 'is the same place as --model' in err and err.count('\n') == 1


DETECTOR = '''class MTCNN:
    def detect_faces(self, picture):
        found = dict(left_eye=(1, 1), right_eye=(9, 1), nose=(5, 5), mouth_left=(1, 9), mouth_right=(9, 9))
        return [dict(box=[0, 0, 9, 9], keypoints=found)] if picture.mean() > 10 else []
'''


def _install_detector(folder, monkeypatch, text=DETECTOR):
    """A package mtcnn that finds a face in whatever is not dark."""
    os.mkdir(os.path.join(folder, 'mtcnn'))
    with open(os.path.join(folder, 'mtcnn', '__init__.py'), 'w') as file:
        file.write(text)
    monkeypatch.setenv('PYTHONPATH', folder)
    monkeypatch.syspath_prepend(folder)


def test_faces_are_found_in_a_process_of_its_own(tmp_path, monkeypatch):
    _install_detector(str(tmp_path), monkeypatch)
    pictures = np.zeros([3, 16, 16, 3], np.uint8)
    pictures[[0, 2]] = 99
    detect.check_installed()
    assert detection.found(pictures).tolist() == [True, False, True]


def test_what_the_detector_lacks_is_named(tmp_path, monkeypatch, here, capsys):  # noqa: F811
    options = write_small_world('.') + ['--metrics', 'faces', '--cache', 'cache']
    code, _, err = run_script(SCRIPT, options, capsys)
    assert code == 1 and 'mtcnn/__init__.py' in err and 'pip install "mtcnn==1.0.0"' in err and err.count('\n') == 1
    _install_detector(str(tmp_path), monkeypatch, 'raise OSError("weights file rnet.lz4 not found")')
    with pytest.raises(UserError, match='weights file rnet.lz4 not found'):
        detect.check_installed()


def test_one_command_gives_the_proof_table_as_markdown(tmp_path, monkeypatch, capsys):
    _install_detector(str(tmp_path), monkeypatch)
    output = str(tmp_path / 'proof.jsonl')
    code, out, err = run_script(SCRIPT, [
        '--model', os.path.join(config.DEMO_DIR, 'demo128.pkl'), '--metrics', 'proof', '--subjects', '3',
        '--variations', '3', '--num', '140', '--judge', os.path.join(config.DEMO_DIR, 'judge'), '--cache',
        str(tmp_path / 'cache'), '--output', output], capsys)
    assert code == 0, err
    results = {(line['metric'], line.get('factor')): line for line in map(json.loads, out.splitlines())}
    assert results['faces', None]['value'] == 1 and results['faces', None]['counts'] == {'pictures': 15}
    assert results['control', 'pose']['value'] > 0.8 and results['control', 'expression']['value'] > 0.2
    assert 0 < results['fid', None]['value'] < 40
    table = [line for line in err.splitlines() if line.startswith('| ')]
    assert table[0] == '| | demo128.pkl | target |' and len(table) > 18
    done = subprocess.run([sys.executable, '-m', 'metrics.proof', output], cwd=config.ROOT, stdout=subprocess.PIPE)
    assert done.returncode == 0 and done.stdout.decode().splitlines()[:-1] == err.splitlines()[-len(table) - 6:-3]
