"""The door before the page: sizes, numbers, files, headers."""

import asyncio
import os

import pytest

from dnnlib import guard


async def _framework(scope, receive, send):
    """Stands for what is behind the door."""
    await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'x-own', b'1')]})
    await send({'type': 'http.response.body', 'body': b'framework'})


def _ask(folder, path, method='GET', length=None, kind='http'):
    """(status, headers, body) of a request."""
    sent = []

    async def send(message):
        sent.append(message)

    headers = [] if length is None else [(b'content-length', str(length).encode())]
    scope = {'type': kind, 'path': path, 'method': method, 'headers': headers}
    asyncio.run(
        guard.Guard(_framework, str(folder))(scope, None, send))
    return sent[0]['status'], dict(sent[0]['headers']), sent[1]['body']


def test_what_is_allowed_is_handed_on_with_headers(tmp_path):
    for request in (('/',), ('/config',), ('/gradio_api/queue/join', 'POST', 100),
                    ('/gradio_api/upload', 'POST', guard.MOST_BYTES)):
        status, headers, body = _ask(tmp_path, *request)
        assert (status, body, headers[b'x-own']) == (200, b'framework', b'1')
        assert headers[b'content-security-policy'].startswith(b"default-src 'self'")
        assert b'http' not in headers[b'content-security-policy']


@pytest.mark.parametrize('request_, status', [
    (('/gradio_api/file=/etc/passwd',), 404), (('/file=README.md',), 404), (('/file/README.md',), 404),
    (('/gradio_api/file=http://a.b/c',), 404), (('/gradio_api/proxy=http://a.b',), 404), (('/docs',), 404),
    (('/gradio_api/upload', 'POST'), 411), (('/gradio_api/upload', 'POST', '-1'), 411),
    (('/gradio_api/upload', 'POST', 9 << 20), 413), (('/gradio_api/queue/join', 'POST', 9 << 20), 413)])
def test_what_is_not_gets_one_line(tmp_path, request_, status):
    answer = _ask(tmp_path, *request_)
    assert answer[0] == status and answer[2] != b'framework' and b'\n' not in answer[2]
    assert b'content-security-policy' in answer[1]


def test_uploads_are_counted_and_grow_old(tmp_path):
    for i in range(guard.MOST_FILES):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / 'photo.png').write_bytes(b'x')
    assert _ask(tmp_path, '/gradio_api/upload', 'POST', 10)[0] == 429
    assert _ask(tmp_path, '/gradio_api/queue/join', 'POST', 10)[0] == 200
    old = tmp_path / '0' / 'photo.png'
    os.utime(str(old), (1, 1))
    assert _ask(tmp_path, '/gradio_api/upload', 'POST', 10)[0] == 200
    assert not old.exists() and (tmp_path / '1' / 'photo.png').exists()
