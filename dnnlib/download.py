"""Download of one file from Google Drive: bounded time, resumable, whole or not at all.

The transfer runs in a child process (`python -m dnnlib.download`), the only thing that surely ends at a time limit.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys

from dnnlib.util import UserError

EXIT_REFUSED = 3                # of the child: the last line it printed says why
QUOTA = 'Google Drive sends a page when a file was fetched too often or asks for a confirmation; fetch it by browser'


def download(drive_id: str, path: str, timeout_s: float = 3600.0) -> str:
    """Fetch the file of a Google Drive id to `path`; returns `path`.

    Never takes longer than `timeout_s` seconds. What has come by then waits in the folder `<path>.part` and is taken up
    by the next call. Raises UserError, one line, when there is no file at the end: no connection, time limit, a web
    page instead of the file.
    """
    path = os.path.abspath(path)
    partial = path + '.part'
    try:
        os.makedirs(partial, exist_ok=True)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); free the place or choose another') from error
    try:
        with _lock(partial, path):
            body = os.path.join(partial, 'body')
            _run_child(drive_id, body, path, timeout_s)
            if _is_web_page(body):
                shutil.rmtree(partial, ignore_errors=True)
                raise UserError(f'{drive_id}: a web page came instead of the file ({QUOTA})')
            os.replace(body, path)
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(partial)       # only where nothing has come
    return path


def _is_web_page(path: str) -> bool:
    """Whether a file begins as HTML does."""
    with open(path, 'rb') as file:
        head = file.read(1024).lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    return head.startswith((b'<!doctype html', b'<html', b'<head'))


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


def _run_child(drive_id, body, path, timeout_s):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        [root] + [p for p in [os.environ.get('PYTHONPATH')] if p]))
    try:
        child = subprocess.run([sys.executable, '-m', 'dnnlib.download', drive_id, body], env=environment,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise UserError(f'{drive_id}: not complete after {timeout_s:g} s; run again to go on where it stopped, or put '
                        f'the file at {path} by hand') from None
    if child.returncode:
        lines = child.stdout.decode('utf-8', 'replace').strip().splitlines()
        reason = lines[-1] if lines and child.returncode == EXIT_REFUSED else f'exit code {child.returncode}'
        raise UserError(f'{drive_id}: download failed: {reason}; try again later, or put the file at {path} by hand')


def _refusal(drive_id, body):
    """The child's work: fill the file `body`; why it cannot be had, in one line, or None."""
    import gdown
    output = os.path.join(os.path.dirname(body), 'drive')
    try:
        done = gdown.download(id=drive_id, output=output, resume=True, quiet=not sys.stderr.isatty())
    except Exception as error:      # gdown's own, requests' and urllib3's differ between versions
        name = type(error).__name__
        if 'Retrieval' in name or 'DownloadError' in name:
            return f'Google Drive refuses the file ({name}): {QUOTA}'
        return f'Google Drive cannot be reached ({name}); check the connection'
    if not done or not os.path.isfile(output):
        return f'Google Drive gives no file: {QUOTA}'
    os.replace(output, body)
    return None


def _main(drive_id, body):
    try:
        refusal = _refusal(drive_id, body)
    except KeyboardInterrupt:
        return 130
    if refusal:
        print(refusal)
    return EXIT_REFUSED if refusal else 0


if __name__ == '__main__':
    sys.exit(_main(*sys.argv[1:]))
