"""Worker processes that start clean (no TensorFlow, no threads inherited) and leave Ctrl-C to their owner."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading

import cv2


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
    initializer(*arguments)
