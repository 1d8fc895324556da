"""Network snapshots (.pkl) read and written without running anything they name.

A snapshot is a pickle of `dnnlib.tflib.network.Network` objects. The reader is a small machine of its own for just the
pickle operations such files need; the globals they may name stand for our own checks, never for the real functions.
"""

import os
import pickletools
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Dict, List, Tuple

import numpy as np

from dnnlib.util import UserError, atomic_path, shown

VERSIONS = (2, 3)                   # of the state dict; later ones belong to other systems
MAX_FILE_BYTES = 1 << 32            # the released 256x256 model has 0.3 GB
MAX_OPERATIONS = 100000             # a real file needs some thousands
MAX_TEXT_BYTES = 1 << 24            # source text is the longest string; it has some 50 kB
MAX_NAME_CHARS = 200
MAX_NETWORKS = 64
MAX_VARIABLES = 20000
MAX_VALUES = 20000                  # plain values in all static_kwargs together
MAX_DEPTH = 8                       # of components and of static_kwargs
MAX_DIMENSIONS = 8
DTYPES = ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'u4', 'u8')
NAME = re.compile(r'[A-Za-z0-9_.\-][A-Za-z0-9_.\-/ ]*')
FUNCTION_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*')
KEYS = ('version', 'name', 'static_kwargs', 'components', 'build_module_src', 'build_func_name', 'variables')
REPAIR = 'fetch the file again from a source you trust'


@dataclass
class NetworkState:
    """One network as a snapshot holds it.

    `variables`: the network's OWN (local name, value) pairs in stored order, a component's are in the component; values
    are C-ordered, writable, finite numpy arrays, or numpy scalars (`lod`). `build_module_src` is text that is carried
    along and never run.
    """
    version: int = 3
    name: str = ''
    static_kwargs: Dict[str, Any] = field(default_factory=dict)
    components: Dict[str, 'NetworkState'] = field(default_factory=dict)
    build_module_src: str = ''
    build_func_name: str = ''
    variables: List[Tuple[str, Any]] = field(default_factory=list)


def load_states(path: str) -> List[NetworkState]:
    """The networks of a snapshot, e.g. [G, D, Gs]; a file that holds one network gives a list of one.

    Runs nothing the file names, and allocates at most about twice the file's size. Raises UserError, one line, for
    whatever is not a whole and plain snapshot.
    """
    data = _read(path)
    try:
        _recognise(data)
        states = _Converter().networks(_Reader(data).run())
        for state in states:
            _check_state(state, state.name)
    except _Refused as error:
        raise UserError(f'{path}: {error}') from None
    return states


def save_states(states: List[NetworkState], path: str) -> None:
    """Write networks as a pickle (protocol 4) of the tuple of them, whole or not at all.

    Old installations read it; equal states give equal bytes. Raises UserError for values a snapshot cannot hold,
    weights that are not finite included.
    """
    try:
        for state in states:
            _check_state(state, state.name)
        with atomic_path(path, sync=True) as temporary:
            with open(temporary, 'wb') as file:
                _Writer(file).write(states)
    except _Refused as error:
        raise UserError(f'{path}: not written: {error}') from None


#----------------------------------------------------------------------------
# What both directions agree on.

class _Refused(Exception):
    """What is wrong with the file and what was expected; load_states adds the file's name."""


def _show(value):
    """`shown`, with the stand-ins of this module under the names of what they stand for."""
    return {memoryview: 'bytes'}.get(type(value), shown(value).lstrip('_'))


def _check_name(name, what):
    if type(name) is not str or len(name) > MAX_NAME_CHARS or not NAME.fullmatch(name):
        raise _Refused(f'{what} is {_show(name)}; expected a name of letters, digits and _ . - /')


def _check_state(state, where):
    """Raise _Refused unless `state` keeps the rules of a snapshot; `where` is e.g. 'G' or 'G/mapping'."""
    _check_name(state.name, 'the name of a network')
    if type(state.version) is not int or state.version not in VERSIONS:
        raise _Refused(f'network {where} has version {_show(state.version)}; expected 2 or 3 (other versions belong to '
                       'other systems, e.g. StyleGAN2)')
    if type(state.build_module_src) is not str or len(state.build_module_src) > MAX_TEXT_BYTES:
        raise _Refused(f'network {where}: build_module_src is {_show(state.build_module_src)}; expected source text')
    name = state.build_func_name
    if type(name) is not str or len(name) > MAX_NAME_CHARS or not FUNCTION_NAME.fullmatch(name):
        raise _Refused(f'network {where}: build_func_name is {_show(name)}; expected the name of a function')
    _check_variables(state.variables, where)
    for key, component in state.components.items():
        _check_name(key, f'network {where}: a component')
        _check_state(component, f'{where}/{key}')


def _check_variables(variables, where):
    seen = set()
    for name, value in variables:
        _check_name(name, f'network {where}: a variable')
        if name in seen:
            raise _Refused(f'network {where} holds variable {name} twice; expected each name once')
        seen.add(name)
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.str[1:] not in DTYPES:
            raise _Refused(f'network {where}: variable {name} is {_show(value)}; expected a numpy array or scalar')
        if not finite_in_float32(value):
            raise _Refused(f'network {where}: variable {name} holds values that are NaN, infinite or beyond float32; '
                           'expected finite weights (did the training diverge? take an earlier snapshot)')


def finite_in_float32(value: Any) -> bool:
    """Whether all numbers of an array or scalar are finite and stay so in float32, in which networks compute."""
    if value.dtype.kind != 'f':
        return True
    with np.errstate(invalid='ignore'):
        return bool((np.abs(value) <= np.finfo(np.float32).max).all())      # False for NaN


#----------------------------------------------------------------------------
# Reading, step 1: the file, and what it is if it is no pickle.

FOREIGN = (     # first bytes, what such a file is, what to do
    (b'PK\x03\x04', 'a zip archive, as PyTorch and Keras write', 'give a TensorFlow snapshot'),
    (b'\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19', 'an old PyTorch file', 'give a TensorFlow snapshot'),
    (b'\x89HDF', 'an HDF5 file, as Keras writes', 'give a TensorFlow snapshot'),
    (b'\x1f\x8b', 'compressed by gzip', 'unpack it first'),
    (b'version https://git-lfs', 'a Git LFS pointer, not the file itself', 'run git lfs pull'),
)


def _read(path):
    """The bytes of a regular file of sensible size."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise UserError(f'{path}: no such file; expected a network snapshot (.pkl)')
    if not os.path.isfile(path):
        raise UserError(f'{path}: not a regular file; expected a network snapshot (.pkl)')
    try:
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE_BYTES:
                raise UserError(f'{path}: {size} bytes; expected a snapshot of at most {MAX_FILE_BYTES}')
            return file.read(size)
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); expected a network snapshot (.pkl)') from error
    except MemoryError:
        raise UserError(f'{path}: {size} bytes do not fit into memory; free some, or use a larger machine') from None


def _recognise(data):
    """Raise _Refused with the best guess where the file does not start as a pickle."""
    if not data:
        raise _Refused(f'the file is empty; expected a network snapshot; {REPAIR}')
    for magic, what, remedy in FOREIGN:
        if data.startswith(magic):
            raise _Refused(f'the file is {what}; expected a pickled network snapshot; {remedy}')
    head = data[:1024].lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if head.startswith((b'<!doctype html', b'<html', b'<head')):
        raise _Refused('the file is a web page (<html), not a snapshot: Google Drive answers so when a file was '
                       'fetched too often or asks for a confirmation; fetch it by browser')
    if data[-8:] == b'\x57\xfb\x80\x8b\x24\x75\x47\xdb':
        raise _Refused('the file is the index of a TensorFlow checkpoint; expected a pickled network snapshot')
    if data[0] != 0x80:
        raise _Refused(f'the file is no pickle (it starts with {data[:8]!r}); expected a network snapshot; {REPAIR}')


#----------------------------------------------------------------------------
# Reading, step 2: the machine. Stand-ins carry what the file said; nothing real is called.

class _Global:
    """A name the file may use."""
    def __init__(self, name):
        self.name = name


_NETWORK, _NDARRAY, _DTYPE = _Global('Network'), _Global('ndarray'), _Global('dtype')
_RECONSTRUCT, _SCALAR, _FROMBUFFER = _Global('_reconstruct'), _Global('scalar'), _Global('_frombuffer')
_GLOBALS = {
    ('dnnlib.tflib.network', 'Network'): _NETWORK,
    ('numpy', 'ndarray'): _NDARRAY,
    ('numpy', 'dtype'): _DTYPE,
    ('numpy.core.multiarray', '_reconstruct'): _RECONSTRUCT,
    ('numpy._core.multiarray', '_reconstruct'): _RECONSTRUCT,
    ('numpy.core.multiarray', 'scalar'): _SCALAR,
    ('numpy._core.multiarray', 'scalar'): _SCALAR,
    ('numpy.core.numeric', '_frombuffer'): _FROMBUFFER,
    ('numpy._core.numeric', '_frombuffer'): _FROMBUFFER,
}


class _Network:
    """A network of the file; `state` is its state dict."""
    state = None


class _Array:
    """An array of the file; `value` is None until its contents came."""
    def __init__(self, value=None):
        self.value = value


class _Dtype:
    """A numeric dtype of the file, e.g. code 'f4', order '<'."""
    def __init__(self, code):
        self.code, self.order, self.itemsize = code, '=', int(code[1])

    def numpy(self):
        return np.dtype(self.order + self.code)


_OPERATIONS = {}


def _operation(*codes):
    def register(method):
        for code in codes:
            _OPERATIONS[code] = method
        return method
    return register


class _Reader:
    """Runs the pickle in `data` (bytes) and returns the object it describes, made of plain values and stand-ins.

    Each operation costs at most a few hundred bytes beyond what it takes from the file, and their number is limited;
    arrays may use up the bytes of the file once. So memory stays within about twice the file's size.
    """

    def __init__(self, data):
        self.data, self.size = memoryview(data), len(data)
        self.position = self.start = 0          # next byte; first byte of the running operation
        self.stack, self.marks, self.memo = [], [], {}
        self.array_bytes_left = len(data) + 65536   # one-byte contents may be shared
        self.running = True

    def run(self):
        for _ in range(MAX_OPERATIONS):
            self.start = self.position
            code = self.take(1)[0]
            if code not in _OPERATIONS:
                raise self.wrong(f'operation {_operation_name(code)}', 'only those a snapshot needs')
            _OPERATIONS[code](self)
            if not self.running:
                return self.result()
        raise self.wrong(f'more than {MAX_OPERATIONS} operations', 'some thousands')

    def result(self):
        value = self.pop()
        if self.stack or self.marks:
            raise self.wrong('values left over at the end', 'one object')
        if self.position != self.size:
            raise self.wrong(f'{self.size - self.position} bytes after the end of the pickle', 'none')
        return value

    def wrong(self, found, expected):
        return _Refused(f'byte {self.start}: found {found}; expected {expected}; nothing was run; {REPAIR}')

    # The file's bytes.

    def take(self, count):
        """The next `count` bytes, not copied."""
        if count > self.size - self.position:
            raise _Refused(f'byte {self.start}: {count} bytes wanted where {self.size - self.position} are left; the '
                           f'file was cut off or is damaged; {REPAIR}')
        self.position += count
        return self.data[self.position - count:self.position]

    def number(self, count, signed=False):
        return int.from_bytes(self.take(count), 'little', signed=signed)

    def text(self, count):
        if count > MAX_TEXT_BYTES:
            raise self.wrong(f'a text of {count} bytes', f'at most {MAX_TEXT_BYTES}')
        try:
            return str(self.take(count), 'utf-8')
        except UnicodeDecodeError:
            raise self.wrong('a text that is not UTF-8', 'UTF-8') from None

    # The stack.

    def push(self, value):
        self.stack.append(value)

    def pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise self.wrong('an operation without its operand', 'a well-formed pickle')
        return self.stack.pop()

    def pop_marked(self):
        if not self.marks:
            raise self.wrong('an operation without its mark', 'a well-formed pickle')
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def target(self, kind):
        """The object on top, which stays there, if it is a `kind` (list or dict)."""
        value = self.pop()
        if type(value) is not kind:
            raise self.wrong(f'items put into {_show(value)}', f'a {kind.__name__}')
        self.push(value)
        return value

    def look_up(self, module, name):
        if type(module) is not str or type(name) is not str or (module, name) not in _GLOBALS:
            dotted = f'{module}.{name}' if type(module) is str and type(name) is str else _show(name)
            raise self.wrong(f'the name {_show(dotted)}', 'Network and numpy arrays only; a file that names other '
                             'code belongs to another system or is an attack')
        self.push(_GLOBALS[module, name])

    # Framing, plain values.

    @_operation(0x80)
    def protocol(self):
        version = self.number(1)
        if self.start or not 2 <= version <= 5:
            raise self.wrong(f'pickle protocol {version} at byte {self.start}', 'protocol 2 to 5 at byte 0')

    @_operation(0x95)
    def frame(self):
        count = self.number(8)
        if count > self.size - self.position:
            self.take(count)

    @_operation(ord('.'))
    def stop(self):
        self.running = False

    @_operation(ord('N'), 0x88, 0x89)
    def constant(self):
        self.push({ord('N'): None, 0x88: True, 0x89: False}[self.data[self.start]])

    @_operation(ord('K'), ord('M'), ord('J'))
    def small_integer(self):
        code = self.data[self.start]
        self.push(self.number({ord('K'): 1, ord('M'): 2, ord('J'): 4}[code], signed=code == ord('J')))

    @_operation(0x8a)
    def integer(self):
        count = self.number(1)
        if count > 8:
            raise self.wrong(f'an integer of {count} bytes', 'at most 8')
        self.push(self.number(count, signed=True))

    @_operation(ord('G'))
    def real(self):
        self.push(struct.unpack('>d', self.take(8))[0])

    @_operation(0x8c, ord('X'), 0x8d)
    def string(self):
        self.push(self.text(self.number({0x8c: 1, ord('X'): 4, 0x8d: 8}[self.data[self.start]])))

    @_operation(ord('C'), ord('B'), 0x8e, 0x96)
    def contents(self):
        self.push(self.take(self.number({ord('C'): 1, ord('B'): 4}.get(self.data[self.start], 8))))

    # Containers.

    @_operation(ord('('))
    def mark(self):
        self.marks.append(len(self.stack))

    @_operation(ord(')'), ord(']'), ord('}'))
    def empty(self):
        self.push({ord(')'): tuple, ord(']'): list, ord('}'): dict}[self.data[self.start]]())

    @_operation(0x85, 0x86, 0x87)
    def short_tuple(self):
        values = [self.pop() for _ in range(self.data[self.start] - 0x84)]
        self.push(tuple(values[::-1]))

    @_operation(ord('t'))
    def marked_tuple(self):
        self.push(tuple(self.pop_marked()))

    @_operation(ord('a'), ord('e'))
    def append(self):
        values = self.pop_marked() if self.data[self.start] == ord('e') else [self.pop()]
        self.target(list).extend(values)

    @_operation(ord('s'), ord('u'))
    def set_items(self):
        values = self.pop_marked() if self.data[self.start] == ord('u') else [self.pop(), self.pop()][::-1]
        target = self.target(dict)
        if len(values) % 2:
            raise self.wrong('a key without its value', 'pairs')
        for key, value in zip(values[::2], values[1::2]):
            if type(key) is not str:
                raise self.wrong(f'{_show(key)} as a key', 'text')
            target[key] = value

    # The memo.

    @_operation(0x94)
    def memoize(self):
        self.remember(len(self.memo))

    @_operation(ord('q'), ord('r'))
    def put(self):
        self.remember(self.number(1 if self.data[self.start] == ord('q') else 4))

    def remember(self, index):
        self.memo[index] = self.pop()
        self.push(self.memo[index])

    @_operation(ord('h'), ord('j'))
    def get(self):
        index = self.number(1 if self.data[self.start] == ord('h') else 4)
        if index not in self.memo:
            raise self.wrong(f'a reference to value {index}, which there is not', 'a well-formed pickle')
        self.push(self.memo[index])

    # Names and what they stand for.

    @_operation(0x93)
    def stacked_name(self):
        name = self.pop()
        self.look_up(self.pop(), name)

    @_operation(ord('c'))
    def name(self):
        self.look_up(self.line(), self.line())

    def line(self):
        rest = bytes(self.data[self.position:self.position + MAX_NAME_CHARS])
        if b'\n' not in rest:
            raise self.wrong('a name without an end', f'at most {MAX_NAME_CHARS} characters')
        text = self.text(rest.index(b'\n'))
        self.take(1)
        return text

    @_operation(0x81)
    def new_object(self):
        arguments, kind = self.pop(), self.pop()
        if kind is not _NETWORK or type(arguments) is not tuple or arguments:
            raise self.wrong(f'a new object of {getattr(kind, "name", _show(kind))}', 'a Network without arguments')
        self.push(_Network())

    @_operation(ord('R'))
    def call(self):
        arguments, function = self.pop(), self.pop()
        makers = {_RECONSTRUCT: self.empty_array, _DTYPE: self.dtype, _SCALAR: self.scalar,
                  _FROMBUFFER: self.buffer_array}
        if type(function) is not _Global or function not in makers or type(arguments) is not tuple:
            raise self.wrong(f'a call of {getattr(function, "name", _show(function))}', 'numpy arrays only')
        self.push(makers[function](*arguments[:6]))

    @_operation(ord('b'))
    def build(self):
        state, target = self.pop(), self.pop()
        if type(target) is _Network and target.state is None and type(state) is dict:
            target.state = state
        elif type(target) is _Array and target.value is None and type(state) is tuple:
            self.fill_array(target, state)
        elif type(target) is _Dtype and type(state) is tuple:
            self.fill_dtype(target, state)
        else:
            raise self.wrong(f'a state ({_show(state)}) given to {_show(target)}', 'one state for each network, array '
                             'and dtype')
        self.push(target)

    # numpy, in our own words.

    def empty_array(self, *arguments):
        if len(arguments) != 3 or arguments[0] is not _NDARRAY or type(arguments[1]) is not tuple \
                or [type(x) for x in arguments[1]] != [int] or arguments[1][0] != 0:
            raise self.wrong('an array made with other arguments', 'an empty one, filled later')
        return _Array()

    def fill_array(self, array, state):
        if len(state) != 5:
            raise self.wrong(f'an array state of {len(state)} values', '5')
        _, shape, dtype, fortran, contents = state
        array.value = self.array(contents, dtype, shape, 'F' if fortran is True or fortran == 1 else 'C')

    def buffer_array(self, *arguments):
        if len(arguments) not in (4, 5):
            raise self.wrong(f'_frombuffer with {len(arguments)} arguments', 'contents, dtype, shape, order')
        contents, dtype, shape, order = arguments[:4]
        axes = arguments[4] if len(arguments) == 5 else None
        if type(order) is not str or order not in ('C', 'F', 'K') or (order == 'K') != (axes is not None):
            raise self.wrong(f'an array in order {_show(order)}', 'C or F')
        value = self.array(contents, dtype, shape, 'F' if order == 'F' else 'C')
        if axes is None:
            return _Array(value)
        if type(axes) is not tuple or any(type(x) is not int for x in axes) or sorted(axes) != list(range(value.ndim)):
            raise self.wrong('an order of axes that is no permutation', 'each axis once')
        return _Array(np.ascontiguousarray(value.transpose(axes)))

    def array(self, contents, dtype, shape, order):
        """A new C-ordered array in the machine's byte order; its size is exactly that of `contents`."""
        if type(contents) is not memoryview or type(dtype) is not _Dtype:
            raise self.wrong(f'an array of {_show(dtype)} from {_show(contents)}', 'a numeric one from bytes')
        self.check_shape(shape, dtype, len(contents))
        if not len(contents):
            return np.zeros(shape, dtype.numpy().newbyteorder('='))
        self.array_bytes_left -= len(contents)
        if self.array_bytes_left < 0:
            raise self.wrong('the same bytes used for array after array', 'bytes of its own for each array')
        stored = np.frombuffer(contents, dtype.numpy()).reshape(shape, order=order)
        return np.array(stored, dtype.numpy().newbyteorder('='), order='C')

    def check_shape(self, shape, dtype, count):
        if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
            raise self.wrong('an array shape that is none', f'at most {MAX_DIMENSIONS} sizes')
        size, nonzero = dtype.itemsize, dtype.itemsize
        for n in shape:
            size, nonzero = size * n, nonzero * max(n, 1)
        if size != count or nonzero > MAX_FILE_BYTES:
            raise self.wrong(f'{count} bytes for an array of shape {list(shape)} and type {dtype.code}', 'as many as '
                             'the shape asks for')

    def scalar(self, *arguments):
        if len(arguments) != 2:
            raise self.wrong(f'a scalar made of {len(arguments)} values', '2')
        return self.array(arguments[1], arguments[0], (), 'C')[()]

    def dtype(self, *arguments):
        code = arguments[0] if arguments else None
        if type(code) is not str or code not in DTYPES or any(type(x) not in (int, bool) for x in arguments[1:]):
            raise self.wrong(f'dtype {_show(code)}', 'a plain number type such as f4')
        return _Dtype(code)

    def fill_dtype(self, dtype, state):
        order = state[1] if len(state) == 8 else None
        if type(order) is not str or order not in ('<', '>', '|', '=') or any(x is not None for x in state[2:5]):
            raise self.wrong('a dtype with fields or an unknown byte order', 'a plain number type')
        dtype.order = order


def _operation_name(code):
    entry = pickletools.code2op.get(chr(code))
    return entry.name if entry else f'0x{code:02x} (unknown)'


#----------------------------------------------------------------------------
# Reading, step 3: from stand-ins to NetworkState. The file may tie objects into knots, hence the limits.

class _Converter:
    """Turns the reader's result into NetworkState objects; counts what it walks over, so that no knot lasts."""

    def __init__(self):
        self.left = {'networks': MAX_NETWORKS, 'variables': MAX_VARIABLES, 'values': MAX_VALUES}

    def count(self, what, depth=0):
        self.left[what] -= 1
        if self.left[what] < 0 or depth > MAX_DEPTH:
            raise _Refused(f'the {what} of the file are too many or too deeply nested; expected at most '
                           f'{MAX_NETWORKS} networks, {MAX_VARIABLES} variables and depth {MAX_DEPTH}')

    def networks(self, raw):
        raws = list(raw) if type(raw) in (tuple, list) else [raw]
        if not raws or any(type(item) is not _Network for item in raws):
            found = 'nothing' if not raws else _show(next(item for item in raws if type(item) is not _Network))
            raise _Refused(f'the pickle holds {found}; expected networks, as in a snapshot (G, D, Gs)')
        return [self.network(item, 0) for item in raws]

    def network(self, raw, depth):
        self.count('networks', depth)
        if type(raw) is not _Network or raw.state is None:
            found = 'without a state' if type(raw) is _Network else _show(raw)
            raise _Refused(f'a network is {found}; expected one with a state')
        state = dict(raw.state)
        state.setdefault('components', {})
        self.check_keys(state)
        return NetworkState(
            version=state['version'], name=state['name'], static_kwargs=self.mapping(state['static_kwargs'], 0),
            components={k: self.network(v, depth + 1) for k, v in state['components'].items()},
            build_module_src=state['build_module_src'], build_func_name=state['build_func_name'],
            variables=[self.variable(item) for item in state['variables']])

    def check_keys(self, state):
        wrong = [f'lacks {key}' for key in KEYS if key not in state] + \
                [f'has an unknown entry {_show(key)}' for key in state if key not in KEYS][:1]
        if wrong:
            raise _Refused(f'a network {" and ".join(wrong)}; expected {", ".join(KEYS)}')
        if type(state['components']) is not dict or type(state['variables']) not in (list, tuple):
            raise _Refused(f'the components of a network are {_show(state["components"])} and its variables '
                           f'{_show(state["variables"])}; expected a dict and a list')

    def variable(self, item):
        self.count('variables')
        if type(item) not in (tuple, list) or len(item) != 2:
            raise _Refused(f'a variable is {_show(item)}; expected a pair of name and value')
        name, value = item
        if type(value) is _Array and value.value is not None:
            return name, value.value
        return name, np.float32(value) if type(value) in (int, float) else value

    def mapping(self, value, depth):
        if type(value) is not dict:
            raise _Refused(f'static_kwargs is {_show(value)}; expected a dict')
        return self.plain(value, depth)

    def plain(self, value, depth):
        """static_kwargs: None, bool, int, float, str, numeric arrays and scalars, and lists, tuples, dicts of them."""
        self.count('values', depth)
        if type(value) in (list, tuple):
            return type(value)([self.plain(item, depth + 1) for item in value])
        if type(value) is dict:
            return {key: self.plain(item, depth + 1) for key, item in value.items()}
        if type(value) is _Array and value.value is not None:
            return value.value
        if value is None or type(value) in (bool, int, float, str) or isinstance(value, np.generic):
            return value
        raise _Refused(f'static_kwargs hold {_show(value)}; expected plain numbers and text')


#----------------------------------------------------------------------------
# Writing: protocol 4 without memo and frames, so the bytes depend on the contents alone.

class _Writer:
    """Writes the tuple of networks to a binary file, array by array; names numpy.core as every NumPy reads it."""

    def __init__(self, file):
        self.file = file

    def write(self, states):
        self.file.write(b'\x80\x04(')
        for state in states:
            self.network(state)
        self.file.write(b't.')

    def network(self, state):
        self.name('dnnlib.tflib.network', 'Network')
        self.file.write(b')\x81}(')
        for key in KEYS:
            self.text(key)
            getattr(self, 'entry_' + key, self.value)(getattr(state, key))
        self.file.write(b'ub')

    def entry_components(self, components):
        self.file.write(b'}(')
        for key, component in components.items():
            self.text(key)
            self.network(component)
        self.file.write(b'u')

    def entry_variables(self, variables):
        self.file.write(b'](')
        for name, value in variables:
            self.text(name)
            self.value(value[()] if isinstance(value, np.ndarray) and not value.ndim else value)
            self.file.write(b'\x86')
        self.file.write(b'e')

    def value(self, value):
        if value is None or value is True or value is False:
            self.file.write({None: b'N', True: b'\x88', False: b'\x89'}[value])
        elif isinstance(value, (np.ndarray, np.generic)):
            self.numpy(value)
        elif isinstance(value, int) and -1 << 63 <= value < 1 << 63:
            self.file.write(b'J' + struct.pack('<i', value) if -1 << 31 <= value < 1 << 31
                            else b'\x8a\x08' + struct.pack('<q', value))
        elif isinstance(value, float):
            self.file.write(b'G' + struct.pack('>d', value))
        elif isinstance(value, str):
            self.text(value)
        else:
            self.container(value)

    def container(self, value):
        if isinstance(value, dict) and all(type(key) is str for key in value):
            self.file.write(b'}(')
            for key, item in value.items():
                self.text(key)
                self.value(item)
            self.file.write(b'u')
        elif type(value) in (list, tuple):
            self.file.write(b'](' if type(value) is list else b'(')
            for item in value:
                self.value(item)
            self.file.write(b'e' if type(value) is list else b't')
        else:
            raise _Refused(f'static_kwargs hold {_show(value)}; expected plain numbers and text')

    def text(self, text):
        encoded = text.encode('utf-8')
        self.file.write(b'\x8c' + struct.pack('<B', len(encoded)) if len(encoded) < 256
                        else b'X' + struct.pack('<I', len(encoded)))
        self.file.write(encoded)

    def contents(self, data):
        self.file.write(b'B' + struct.pack('<I', len(data)) if len(data) < 1 << 32
                        else b'\x8e' + struct.pack('<Q', len(data)))
        self.file.write(data)

    def name(self, module, name):
        self.text(module)
        self.text(name)
        self.file.write(b'\x93')

    def dtype(self, dtype):
        self.name('numpy', 'dtype')
        self.text(dtype.str[1:])
        self.file.write(b'\x89\x88\x87R(K\x03')                     # dtype(code, False, True), then its state
        self.text('|' if dtype.itemsize == 1 else '<')
        self.file.write(b'NNN' + 2 * (b'J' + struct.pack('<i', -1)) + b'K\x00tb')

    def numpy(self, value):
        if value.dtype.str[1:] not in DTYPES:
            raise _Refused(f'an array has dtype {value.dtype}; expected one of {", ".join(DTYPES)}')
        data = value.astype(value.dtype.newbyteorder('<')).tobytes()
        self.name('numpy.core.multiarray', 'scalar' if isinstance(value, np.generic) else '_reconstruct')
        if isinstance(value, np.generic):
            self.dtype(value.dtype)
            self.contents(data)
            self.file.write(b'\x86R')
            return
        self.name('numpy', 'ndarray')
        self.file.write(b'K\x00\x85C\x01b\x87R(K\x01')               # _reconstruct(ndarray, (0,), b'b'), then its state
        self.value(tuple(value.shape))
        self.dtype(value.dtype)
        self.file.write(b'\x89')
        self.contents(data)
        self.file.write(b'tb')
