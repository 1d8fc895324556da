"""Signals as a wish: the first is noted and answered, even while the program is deep in a C call; the next ends it."""

import os
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


INTERRUPTS = '''
import os, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name in ('numpy', 'dnnlib.options'):
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
'''
SCRIPTS = [name for name in sorted(os.listdir(config.ROOT)) if name.endswith('.py') and name != 'config.py']


@pytest.mark.parametrize('command', SCRIPTS + ['vae/demo.py', '-m sampling.pack', '-m preprocess.detect'])
def test_ctrl_c_during_the_imports_of_a_script_leaves_no_traceback(tmp_path, command):
    (tmp_path / 'sitecustomize.py').write_text(INTERRUPTS)
    done = subprocess.run([sys.executable] + command.split() + ['--help'], cwd=config.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
                          env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert (done.returncode, done.stderr, done.stdout) == (130, 'interrupted\n', '')


def test_other_programs_that_use_the_library_keep_their_tracebacks():
    done = subprocess.run([sys.executable, '-c', 'import dnnlib\nraise KeyboardInterrupt'], cwd=config.ROOT,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60)
    assert 'Traceback' in done.stderr and 'interrupted' not in done.stderr
