"""Utilities without TensorFlow: EasyDict, user errors, foreign text, atomic files, the pace of bars."""

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
from typing import Any, Callable, Iterable, Iterator, Optional


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


_M_ARENA_MAX = -8           # of glibc's malloc.h
LONGEST_LINE = 2000         # characters of a message that are shown


def one_line(text: str, most: int = LONGEST_LINE) -> str:
    """Text from a file on one line: what moves a terminal's cursor, or is no character, as escapes; the middle cut."""
    if len(text) > most:
        text = f'{text[:most // 2]} ... {text[-most // 2:]}'
    return text if text.isprintable() else ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shown(value: Any, most: int = 80) -> str:
    """Something that a file holds, for a message: text and numbers as Python writes them, at most `most` characters.

    Of anything else the kind alone, so that no container is walked into.
    """
    if not isinstance(value, (str, int, float, type(None))):
        return type(value).__name__
    if isinstance(value, int) and value.bit_length() > 1000:        # Python may refuse to write it
        return f'a number of {value.bit_length()} bits'
    text = repr(value[:most] if isinstance(value, str) else value)
    cut = len(text) > most or isinstance(value, str) and len(value) > most
    return text[:most - 3] + '...' if cut else text


def listed(values: Iterable[Any], most: int = 5) -> str:
    """The first few of some names from a file, `shown`, and how many more there are."""
    values = list(values)
    return ', '.join(map(shown, values[:most])) + (f' and {len(values) - most} more' if len(values) > most else '')


class UserError(Exception):
    """A mistake the user can mend: bad option, missing or broken file.

    The message is one line that says what is wrong, which file or option, what was expected and what to do.
    details: further lines. Whatever a name or a file put into them, they stay so many lines (see `one_line`).
    Scripts print it without a traceback (see `run_main`).
    """

    def __init__(self, message: str, *details: str) -> None:
        super().__init__(*map(one_line, (message,) + details))

    def __str__(self) -> str:
        return '\n'.join(self.args)


PRECISIONS = ('float32', 'bfloat16', 'tf32')        # for argparse: choices and help of --precision
PRECISION_HELP = ('of products: bfloat16 rounds them to 3 digits and is faster on CPUs with AVX512_BF16 or AMX, '
                  'tf32 to 4 digits on GPUs of compute capability 8 and more; both need a current TensorFlow '
                  '(default: float32)')


def run_main(main: Callable[[], Optional[int]]) -> None:
    """Run a script's `main` and leave with its exit code (None counts as 0).

    A UserError, or too little memory, becomes one line `error: ...` on stderr and exit code 1; Ctrl-C becomes exit
    code 130. A reader that went away (`| head`) ends the program quietly.
    """
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        code = 1
    except MemoryError as error:
        reason = one_line(str(error), 200) or 'an array or a file is too large'
        print(f'error: out of memory ({reason}): free some, or ask for less at a time', file=sys.stderr)
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
    folder = os.path.dirname(os.path.abspath(path))
    temporary = os.path.join(folder, f'.tmp-{os.getpid()}-{threading.get_ident()}')     # a name may have 255 bytes
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


def limit_arenas(count: int = 1) -> None:
    """Let glibc keep freed memory in so many pools, not several for each core: what one thread frees serves all others.

    Call it before there are threads. Other C libraries have no such pools: nothing happens there.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)
