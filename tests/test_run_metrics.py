"""run_metrics.py: where its results may go."""

import os

import pytest

import config
from tests.test_generate_images import here, run_script, write_small_world  # noqa: F401  here: a fixture

SCRIPT = os.path.join(config.ROOT, 'run_metrics.py')


@pytest.mark.parametrize('content', [b'precious', b'{"a": 1}\n', b'\x80\x04', b'[1]\n'])
def test_results_are_not_added_to_other_files(here, capsys, content):  # noqa: F811
    with open('mine', 'wb') as file:
        file.write(content)
    code, _, err = run_script(SCRIPT, ['--source', 'photos', '--world', 'synthetic', '--output', 'mine'], capsys)
    assert code == 1 and 'holds something else than results' in err and err.count('\n') == 1
    with open('mine', 'rb') as file:
        assert file.read() == content


def test_results_do_not_go_into_the_model(here, capsys):  # noqa: F811
    options = write_small_world('.')
    os.symlink('small.pkl', 'link')
    code, _, err = run_script(SCRIPT, options + ['--output', 'link'], capsys)
    assert code == 1 and 'is the same place as --model' in err and err.count('\n') == 1
