"""Optimiser over copies of a network on several devices: mean gradients, no update where one of them is not finite.

Every copy starts equal and gets the same mean gradients, so copies and their optimiser states stay equal.
"""

from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from dnnlib.tflib.compat import tf

AllReduce = Callable[[Sequence[Sequence[Any]]], Sequence[Sequence[Any]]]


def mean_of_towers(towers: Sequence[Sequence[Any]]) -> List[List[Any]]:
    """For each tower a list of tensors -> the same for all: means over the towers of this process, added in order."""
    means = [tf.add_n(list(parts)) / len(towers) if len(towers) > 1 else parts[0] for parts in zip(*towers)]
    return [means for _ in towers]


class _Copy(NamedTuple):
    """What the optimiser keeps for one device."""

    variables: 'OrderedDict[str, Any]'
    method: Any             # tf.train.Optimizer
    overflow_count: Any
    overflow_streak: Any


class Optimizer:
    """Adam, or plain gradient descent, over equal copies of the same variables.

    For each objective: `register` every device's loss, then `apply`, which gives the op that makes one step. Several
    objectives may follow each other (in the graph) and share the state: only one of their ops is to be run at a time.

    name: of the state's variables. learning_rate: number or scalar tensor. method: 'adam' or 'sgd'; the betas and
    epsilon are Adam's. overflow_count: int64 variable, number of steps left out because of a gradient that was not
    finite; overflow_streak: the same since the last step that was made.
    """

    def __init__(self, name: str, learning_rate: Any, method: str = 'adam', beta1: float = 0.0, beta2: float = 0.99,
                 epsilon: float = 1e-8) -> None:
        if method not in ('adam', 'sgd'):
            raise ValueError(f'method {method!r}: adam or sgd expected')
        self.name = name
        self._make: Callable[[], Any] = lambda: (
            tf.train.AdamOptimizer(learning_rate, beta1, beta2, epsilon, name=name) if method == 'adam'
            else tf.train.GradientDescentOptimizer(learning_rate, name=name))
        self._copies: List[_Copy] = []
        self._registered: List[List[Any]] = []      # gradients by device
        self._kept: List[List[Any]] = []            # variables by device, see `accumulate`
        self._emptying = False

    # In the graph.

    def register(self, loss: Any, variables: Dict[str, Any]) -> List[Any]:
        """Gradients of a device's scalar `loss` by its own `variables` {local name: variable}, in that order.

        Call it once for each device, always in the same order. A variable that the loss does not depend on has zeros.
        Raises ValueError when the i-th device comes with other variables than before.
        """
        index = len(self._registered)
        if index == len(self._copies):
            if self._copies and list(variables) != list(self._copies[0].variables):
                raise ValueError(f'optimizer {self.name}: the copies have different variables')
            self._copies.append(self._new_copy(variables))
        if any(a is not b for a, b in zip(variables.values(), self._copies[index].variables.values())):
            raise ValueError(f'optimizer {self.name}: device {index} was registered with other variables before')
        targets = list(variables.values())
        gradients = tf.gradients(loss, targets, colocate_gradients_with_ops=True)
        with tf.device(targets[0].device):
            gradients = [tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                         for g, v in zip(gradients, targets)]
        self._registered.append(gradients)
        return gradients

    def accumulate(self, runs: int) -> Any:
        """An op that only keeps the gradients registered since the last `apply`; the next one steps with their mean.

        runs: of the session for a step: `runs - 1` of the op returned here, then one of the step.
        """
        ops = []
        for i, gradients in enumerate(self._registered):
            variables = list(self._copies[i].variables.values())
            with tf.device(variables[0].device):
                if i == len(self._kept):
                    with tf.control_dependencies(None):
                        self._kept.append([tf.Variable(tf.zeros(v.shape), trainable=False, name=f'{self.name}/kept')
                                           for v in variables])
                ops += [tf.assign_add(kept, g / runs) for kept, g in zip(self._kept[i], gradients)]
                self._registered[i] = [kept + g / runs for kept, g in zip(self._kept[i], gradients)]
        self._emptying = True
        return tf.group(*ops)

    def apply(self, all_reduce: Optional[AllReduce] = None) -> Any:
        """The op that makes one step with the losses registered since the last call.

        all_reduce: turns [device][variable] gradients into their means over all replicas, in the same structure, e.g.
        Cluster.all_reduce; default: `mean_of_towers`. A gradient that is not finite anywhere makes its mean so
        everywhere, so that all devices leave the step out alike.
        """
        if len(self._registered) != len(self._copies) or not self._copies:
            raise ValueError(f'optimizer {self.name}: {len(self._registered)} losses registered for '
                             f'{len(self._copies)} devices')
        with tf.name_scope(self.name):
            means = (all_reduce or mean_of_towers)(self._registered)
            updates = [self._update(copy, list(mine)) for copy, mine in zip(self._copies, means)]
            if self._emptying:
                with tf.control_dependencies(updates):
                    updates = [tf.assign(v, tf.zeros(v.shape)) for kept in self._kept for v in kept]
        self._registered, self._emptying = [], False
        return tf.group(*updates)

    def reset_state(self) -> Any:
        """An op that makes the state new: Adam's moments and step count (not the counters of left-out steps)."""
        return tf.group(*[v.initializer for copy in self._copies for v in copy.method.variables()])

    # For checkpoints.

    def state_variables(self, device: int = 0) -> 'OrderedDict[str, Any]':
        """{stable name: variable} of the state on one device: all that a run needs to go on as if never interrupted."""
        copy = self._copies[device]
        state = OrderedDict([('overflow_count', copy.overflow_count), ('overflow_streak', copy.overflow_streak)])
        slots = set()
        for local, variable in copy.variables.items():
            for slot in copy.method.get_slot_names():
                state[f'{local}/{slot}'] = copy.method.get_slot(variable, slot)
                slots.add(state[f'{local}/{slot}'].name)
        others = [v for v in copy.method.variables() if v.name not in slots]        # powers of Adam's betas
        for variable in others:
            leaf = variable.op.name.rpartition('/')[2]
            state['_'.join(leaf.split('_')[:2])] = variable                        # without the number of the copy
        return state

    @property
    def num_devices(self) -> int:
        """Number of copies."""
        return len(self._copies)

    @property
    def overflow_count(self) -> Any:
        """The first device's counter of left-out steps."""
        return self._copies[0].overflow_count

    @property
    def overflow_streak(self) -> Any:
        """The first device's counter of left-out steps since the last that was made."""
        return self._copies[0].overflow_streak

    def _new_copy(self, variables: Dict[str, Any]) -> _Copy:
        with tf.control_dependencies(None), tf.device(next(iter(variables.values())).device):
            counters = [tf.Variable(0, trainable=False, dtype=tf.int64, name=f'{self.name}/{leaf}')
                        for leaf in ('overflow_count', 'overflow_streak')]
        return _Copy(OrderedDict(variables), self._make(), *counters)

    @staticmethod
    def _update(copy: _Copy, means: List[Any]) -> Any:
        """A step on one device, or a count of one that is left out."""
        variables = list(copy.variables.values())

        def step() -> Any:
            made = copy.method.apply_gradients(zip(means, variables))
            return tf.group(made, tf.assign(copy.overflow_streak, 0))

        def leave_out() -> Any:
            return tf.group(tf.assign_add(copy.overflow_count, 1), tf.assign_add(copy.overflow_streak, 1))

        with tf.device(variables[0].device):
            finite = tf.reduce_all(tf.stack([tf.reduce_all(tf.is_finite(g)) for g in means]))
            return tf.cond(finite, step, leave_out)
