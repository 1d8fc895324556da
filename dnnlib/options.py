"""Options without TensorFlow: a parser and number types for it; each mistake is refused in one line."""

import argparse
import math
from typing import Any, Callable

from dnnlib.util import UserError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line, raised as UserError."""

    def error(self, message: str) -> Any:
        """Raise the complaint instead of printing the whole usage."""
        raise UserError(f'{message} (see {self.prog} --help)')


def whole(low: float, high: float = math.inf) -> Callable[[str], int]:
    """A type for argparse: whole numbers from `low` to `high`."""
    return _number(int, 'a whole number', low, high, False)


def real(low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A type for argparse: finite numbers from `low` to `high`; with `above`, `low` itself is refused."""
    return _number(float, 'a number', low, high, above)


def _number(kind, word, low, high, above):
    limits = f'above {low}' if above else f'from {low}'
    limits += f' to {high}' if high != math.inf else '' if above else ' on'

    def parse(text):
        try:
            value = kind(text if text.isascii() and '_' not in text else '')        # Python takes 1_5 and other scripts
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r} is not {word} {limits}')
        if not low <= value <= high or abs(value) == math.inf or above and value == low:
            raise argparse.ArgumentTypeError(f'{text} is out of range: expected {word} {limits}')
        return value
    return parse


SEED = whole(0, 2 ** 32 - 1)        # what NumPy takes
