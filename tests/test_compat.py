"""The import of TensorFlow: which GPUs there are is asked once."""

import os
from unittest import mock

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
