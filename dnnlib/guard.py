"""A door before a small web page (ASGI): bounds what visitors send, serves no files, lets nothing in from elsewhere.

Standard library only.
"""

import os
import time
from typing import Any, Awaitable, Callable, Dict, List, Tuple

MOST_BYTES = 8 << 20            # of an upload
MOST_FILES = 16                 # uploads that lie there at a time
KEPT_SECONDS = 600              # then an upload is removed
_AROUND = 1 << 16               # bytes of a form around its file
# Scripts, styles, fonts and pictures come from the page itself; the framework's own are partly inline.
_HEADERS = {'content-security-policy': "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
            'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer'}
_CLOSED = ('/file=', '/file/', '/proxy=', '/stream/', '/docs', '/openapi.json')

Send = Callable[[Dict[str, Any]], Awaitable[None]]


class Guard:
    """Hands requests on to `app`, or answers them with one line.

    uploads: folder whose files are uploads; one that is older than KEPT_SECONDS is removed.
    404 for paths by which the framework would hand out files; 411 or 413 for a body of unknown length or of more than
    MOST_BYTES; 429 for an upload when MOST_FILES are there. Every answer forbids the browser to load from other hosts.
    """

    def __init__(self, app: Any, uploads: str) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: Dict[str, Any], receive: Any, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope['type'] != 'http':
            return await self._app(scope, receive, send)

        async def send_with_headers(message):
            if message['type'] == 'http.response.start':
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = dict(message, headers=list(message.get('headers', [])) + more)
            await send(message)

        status, line = self._refusal(scope)
        if not status:
            return await self._app(scope, receive, send_with_headers)
        body = line.encode()
        headers = [(b'content-type', b'text/plain; charset=utf-8'), (b'content-length', str(len(body)).encode())]
        await send_with_headers({'type': 'http.response.start', 'status': status, 'headers': headers})
        await send_with_headers({'type': 'http.response.body', 'body': body})

    def _refusal(self, scope: Dict[str, Any]) -> Tuple[int, str]:
        """(status, line) of what is not handed on; (0, '') of what is."""
        path, method = scope['path'], scope['method']
        if any(part in path for part in _CLOSED):
            return 404, 'there are no files here'
        if method not in ('POST', 'PUT', 'PATCH'):
            return 0, ''
        length = dict(scope['headers']).get(b'content-length', b'')
        if not length.isdigit():
            return 411, 'the length of what is sent must be told'
        if int(length) > MOST_BYTES + _AROUND:
            return 413, f'at most {MOST_BYTES >> 20} MB can be sent'
        waiting = self._waiting()
        if path.endswith('/upload') and len(waiting) >= MOST_FILES:
            return 429, 'too many uploads at the moment; try again in some minutes'
        return 0, ''

    def _waiting(self) -> List[str]:
        """Paths of the uploads that are there; those too old are removed first."""
        paths = [os.path.join(where, name) for where, _, names in os.walk(self._uploads) for name in names]
        left = []
        for path in paths:
            try:
                if time.time() - os.stat(path).st_mtime > KEPT_SECONDS:
                    os.remove(path)
                else:
                    left.append(path)
            except FileNotFoundError:       # its reader removed it
                pass
        return left
