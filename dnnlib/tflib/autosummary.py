"""Means of named numbers between two looks at them, and TensorBoard's event files."""

import math
from collections import OrderedDict
from typing import Any, Callable, Dict

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf
from dnnlib.util import UserError


class Means:
    """Collects numbers by name; reporting returns what is reported, so that it can stand inside an expression."""

    def __init__(self) -> None:
        self._sums: Dict[str, Any] = OrderedDict()      # name -> [sum, count] of the finite ones

    def report(self, name: str, value: float) -> float:
        """Add a number; one that is not finite would drown all others and is left out of the mean."""
        entry = self._sums.setdefault(name, [0.0, 0])
        if math.isfinite(value):
            entry[0] += float(value)
            entry[1] += 1
        return value

    def report_all(self, values: Dict[str, float]) -> Dict[str, float]:
        """`report` for each item."""
        for name, value in values.items():
            self.report(name, value)
        return values

    def collect(self) -> Dict[str, float]:
        """{name: mean since the last call}, NaN where nothing was finite; counting starts anew."""
        means = OrderedDict((name, total / count if count else math.nan) for name, (total, count) in self._sums.items())
        self._sums = OrderedDict()
        return means

    def state(self) -> Dict[str, Any]:
        """What `restore` takes; JSON can hold it."""
        return {name: list(entry) for name, entry in self._sums.items()}

    def restore(self, state: Dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._sums = OrderedDict((name, list(entry)) for name, entry in state.items())


class Events:
    """Writes scalars and pictures for TensorBoard into a folder; adds nothing to the graph.

    What an earlier run of that folder wrote for `first_step` and later is not shown any more: it happens again.
    """

    def __init__(self, folder: str, first_step: int = 0) -> None:
        self._writer = tf.summary.FileWriter(folder)
        if first_step:
            self._writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), first_step)

    def scalars(self, values: Dict[str, float], step: int) -> None:
        """{name: number} at a step."""
        summary = [tf.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._writer.add_summary(tf.Summary(value=summary), step)

    def picture(self, name: str, png: bytes, width: int, height: int, step: int) -> None:
        """A PNG file's content at a step."""
        image = tf.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag=name, image=image)]), step)

    def flush(self) -> None:
        """Have everything on disk. UserError when that fails, e.g. on a full disk."""
        self._try(self._writer.flush)

    def close(self) -> None:
        """Flush and close. UserError as `flush`."""
        self._try(self._writer.close)

    @staticmethod
    def _try(write: Callable[[], Any]) -> None:
        try:
            write()
        except (OSError, RuntimeError, LookupError, tf.errors.OpError) as error:    # it depends on the TensorFlow
            raise UserError(f'TensorBoard events could not be written ({tfutil.first_words(error)}); free some '
                            'space') from error
