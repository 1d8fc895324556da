"""Utilities that know nothing of faces."""

from .util import EasyDict, UserError  # noqa: F401
