"""Utilities that know nothing of faces. In a script of this project Ctrl-C during the imports leaves no traceback."""

import os as _os
import sys as _sys


def _end_quietly(kind, error, trace):
    """As sys.excepthook: Ctrl-C where `util.run_main` does not see it yet."""
    if not issubclass(kind, KeyboardInterrupt):
        _sys.__excepthook__(kind, error, trace)
        return
    print('interrupted', file=_sys.stderr, flush=True)
    _os._exit(130)


_script = getattr(_sys.modules['__main__'], '__file__', None) or ''
if _os.path.abspath(_script).startswith(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))) + _os.sep):
    _sys.excepthook = _end_quietly

from .util import EasyDict, UserError  # noqa: E402, F401
