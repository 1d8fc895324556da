"""A corpus of broken and malicious snapshot files, and the child process in which they are loaded.

`python -m tests.hostile_pickles GROUP FOLDER [pickle]` loads each case of a group in a forked process with a memory
limit and a time limit, and prints {case: [outcome, message]}. FOLDER is where attacks would leave their mark.
"""

import json
import os
import random
import resource
import signal
import struct
import sys
import traceback

MEMORY_BYTES = 192 << 20        # beyond what the interpreter holds before a case
SECONDS = 20                    # of a case
MULTIARRAY = 'numpy.core.multiarray'
STATE_KEYS = ('version', 'name', 'static_kwargs', 'components', 'build_module_src', 'build_func_name', 'variables')


#----------------------------------------------------------------------------
# A pickle assembler.

def text(value):
    encoded = value.encode('utf-8', 'surrogatepass')
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def raw(data):
    return b'B' + struct.pack('<I', len(data)) + data


def number(value):
    size = value.bit_length() // 8 + 1
    return b'\x8a' + struct.pack('<B', size) + value.to_bytes(size, 'little', signed=True)


def name(module, attribute):
    return text(module) + text(attribute) + b'\x93'


def row(*items):
    return b'(' + b''.join(items) + b't'


def array_of(*items):
    return b'](' + b''.join(items) + b'e'


def mapping(items):
    return b'}(' + b''.join(text(key) + value for key, value in items.items()) + b'u'


def call(function, *arguments):
    return function + row(*arguments) + b'R'


def build(target, state):
    return target + state + b'b'


def whole(body, protocol=4):
    return b'\x80' + struct.pack('<B', protocol) + body + b'.'


NETWORK = name('dnnlib.tflib.network', 'Network')
NDARRAY = name('numpy', 'ndarray')
RECONSTRUCT = name(MULTIARRAY, '_reconstruct')
FROMBUFFER = name('numpy.core.numeric', '_frombuffer')
NO, YES, NONE = b'\x89', b'\x88', b'N'


def dtype(code='f4', order='<', state=None):
    state = row(number(3), text(order), NONE, NONE, NONE, number(-1), number(-1), number(0)) if state is None else state
    return build(call(name('numpy', 'dtype'), text(code), NO, YES), state)


def shape_of(*sizes):
    return row(*[number(size) for size in sizes])


def array(shape, data, kind=None, fortran=NO):
    state = row(number(1), shape, dtype() if kind is None else kind, fortran, raw(data))
    return build(call(RECONSTRUCT, NDARRAY, shape_of(0), raw(b'b')), state)


def scalar(data, kind=None):
    return call(name(MULTIARRAY, 'scalar'), dtype() if kind is None else kind, raw(data))


def variables(*items):
    return array_of(*[row(text(key), value) for key, value in items])


def network(without=(), **entries):
    state = {'version': number(3), 'name': text('G'), 'static_kwargs': mapping({'resolution': number(8)}),
             'components': mapping({}), 'build_module_src': text('raise SystemExit'),
             'build_func_name': text('G_style'), 'variables': variables(('lod', scalar(bytes(4))))}
    state.update(entries)
    return build(NETWORK + b')\x81', mapping({key: state[key] for key in state if key not in without}))


def holding(value):
    """A snapshot that is right but for one value in static_kwargs."""
    return whole(network(static_kwargs=mapping({'x': value})))


def with_array(value):
    return whole(network(variables=variables(('w', value))))


#----------------------------------------------------------------------------
# Code that wants to run. `mark` is the file it would make.

def attacks(mark):
    """Files that make `mark` if the standard unpickler reads them."""
    touch = text(f'touch {mark}')
    code = text(f'open({mark!r}, "w").close()')
    importer = call(name('builtins', '__import__'), text('os'))
    return {
        'os.system': whole(call(name('os', 'system'), touch)),
        'posix.system': whole(call(name('posix', 'system'), touch), 3),
        'system by protocol 2': whole(b'cposix\nsystem\n' + row(touch) + b'R', 2),
        'system by protocol 0': b"cposix\nsystem\n(V" + f'touch {mark}'.encode() + b'\ntR.',
        'eval': whole(call(name('builtins', 'eval'), code)),
        'exec': whole(call(name('builtins', 'exec'), code)),
        'open': whole(call(name('builtins', 'open'), text(mark), text('w'))),
        'getattr chain': whole(call(call(name('builtins', 'getattr'), importer, text('system')), touch)),
        'popen': whole(call(name('subprocess', 'check_call'), array_of(text('touch'), text(mark)))),
        'inst': whole(b'(' + touch + b'iposix\nsystem\n'),
        'obj': whole(b'(' + name('subprocess', 'check_call') + array_of(text('touch'), text(mark)) + b'o'),
        'in a list before the networks': whole(array_of(call(name('os', 'system'), touch))),
        'dotted name': whole(call(name('os', 'path.os.system'), touch)),
        'after a frame': whole(b'\x95' + struct.pack('<Q', 4) + b'NNNN' + call(name('os', 'system'), touch)),
        'functools': whole(call(call(name('functools', 'partial'), name('os', 'system'), touch))),
    }


def hidden_attacks(mark):
    """The same wishes in places where only a snapshot has them, or through allowed names."""
    system = call(name('os', 'system'), text(f'touch {mark}'))
    return {
        'in static_kwargs': holding(system),
        'in a variable': with_array(system),
        'in a component': whole(network(components=mapping({'mapping': system}))),
        'as a shape': with_array(array(system, bytes(4))),
        'as a dtype': with_array(array(shape_of(1), bytes(4), system)),
        'as a dtype state': with_array(array(shape_of(1), bytes(4), dtype(state=system))),
        'method of Network': whole(call(name('dnnlib.tflib.network', 'Network.from_state'), NONE)),
        'other name of the module': whole(call(name('dnnlib.tflib.network', 'importlib.import_module'), text('this'))),
        'numpy.load': whole(call(name('numpy', 'load'), text(mark))),
        'numpy.fromfile': whole(call(name(MULTIARRAY, 'fromfile'), text('/etc/passwd'))),
        'numpy runstring': whole(call(name('numpy.testing', 'runstring'), text('1'), mapping({}))),
        'numpy.ndarray called': holding(call(NDARRAY, shape_of(1 << 33))),
        'ndarray as new object': holding(NDARRAY + shape_of(1 << 33) + b'\x81'),
        'Network called': whole(call(NETWORK, text('G'), text('G_style'))),
        'Network with arguments': whole(NETWORK + row(text('G')) + b'\x81'),
        'state for the class': whole(build(NETWORK, mapping({'run': text('x')}))),
        'state for a name': holding(build(RECONSTRUCT, mapping({'__code__': NONE}))),
        'state for a dict': holding(build(mapping({}), mapping({'a': NONE}))),
        'state twice': whole(build(network(), mapping({}))),
        'state and slots': whole(build(NETWORK + b')\x81', row(NONE, mapping({'run': NONE})))),
        'state with __class__': whole(network(__class__=text('x'))),
        'names in the open': whole(NETWORK),
        'dtype in static_kwargs': holding(dtype()),
        'bytes in static_kwargs': holding(raw(b'x')),
        'reconstruct of a Network': holding(call(RECONSTRUCT, NETWORK, shape_of(0), raw(b'b'))),
        'unfilled array': with_array(call(RECONSTRUCT, NDARRAY, shape_of(0), raw(b'b'))),
        'array filled twice': with_array(build(array(shape_of(1), bytes(4)), row(number(1), shape_of(1), dtype(), NO,
                                                                               raw(bytes(4))))),
        'persistent id': whole(text('id') + b'Q'),
        'persistent id as text': b'\x80\x04Pid\n.',
        'extension 1': whole(b'\x82\x01'),
        'extension 2': whole(b'\x83\x01\x00'),
        'extension 4': whole(b'\x84\x01\x00\x00\x00'),
        'new object of another class': whole(name('subprocess', 'Popen') + row(array_of(text('touch'))) + b'\x81'),
        'the same with keywords': whole(name('subprocess', 'Popen') + row(array_of(text('touch'))) + mapping({})
                                        + b'\x92'),
        'copyreg': whole(call(name('copyreg', '__newobj__'), name('subprocess', 'Popen'), array_of(text('touch')))),
        'torch': whole(call(name('torch._utils', '_rebuild_tensor_v2'), NONE)),
        'stylegan3': whole(call(name('torch_utils.persistence', '_reconstruct_persistent_obj'), mapping({}))),
        'newline in a name': whole(name('os\nerror: forged line', 'system')),
    }


#----------------------------------------------------------------------------
# Files that ask for too much.

def giants():
    huge = struct.pack('<Q', 1 << 40)
    megabyte = raw(bytes(1 << 20))
    state = row(number(1), shape_of(1 << 18), b'h\x07', NO, b'h\x08')
    again = build(call(RECONSTRUCT, NDARRAY, shape_of(0), raw(b'b')), state)
    remembered = dtype() + b'q\x07' + megabyte + b'q\x08'
    laughs = array_of(text('ha')) + b'q\x00'
    family = network() + b'q\x00'
    for i in range(40):
        laughs += b'](' + bytes([ord('h'), i]) * 10 + b'eq' + bytes([i + 1])
        twins = b'}(' + b''.join(text(key) + bytes([ord('h'), i]) for key in 'ab') + b'u'
        family += network(components=twins) + b'q' + bytes([i + 1])
    return {
        'text of a terabyte': whole(b'\x8d' + huge + b'x'),
        'text of 4 GB': whole(b'X\xff\xff\xff\xffx'),
        'bytes of a terabyte': whole(b'\x8e' + huge + b'x'),
        'bytearray of a terabyte': whole(b'\x96' + huge + b'x', 5),
        'frame of a terabyte': whole(b'\x95' + huge + b'x'),
        'lengths near 2^64': whole(b'\x8e' + b'\xff' * 8 + b'x'),
        'integer of 255 bytes': whole(b'\x8a\xff' + b'\x7f' * 255),
        'long4': whole(b'\x8b\xff\xff\xff\x7f' + b'\x01' * 100),
        'gigabytes from allowed names': whole(call(RECONSTRUCT, NDARRAY, shape_of(1 << 33), raw(b'b'))),
        'ndarray by list shape': whole(call(RECONSTRUCT, NDARRAY, array_of(number(1 << 33)), raw(b'b'))),
        'huge shape': with_array(array(shape_of(1 << 40), bytes(4))),
        'huge lod': whole(network(variables=variables(('lod', array(shape_of(1 << 30), bytes(4)))))),
        'shape whose product overflows': with_array(array(shape_of(1 << 32, 1 << 32), b'')),
        'shape that overflows to 1': with_array(array(shape_of((1 << 62) + 1, 4), bytes(16))),
        'empty but huge': with_array(array(shape_of(0, 1 << 62, 1 << 62), b'')),
        'negative shape': with_array(array(shape_of(-1), bytes(4))),
        'negative pair': with_array(array(shape_of(-1, -1), bytes(4))),
        '40 dimensions': with_array(array(shape_of(*[1] * 40), bytes(4))),
        'shape of booleans': with_array(array(row(YES), bytes(4))),
        'shape of text': with_array(array(row(text('1')), bytes(4))),
        'shape is a number': with_array(array(number(1), bytes(4))),
        'too few bytes': with_array(array(shape_of(2), bytes(4))),
        'too many bytes': with_array(array(shape_of(1), bytes(8))),
        'object dtype': with_array(array(shape_of(1), bytes(8), dtype('O8'))),
        'huge void dtype': with_array(array(shape_of(1), bytes(8), dtype('V2000000000'))),
        'huge text dtype': with_array(array(shape_of(1), bytes(8), dtype('U500000000'))),
        'repeated dtype': with_array(array(shape_of(1), bytes(8), dtype('500000000f4'))),
        'structured dtype': with_array(array(shape_of(1), bytes(8), dtype('f4,f4'))),
        'date dtype': with_array(array(shape_of(1), bytes(8), dtype('M8'))),
        'dtype of a Network': holding(call(name('numpy', 'dtype'), NETWORK, NO, YES)),
        'dtype with fields': with_array(array(shape_of(1), bytes(4), dtype(state=row(
            number(3), text('<'), NONE, row(text('a')), mapping({'a': NONE}), number(1 << 30), number(1), number(0))))),
        'dtype with subarray': with_array(array(shape_of(1), bytes(4), dtype(state=row(
            number(3), text('<'), row(NONE, shape_of(1 << 30)), NONE, NONE, number(-1), number(-1), number(0))))),
        'dtype with metadata': with_array(array(shape_of(1), bytes(4), dtype(state=row(
            number(4), text('<'), NONE, NONE, NONE, number(-1), number(-1), number(0), mapping({}))))),
        'scalar of wrong size': with_array(scalar(bytes(5))),
        'frombuffer of a huge shape': with_array(call(FROMBUFFER, raw(bytes(4)), dtype(), shape_of(1 << 40),
                                                      text('C'))),
        'frombuffer of text': with_array(call(FROMBUFFER, text('abcd'), dtype(), shape_of(1), text('C'))),
        'frombuffer with bad axes': with_array(call(FROMBUFFER, raw(bytes(8)), dtype(), shape_of(1, 2), text('K'),
                                                    shape_of(5, 0))),
        'same bytes 500 times': whole(array_of(remembered, *[again] * 500)),
        'billion laughs': holding(laughs),
        'tree of twins': whole(family),
        'list in itself': holding(b']q\x01h\x01a'),
        'dict in itself': holding(b'}q\x01' + text('a') + b'h\x01s'),
        'network in itself': whole(NETWORK + b')\x81q\x01}(' + b''.join(
            text(key) + (mapping({'a': b'h\x01'}) if key == 'components' else number(3)) for key in STATE_KEYS)
                                   + b'ub'),
        'deep tuples': holding(b')' + b'\x85' * 200000),
        'deep lists': holding(b']' * 100000 + b'a' * 99999),
        'many dicts': whole(b'}' * 3000000),
        'many marks': whole(b'(' * 3000000),
        'many memos': whole(b'N' + b'\x94' * 3000000),
        'many networks': whole(array_of(*[network()] * 1000)),
        'many values': holding(array_of(*[number(1)] * 30000)),
        'memo far away': whole(b'Nr\xff\xff\xff\xff'),
        'long name without end': whole(b'c' + b'x' * 100000),
    }


#----------------------------------------------------------------------------
# Files that are no snapshots, or wrong ones.

def strangers():
    odd = {f'operation {code:02x}': b'\x80\x04N' + bytes([code]) + b'\x01\n\x01\n.' for code in
           b"012FdlPQISUTVLio\x82\x83\x84\x8b\x8f\x90\x91\x92\x97\x98\x99\xff\x00"}
    nan, infinite = struct.pack('<f', float('nan')), struct.pack('<f', float('inf'))
    odd.update({
        'empty': b'', 'one byte': b'\x80', 'only stop': whole(b''), 'no stop': whole(network())[:-1],
        'text': b'hello\n', 'zeros': bytes(1000), 'web page': b'\n <!DOCTYPE html><html><title>Google Drive</title>',
        'web page, old': b'<HTML>Quota exceeded', 'zip': b'PK\x03\x04' + bytes(100), 'hdf5': b'\x89HDF\r\n\x1a\n',
        'gzip': b'\x1f\x8b\x08' + bytes(50), 'lfs': b'version https://git-lfs.github.com/spec/v1\n',
        'old torch': b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.', 'checkpoint index': bytes(90) +
        b'\x57\xfb\x80\x8b\x24\x75\x47\xdb', 'protocol 6': whole(network(), 6), 'protocol 1': whole(network(), 1),
        'protocol twice': b'\x80\x04' + whole(network()), 'bytes after the end': whole(network()) + b'x',
        'two pickles': whole(network()) * 2, 'two objects': whole(network() + network()),
        'open mark': whole(b'(' + network()), 'nothing under the mark': whole(network() + b'(\x85t'),
        'a number': whole(number(3)), 'a dict': whole(mapping({'G': network()})), 'no networks': whole(b')'),
        'a network and a number': whole(row(network(), number(3))), 'network without state': whole(NETWORK + b')\x81'),
        'not UTF-8': whole(b'X\x02\x00\x00\x00\xff\xfe'), 'half a character': whole(text('\ud800')),
        'append to a tuple': whole(b')Na'), 'item of a list': whole(b']NNs'), 'number as key': whole(b'}(K\x01Nu'),
        'unhashable key': whole(b'}(]Nu'), 'odd items': whole(b'}(' + text('a') + b'u'),
        'unknown memo': whole(b'h\x05'),
        'version 5': whole(network(version=number(5))), 'version as text': whole(network(version=text('3'))),
        'name as number': whole(network(name=number(3))), 'name of two lines': whole(network(name=text('G\nD'))),
        'long name': whole(network(name=text('G' * 5000))), 'source as number': whole(network(build_module_src=NONE)),
        'function with a call': whole(network(build_func_name=text('exit()'))),
        'kwargs as list': whole(network(static_kwargs=b']')), 'components as list': whole(network(components=b']')),
        'component as number': whole(network(components=mapping({'a': number(1)}))),
        'variables as dict': whole(network(variables=mapping({}))), 'variable alone': whole(network(
            variables=array_of(number(1)))), 'variable as text': with_array(text('x')),
        'variable twice': whole(network(variables=variables(('w', scalar(bytes(4))), ('w', scalar(bytes(4)))))),
        'variable with a bad name': whole(network(variables=variables(('w\x1b[2J', scalar(bytes(4)))))),
        'NaN': with_array(array(shape_of(2), nan + bytes(4))), 'infinite': with_array(array(shape_of(1), infinite)),
        'NaN scalar': with_array(scalar(nan)), 'unknown entry': whole(network(extra=NONE)),
    })
    odd.update({f'without {key}': whole(network(without=(key,))) for key in STATE_KEYS if key != 'components'})
    return odd


def truncated(path):
    """A real file cut at every percent, and in its last bytes."""
    with open(path, 'rb') as file:
        data = file.read()
    lengths = [len(data) * i // 100 for i in range(100)] + list(range(len(data) - 20, len(data)))
    return {f'first {length} bytes': data[:length] for length in lengths}


def mutated(count=250, seed=1):
    """A small good file with a few bytes changed, dropped, doubled or exchanged."""
    parts = {key: network(name=text(key)) for key in ('mapping', 'synthesis')}
    weights = variables(('lod', scalar(bytes(4))), ('4x4/w', array(shape_of(1, 2), bytes(8))))
    good = whole(row(*[network(components=mapping(parts), variables=weights)] * 3))
    rng, cases = random.Random(seed), {}
    for i in range(count):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            at, other = rng.randrange(len(data)), rng.randrange(len(data))
            change = rng.randrange(5)
            if change < 2:
                data[at] = rng.randrange(256)
            elif change == 2:
                data[at] ^= 1 << rng.randrange(8)
            elif change == 3:
                del data[at:at + rng.randrange(1, 9)]
            else:
                data[at:at] = data[other:other + rng.randrange(1, 40)]
        cases[f'mutation {i}'] = bytes(data)
    return cases


def good():
    """Files that are right in unusual ways: each must load."""
    plain = mapping({'a': NONE, 'b': YES, 'c': number(-5), 'd': b'G' + struct.pack('>d', 0.5), 'e': text('\u00e9'),
                     'f': row(number(1), array_of(number(2))), 'g': array(shape_of(2), bytes(8)), 'h': mapping({})})
    return {
        'triple': whole(row(network(), network(name=text('D')), network(name=text('Gs')))),
        'list': whole(array_of(network())), 'one': whole(network()), 'without components': whole(network(
            without=('components',))), 'version 2': whole(network(version=number(2))),
        'plain values': whole(network(static_kwargs=plain)), 'the same one thrice': whole(network() + b'q\x00h\x00h\x00'
                                                                                           + b'\x87'),
        'protocol 2': whole(network().replace(NETWORK, b'cdnnlib.tflib.network\nNetwork\n'), 2),
        'protocol 5': whole(network(), 5), 'big-endian': with_array(array(shape_of(1), b'\x3f\x80\x00\x00',
                                                                          dtype(order='>'))),
        'number for lod': whole(network(variables=variables(('lod', b'G' + bytes(8))))),
        'numpy 2 names': whole(network().replace(text(MULTIARRAY), text('numpy._core.multiarray'))),
        'empty array': with_array(array(shape_of(0, 3), b'')),
    }


#----------------------------------------------------------------------------
# The child process.

def cases_of(group, folder):
    mark = os.path.join(folder, 'mark')
    from tests.common import data
    makers = {'attacks': lambda: attacks(mark), 'hidden_attacks': lambda: hidden_attacks(mark), 'giants': giants,
              'strangers': strangers, 'mutated': mutated, 'good': good,
              'truncated': lambda: truncated(data('generator', 'networks.pkl'))}
    return makers[group]()


def _load(path, with_pickle):
    import pickle

    from dnnlib.tflib import pickles
    from dnnlib.util import UserError
    try:
        if with_pickle:
            with open(path, 'rb') as file:
                pickle.load(file)
            return 'loaded', ''
        states = pickles.load_states(path)
        for state in states:
            assert isinstance(state, pickles.NetworkState)
        pickles.save_states(states, path + '.again')
        return 'loaded', ''
    except UserError as error:
        return 'refused', str(error)
    except BaseException:
        return 'crashed', traceback.format_exc()


def _limit():
    with open('/proc/self/statm') as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY_BYTES, size + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(SECONDS)


def _in_fork(path, with_pickle):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _limit()
        with os.fdopen(writer, 'w') as pipe:
            json.dump(_load(path, with_pickle), pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(answer) if status == 0 and answer else ['crashed', f'status {status}: {answer[:200]}']


def main(group, folder, reader=''):
    import numpy  # noqa: F401 - in the parent, so that no fork pays for it

    import dnnlib.tflib.pickles  # noqa: F401
    results, path = {}, os.path.join(folder, 'case.pkl')
    for case, data in cases_of(group, folder).items():
        with open(path, 'wb') as file:
            file.write(data)
        results[case] = _in_fork(path, reader == 'pickle')
        if reader == 'pickle' and os.path.exists(os.path.join(folder, 'mark')):
            os.remove(os.path.join(folder, 'mark'))
            results[case][0] = 'ran'
    print(json.dumps(results))


if __name__ == '__main__':
    main(*sys.argv[1:])
