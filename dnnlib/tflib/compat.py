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
from typing import Any, Iterator, List, Tuple

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
    HAS_TF32 = hasattr(tf.config.experimental, 'enable_tensor_float_32_execution')
    if HAS_TF32:        # TensorFlow's default on Ampere and newer; its 10 bits of mantissa change images visibly
        tf.config.experimental.enable_tensor_float_32_execution(False)


@functools.lru_cache(maxsize=None)
def _count_gpus():
    """They do not change while a process lives, and nobody's stderr shall be held back once per layer of a network."""
    with _quiet():
        return len(tf.config.experimental.list_physical_devices('GPU'))


def gpu_names() -> List[str]:
    """Names of the GPUs this process can use, e.g. ['/device:GPU:0']; empty on a CPU-only machine. Claims no memory."""
    return [f'/device:GPU:{i}' for i in range(_count_gpus())]


def gpu_capabilities() -> List[Tuple[int, int]]:
    """Compute capability of each GPU of `gpu_names`, e.g. [(8, 6)]; (0, 0) where TensorFlow cannot tell."""
    if not hasattr(tf.config.experimental, 'get_device_details'):       # TensorFlow 1.15
        return [(0, 0)] * _count_gpus()
    devices = tf.config.experimental.list_physical_devices('GPU')
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    return [tuple(found.get('compute_capability', (0, 0))) for found in details]


def allow_tf32() -> None:
    """GPUs of this process multiply in TensorFloat-32 from now on, in every session, but not in `without_tf32`."""
    tf.config.experimental.enable_tensor_float_32_execution(True)


@contextlib.contextmanager
def without_tf32() -> Iterator[None]:
    """What sessions run in this block is float32 also after `allow_tf32`."""
    allowed = HAS_TF32 and tf.config.experimental.tensor_float_32_execution_enabled()
    if allowed:
        tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        if allowed:
            allow_tf32()


def all_reduce(tensor: Any, group_size: int, instance_key: int, final_op: str = 'Id') -> Any:
    """Sum over a group of devices of `tensor`, which lies on a named device; 'Div' as final_op: the mean.

    The ops of the group's other devices have the same instance_key; TensorFlow has this op in no public module.
    NCCL does the work between GPUs where TensorFlow was built with it, else a ring.
    """
    from tensorflow.python.ops import collective_ops
    hint = 'nccl' if 'GPU' in tensor.device else 'ring'
    return collective_ops.all_reduce(tensor, group_size, 1, instance_key, 'Add', final_op, communication_hint=hint)
