"""Where a command may write: outputs lie apart from inputs, and nothing is replaced but what a command made itself.

What was made in a folder stands in its record, made.jsonl: a line for each result, with what it was made from.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

from dnnlib.util import UserError, write_atomic

RECORD = 'made.jsonl'
_CHUNK = 1 << 20

Named = Mapping[str, Optional[str]]         # {what the user calls it, such as '--input': path, or None}


# ------------------------------------------------------------------------------------------------ apart

def real(path: str) -> str:
    """The path without links, '.' and '..', in the letters' case that the system compares."""
    return os.path.normcase(os.path.realpath(path))


def same(a: str, b: str) -> bool:
    """Whether two paths lead to one file or folder: by name, by a link, by another mount or a hard link."""
    if real(a) == real(b):
        return True
    try:
        return os.path.samefile(a, b)
    except OSError:             # one of them is not there
        return False


def inside(path: str, folder: str) -> bool:
    """Whether a path, which need not exist, is the folder or lies anywhere in it."""
    path, last = os.path.realpath(path), None
    while path != last:
        if same(path, folder):
            return True
        path, last = os.path.dirname(path), path
    return False


def check_apart(inputs: Named, outputs: Named) -> None:
    """UserError when an output is one and the same file or folder as an input; call it before any work.

    Folders inside one another are allowed: what is written there has names of its own, and `Record.put` replaces
    nothing that it did not make.
    """
    for output, target in outputs.items():
        for name, source in inputs.items():
            if source and target and same(source, target):
                raise UserError(f'{output} {target} is the same place as {name} {source}: results would be written '
                                'over what they are made from; choose another place')


# ------------------------------------------------------------------------------------------------ contents

class Content(NamedTuple):
    """What a file held: `digest` of its bytes; size and times, by which an unchanged file is known without reading."""
    size: int
    modified: int
    changed: int
    digest: Optional[str]


def digest(data: bytes) -> str:
    """32 hexadecimal digits that tell contents apart."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _stamp(about: os.stat_result) -> Tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def read(path: str) -> Tuple[bytes, Content]:
    """The bytes of a file and its Content; the times are those before reading. Raises OSError."""
    with open(path, 'rb') as file:
        stamp = _stamp(os.fstat(file.fileno()))
        data = file.read()
    return data, Content(*stamp, digest=digest(data))


def content(path: str) -> Content:
    """The Content of a file of any size. Raises OSError."""
    found = hashlib.blake2b(digest_size=16)
    with open(path, 'rb') as file:
        stamp = _stamp(os.fstat(file.fileno()))
        for chunk in iter(lambda: file.read(_CHUNK), b''):
            found.update(chunk)
    return Content(*stamp, digest=found.hexdigest())


# ------------------------------------------------------------------------------------------------ records

class InTheWay(UserError):
    """A file that was not made here is where a result should be."""


class Made(NamedTuple):
    """One line of a record. files: {path in the folder: digest}; sources: {what: Content}; settings: {what: text}."""
    files: Dict[str, Optional[str]]
    sources: Dict[str, Content]
    settings: Dict[str, str]


class Record:
    """What was made in `folder`, by the results' names. Attributes: folder, made {name: Made}, there (bool).

    A run that is killed leaves at most a line whose files are not there: such a result is not done, but its files are
    known as ours. A broken line counts for nothing.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.made: Dict[str, Made] = {}
        self._digests: Dict[str, Set[Optional[str]]] = {}
        self.there = os.path.exists(os.path.join(folder, RECORD))
        try:
            with open(os.path.join(folder, RECORD), encoding='utf-8', errors='replace') as file:
                for line in file:
                    self._take(line)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(f'{os.path.join(folder, RECORD)}: cannot be read ({error.strerror}); it says what was made '
                            'there: mend that, or choose another place')

    def _take(self, line: str) -> None:
        try:
            name, made = _parse(json.loads(line))
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return
        self._remember(name, made)

    def _remember(self, name: str, made: Made) -> None:
        self.made[name] = made
        for file, value in made.files.items():
            self._digests.setdefault(file, set()).add(value)

    def known(self, files: Any) -> Dict[str, List[Optional[str]]]:
        """{file: digests it had when it was made here, in any run}; None among them: whatever it holds is ours."""
        return {file: sorted(self._digests.get(file, ()), key=str) for file in files}

    def owns(self, file: str) -> bool:
        """Whether a path in the folder holds what was made here; so no, when a user changed or replaced it."""
        return _ours(self.folder, file, self._digests.get(file, ()))

    def why_again(self, name: str, sources: Mapping[str, str], settings: Mapping[str, str]) -> Optional[str]:
        """None when result `name` is there and belongs to these; else why it must be made (again).

        sources: {what: path}, for example {'landmarks': 'a.txt'}; settings: {what: text}. A file whose size and times
        are the recorded ones is not read.
        """
        made = self.made.get(name)
        if made is None:
            return 'new'
        if not all(os.path.isfile(os.path.join(self.folder, file)) for file in made.files):
            return 'not finished'
        others = sorted(what for what in set(made.settings) | set(settings)
                        if made.settings.get(what) != settings.get(what))
        if others:
            return f'other {" and ".join(others)}'
        now = {what: _unchanged(path, made.sources.get(what)) for what, path in sources.items()}
        changed = sorted(what for what in set(made.sources) | set(now) if now.get(what) is None)
        if changed:
            return f'{" and ".join(changed)} changed'
        if now != made.sources:             # the same bytes under other times: not to be read again the next time
            self.adopt({name: Made(made.files, now, made.settings)})
        return None

    def put(self, name: str, files: Mapping[str, bytes], sources: Mapping[str, Content],
            settings: Mapping[str, str]) -> None:
        """Write the files of result `name`, in their order, and remember what they were made from.

        files: {path in the folder, with /: content}. InTheWay, and nothing is written, where a file is in the way
        that was not made here.
        """
        line = Made({file: digest(data) for file, data in files.items()}, dict(sources), dict(settings))
        put(self.folder, name, files, line, self.known(files))
        self._remember(name, line)

    def adopt(self, results: Mapping[str, Made]) -> None:
        """Remember results {name: Made} whose files are there already, written by other means; in one go.

        A digest of None says that a file counts as made here whatever it holds.
        """
        _append(self.folder, results)
        for name, made in results.items():
            self._remember(name, made)

    def begin(self) -> None:
        """Have a record in the folder from now on, be it an empty one."""
        if not self.there:
            _append(self.folder, {})
            self.there = True

    def remove(self, file: str) -> bool:
        """Remove a path in the folder if it holds what was made here -> whether it did."""
        if not self.owns(file):
            return False
        remove_file(os.path.join(self.folder, file))
        return True


def put(folder: str, name: str, files: Mapping[str, bytes], made: Made, known: Mapping[str, Any]) -> None:
    """As `Record.put`, without the whole record: for worker processes. known: of `Record.known`."""
    in_the_way = [file for file in files if os.path.lexists(os.path.join(folder, file))]
    for file in in_the_way:
        if not _ours(folder, file, known.get(file, ())):
            raise InTheWay(f'{os.path.join(folder, file)}: there already, and not as this program made it; move it '
                            'away, or choose another place')
    for file in reversed(in_the_way):       # the last file says that a result is whole: it goes first
        remove_file(os.path.join(folder, file))
    _append(folder, {name: made})
    written = []
    try:
        for file, data in files.items():
            write_atomic(os.path.join(folder, file), data)
            written.append(file)
    except BaseException:
        for file in written:
            os.remove(os.path.join(folder, file))
        raise


def remove_file(path: str) -> None:
    """Remove a file of ours. UserError where the system does not allow it."""
    try:
        os.remove(path)
    except OSError as error:
        raise UserError(f'{path}: cannot be replaced ({error.strerror})') from error


def _ours(folder: str, file: str, digests: Any) -> bool:
    path = os.path.join(folder, file)
    if not digests or os.path.islink(path) or not os.path.isfile(path):
        return False
    try:
        return None in digests or content(path).digest in digests
    except OSError:
        return False


def _unchanged(path: str, before: Optional[Content]) -> Optional[Content]:
    """The Content of a file if it holds what it held, else None."""
    try:
        stamp = _stamp(os.stat(path))
        if before is None or stamp == before[:3]:
            return before
        now = content(path) if before.digest and stamp[0] == before.size else None
    except OSError:
        return None
    return now if now and now.digest == before.digest else None


def _parse(value: Any) -> Tuple[str, Made]:
    sources = {str(what): Content(*[int(n) for n in stamp[:3]], digest=_text(stamp[3]))
               for what, stamp in value['from'].items()}
    files = {str(file): _text(found) for file, found in value['files'].items()}
    return str(value['name']), Made(files, sources, {str(k): str(v) for k, v in value['with'].items()})


def _text(value: Any) -> Optional[str]:
    return None if value is None else str(value)


def _append(folder: str, results: Mapping[str, Made]) -> None:
    """One write at the end of the file, so that several processes may do it; empty lines around a torn one."""
    lines = ['\n']
    for name, made in results.items():
        value = {'name': name, 'files': made.files, 'from': made.sources, 'with': made.settings}
        lines.append(json.dumps(value, separators=(',', ':')) + '\n')
    path = os.path.join(folder, RECORD)
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, 'ab', buffering=0) as file:
            file.write(''.join(lines).encode('ascii'))
    except OSError as error:
        raise UserError(f'{path}: could not be written ({error.strerror})') from error


# ------------------------------------------------------------------------------------------------ whole folders

_OF_SYSTEMS = ('lost+found', '.DS_Store', 'Thumbs.db')


@contextlib.contextmanager
def filling(folder: str, replaceable: Callable[[str], bool] = lambda name: False) -> Iterator[str]:
    """Fill a folder, which may be there, a link or a mount point, so that it holds all the new files or none of them.

    Yields a temporary folder to write files into. A folder that is not there appears whole. In one that is, they are
    renamed into their places one by one at the end; the files there that are `replaceable` (name -> bool) go then, and
    UserError, at once, where it holds any other.
    """
    check_fillable(folder, replaceable)
    there = os.path.isdir(folder)
    parent = folder if there else os.path.dirname(os.path.abspath(folder))
    try:
        os.makedirs(parent, exist_ok=True)
        holder = tempfile.mkdtemp(prefix='.tmp-', dir=parent)
    except OSError as error:
        raise UserError(f'{folder}: cannot be written ({error.strerror}); free the place or choose another') from error
    try:
        new, old = os.path.join(holder, 'new'), os.path.join(holder, 'old')
        os.mkdir(new)
        os.mkdir(old)
        yield new
        check_fillable(folder, replaceable)         # the work may have taken hours
        if there:
            _exchange(folder, new, old)
        else:
            os.rename(new, folder)
    except OSError as error:
        raise UserError(f'{folder}: could not be written ({error.strerror}); nothing was left behind') from error
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def check_fillable(folder: str, replaceable: Callable[[str], bool]) -> None:
    """UserError when `folder` is no folder, or holds what is not `replaceable`."""
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder):
        raise UserError(f'{folder}: no folder, but in its place; choose another name')
    try:
        others = [name for name in _listed(folder) if not replaceable(name)]
    except OSError as error:
        raise UserError(f'{folder}: cannot be listed ({error.strerror}); choose another place')
    if others:
        raise UserError(f'{folder}: there already and not an empty folder; it holds {others[0]}, which was not made '
                        'here by this command; choose a new or empty folder')


def _listed(folder: str) -> List[str]:
    """What counts in a folder: not what systems put there, nor what killed runs or runs beside this one left."""
    return sorted(name for name in os.listdir(folder) if name not in _OF_SYSTEMS and not name.startswith('.tmp-'))


def _exchange(folder: str, new: str, old: str) -> None:
    """The files of `folder` to `old`, those of `new` to `folder`; back again when that fails."""
    moves = [(folder, name, old) for name in _listed(folder)]
    moves += [(new, name, folder) for name in os.listdir(new)]
    done: List[Tuple[str, str, str]] = []
    try:
        for start, name, end in moves:
            os.rename(os.path.join(start, name), os.path.join(end, name))
            done.append((start, name, end))
    except BaseException:
        for start, name, end in reversed(done):
            os.rename(os.path.join(end, name), os.path.join(start, name))
        raise
