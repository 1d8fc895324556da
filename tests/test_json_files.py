"""JSON files and foreign text: whatever a file holds, a message is one short line."""

import pickle

import pytest

from dnnlib import json_files
from dnnlib.json_files import read_json, write_json
from dnnlib.util import UserError, listed, one_line, run_main, shown


def _refusal(path, content, **kwargs):
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_json(str(path), 'a table of colours', **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and str(path) in message and 'a table of colours' in message
    assert len(message) < 600 and message.isprintable()
    return message


def test_written_values_come_back(tmp_path):
    path = str(tmp_path / 'new' / 'file.json')
    value = {'b': [1, 2.5, None, True], 'a': {'ä\x1b': 'x\n'}}
    write_json(path, value)
    assert read_json(path) == value


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32-le'])
def test_encodings_and_byte_order_marks(tmp_path, encoding):
    (tmp_path / 'x.json').write_bytes('{"a": "é"}'.encode(encoding))
    assert read_json(str(tmp_path / 'x.json')) == {'a': 'é'}


@pytest.mark.parametrize('content, word', [
    (b'', 'not readable'), (b'{"a": ', 'not readable'), (b'\xff\xfe\x00', 'not readable'), (b'{"\xe9": 1}', 'not read'),
    (b'[' * 200000, 'nested too deeply'), (b'{"a":' * 200000, 'nested too deeply'),
    (b'[1]', 'no table'), (b'"text"', 'no table'), (b'null', 'no table'),
    (b'{"a": NaN}', 'NaN'), (b'{"a": [-Infinity]}', '-Infinity'), (b'{"a": 1e999}', '1e999'),
    (b'{"a": %s}' % (b'1' * 100000), '100000 digits'), (b'{"a": %s.0}' % (b'1' * 100000), 'no finite number')],
    ids=lambda value: repr(value)[:16])
def test_what_is_no_table_is_refused_in_one_line(tmp_path, content, word):
    assert word in _refusal(tmp_path / 'x.json', content)


def test_a_file_that_is_too_large_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(json_files, 'MAX_BYTES', 1 << 20)
    assert 'more than 1 MiB' in _refusal(tmp_path / 'x.json', b'{"a": "' + b' ' * (1 << 20) + b'"}')
    with pytest.raises(UserError, match='cannot be read'):
        read_json(str(tmp_path / 'absent.json'))
    with pytest.raises(UserError, match='cannot be read'):
        read_json(str(tmp_path))


# ---- foreign text

HOSTILE = '\x1b[2Jfine\nerror: forged\r\x07\u202e\udcc8\x9b31m\u2028'


def test_hostile_text_stays_on_its_line():
    for text in (one_line(HOSTILE), shown(HOSTILE), listed([HOSTILE] * 3), str(UserError(HOSTILE))):
        assert text.isprintable() and len(text.splitlines()) == 1
        text.encode('utf-8')
    assert one_line('plain é ') == 'plain é ' and shown('a\\') == repr('a\\')


def test_long_text_is_cut():
    assert len(one_line('x' * 10 ** 6)) < 2100 and len(shown('x' * 10 ** 6)) == 80 and len(shown('\x1b' * 500)) == 80
    assert shown('x' * 10 ** 6).endswith('...') and listed('abcdefgh', 2) == "'a', 'b' and 6 more"
    assert len(str(UserError('y' * 10 ** 6 + ' what to do'))) < 2100
    assert str(UserError('y' * 10 ** 6 + ' what to do')).endswith('what to do')
    assert shown(10 ** 10000) == 'a number of 33220 bits' and shown([HOSTILE]) == 'list' and shown(None) == 'None'


def test_details_are_lines_of_their_own():
    error = UserError('two things are missing:', '  a\nb', '  c')
    assert str(error) == 'two things are missing:\n  a\\nb\n  c'
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_too_little_memory_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        run_main(lambda: bytearray(1 << 60))
    assert caught.value.code == 1
    assert capsys.readouterr().err.startswith('error: out of memory (')
