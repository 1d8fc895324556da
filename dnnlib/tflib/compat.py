"""THE import of TensorFlow: `from dnnlib.tflib.compat import tf`. Nothing else asks which TensorFlow it is.

`tf` is `tensorflow.compat.v1` in graph mode on both TensorFlow lines, 1.15 and 2.x.
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
import warnings
from typing import Any, List

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')      # TensorFlow's chatter; what fails raises an exception anyway


@contextlib.contextmanager
def _quiet():
    """Hold back what C++ code prints to stderr before logging is set up; show it after all if the block fails.

    TensorFlow 2 tells of missing GPU drivers and oneDNN whatever the log level is.
    """
    if os.environ['TF_CPP_MIN_LOG_LEVEL'] < '3':        # the user wants to see it
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        terminal = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def _without_keras():
    """TensorFlow 2 imports Keras, and pandas and OpenCV with it, unless another Keras is named that is not there.

    That is a fifth of its import's time; `tf.keras` still imports it when asked for.
    """
    before = os.environ.get('TF_USE_LEGACY_KERAS')
    if before is None:
        os.environ['TF_USE_LEGACY_KERAS'] = '1'
    try:
        yield
    finally:
        if before is None:
            del os.environ['TF_USE_LEGACY_KERAS']


with _quiet(), _without_keras(), warnings.catch_warnings():
    warnings.simplefilter('ignore')                     # NumPy's and protobuf's deprecations inside TensorFlow 1.15
    import tensorflow as _tensorflow
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    VERSION = tuple(int(x) for x in re.findall(r'\d+', _tensorflow.__version__)[:2])    # e.g. (1, 15), (2, 21)
    IS_TF1 = VERSION < (2, 0)
    if not IS_TF1:
        tf.disable_v2_behavior()


@functools.lru_cache(maxsize=None)
def _count_gpus():
    """They do not change while a process lives, and nobody's stderr shall be held back once per layer of a network."""
    with _quiet():
        return len(tf.config.experimental.list_physical_devices('GPU'))


def gpu_names() -> List[str]:
    """Names of the GPUs this process can use, e.g. ['/device:GPU:0']; empty on a CPU-only machine. Claims no memory."""
    return [f'/device:GPU:{i}' for i in range(_count_gpus())]


def all_reduce(tensor: Any, group_size: int, instance_key: int, final_op: str = 'Id') -> Any:
    """Sum over a group of devices of `tensor`, which lies on a named device; 'Div' as final_op: the mean.

    The ops of the group's other devices have the same instance_key; TensorFlow has this op in no public module.
    NCCL does the work between GPUs where TensorFlow was built with it, else a ring.
    """
    from tensorflow.python.ops import collective_ops
    hint = 'nccl' if 'GPU' in tensor.device else 'ring'
    return collective_ops.all_reduce(tensor, group_size, 1, instance_key, 'Add', final_op, communication_hint=hint)
