"""Worker processes that start clean (no TensorFlow, no threads inherited) and leave Ctrl-C to their owner."""

import concurrent.futures
import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading

import cv2

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3       # of mallopt, <malloc.h>
_LARGE = 1 << 25                                    # bytes; the most it takes


def start(count, initializer, arguments, nice=0):
    """A ProcessPoolExecutor whose `count` processes have been started; each calls initializer(*arguments) first.

    nice: how far they stand back behind this process, 0 to 19, where the system knows such a thing.
    """
    pool = concurrent.futures.ProcessPoolExecutor(
        count, mp_context=multiprocessing.get_context('spawn'), initializer=_initialize,
        initargs=(initializer, arguments, nice))
    in_main_thread = threading.current_thread() is threading.main_thread()      # only there signals can be set
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main_thread else None
    try:
        for _ in range(count):
            pool.submit(int)            # makes the pool start its processes now, while they inherit SIG_IGN
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    return pool


def _initialize(initializer, arguments, nice):
    if nice and hasattr(os, 'nice'):
        os.nice(nice)
    cv2.setNumThreads(1)                # the pictures are spread over the cores already
    keep_memory()
    initializer(*arguments)


def keep_memory():
    """Have malloc keep what is freed: each picture needs large arrays again, and new pages take a third of its time."""
    with contextlib.suppress(OSError, AttributeError):      # a system whose C library has no such switch
        for switch, value in ((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, 8 * _LARGE)):
            ctypes.CDLL(None).mallopt(switch, value)
