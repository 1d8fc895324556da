"""Every test that touches TensorFlow gets a graph and a session of its own."""

import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:   # as behind `make test &`; programs under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tf_session():
    """A fresh graph with a default session; yields the session."""
    from dnnlib.tflib import tfutil
    from dnnlib.tflib.compat import tf
    with tf.Graph().as_default() as graph:
        with tfutil.create_session(threads=2, graph=graph) as session:
            yield session
