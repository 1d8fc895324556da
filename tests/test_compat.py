"""The import of TensorFlow: no more than is needed, and which GPUs there are is asked once."""

import os
import subprocess
import sys
from unittest import mock

import config
from dnnlib.tflib import compat


def test_gpus_are_asked_for_once_and_stderr_stays_in_place(monkeypatch):
    expected = compat.gpu_names()
    compat._count_gpus.cache_clear()
    swaps = mock.Mock(wraps=os.dup2)
    monkeypatch.setattr(os, 'dup2', swaps)
    monkeypatch.setenv('TF_CPP_MIN_LOG_LEVEL', '3')
    assert [compat.gpu_names() for _ in range(20)] == [expected] * 20
    assert swaps.call_count == 2                # aside and back, of the first call


def test_the_list_is_the_callers_own():
    compat.gpu_names().append('another')
    assert 'another' not in compat.gpu_names()


def test_keras_is_imported_only_when_asked_for():
    code = ('import os, sys; from dnnlib.tflib.compat import IS_TF1, tf; loaded = "keras.layers" in sys.modules; '
            'print(loaded or "pandas" in sys.modules and not IS_TF1, "TF_USE_LEGACY_KERAS" in os.environ, '
            'tf.keras.layers.Dense.__name__)')
    environment = {name: value for name, value in os.environ.items() if name != 'TF_USE_LEGACY_KERAS'}
    found = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, check=True, cwd=config.ROOT,
                           env=environment)
    assert found.stdout.split() == [b'False', b'False', b'Dense']
