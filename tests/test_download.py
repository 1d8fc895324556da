"""Downloads from a server on this machine: whole or nothing, bounded time, resume, clear refusals."""

import http.server
import os
import socket
import threading
import time

import pytest

from dnnlib import download, hashes
from dnnlib.util import UserError

BODY = bytes(range(256)) * 2000
ETAG = '"first"'


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.0'

    def do_GET(self):
        self.server.ranges.append(self.headers.get('Range'))
        getattr(self, 'serve_' + self.path.strip('/').partition('?')[0])()

    def start(self, code=200, length=None, **headers):
        length = len(BODY) if length is None else length
        self.send_response(code)
        headers.setdefault('ETag', ETAG)
        for key, value in dict(headers, **{'Content-Length': str(length)}).items():
            self.send_header(key.replace('_', '-'), value)
        self.end_headers()

    def serve_whole(self):
        self.start()
        self.wfile.write(BODY)

    def serve_page(self):
        self.start(length=40)
        self.wfile.write(b'<!DOCTYPE html><html>Quota exceeded</html>'[:40])

    def serve_empty(self):
        self.start(length=0)

    def serve_cut(self):
        """The first answer breaks off; later ones honour Range if `If-Range` names the present version."""
        asked = self.headers.get('Range')
        if not asked:
            self.start(ETag=self.server.etag)
            self.wfile.write(BODY[:100000])
            return
        if self.headers.get('If-Range') != self.server.etag:
            self.start(ETag=self.server.etag)
            self.wfile.write(BODY[::-1])
            return
        first = int(asked[len('bytes='):-1])
        self.start(206, len(BODY) - first, Content_Range=f'bytes {first}-{len(BODY) - 1}/{len(BODY)}')
        self.wfile.write(BODY[first:])

    def serve_slow(self):
        self.start()
        self.wfile.write(BODY[:1000])
        self.wfile.flush()
        self.server.stop.wait(60)

    def serve_gone(self):
        self.send_error(404)

    def log_message(self, *arguments):
        pass


class _Server(http.server.HTTPServer):
    def handle_error(self, request, client_address):
        """A client that was killed at its time limit is no news."""


@pytest.fixture
def server():
    server = _Server(('127.0.0.1', 0), _Handler)
    server.ranges, server.etag, server.stop = [], ETAG, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05}, daemon=True)
    thread.start()
    server.url = f'http://127.0.0.1:{server.server_port}'
    yield server
    server.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


def _bytes(path):
    with open(path, 'rb') as file:
        return file.read()


def _fails(source, path, timeout_s=60.0):
    with pytest.raises(UserError) as caught:
        download.download(source, str(path), timeout_s)
    assert '\n' not in str(caught.value) and source in str(caught.value)
    assert not path.exists()
    return str(caught.value)


def test_whole_file_and_checksum(server, tmp_path):
    path = tmp_path / 'new' / 'file.bin'
    assert download.download(server.url + '/whole', str(path)) == str(path)
    assert _bytes(path) == BODY
    assert os.listdir(tmp_path / 'new') == ['file.bin']

    hashes.verify_checksum(str(path))             # nothing remembered: nothing to say
    digest = hashes.write_checksum(str(path))
    assert len(digest) == 64 and digest in (tmp_path / 'new' / 'file.bin.sha256').read_text()
    hashes.verify_checksum(str(path))
    path.write_bytes(BODY[:-1] + b'x')
    with pytest.raises(UserError, match='SHA-256'):
        hashes.verify_checksum(str(path))
    path.with_name('file.bin.sha256').write_bytes(b'')
    with pytest.raises(UserError, match='says nothing'):
        hashes.verify_checksum(str(path))


@pytest.mark.parametrize('page, word', [('page', 'web page'), ('gone', '404'), ('empty', 'empty')])
def test_no_file_there(server, tmp_path, page, word):
    assert word in _fails(f'{server.url}/{page}', tmp_path / 'file.bin')
    assert not (tmp_path / 'file.bin.part' / 'body').exists() or page == 'empty'


def test_cut_off_then_resumed(server, tmp_path):
    path = tmp_path / 'file.bin'
    assert f'100000 of {len(BODY)}' in _fails(server.url + '/cut', path)
    download.download(server.url + '/cut', str(path))
    assert _bytes(path) == BODY
    assert server.ranges == [None, 'bytes=100000-']
    assert os.listdir(tmp_path) == ['file.bin']


def test_changed_on_the_server_is_fetched_anew(server, tmp_path):
    path = tmp_path / 'file.bin'
    _fails(server.url + '/cut', path)
    server.etag = '"second"'
    download.download(server.url + '/cut', str(path))
    assert _bytes(path) == BODY[::-1]


def test_another_address_is_not_resumed(server, tmp_path):
    path = tmp_path / 'file.bin'
    _fails(server.url + '/cut', path)
    download.download(server.url + '/whole', str(path))
    assert _bytes(path) == BODY and server.ranges == [None, None]


def test_time_limit_keeps_what_came(server, tmp_path):
    path, start = tmp_path / 'file.bin', time.monotonic()
    assert 'not complete after 6 s' in _fails(server.url + '/slow', path, timeout_s=6.0)
    assert time.monotonic() - start < 30        # the server would keep it for a minute
    assert (tmp_path / 'file.bin.part' / 'body').stat().st_size == 1000


def test_nobody_listens(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    assert 'no connection' in _fails(f'http://127.0.0.1:{port}/whole', tmp_path / 'file.bin')
    assert os.listdir(tmp_path) == []


def test_two_at_once_are_told(server, tmp_path):
    path = tmp_path / 'file.bin'
    os.mkdir(str(path) + '.part')
    with download._lock(str(path) + '.part', str(path)):
        assert 'another process' in _fails_quickly(server.url + '/whole', path)
    download.download(server.url + '/whole', str(path))
    assert _bytes(path) == BODY


def _fails_quickly(source, path):
    with pytest.raises(UserError) as caught:
        download.download(source, str(path))
    return str(caught.value)


def test_unwritable_place(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(UserError, match='cannot be written'):
        download.download('http://127.0.0.1/', str(tmp_path / 'file' / 'x.bin'))


GDOWN = {
    'good': 'open(output, "wb").write(b"weights"); return output',
    'page': 'open(output, "wb").write(b"\\n<html>quota</html>"); return output',
    'nothing': 'return None',
    'refused': 'class FileURLRetrievalError(Exception): pass\n    raise FileURLRetrievalError("Too many\\nusers")',
    'offline': 'raise ConnectionError("Name or service not known")',
    'hanging': 'import time; time.sleep(60)',
}


@pytest.mark.parametrize('kind, word', [('good', None), ('page', 'fetched too often'), ('nothing', 'gives no file'),
                                        ('refused', 'refuses the file'), ('offline', 'cannot be reached'),
                                        ('hanging', 'not complete after 3 s')])
def test_google_drive(tmp_path, monkeypatch, kind, word):
    """The real gdown needs the world outside; a module of that name takes its place in the child."""
    (tmp_path / 'fake').mkdir()
    (tmp_path / 'fake' / 'gdown.py').write_text(
        f'def download(id, output, resume, quiet):\n    assert id == "abc123" and resume\n    {GDOWN[kind]}\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'fake'))
    path = tmp_path / 'model.pkl'
    if word is None:
        assert _bytes(download.download('abc123', str(path))) == b'weights'
    else:
        assert word in _fails('abc123', path, timeout_s=3.0 if kind == 'hanging' else 60.0)
    assert not (tmp_path / 'model.pkl.part' / 'body').exists()
