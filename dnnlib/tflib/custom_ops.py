"""C++ ops of our own: built at first use against the installed TensorFlow, cached, loaded once per process.

Importing this module builds nothing.
"""

import contextlib
import glob
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from types import ModuleType
from typing import List, Sequence

import config
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError, atomic_path

try:
    import fcntl
except ImportError:     # no such locks there; the atomic rename alone keeps the cache whole
    fcntl = None

COMPILERS = ('g++', 'c++', 'clang++')
# No contraction to fused multiply-add and no -ffast-math: results are the same bits on every machine. Square roots that
# need not set errno are single instructions.
FLAGS = ('-O3', '-ffp-contract=off', '-fno-math-errno', '-fno-trapping-math', '-fPIC', '-shared', '-w')

HEADERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'kernels')     # what all ops share

_libraries = {}     # {name and sources: loaded module}


def get_library(name: str, sources: Sequence[str]) -> ModuleType:
    """The Python module of the op library built from `sources`; builds it when no cached file fits.

    name: of the cached file. sources: paths of .cc files; every .h file beside them and in HEADERS counts for the key.
    Raises UserError when there is no compiler or the compiler fails; its message then holds command and full output.
    """
    sources = tuple(os.path.abspath(source) for source in sources)
    if (name, sources) not in _libraries:
        _libraries[name, sources] = _load(name, sources)
    return _libraries[name, sources]


def library_path(name: str, sources: Sequence[str]) -> str:
    """Path of the compiled library in the cache, built if it is not there yet; it is not loaded."""
    compiler = find_compiler()
    command = compile_command(compiler, sources)
    file_name = f'{name}-{cache_key(compiler, command, sources)}.so'
    ready = os.path.join(config.OP_CACHE_DIR, file_name)
    if os.path.exists(ready):       # whoever can read it need not be able to write there
        return ready
    path = os.path.join(_writable_cache(), file_name)
    with _lock(path + '.lock'):
        if not os.path.exists(path):        # nobody built it while we waited for the lock
            _build(name, command, path)
    return path


def find_compiler() -> List[str]:
    """The C++ compiler as a list of words: environment variable CXX if set, else the first of COMPILERS found."""
    try:
        named = shlex.split(os.environ.get('CXX', ''))
    except ValueError as error:
        raise UserError(f'CXX={os.environ["CXX"]}: not a command ({error}); name a C++ compiler there')
    for words in [named] if named else [[compiler] for compiler in COMPILERS]:
        if shutil.which(words[0]):
            return words
    missing = f'CXX={os.environ["CXX"]}' if named else ', '.join(COMPILERS)
    raise UserError(f'no C++ compiler found (looked for {missing}), and C++ ops must be compiled once: install '
                    'one (Debian and Ubuntu: apt-get install g++; conda: conda install gxx; macOS: xcode-select '
                    '--install) or name it in the environment variable CXX')


def compile_command(compiler: Sequence[str], sources: Sequence[str]) -> List[str]:
    """The whole command as a list of words, without the output file."""
    flags = tf.sysconfig.get_compile_flags()
    if not any('-std=' in flag for flag in flags):
        flags = flags + ['-std=c++11']
    return list(compiler) + list(FLAGS) + ['-I' + HEADERS] + flags + list(sources) + tf.sysconfig.get_link_flags()


def cache_key(compiler: Sequence[str], command: Sequence[str], sources: Sequence[str]) -> str:
    """Hash of everything that changes the binary: sources, headers, command, versions of TensorFlow and compiler.

    Not where the sources lie: two copies of this code share one library.
    """
    key = hashlib.sha256()
    folders = {HEADERS, *map(os.path.dirname, sources)}
    headers = [header for folder in folders for header in glob.glob(os.path.join(folder, '*.h'))]
    for path in list(sources) + sorted(headers):
        with open(path, 'rb') as file:
            key.update(hashlib.sha256(file.read()).digest())
    version = subprocess.run(list(compiler) + ['--version'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    words = [word for word in command if word not in sources and word != '-I' + HEADERS]
    for part in (' '.join(words), tf.__version__, str(tf.sysconfig.get_lib()), os.uname().machine):
        key.update(part.encode() + b'\0')
    key.update(version.stdout)
    return key.hexdigest()[:20]


def _load(name, sources):
    path = library_path(name, sources)
    try:
        return tf.load_op_library(path)
    except tf.errors.NotFoundError as first:    # TensorFlow's error for whatever the loader cannot take
        _say(f'{path} does not load and is built again ({_first_line(first)})')
        with contextlib.suppress(OSError):
            os.remove(path)
        try:
            return tf.load_op_library(library_path(name, sources))
        except tf.errors.NotFoundError as second:
            raise UserError(f'{path} does not load ({_first_line(second)}) and cannot be replaced; remove it, or name '
                            'another folder in DISCO_OP_CACHE_DIR')


def _first_line(error):
    return str(error).splitlines()[0]


def _build(name, command, path):
    started = time.time()
    _say(f'building {name} with {command[0]} for TensorFlow {tf.__version__} (once, well under a minute) ...')
    with atomic_path(path) as temporary:
        words = command + ['-o', temporary]
        result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode != 0:
            raise UserError(f'compiling {name} failed with exit code {result.returncode}; command:',
                            ' '.join(map(shlex.quote, words)), 'output:',
                            *result.stdout.decode('utf-8', 'replace').splitlines())
    _say(f'built {name} in {time.time() - started:.0f} s: {path}')


def _writable_cache():
    """config.OP_CACHE_DIR, or a folder of this user's own among the temporary files where that cannot be written."""
    with contextlib.suppress(OSError):
        os.makedirs(config.OP_CACHE_DIR, exist_ok=True)
        with tempfile.TemporaryFile(dir=config.OP_CACHE_DIR):
            return config.OP_CACHE_DIR
    folder = os.path.join(tempfile.gettempdir(), f'discofacegan-ops-{os.getuid()}')
    with contextlib.suppress(OSError):
        os.mkdir(folder, 0o700)
    # Libraries are executed: take none from a folder that somebody else could have filled.
    try:
        status = os.lstat(folder)
        is_ours = os.path.isdir(folder) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    except OSError:
        is_ours = False
    if is_ours and not os.path.islink(folder):
        return folder
    return tempfile.mkdtemp(prefix='discofacegan-ops-')


@contextlib.contextmanager
def _lock(path):
    """Holds an exclusive lock on file `path`; where there are no locks, or the file is somebody else's, two builds may
    run side by side.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            file = held.enter_context(open(path, 'w'))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _say(message):
    print(f'custom op: {message}', file=sys.stderr, flush=True)
