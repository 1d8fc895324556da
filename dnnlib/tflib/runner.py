"""A graph with a session of its own: build it, run arrays through it in batches, close it."""

import contextlib
from typing import Any, Dict, Iterator, Optional

import numpy as np

from dnnlib.tflib import tfutil
from dnnlib.tflib.compat import tf


class GraphRunner:
    """A graph and its session; several may live side by side. Use it in `with`, or call `close`.

    threads, precision: as for tfutil.create_session.
    A subclass builds its graph in `with self.building():`.
    """

    def __init__(self, threads: Optional[int] = None, precision: str = 'float32') -> None:
        self.precision = precision
        self.graph = tf.Graph()
        self.session: Any = tfutil.create_session(threads, self.graph, precision=precision)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """This graph and session are the default ones in the block, whatever is open outside."""
        if self.session is None:
            raise RuntimeError(f'this {type(self).__name__} is closed')
        with self.graph.as_default(), self.session.as_default():
            yield

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """As `active`; what goes wrong in the block closes the runner."""
        try:
            with self.active():
                yield
        except BaseException:
            self.close()
            raise

    def run(self, fetches: Any, arrays: Dict[Any, np.ndarray], batch: int = 8,
            same: Optional[Dict[Any, Any]] = None) -> Any:
        """`fetches` for all rows of `arrays`, `batch` rows in a session run.

        fetches: a tensor, or a list, tuple or dict of them; each is joined along its first axis.
        arrays: {placeholder: array [N, ...]}, one N from 1 on. same: {placeholder: value} of every run.
        """
        if self.session is None:
            raise RuntimeError(f'this {type(self).__name__} is closed')
        count = len(next(iter(arrays.values())))
        parts = []
        for start in range(0, count, batch):
            feed = {tensor: array[start:start + batch] for tensor, array in arrays.items()}
            feed.update(same or {})
            parts.append(self.session.run(fetches, feed))
        return _joined(parts)

    def close(self) -> None:
        """Give back memory and devices; closing twice is harmless."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def __enter__(self) -> 'GraphRunner':
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _joined(parts):
    """Results of several runs -> the same structure of arrays, joined along their first axis."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)):
        return [_joined(list(values)) for values in zip(*parts)]
    return first if len(parts) == 1 else np.concatenate(parts)
