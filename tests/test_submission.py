"""Run directories: numbers, log, options, abort.txt."""

import json
import os
import sys

import pytest

from dnnlib.submission.run_dir import Logger, RunContext, create_run_dir, leading_number
from dnnlib.util import UserError


def test_numbers_go_on_from_the_largest(tmp_path):
    assert os.path.basename(create_run_dir(str(tmp_path), 'a')) == '00000-a'
    os.mkdir(str(tmp_path / '00041-old'))
    os.mkdir(str(tmp_path / 'notes'))
    assert os.path.basename(create_run_dir(str(tmp_path), 'sgan-ffhq256-4gpu')) == '00042-sgan-ffhq256-4gpu'
    assert leading_number('notes') is None


def test_unwritable_place_is_named(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='--result_dir'):
        create_run_dir(str(tmp_path / 'file' / 'runs'), 'a')


def test_run_leaves_its_files(tmp_path, capsys):
    run_dir = create_run_dir(str(tmp_path), 'a')
    with RunContext(run_dir, {'stage': 1, 'w_id': 3.0}) as run:
        print('a line')
        print('to stderr', file=sys.stderr)
        sys.stdout.write('\r 10%')
        assert not run.should_stop()
        open(run.path('abort.txt'), 'w').close()
        assert run.should_stop()
    assert sorted(os.listdir(run_dir)) == ['_finished.txt', 'abort.txt', 'config.txt', 'log.txt', 'run.txt',
                                           'submit_config.json', 'submit_config.txt']
    with open(run.path('log.txt')) as file:
        assert file.read() == 'a line\nto stderr\n'
    with open(run.path('submit_config.json')) as file:
        assert json.load(file) == {'stage': 1, 'w_id': 3.0}
    assert 'a line' in capsys.readouterr().out


def test_failed_run_is_not_finished_and_gives_stdout_back(tmp_path):
    before = sys.stdout, sys.stderr
    run_dir = create_run_dir(str(tmp_path), 'a')
    with pytest.raises(ZeroDivisionError):
        with RunContext(run_dir, {}):
            raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before
    assert '_finished.txt' not in os.listdir(run_dir)


def test_logger_appends(tmp_path):
    for word in ('one', 'two'):
        with Logger(str(tmp_path / 'log.txt')):
            print(word)
    assert (tmp_path / 'log.txt').read_text() == 'one\ntwo\n'
