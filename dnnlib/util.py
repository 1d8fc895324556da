"""Utilities without TensorFlow: EasyDict, user errors, atomic files, the pace of bars."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from typing import Any, Callable, Iterator, Optional


class EasyDict(dict):
    """A dict whose keys are attributes too: `d.x` is `d['x']`; a missing name raises AttributeError."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(name)


class UserError(Exception):
    """A mistake the user can mend: bad option, missing or broken file.

    The message is one line that says what is wrong, which file or option, what was expected and what to do.
    Scripts print it without a traceback (see `run_main`).
    """


PRECISIONS = ('float32', 'bfloat16')        # for argparse: choices and help of --precision
PRECISION_HELP = ('of products on a CPU: bfloat16 rounds them to 3 digits and is faster where the CPU has AVX512_BF16 '
                  'or AMX; needs a current TensorFlow (default: float32)')


def run_main(main: Callable[[], Optional[int]]) -> None:
    """Run a script's `main` and leave with its exit code (None counts as 0).

    A UserError becomes one line `error: ...` on stderr and exit code 1; Ctrl-C becomes exit code 130. A reader that
    went away (`| head`) ends the program quietly.
    """
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code or 0)


@contextlib.contextmanager
def atomic_path(path: str, directory: bool = False, sync: bool = False) -> Iterator[str]:
    """Write a file (or, with `directory`, a folder) so that it appears complete or not at all.

    Yields a temporary path in the same folder that keeps the extension of `path`; on success it is renamed to `path`
    (a file replaces an older one; an existing folder is replaced as a whole), on any exception it is removed.
    sync: have the file's content on disk before it gets its name, which then never outlives it when the power fails.
    Missing parent folders are made. Raises UserError when the place cannot be written.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    try:
        os.makedirs(parent, exist_ok=True)
        holder = tempfile.mkdtemp(prefix='.tmp-', dir=parent)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}); free the place or choose another') from error
    temporary = os.path.join(holder, name)
    try:
        if directory:
            os.mkdir(temporary)
        yield temporary
        if sync:
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())
        if directory and os.path.isdir(path):
            os.rename(path, os.path.join(holder, 'replaced'))
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and os.path.abspath(str(error.filename)) not in (temporary, path):
            raise
        raise UserError(f'{path}: could not be written ({error.strerror}); nothing was left behind') from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_atomic(path: str, data: bytes) -> None:
    """Write a small file so that it appears complete or not at all; faster than `atomic_path` in a long loop.

    Missing parent folders are made. Raises UserError when the place cannot be written.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f'.tmp-{os.getpid()}-{threading.get_ident()}-{name}')
    try:
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
        with open(temporary, 'wb') as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f'{path}: could not be written ({error.strerror}); nothing was left behind') from error
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)        # gone already when all went well


def pace() -> float:
    """Seconds between two states of a bar on stderr: a log file wants few."""
    return 0.1 if sys.stderr.isatty() else 30.0
