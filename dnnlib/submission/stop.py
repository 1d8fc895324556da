"""Ctrl-C and SIGTERM as a wish: the program finishes its step, saves and leaves; a second one ends it at once."""

import contextlib
import os
import signal
import sys
import threading
from typing import Any, Callable, Dict, Optional


class StopSignals:
    """While entered, the first SIGINT or SIGTERM only sets `asked` to its number; the next ends the process at once.

    A thread hears of a signal even while the main thread computes outside of Python. Enter it in the main thread;
    anywhere else it never hears anything. doing: what the first one is answered with.
    """

    def __init__(self, doing: str = 'stopping after this step and saving; once more to leave at once') -> None:
        self.asked: Optional[int] = None
        self._doing = doing
        self._before: Dict[int, Any] = {}
        self._undo: Callable[[], Any] = lambda: None

    def __enter__(self) -> 'StopSignals':
        if threading.current_thread() is not threading.main_thread():
            return self
        read_end, write_end = os.pipe()
        os.set_blocking(write_end, False)
        old_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):      # some handler of ours, or none would write to the pipe
            self._before[number] = signal.signal(number, lambda *_: None)
        thread = threading.Thread(target=self._listen, args=(read_end,), daemon=True)
        thread.start()

        def undo() -> None:
            signal.set_wakeup_fd(old_fd)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            os.close(write_end)                             # ends the thread
            thread.join()
            os.close(read_end)
        self._undo = undo
        return self

    def __exit__(self, *_: Any) -> None:
        self._undo()

    def _listen(self, read_end: int) -> None:
        """Each byte in the pipe is the number of a signal that has just come."""
        while True:
            heard = os.read(read_end, 1)
            if not heard:
                return
            if heard[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if self.asked is not None:
                os._exit(128 + heard[0])
            self.asked = heard[0]
            with contextlib.suppress(OSError, ValueError):
                print(f'\n{self._doing}', file=sys.stderr, flush=True)
