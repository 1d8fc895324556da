"""dnnlib.places: outputs apart from inputs, nothing replaced but what was made there, folders filled in place."""

import os
import shutil

import pytest

from dnnlib import places
from dnnlib.util import UserError


def _file(path, text='x'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize('spelling', ['in', './in/', 'in/../in', 'link', 'out/../in'])
def test_an_output_is_never_an_input(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    for name in ('in', 'out'):
        (tmp_path / name).mkdir()
    os.symlink('in', 'link')
    with pytest.raises(UserError, match='--out .* is the same place as --in in'):
        places.check_apart({'--in': 'in', '--none': None}, {'--out': spelling})
    places.check_apart({'--in': 'in', '--none': None}, {'--out': 'in/new', '--other': None, '--third': 'out'})


def test_hard_links_are_one_file(tmp_path):
    _file(tmp_path / 'a')
    os.link(str(tmp_path / 'a'), str(tmp_path / 'b'))
    with pytest.raises(UserError, match='same place'):
        places.check_apart({'--in': str(tmp_path / 'a')}, {'--out': str(tmp_path / 'b')})


def test_inside(tmp_path):
    (tmp_path / 'a').mkdir()
    os.symlink(str(tmp_path / 'a'), str(tmp_path / 'b'))
    assert places.inside(str(tmp_path / 'b' / 'none' / 'x'), str(tmp_path / 'a'))
    assert not places.inside(str(tmp_path / 'ab'), str(tmp_path / 'a'))


def _put(tmp_path, source, settings=None, text=b'result', name='n'):
    _, content = places.read(source)
    record = places.Record(str(tmp_path / 'out'))
    record.put(name, {'c/n.mat': b'numbers', 'n.png': text}, {'photo': content}, settings or {'weights': 'w'})


def test_a_result_belongs_to_its_sources_and_settings(tmp_path):
    source = _file(tmp_path / 'photo')
    why = lambda **other: places.Record(str(tmp_path / 'out')).why_again('n', {'photo': source},
                                                                         other or {'weights': 'w'})
    assert why() == 'new'
    _put(tmp_path, source)
    assert why() is None
    assert why(weights='v') == 'other weights' and why(weights='w', model='m') == 'other model'
    shutil.copy(source, source + '2')
    os.replace(source + '2', source)                        # the same bytes under another time: read once, then known
    assert why() is None and os.stat(source).st_ctime_ns in places.Record(str(tmp_path / 'out')).made['n'].sources[
        'photo']
    about = os.stat(source)
    _file(tmp_path / 'photo', 'y')                          # as long as before, and as old
    os.utime(source, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert why() == 'photo changed'
    _put(tmp_path, source)
    (tmp_path / 'out' / 'n.png').unlink()
    assert why() == 'not finished'
    os.remove(source)
    _file(tmp_path / 'out' / 'n.png')
    assert why() == 'photo changed'


def test_only_what_was_made_there_is_replaced(tmp_path):
    source = _file(tmp_path / 'photo')
    _file(tmp_path / 'out' / 'n.png', 'precious')
    with pytest.raises(UserError, match='n.png: there already'):
        _put(tmp_path, source)
    assert (tmp_path / 'out' / 'n.png').read_text() == 'precious' and os.listdir(str(tmp_path / 'out')) == ['n.png']
    (tmp_path / 'out' / 'n.png').unlink()
    _put(tmp_path, source)
    _put(tmp_path, source, text=b'second')
    assert (tmp_path / 'out' / 'n.png').read_bytes() == b'second'
    _file(tmp_path / 'out' / 'n.png', 'retouched')
    record = places.Record(str(tmp_path / 'out'))
    assert record.owns('c/n.mat') and not record.owns('n.png') and not record.remove('n.png')
    with pytest.raises(UserError, match='n.png: there already'):
        _put(tmp_path, source)
    assert (tmp_path / 'out' / 'n.png').read_text() == 'retouched'
    _file(tmp_path / 'out' / 'n.png', 'result')             # what an earlier run made counts as ours
    assert places.Record(str(tmp_path / 'out')).remove('n.png')


def test_a_torn_line_costs_one_result(tmp_path):
    source = _file(tmp_path / 'photo')
    _put(tmp_path, source, name='a')
    with open(str(tmp_path / 'out' / places.RECORD), 'a') as file:
        file.write('\n{"name": "b", "fil')
    (tmp_path / 'out' / 'n.png').unlink()
    (tmp_path / 'out' / 'c' / 'n.mat').unlink()
    _put(tmp_path, source, name='c')
    assert sorted(places.Record(str(tmp_path / 'out')).made) == ['a', 'c']


@pytest.mark.parametrize('line', ['[]', '{"name": 1}', '{"name":"a","files":[],"from":{},"with":{}}',
                                  '{"name":"a","files":{},"from":{"p":[1,2]},"with":{}}', '\x00\xff', '1e999',
                                  '{"name":"a","files":{},"from":{"p":[1e999,0,0,null]},"with":{}}'])
def test_any_line_is_read_or_ignored(tmp_path, line):
    _file(tmp_path / places.RECORD, line + '\n' + '[' * 99999)
    assert places.Record(str(tmp_path)).made == {}


def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(b'\xc8\xcb.png')
    record = places.Record(str(tmp_path))
    record.put('x', {name: b'1'}, {}, {})
    assert places.Record(str(tmp_path)).owns(name)


def _fill(folder, names, replaceable=lambda name: False):
    with places.filling(str(folder), replaceable) as temporary:
        for name in names:
            with open(os.path.join(temporary, name), 'w') as file:
                file.write('new')


def test_filling_a_new_and_a_linked_folder(tmp_path):
    _fill(tmp_path / 'a' / 'b', ['x'])
    assert os.listdir(str(tmp_path / 'a' / 'b')) == ['x'] and os.listdir(str(tmp_path / 'a')) == ['b']
    (tmp_path / 'big').mkdir()
    os.symlink(str(tmp_path / 'big'), str(tmp_path / 'link'))
    inode = os.stat(str(tmp_path / 'big')).st_ino
    _fill(tmp_path / 'link', ['x', 'y'])
    assert os.path.islink(str(tmp_path / 'link')) and sorted(os.listdir(str(tmp_path / 'big'))) == ['x', 'y']
    _fill(tmp_path / 'link', ['z'], lambda name: name in 'xy')
    assert os.listdir(str(tmp_path / 'big')) == ['z'] and os.stat(str(tmp_path / 'big')).st_ino == inode


def test_filling_a_mount_point_and_after_a_killed_run(tmp_path):
    for name in ('lost+found', '.tmp-killed'):
        (tmp_path / 'a' / name).mkdir(parents=True)
    for names in (['x'], ['y']):
        _fill(tmp_path / 'a', names, lambda name: name == 'x')
        assert sorted(os.listdir(str(tmp_path / 'a'))) == ['.tmp-killed', 'lost+found'] + names


def test_filling_refuses_at_once_and_leaves_nothing(tmp_path):
    _file(tmp_path / 'a' / 'mine')
    with pytest.raises(UserError, match='holds mine'):
        with places.filling(str(tmp_path / 'a')):
            raise AssertionError('the work began')
    with pytest.raises(UserError, match='no folder, but in its place'):
        _fill(tmp_path / 'a' / 'mine', ['x'])
    with pytest.raises(KeyboardInterrupt):
        with places.filling(str(tmp_path / 'a'), lambda name: True):
            raise KeyboardInterrupt
    assert os.listdir(str(tmp_path / 'a')) == ['mine']


def test_filling_goes_back_when_a_file_cannot_be_moved(tmp_path, monkeypatch):
    _file(tmp_path / 'a' / 'old')
    rename = os.rename

    def failing(start, end):
        if end.endswith(os.path.join('a', 'y')):
            raise OSError(28, 'No space left on device')
        rename(start, end)

    monkeypatch.setattr(os, 'rename', failing)
    with pytest.raises(UserError, match='No space left'):
        _fill(tmp_path / 'a', ['x', 'y'], lambda name: True)
    assert os.listdir(str(tmp_path / 'a')) == ['old'] and (tmp_path / 'a' / 'old').read_text() == 'x'
