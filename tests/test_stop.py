"""Signals as a wish: the first is noted and answered, even while the program is deep in a C call; the next ends it."""

import signal
import subprocess
import sys
import threading

import pytest

import config
from dnnlib.submission.stop import StopSignals

BUSY = '''
import hashlib
from dnnlib.submission.stop import StopSignals
with StopSignals('finishing') as signals:
    print('ready', flush=True)
    hashlib.pbkdf2_hmac('sha256', b'a', b'b', {rounds})
    print('asked', signals.asked, flush=True)
print('left', flush=True)
import time
time.sleep(60)
'''


def _start(rounds):
    process = subprocess.Popen([sys.executable, '-c', BUSY.format(rounds=rounds)], cwd=config.ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True)
    assert process.stdout.readline() == 'ready\n'
    return process


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_at_once(number):
    process = _start(rounds=2 ** 31 - 1)       # half an hour outside of Python
    process.send_signal(number)
    assert [process.stderr.readline() for _ in range(2)] == ['\n', 'finishing\n']
    assert process.poll() is None
    process.send_signal(number)
    process.communicate()
    assert process.returncode == 128 + number


def test_the_first_is_noted_and_afterwards_all_is_as_before():
    process = _start(rounds=10 ** 6)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == f'asked {int(signal.SIGTERM)}\n'
    assert process.stdout.readline() == 'left\n'
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


def test_handlers_come_back():
    handler, count = signal.getsignal(signal.SIGINT), threading.active_count()
    with StopSignals() as signals:
        assert signals.asked is None and signal.getsignal(signal.SIGINT) is not handler
    assert signal.getsignal(signal.SIGINT) is handler and threading.active_count() == count


def test_another_thread_hears_nothing():
    heard = []

    def live():
        with StopSignals() as signals:
            heard.append(signals.asked)
    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    assert heard == [None]
