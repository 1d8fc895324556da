"""Downloads: whole or nothing, bounded time, what came is kept, clear refusals; checksums of files."""

import os

import pytest

from dnnlib import download, hashes
from dnnlib.util import UserError


def _bytes(path):
    with open(path, 'rb') as file:
        return file.read()


def _fails(source, path, timeout_s=60.0):
    with pytest.raises(UserError) as caught:
        download.download(source, str(path), timeout_s)
    assert '\n' not in str(caught.value) and source in str(caught.value)
    assert not path.exists()
    return str(caught.value)


def test_checksum(tmp_path):
    path = tmp_path / 'file.bin'
    path.write_bytes(b'content')
    hashes.verify_checksum(str(path))             # nothing remembered: nothing to say
    digest = hashes.write_checksum(str(path))
    assert len(digest) == 64 and digest in (tmp_path / 'file.bin.sha256').read_text()
    hashes.verify_checksum(str(path))
    path.write_bytes(b'another')
    with pytest.raises(UserError, match='SHA-256'):
        hashes.verify_checksum(str(path))
    path.with_name('file.bin.sha256').write_bytes(b'')
    with pytest.raises(UserError, match='says nothing'):
        hashes.verify_checksum(str(path))


def test_two_at_once_are_told(tmp_path):
    path = tmp_path / 'file.bin'
    os.mkdir(str(path) + '.part')
    with download._lock(str(path) + '.part', str(path)), pytest.raises(UserError, match='another process'):
        download.download('abc123', str(path))


def test_unwritable_place(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='cannot be written'):
        download.download('abc123', str(tmp_path / 'file' / 'x.bin'))


GDOWN = {
    'good': 'open(output, "wb").write(b"weights"); return output',
    'page': 'open(output, "wb").write(b"\\n<html>quota</html>"); return output',
    'nothing': 'return None',
    'refused': 'class FileURLRetrievalError(Exception): pass\n    raise FileURLRetrievalError("Too many\\nusers")',
    'offline': 'raise ConnectionError("Name or service not known")',
    'hanging': 'import time; open(output, "ab").write(b"weig"); time.sleep(60)',
    'resumed': 'have = open(output, "rb").read(); open(output, "ab").write(b"weights"[len(have):]); return output',
}


def _use_gdown(monkeypatch, folder, kind):
    (folder / 'fake').mkdir(exist_ok=True)
    (folder / 'fake' / 'gdown.py').write_text(
        f'def download(id, output, resume, quiet):\n    assert id == "abc123" and resume\n    {GDOWN[kind]}\n')
    monkeypatch.setenv('PYTHONPATH', str(folder / 'fake'))
    monkeypatch.setenv('PYTHONDONTWRITEBYTECODE', '1')


@pytest.mark.parametrize('kind, word', [('good', None), ('page', 'fetched too often'), ('nothing', 'gives no file'),
                                        ('refused', 'refuses the file'), ('offline', 'cannot be reached'),
                                        ('hanging', 'not complete after 3 s')])
def test_google_drive(tmp_path, monkeypatch, kind, word):
    """The real gdown needs the world outside; a module of that name takes its place in the child."""
    path = tmp_path / 'model.pkl'
    _use_gdown(monkeypatch, tmp_path, kind)
    if word is None:
        assert _bytes(download.download('abc123', str(path))) == b'weights'
    else:
        assert word in _fails('abc123', path, timeout_s=3.0 if kind == 'hanging' else 60.0)
    assert not (tmp_path / 'model.pkl.part' / 'body').exists()


def test_what_came_before_the_time_limit_is_taken_up(tmp_path, monkeypatch):
    path = tmp_path / 'model.pkl'
    _use_gdown(monkeypatch, tmp_path, 'hanging')
    _fails('abc123', path, timeout_s=3.0)
    assert _bytes(tmp_path / 'model.pkl.part' / 'drive') == b'weig'
    _use_gdown(monkeypatch, tmp_path, 'resumed')
    download.download('abc123', str(path))
    assert _bytes(path) == b'weights' and not (tmp_path / 'model.pkl.part').exists()
