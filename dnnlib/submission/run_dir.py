"""A run and its directory: numbering, log.txt, options on disk, abort.txt, _finished.txt."""

import contextlib
import os
import platform
import re
import sys
import time
import traceback
from typing import Any, Dict, List, Optional, TextIO

from dnnlib.json_files import write_json
from dnnlib.util import UserError, write_atomic


def leading_number(name: str) -> Optional[int]:
    """The integer a run directory's name starts with, None when there is none: '00012-sgan' -> 12."""
    match = re.match('([0-9]+)', name)
    return int(match.group(1)) if match else None


def create_run_dir(result_dir: str, description: str) -> str:
    """Make the next directory NNNNN-<description>: 1 + the largest leading number there, 00000 in an empty folder.

    Two processes at once get two numbers. Raises UserError when the folder cannot be written.
    """
    try:
        os.makedirs(result_dir, exist_ok=True)
        while True:
            numbers = [leading_number(name) for name in os.listdir(result_dir)]
            number = max([n + 1 for n in numbers if n is not None] or [0])
            path = os.path.join(result_dir, f'{number:05d}-{description}')
            try:
                os.mkdir(path)
                return path
            except FileExistsError:
                continue        # another process was faster: look again
    except OSError as error:
        raise UserError(f'{result_dir}: cannot hold runs ({error.strerror}); choose another --result_dir') from error


class Logger:
    """While open, what the process prints goes to the terminal and, appended, to a file. A context manager."""

    def __init__(self, path: str) -> None:
        self.file: TextIO = open(path, 'a', encoding='utf-8')
        self.streams: List[TextIO] = [sys.stdout, sys.stderr]
        sys.stdout, sys.stderr = (_Tee(stream, self.file) for stream in self.streams)   # type: ignore[assignment]

    def close(self) -> None:
        """Give stdout and stderr back and close the file; a second call does nothing."""
        if not self.file.closed:
            sys.stdout, sys.stderr = self.streams
            self.file.close()

    def __enter__(self) -> 'Logger':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class _Tee:
    """Writes to a terminal and to a log; progress bars (lines redrawn by a carriage return) stay out of the log."""

    def __init__(self, stream: TextIO, file: TextIO) -> None:
        self.stream, self.file = stream, file

    def write(self, text: str) -> int:
        self.stream.write(text)
        if not self.file.closed and '\r' not in text:
            with contextlib.suppress(OSError):      # a full disk shall not end the run
                self.file.write(text)
                self.file.flush()
        return len(text)

    def __getattr__(self, name: str) -> Any:        # flush, isatty, fileno, encoding, ...
        return getattr(self.stream, name)


class RunContext:
    """One training run: its directory, log and options; asks for nothing of the run but to call `should_stop`."""

    def __init__(self, run_dir: str, options: Dict[str, Any]) -> None:
        """options: JSON-ready; written to config.txt, submit_config.json and submit_config.txt, as a run is made."""
        self.run_dir = run_dir
        self.start_time = time.time()
        self.finished = True        # unless somebody says that it was only stopped
        for name in ('config.txt', 'submit_config.json'):
            write_json(self.path(name), options)
        lines = [f'{key} = {value!r}' for key, value in sorted(options.items())]
        self.write('submit_config.txt', '\n'.join(lines) + '\n')
        self.write('run.txt', '\n'.join([
            time.strftime('%Y-%m-%d %H:%M:%S'), ' '.join(sys.argv), f'Python {platform.python_version()}',
            platform.platform(), platform.node()]) + '\n')
        self.logger = Logger(self.path('log.txt'))

    def path(self, name: str) -> str:
        """Path of a file of this run."""
        return os.path.join(self.run_dir, name)

    def write(self, name: str, text: str) -> None:
        """Write a text file of this run, complete or not at all."""
        write_atomic(self.path(name), text.encode('utf-8', 'surrogateescape'))

    def should_stop(self) -> bool:
        """Whether the user put a file abort.txt into the run directory."""
        return os.path.exists(self.path('abort.txt'))

    def __enter__(self) -> 'RunContext':
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._write_error(kind, error, trace)
        elif self.finished:
            seconds = time.time() - self.start_time
            self.write('_finished.txt', f'finished {time.strftime("%Y-%m-%d %H:%M:%S")} after {seconds:.0f} s\n')
        self.logger.close()

    def _write_error(self, kind: Any, error: Any, trace: Any) -> None:
        """What ended the run, for log.txt: the terminal hears of it when the exception arrives there."""
        lines = [f'error: {error}\n'] if kind is UserError else traceback.format_exception(kind, error, trace)
        with contextlib.suppress(OSError):
            self.logger.file.writelines(lines)
