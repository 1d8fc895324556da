"""Building C++ ops: the cache and its key, two builders at once, and what the user reads when it fails."""

import os
import shutil
import subprocess
import sys
import tempfile
import threading

import pytest

import config
from dnnlib.tflib import custom_ops
from dnnlib.util import UserError

SOURCE = '#include "answer.h"\nextern "C" int answer() { return ANSWER; }\n'     # no TensorFlow: compiles at once


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A cache of its own, a one-function source, and a compiler that notes each build in `calls`."""
    monkeypatch.setattr(config, 'OP_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    monkeypatch.setattr(custom_ops, '_libraries', {})
    compiler = tmp_path / 'noting-g++'
    real = ' '.join(custom_ops.find_compiler())
    note = f'case "$*" in --version) ;; *) echo x >> {tmp_path}/calls;; esac'
    compiler.write_text(f'#!/bin/sh\n{note}\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    (tmp_path / 'answer.cc').write_text(SOURCE)
    (tmp_path / 'answer.h').write_text('#define ANSWER 42\n')
    return tmp_path


def _sources(project):
    return (str(project / 'answer.cc'),)


def _builds(project):
    calls = project / 'calls'
    return len(calls.read_text().split()) if calls.exists() else 0


def test_builds_once_then_takes_the_cached_file(project, capfd):
    path = custom_ops.library_path('answer', _sources(project))
    assert os.path.dirname(path) == str(project / 'cache') and os.path.getsize(path) > 0
    said = capfd.readouterr()
    assert said.out == '' and 'building answer' in said.err and path in said.err
    assert custom_ops.library_path('answer', _sources(project)) == path
    assert _builds(project) == 1
    assert capfd.readouterr().err == ''


def test_loads_once_per_process(project):
    library = custom_ops.get_library('answer', _sources(project))
    assert library is custom_ops.get_library('answer', _sources(project))
    assert _builds(project) == 1


def test_key_changes_with_whatever_changes_the_binary(project, monkeypatch):
    def key():
        compiler = custom_ops.find_compiler()
        sources = _sources(project)
        return custom_ops.cache_key(compiler, custom_ops.compile_command(compiler, sources), sources)

    keys = [key(), key()]
    assert keys[0] == keys[1]
    (project / 'answer.cc').write_text(SOURCE + '// changed\n')
    keys.append(key())
    (project / 'answer.h').write_text('#define ANSWER 43\n')
    keys.append(key())
    monkeypatch.setenv('CXX', os.environ['CXX'] + ' -DMORE')
    keys.append(key())
    monkeypatch.setattr(custom_ops.tf.sysconfig, 'get_compile_flags', lambda: ['-I.', '-DOTHER'])
    keys.append(key())
    assert len(set(keys)) == len(keys) - 1


def test_a_copy_elsewhere_has_the_same_key(project):
    copy = project / 'copy'
    copy.mkdir()
    keys, compiler = set(), custom_ops.find_compiler()
    for name in ('answer.cc', 'answer.h'):
        shutil.copy(str(project / name), str(copy / name))
    for folder in (project, copy):
        sources = _sources(folder)
        keys.add(custom_ops.cache_key(compiler, custom_ops.compile_command(compiler, sources), sources))
    assert len(keys) == 1


def test_key_changes_with_the_compiler_version(project):
    compiler = project / 'some-compiler'
    keys = set()
    for version in ('9.9', '10.0', '10.0'):
        compiler.write_text(f'#!/bin/sh\necho some compiler {version}\n')
        compiler.chmod(0o755)
        keys.add(custom_ops.cache_key([str(compiler)], ['same', 'command'], _sources(project)))
    assert len(keys) == 2


def test_flags_come_from_tensorflow_and_keep_results_exact(project):
    command = custom_ops.compile_command(['c++'], _sources(project))
    for flag in custom_ops.tf.sysconfig.get_compile_flags() + custom_ops.tf.sysconfig.get_link_flags():
        assert flag in command
    assert sum('-std=' in flag for flag in command) == 1
    assert '-ffp-contract=off' in command and '-ffast-math' not in command


def test_two_builders_at_once_build_once(project):
    paths = []
    builders = [threading.Thread(target=lambda: paths.append(custom_ops.library_path('answer', _sources(project))))
                for _ in range(4)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(paths) == 4 and len(set(paths)) == 1 and _builds(project) == 1


def test_failing_source_shows_command_and_compiler_output(project):
    (project / 'answer.cc').write_text('int broken( { return undeclared_thing; }\n')
    with pytest.raises(UserError) as error:
        custom_ops.library_path('answer', _sources(project))
    text = str(error.value)
    assert 'compiling answer failed' in text and str(project / 'noting-g++') in text and '-ffp-contract=off' in text
    assert 'answer.cc:1' in text and 'broken' in text
    left = [name for name in os.listdir(str(project / 'cache')) if not name.endswith('.lock')]
    assert left == []


@pytest.mark.parametrize('named', [None, 'no-such-compiler -O2'])
def test_missing_compiler_says_what_to_install(project, monkeypatch, named):
    monkeypatch.setenv('PATH', str(project / 'empty'))
    monkeypatch.delenv('CXX')
    if named:
        monkeypatch.setenv('CXX', named)
    with pytest.raises(UserError) as error:
        custom_ops.library_path('answer', _sources(project))
    text = str(error.value)
    assert 'no C++ compiler' in text and 'apt-get install g++' in text and '\n' not in text
    assert (named or 'clang++') in text


def test_unwritable_cache_falls_back_to_a_folder_of_our_own(project, monkeypatch):
    (project / 'file').write_text('')
    monkeypatch.setattr(config, 'OP_CACHE_DIR', str(project / 'file' / 'cache'))
    path = custom_ops.library_path('answer', _sources(project))
    folder = os.path.dirname(path)
    assert os.path.dirname(folder) == str(project) and os.stat(folder).st_mode & 0o077 == 0
    assert custom_ops.library_path('answer', _sources(project)) == path and _builds(project) == 1
    os.chmod(folder, 0o777)         # somebody else could have put a library there
    assert os.path.dirname(custom_ops.library_path('answer', _sources(project))) != folder


def test_damaged_cached_file_is_built_again(project, capfd):
    path = custom_ops.library_path('answer', _sources(project))
    with open(path, 'wb') as file:
        file.write(b'not a library')
    custom_ops.get_library('answer', _sources(project))
    assert _builds(project) == 2 and 'does not load' in capfd.readouterr().err


@pytest.mark.parametrize('place', ['', '.lock'])
def test_what_cannot_be_replaced_in_the_cache(project, place):
    """A lock that is somebody else's does without; a library that is has a message."""
    path = custom_ops.library_path('answer', _sources(project))
    for name in (path, path + '.lock'):
        if os.path.exists(name):
            os.remove(name)
    os.mkdir(path + place)
    if place:
        assert custom_ops.library_path('answer', _sources(project)) == path and os.path.isfile(path)
    else:
        with pytest.raises(UserError, match='does not load .* and cannot be replaced; remove it'):
            custom_ops.get_library('answer', _sources(project))


def test_a_compiler_that_is_no_command(monkeypatch):
    monkeypatch.setenv('CXX', '"g++')
    with pytest.raises(UserError, match='^CXX="g[+][+]: not a command'):
        custom_ops.find_compiler()


def test_importing_builds_nothing(tmp_path):
    environment = dict(os.environ, DISCO_OP_CACHE_DIR=str(tmp_path / 'cache'), CXX='no-such-compiler')
    subprocess.run([sys.executable, '-c', 'import renderer.rasterize_triangles'], env=environment, cwd=config.ROOT,
                   check=True)
    assert not (tmp_path / 'cache').exists()


def test_cache_of_a_user_without_home(monkeypatch):
    """Nobody knows the home where HOME is unset and the user has no name: no folder called ~ then."""
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path)
    assert config._user_cache('NO_SUCH_VARIABLE', 'ops') == os.path.join(config.ROOT, 'cache', 'ops')
    monkeypatch.setattr(os.path, 'expanduser', lambda path: path.replace('~', '/home/someone'))
    assert config._user_cache('NO_SUCH_VARIABLE', 'ops') == '/home/someone/.cache/discofacegan/ops'


def test_every_default_compiler_is_tried(project, monkeypatch):
    monkeypatch.delenv('CXX')
    monkeypatch.setattr(shutil, 'which', lambda name: name if name == 'clang++' else None)
    assert custom_ops.find_compiler() == ['clang++']
