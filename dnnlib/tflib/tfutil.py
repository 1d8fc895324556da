"""The default session and what is done with it: create, run, set variables; small graph helpers."""

import contextlib
import re
from typing import Any, Dict, Iterable, Iterator, List, Optional

import numpy as np

from dnnlib.tflib.compat import HAS_TF32, allow_tf32, gpu_capabilities, gpu_names, tf, without_tf32
from dnnlib.util import UserError


def session_config(threads: Optional[int] = None, threads_per_op: Optional[int] = None,
                   precision: str = 'float32', on_gpu: Optional[bool] = None) -> Any:
    """A tf.ConfigProto that grows GPU memory as needed and runs ops without a GPU kernel on the CPU.

    threads: size of TensorFlow's two thread pools; None: one thread per core. threads_per_op: how many of them one op
    may use; None: all. 1 is faster where many small ops can run side by side. The first session of a process decides.
    precision: see `check_precision`. on_gpu: whether the session will compute on one; None: if there is any.
    'tf32' is a switch of the process: sessions of float32 in the same process are in float32 in `without_tf32` only.
    """
    proto = tf.ConfigProto(allow_soft_placement=True)
    proto.gpu_options.allow_growth = True
    if threads is not None:
        proto.intra_op_parallelism_threads = threads
        proto.inter_op_parallelism_threads = threads
    if threads_per_op is not None:
        proto.intra_op_parallelism_threads = threads_per_op
    check_precision(precision, on_gpu)
    if precision == 'bfloat16':
        rewrites = proto.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = type(rewrites).ON
    elif precision == 'tf32':
        allow_tf32()
    return proto


def check_precision(precision: str, on_gpu: Optional[bool] = None) -> None:
    """UserError unless sessions can compute in `precision`, one of dnnlib.util.PRECISIONS. Variables stay float32.

    bfloat16: convolutions, products of matrices and most of what follows them, sums too, keep 8 bits of mantissa,
    which takes less time on CPUs with AVX512_BF16 or AMX and more on others. TensorFlow rewrites graphs so for CPUs.
    tf32: TensorFloat-32, 10 bits of mantissa in convolutions and products, on GPUs of compute capability 8 and more.
    on_gpu: as for session_config. TensorFlow 1.15 has neither.
    """
    if precision == 'float32':
        return
    on_gpu = bool(gpu_names()) if on_gpu is None else on_gpu
    reason = _against_bfloat16(on_gpu) if precision == 'bfloat16' else _against_tf32(on_gpu)
    if reason:
        raise UserError(f'--precision {precision}: {reason}; leave it out')


def _against_bfloat16(on_gpu):
    """Why sessions cannot compute in bfloat16, or None."""
    if on_gpu:
        return 'for CPUs only; on GPUs there is --precision tf32 (CUDA_VISIBLE_DEVICES=-1 hides the GPUs)'
    if not hasattr(tf.ConfigProto().graph_options.rewrite_options, 'auto_mixed_precision_onednn_bfloat16'):
        return f'TensorFlow {tf.__version__} cannot do that, a current one can'
    if not cpu_has_bfloat16():
        return 'this CPU has neither AVX512_BF16 nor AMX and would be slower than with float32'
    return None


def _against_tf32(on_gpu):
    """Why sessions cannot compute in TensorFloat-32, or None."""
    if not on_gpu:
        return 'for GPUs only; on CPUs there is --precision bfloat16'
    if not HAS_TF32:
        return f'TensorFlow {tf.__version__} has no switch for it, a current one has'
    oldest = min(gpu_capabilities())
    if oldest < (8, 0):
        return f'it needs GPUs of compute capability 8.0 (Ampere) or more, here is one of {oldest[0]}.{oldest[1]}'
    return None


def cpu_has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 by itself; False where the system does not tell."""
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as file:
            return re.search(r'\b(avx512_bf16|amx_bf16|bf16)\b', file.read()) is not None
    except OSError:
        return False


def create_session(threads: Optional[int] = None, graph: Any = None, threads_per_op: Optional[int] = None,
                   precision: str = 'float32') -> Any:
    """A tf.Session of this process alone with `session_config(threads, threads_per_op, precision)`."""
    return tf.Session(config=session_config(threads, threads_per_op, precision), graph=graph)


@contextlib.contextmanager
def float32_session(variables: Iterable[Any]) -> Iterator[Any]:
    """The default session in this block: another one in float32, where `variables` have the values they have outside.

    For numbers that are kept or reported while the session outside computes in less.
    """
    variables = list(variables)
    values = run(variables)
    with without_tf32(), create_session(graph=tf.get_default_graph()) as session:
        set_vars(dict(zip(variables, values)))
        yield session


def exact_matmul(a: Any, b: Any, **kwargs: Any) -> Any:
    """tf.matmul of float32 tensors that keeps its digits in a bfloat16 session, too: for geometry.

    TensorFlow rewrites products of float32 numbers only, so these go by way of float64.
    """
    return tf.cast(tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64), **kwargs), tf.float32)


def init_tf(seed: Optional[int] = None, threads: Optional[int] = None, threads_per_op: Optional[int] = None,
            precision: str = 'float32') -> Any:
    """Make sure there is a default session and return it; the call that makes it seeds the graph with `seed`."""
    session = tf.get_default_session()
    if session is None:
        if seed is not None:
            tf.set_random_seed(seed)
        session = create_session(threads, threads_per_op=threads_per_op, precision=precision)
        session.__enter__()     # stays the default session until the process ends, as dnnlib users expect
    return session


def assert_tf_initialized() -> None:
    """Raise RuntimeError when there is no default session."""
    if tf.get_default_session() is None:
        raise RuntimeError('no default TensorFlow session: call dnnlib.tflib.tfutil.init_tf() first')


def first_words(error: BaseException) -> str:
    """What an exception says, in one line; what TensorFlow 2 tells of the graph comes before it and is left out."""
    text = re.sub(r"(?s)^.*\nNode: '[^\n]*'\n", '', str(error))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith('From /job:')]
    return lines[0][:300] if lines else ''


def run(*args: Any, **kwargs: Any) -> Any:
    """`session.run` in the default session."""
    assert_tf_initialized()
    return tf.get_default_session().run(*args, **kwargs)


def is_tf_expression(x: Any) -> bool:
    """Whether x is a tensor, a variable or an op of a graph."""
    return isinstance(x, (tf.Tensor, tf.Variable, tf.Operation)) or bool(tf.is_tensor(x))    # resource variables


def lerp(a: Any, b: Any, t: Any) -> Any:
    """a + (b - a) * t, on tensors or arrays."""
    return a + (b - a) * t


def set_vars(values: Dict[Any, Any]) -> None:
    """Give variables new values, {variable: array}, in one session run; adds ops to a graph only at first use of each.

    Raises ValueError naming the variable when a shape differs.
    """
    feed, ops = {}, []
    for variable, value in values.items():
        value = np.asarray(value, dtype=variable.dtype.base_dtype.as_numpy_dtype)
        if list(value.shape) != variable.shape.as_list():
            raise ValueError(f'{variable.name}: shape {variable.shape.as_list()} expected, {list(value.shape)} given')
        feed[variable.initializer.inputs[1]] = value    # feeds the initial value: no new op per assignment
        ops.append(variable.initializer)
    run(ops, feed)


def init_uninitialized_vars(variables: Optional[Iterable[Any]] = None) -> None:
    """Run the initialisers of those `variables` (default: all of the graph) that hold no value yet."""
    variables = list(tf.global_variables() if variables is None else variables)
    with tf.control_dependencies(None):
        flags: List[Any] = [tf.is_variable_initialized(v) for v in variables]
    missing = [v.initializer for v, ready in zip(variables, run(flags)) if not ready]
    run(missing)
