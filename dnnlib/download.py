"""Download of one file by address or Google Drive id: bounded time, resumable, whole or not at all.

The transfer runs in a child process (`python -m dnnlib.download`), the only thing that surely ends at a time limit.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

from dnnlib.util import UserError

CHUNK_BYTES = 1 << 18
SILENCE_S = 30.0                # a server that sends nothing for so long is given up
EXIT_REFUSED = 3                # of the child: the last line it printed says why
QUOTA = 'Google Drive sends a page when a file was fetched too often or asks for a confirmation; fetch it by browser'


def is_url(source: str) -> bool:
    """True for an http(s) address, False for a Google Drive id."""
    return source.lower().startswith(('http://', 'https://'))


def download(source: str, path: str, timeout_s: float = 3600.0) -> str:
    """Fetch `source`, an http(s) address or a Google Drive id, to `path`; returns `path`.

    Never takes longer than `timeout_s` seconds. What has come by then waits in the folder `<path>.part` and is taken up
    by the next call where the server allows it. Raises UserError, one line, when there is no file at the end: no
    connection, time limit, a web page instead of the file, a cut-off transfer.
    """
    path = os.path.abspath(path)
    partial = path + '.part'
    body = os.path.join(partial, 'body')
    try:
        os.makedirs(partial, exist_ok=True)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); free the place or choose another') from error
    try:
        with _lock(partial, path):
            _run_child(source, partial, path, timeout_s)
            _refuse_web_page(source, body, partial)
            os.replace(body, path)
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(partial)       # only where nothing has come
    return path


#----------------------------------------------------------------------------
# The parent's side.

@contextlib.contextmanager
def _lock(partial, path):
    """Hold the folder of the partial file, so that two processes never write the same one."""
    holder = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f'{path}: another process is downloading it; wait for that one') from None
    finally:
        os.close(holder)


def _run_child(source, partial, path, timeout_s):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        [root] + [p for p in [os.environ.get('PYTHONPATH')] if p]))
    try:
        child = subprocess.run([sys.executable, '-m', 'dnnlib.download', source, partial], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise UserError(f'{source}: not complete after {timeout_s:g} s; run again to go on where it stopped, or put '
                        f'the file at {path} by hand') from None
    if child.returncode:
        lines = child.stdout.decode('utf-8', 'replace').strip().splitlines()
        reason = lines[-1] if lines and child.returncode == EXIT_REFUSED else f'exit code {child.returncode}'
        raise UserError(f'{source}: download failed: {reason}; try again later, or put the file at {path} by hand')


def _refuse_web_page(source, body, partial):
    with open(body, 'rb') as file:
        head = file.read(1024).lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if head.startswith((b'<!doctype html', b'<html', b'<head')):
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f'{source}: a web page came instead of the file' + ('' if is_url(source) else f' ({QUOTA})'))


#----------------------------------------------------------------------------
# The child's side: fills `<partial>/body` or raises _Failed.

class _Failed(Exception):
    """Why the file cannot be had, in one line."""


def _fetch_drive(drive_id, partial):
    import gdown
    output = os.path.join(partial, 'drive')
    try:
        done = gdown.download(id=drive_id, output=output, resume=True, quiet=not sys.stderr.isatty())
    except Exception as error:      # gdown's own, requests' and urllib3's differ between versions
        name = type(error).__name__
        refused = 'Retrieval' in name or 'DownloadError' in name
        raise _Failed(f'Google Drive refuses the file ({name}): {QUOTA}' if refused else
                      f'Google Drive cannot be reached ({name}); check the connection') from error
    if not done or not os.path.isfile(output):
        raise _Failed(f'Google Drive gives no file: {QUOTA}')
    os.replace(output, os.path.join(partial, 'body'))


def _fetch_url(url, partial):
    """Add to `<partial>/body` what is missing; `<partial>/origin` says which version of which address it is."""
    body, origin = os.path.join(partial, 'body'), os.path.join(partial, 'origin')
    have, validator = _resume_point(url, body, origin)
    headers = {'Range': f'bytes={have}-', 'If-Range': validator} if have else {}
    headers['Accept-Encoding'] = 'identity'
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE_S) as response:
            _receive(response, url, body, origin, have)
    except urllib.error.HTTPError as error:
        if error.code == 416:                   # the partial file is not a beginning of what is there
            os.remove(body)
        raise _Failed(f'the server answers {error.code} {error.reason}') from error
    except (OSError, ValueError) as error:      # URLError, timeouts, resets; an address that is none
        reason = getattr(error, 'reason', None) or error
        raise _Failed(f'no connection or a broken one ({reason})'.replace('\n', ' ')) from error


def _resume_point(url, body, origin):
    """(bytes already here, validator to ask with); (0, None) unless they belong to this address."""
    try:
        with open(origin, encoding='utf-8') as file:
            known = json.load(file)
        have = os.path.getsize(body)
    except (OSError, ValueError):
        return 0, None
    same = isinstance(known, dict) and known.get('url') == url and isinstance(known.get('validator'), str)
    return (have, known['validator']) if same and have else (0, None)


def _receive(response, url, body, origin, have):
    resumed = response.status == 206 and (response.headers.get('Content-Range') or '').startswith(f'bytes {have}-')
    if response.status != 200 and not resumed:
        raise _Failed(f'the server answers {response.status} where the file was expected')
    start = have if resumed else 0
    length = response.headers.get('Content-Length')
    total = start + int(length) if length and length.isdigit() else None
    if not resumed:
        etag = response.headers.get('ETag')
        strong = etag if etag and not etag.startswith('W/') else None
        with open(origin, 'w', encoding='utf-8') as file:
            json.dump({'url': url, 'validator': strong or response.headers.get('Last-Modified')}, file)
    with open(body, 'ab' if resumed else 'wb') as file:
        came = start + _copy(response, file, start, total)
    if total is not None and came != total:
        raise _Failed(f'the transfer was cut off after {came} of {total} bytes')
    if not came:
        raise _Failed('the file is empty')


def _copy(response, file, start, total):
    from tqdm import tqdm
    count = 0
    with tqdm(desc='download', initial=start, total=total, unit='B', unit_scale=True, disable=None) as bar:
        while True:
            chunk = response.read1(CHUNK_BYTES)     # what is there, so that a stopped child keeps all that came
            if not chunk:
                return count
            _write(file, chunk)
            count += len(chunk)
            bar.update(len(chunk))


def _write(file, chunk):
    try:
        file.write(chunk)
        file.flush()
    except OSError as error:
        raise _Failed(f'{file.name} cannot be written ({error.strerror})') from error


def _main(source, partial):
    try:
        (_fetch_url if is_url(source) else _fetch_drive)(source, partial)
    except _Failed as error:
        print(' '.join(str(error).split()))
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(_main(*sys.argv[1:]))
