"""Which of two implementations of the renderer's heavy parts is built: our own C++ ops, or TensorFlow's own."""

import os
from typing import Optional

from dnnlib.tflib.compat import gpu_names, tf

KERNELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernels')
IMPLEMENTATIONS = ('cpp', 'ref')


def check_implementation(impl: Optional[str]) -> None:
    """Raises ValueError for a name that is not in IMPLEMENTATIONS, nor None."""
    if impl is not None and impl not in IMPLEMENTATIONS:
        raise ValueError(f'impl must be one of {IMPLEMENTATIONS} or None, got {impl!r}')


def implementation(impl: Optional[str] = None) -> str:
    """'cpp', our own ops, always on the CPU, or 'ref', TensorFlow's operations, on any device.

    None: 'ref' for what is built for a GPU, else 'cpp'. For a GPU is what stands in a scope of one, or, where no scope
    names a device, everything in a process that has one.
    """
    check_implementation(impl)
    if impl is not None:
        return impl
    device = current_device()
    return 'ref' if 'GPU' in device or ('CPU' not in device and gpu_names()) else 'cpp'


def current_device() -> str:
    """The device of the current scope in capital letters, e.g. '/DEVICE:GPU:0'; '' where none is named."""
    with tf.control_dependencies(None), tf.name_scope(None):
        return tf.no_op(name='device_of_scope').device.upper()
