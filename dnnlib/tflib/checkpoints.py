"""TensorFlow checkpoints (V2: NAME.index + NAME.data-*) read and written by explicit, exact variable names.

Never by substrings, never "whatever matches": a missing name or another shape is one error that lists them all.
"""

import glob
import os
import shutil
import tempfile
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.pickles import finite_in_float32
from dnnlib.util import UserError, listed, shown

READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, LookupError, SystemError, MemoryError)    # of damaged files


def exists(prefix: str) -> bool:
    """Whether both files of the checkpoint `prefix` (path without .index) are there."""
    return os.path.isfile(prefix + '.index') and bool(data_files(prefix))


def data_files(prefix: str) -> List[str]:
    """The checkpoint's .data files, sorted; usually one."""
    return sorted(glob.glob(glob.escape(prefix) + '.data-?????-of-?????'))


def _damaged(prefix: str, error: BaseException) -> UserError:
    return UserError(f'{prefix}: the checkpoint is damaged or incomplete ({tfutil.first_words(error)}); fetch or copy '
                     'its .index and .data-00000-of-00001 files again')


def _open(prefix: str) -> Any:
    """A TensorFlow checkpoint reader; UserError naming the file that is missing or damaged."""
    if not os.path.isfile(prefix + '.index'):
        raise UserError(f'{prefix}.index is missing: a TensorFlow checkpoint is the two files {prefix}.index and '
                        f'{os.path.basename(prefix)}.data-00000-of-00001; put both there')
    if not data_files(prefix):
        raise UserError(f'{prefix}.data-00000-of-00001 is missing although the .index is there: '
                        'a checkpoint needs both; copy it beside the .index')
    try:
        return tf.train.NewCheckpointReader(prefix)
    except READ_ERRORS as error:
        raise _damaged(prefix, error) from error


def read_names(prefix: str) -> Dict[str, List[int]]:
    """{variable name: shape} of a checkpoint; `prefix` is its path without .index. UserError as in `read`."""
    return {name: list(shape) for name, shape in _open(prefix).get_variable_to_shape_map().items()}


def read(prefix: str, names: Optional[Iterable[str]] = None) -> Dict[str, np.ndarray]:
    """{name: array} of the variables `names` (default: all of them) in the checkpoint `prefix`.

    UserError when a file is missing, truncated or corrupt, or when a name is not in it.
    """
    reader = _open(prefix)
    there = reader.get_variable_to_shape_map()
    names = sorted(there) if names is None else list(names)
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(f'{prefix}: the checkpoint lacks {listed(sorted(missing))}; is it the right file?')
    try:
        return {name: np.asarray(reader.get_tensor(name)) for name in names}
    except READ_ERRORS as error:
        raise _damaged(prefix, error) from error


def _name_map(variables: Union[Dict[str, Any], Iterable[Any]]) -> Dict[str, Any]:
    if isinstance(variables, dict):
        return variables
    return {variable.op.name: variable for variable in variables}


def restore(prefix: str, variables: Union[Dict[str, Any], Iterable[Any]], scopes: Iterable[str] = ()) -> None:
    """Give `variables` the values stored in the checkpoint `prefix`, in the default session.

    variables: {name in the checkpoint: variable}, or variables that are stored under their own names.
    scopes: every name the checkpoint has below one of these must be asked for (e.g. 'resnet_v1_50' to be sure that
      no layer is left out); other names in the file, e.g. Adam's, are ignored.
    UserError listing all missing, left-over and wrongly shaped names, or naming the damaged file; nothing is changed
    then.
    """
    wanted = _name_map(variables)
    there = read_names(prefix)
    missing = [name for name in wanted if name not in there]
    scopes = tuple(scope.rstrip('/') + '/' for scope in scopes)
    extra = [name for name in there if name not in wanted and name.startswith(scopes)] if scopes else []
    wrong = [f'{shown(name)} {there[name]} (expected {variable.shape.as_list()})' for name, variable in wanted.items()
             if name in there and there[name] != variable.shape.as_list()]
    if missing or extra or wrong:
        raise UserError(_mismatch(prefix, missing, extra, wrong, [n for n in there if n not in wanted]))
    values = read(prefix, wanted)
    broken = [name for name in wanted if not finite_in_float32(values[name])]
    if broken:
        raise UserError(f'{prefix}: {listed(sorted(broken))} hold values that are NaN, infinite or beyond float32; '
                        'expected finite weights: take an earlier checkpoint, or fetch the file again')
    tfutil.set_vars({variable: values[name] for name, variable in wanted.items()})


def _mismatch(prefix: str, missing: List[str], extra: List[str], wrong: List[str], unused: List[str]) -> str:
    """One line that says how a checkpoint differs from what was asked of it."""
    parts = []
    if missing:
        parts.append(f'missing: {listed(sorted(missing))}')
        if unused:
            parts[-1] += f' (it has instead: {listed(sorted(unused), 4)})'
    if extra:
        parts.append(f'not expected: {listed(sorted(extra))}')
    if wrong:
        parts.append(f'other shape: {", ".join(wrong[:5])}' + (f' and {len(wrong) - 5} more' if wrong[5:] else ''))
    return f'{prefix}: not the checkpoint of this network; ' + '; '.join(parts) + '; use the file made for it'


def save(prefix: str, values: Dict[str, Any]) -> None:
    """Write {name: array, or variable of the default session} as the checkpoint `prefix`, complete or not at all.

    Missing folders are made; an older checkpoint of that name is replaced. Variables are read in one session run.
    UserError when it cannot be written (disk full, no permission).
    """
    variables = {name: value for name, value in values.items() if tfutil.is_tf_expression(value)}
    arrays = dict(values, **(tfutil.run(variables) if variables else {}))
    prefix = os.path.abspath(prefix)
    holder = None
    try:
        os.makedirs(os.path.dirname(prefix), exist_ok=True)
        holder = tempfile.mkdtemp(prefix='.tmp-', dir=os.path.dirname(prefix))
        temporary = os.path.join(holder, os.path.basename(prefix))
        _write({name: np.asarray(value) for name, value in arrays.items()}, temporary)
        _move(temporary, prefix)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, 'strerror', None) or tfutil.first_words(error).rpartition('; ')[2]
        raise UserError(f'{prefix}: the checkpoint could not be written ({reason}); free some space or choose another '
                        'folder') from error
    finally:
        if holder is not None:
            shutil.rmtree(holder, ignore_errors=True)


def _write(arrays: Dict[str, np.ndarray], prefix: str) -> None:
    """Write the two files of a checkpoint, names in sorted order."""
    names = sorted(arrays)
    with tf.Graph().as_default() as graph, tf.device('/cpu:0'):
        tensors = [tf.placeholder(arrays[name].dtype, arrays[name].shape) for name in names]
        write = tf.raw_ops.SaveV2(prefix=prefix, tensor_names=names, shape_and_slices=[''] * len(names),
                                  tensors=tensors)
        with tf.Session(graph=graph, config=tf.ConfigProto(device_count={'GPU': 0})) as session:
            session.run(write, {tensor: arrays[name] for tensor, name in zip(tensors, names)})


def _move(source: str, target: str) -> None:
    """Rename a checkpoint's files: the .index goes last and the old one first, so no half of each is ever seen."""
    remove(target)
    for path in data_files(source) + [source + '.index']:
        os.replace(path, target + path[len(source):])


def remove(prefix: str) -> None:
    """Delete the files of the checkpoint `prefix`, .meta included; nothing happens where there is none."""
    for path in [prefix + '.index', prefix + '.meta'] + data_files(prefix):
        if os.path.exists(path):
            os.remove(path)


def copy(source: str, target: str, names: Optional[Iterable[str]] = None) -> None:
    """Write the variables `names` (default: all) of checkpoint `source` as the checkpoint `target`."""
    save(target, read(source, names))


def size(prefix: str) -> Tuple[int, int]:
    """(number of values, bytes on disk) of a checkpoint."""
    values = sum(int(np.prod(shape)) for shape in read_names(prefix).values())
    return values, sum(os.path.getsize(path) for path in data_files(prefix) + [prefix + '.index'])
