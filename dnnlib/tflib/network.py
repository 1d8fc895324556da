"""Networks: a named build function, its variables and its components; build, run, clone, average, state.

A saved network names its build function; we look that name up among the functions registered here, by whoever imported
their module. Source text that a file may carry is never executed.
"""

import importlib
import inspect
from collections import OrderedDict
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from dnnlib.tflib import layers, tfutil
from dnnlib.tflib.compat import tf
from dnnlib.tflib.pickles import NetworkState
from dnnlib.util import EasyDict, UserError, listed, shown

STATE_VERSION = 3

_MAX_VALUES = 1 << 28       # of one network's own variables; a 1024x1024 generator has 26 million

# Keyword arguments that Network itself hands to every build function.
_FRAMEWORK_KWARGS = ('components', 'is_template_graph')


class _Builder(NamedTuple):
    func: Callable[..., Any]
    inputs: List[str]           # positional parameters without default: the network's inputs
    options: List[str]          # parameters with default
    family: Tuple[str, ...]     # functions whose options are accepted too, because they share one dict
    components: Dict[str, str]  # name -> build function of the sub-networks


_builders: Dict[str, _Builder] = {}


def register_build_func(shares_options_with: Tuple[str, ...] = (),
                        components: Optional[Dict[str, str]] = None) -> Callable[[Any], Any]:
    """Decorator: make a function known as a build function under its own name.

    Its parameters without default are the network's inputs, tensors [N, ...]; those with default are its options.
    It also takes `components`, an EasyDict to fill with the sub-networks named here (name -> build function) that are
    not in it yet, and `is_template_graph`; it returns one tensor or a tuple. Options of the functions named in
    `shares_options_with` are accepted and left to them: such a function takes `**_others`.
    """
    def register(func: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(inspect.signature(func).parameters.values())
        named = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.name not in _FRAMEWORK_KWARGS]
        inputs = [p.name for p in named if p.default is p.empty]
        options = [p.name for p in named if p.default is not p.empty]
        _builders[func.__name__] = _Builder(func, inputs, options, tuple(shares_options_with),
                                            components or {})
        return func
    return register


def _find_builder(func_name: str) -> Tuple[str, _Builder]:
    """'package.module.function' or 'function' -> registered name, builder. UserError for an unknown one."""
    module, _, name = func_name.rpartition('.')
    builder = _builders.get(name)
    if builder is None or module not in ('', builder.func.__module__):
        raise UserError(f'network build function {shown(func_name)} is unknown: expected one of '
                        f'{", ".join(sorted(_builders))}; source text inside a file is never executed')
    return name, builder


def _build_module_src(builder: _Builder) -> str:
    """An old installation executes this text to find a network's build function, and so takes its own."""
    module = builder.func.__module__
    names = sorted(name for name, other in _builders.items() if other.func.__module__ == module)
    return f'from {module} import {", ".join(names)}\n'


def _check_options(name: str, builder: _Builder, options: Dict[str, Any]) -> None:
    known = set(builder.options).union(*(_builders[other].options for other in builder.family))
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(f'{name}: unknown option {listed(unknown)}; it takes {", ".join(sorted(known))}')


def options_of(state: NetworkState) -> Dict[str, Any]:
    """All options of a stored network, defaults included, without building it. UserError: unknown build function."""
    _, builder = _find_builder(state.build_func_name)
    options: Dict[str, Any] = {}
    for other in [_builders[name] for name in builder.family] + [builder]:
        options.update((name, inspect.signature(other.func).parameters[name].default) for name in other.options)
    options.update(state.static_kwargs)
    return options


def _check_components(name: str, builder: _Builder, options: Dict[str, Any], states: Dict[str, NetworkState]) -> None:
    for key, state in states.items():
        if builder.components.get(key) != state.build_func_name:
            raise UserError(f'network {name!r}: stored component {key} ({state.build_func_name}) is unknown; it has '
                            f'{", ".join(f"{k} ({v})" for k, v in builder.components.items()) or "none"}')
        different = [k for k, v in state.static_kwargs.items() if k in options and _key(options[k]) != _key(v)]
        if different:
            raise UserError(f'network {name!r}: its stored component {key} has other values of {listed(different)} '
                            'than the network itself; the file is inconsistent')


def _key(value: Any) -> Any:
    """A hashable stand-in for an argument, equal for equal arguments."""
    if isinstance(value, dict):
        return tuple((k, _key(v)) for k, v in sorted(value.items()))
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    return value


def _size(variable: Any) -> int:
    return variable.shape.num_elements()


class _RunGraph(NamedTuple):
    inputs: List[Any]
    outputs: List[Any]


class Network:
    """A network of the default graph with its variables; needs a default session.

    func_name: a registered build function, plain, or with its module, which is then imported ('package.module.name').
    static_kwargs: its options, stored with the network.

    Attributes: name, static_kwargs, components (EasyDict of Networks), input_names, input_shapes and output_shapes
    (lists with None for the batch), num_inputs, num_outputs, and the variables by local name in build order:
    own_vars ('lod'), vars (own ones, then `mapping/Dense0/weight` of component `mapping`), trainables (of vars).
    """

    def __init__(self, name: str, func_name: str, **static_kwargs: Any) -> None:
        tfutil.assert_tf_initialized()
        if '.' in func_name:
            importlib.import_module(func_name.rpartition('.')[0])       # ours: names from files do not come here
        self._build(name, func_name, static_kwargs, {})
        self.reset_own_vars()

    # ---- building

    def _build(self, name: str, func_name: str, static_kwargs: Dict[str, Any],
               component_states: Dict[str, NetworkState]) -> None:
        """Make the variables, and a template graph that tells the shapes of the outputs."""
        self.build_func_name, self._builder = _find_builder(func_name)
        _check_options(f'network {name!r} ({self.build_func_name})', self._builder, static_kwargs)
        _check_components(name, self._builder, static_kwargs, component_states)
        self.name = name
        self.static_kwargs = EasyDict(static_kwargs)
        self.components = EasyDict()
        self._run_cache: Dict[Any, _RunGraph] = {}
        with tf.control_dependencies(None), tf.variable_scope(self._free_scope(name)) as self._scope:
            for key, state in component_states.items():
                self.components[key] = Network.from_state(state)
            self.input_names = list(self._builder.inputs)
            placeholders = [tf.placeholder(tf.float32, name=key) for key in self.input_names]
            with layers.use_ops(False):     # first weights depend on the number of ops before them
                outputs = self._call(placeholders, {}, is_template_graph=True)
        self._collect_vars()
        self.input_shapes = [x.shape.as_list() for x in placeholders]
        self.output_shapes = [y.shape.as_list() for y in outputs]
        self.num_inputs, self.num_outputs = len(placeholders), len(outputs)

    @staticmethod
    def _free_scope(name: str) -> str:
        """A variable scope for a network of this name, relative to the present one, that holds nothing yet."""
        parent = tf.get_variable_scope().name
        prefix = parent + '/' if parent else ''
        taken = {v.name for v in tf.global_variables()}
        wanted = name = name.replace(' ', '_').replace('/', '_')
        number = 0
        while any(other.startswith(f'{prefix}{name}/') for other in taken):
            number += 1
            name = f'{wanted}_{number}'
        return name

    def _call(self, inputs: List[Any], dynamic_kwargs: Dict[str, Any], is_template_graph: bool) -> List[Any]:
        kwargs = dict(self.static_kwargs, **dynamic_kwargs)
        outputs = self._builder.func(*inputs, components=self.components, is_template_graph=is_template_graph, **kwargs)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]

    def _collect_vars(self) -> None:
        prefix = self._scope.name + '/'
        nested = {v.name for component in self.components.values() for v in component.vars.values()}
        self.own_vars = OrderedDict((v.name[len(prefix):].partition(':')[0], v) for v in tf.global_variables()
                                    if v.name.startswith(prefix) and v.name not in nested)
        self.vars = OrderedDict(self.own_vars)
        for key, component in self.components.items():
            self.vars.update((f'{key}/{local}', v) for local, v in component.vars.items())
        self.trainables = OrderedDict((local, v) for local, v in self.vars.items() if v.trainable)
        values = sum(_size(v) for v in self.own_vars.values())
        if values > _MAX_VALUES:
            raise UserError(f'network {self.name!r} would hold {values} values; at most {_MAX_VALUES} are supported')

    def get_output_for(self, *inputs: Any, return_as_list: bool = False, **dynamic_kwargs: Any) -> Any:
        """Evaluate on tensors with the network's own variables -> a tensor, or a list of them.

        inputs: tensors [N, ...] in the order of input_names; None stands for zeros [N, 0 or as the network needs].
        dynamic_kwargs: options of the build function for this evaluation alone. UserError for an unknown option.
        """
        if len(inputs) != self.num_inputs or all(x is None for x in inputs):
            raise ValueError(f'network {self.name!r} takes {self.num_inputs} inputs '
                             f'({", ".join(self.input_names)}), not all of them None; got {len(inputs)}')
        _check_options(f'network {self.name!r} ({self.build_func_name})', self._builder, dynamic_kwargs)
        with tf.variable_scope(self._scope, reuse=True, auxiliary_name_scope=False):
            with tf.name_scope(f'{self.name.replace(" ", "_")}_eval'):
                outputs = self._call(self._complete_inputs(inputs), dynamic_kwargs, is_template_graph=False)
        return outputs if return_as_list or len(outputs) > 1 else outputs[0]

    def _complete_inputs(self, inputs: Any) -> List[Any]:
        """Tensors of the right static shape; a None becomes zeros for the batch of the first given input."""
        given = next(x for x in inputs if x is not None)
        batch = tf.shape(given)[0]
        complete = []
        for name, x, shape in zip(self.input_names, inputs, self.input_shapes):
            x = tf.zeros([batch] + shape[1:], tf.float32) if x is None else tf.cast(x, tf.float32)
            if not x.shape.is_compatible_with(shape):
                raise ValueError(f'network {self.name!r}: input {name} has shape {x.shape.as_list()}, expected {shape}')
            x.set_shape(shape)
            complete.append(x)
        return complete

    # ---- running

    def run(self, *arrays: Any, minibatch_size: Optional[int] = None, return_as_list: bool = False,
            input_transform: Optional[Dict[str, Any]] = None, output_transform: Optional[Dict[str, Any]] = None,
            **dynamic_kwargs: Any) -> Any:
        """Evaluate on arrays in the default session, at most `minibatch_size` samples at a time -> array, or a list.

        arrays: [N, ...] in the order of input_names; None as in `get_output_for`.
        input_transform, output_transform: dict(func=f, **kwargs): tensors = f(*tensors, **kwargs) within the graph,
        before and after the network. The graph is built once for each set of arguments.
        """
        given = [np.asarray(x) for x in arrays if x is not None]
        lengths = {len(x) for x in given}
        if len(arrays) != self.num_inputs or len(lengths) != 1 or 0 in lengths:
            shapes = [None if x is None else np.shape(x) for x in arrays]
            raise ValueError(f'network {self.name!r} runs on {self.num_inputs} arrays ({", ".join(self.input_names)}) '
                             f'of one length >= 1, not all of them None; got shapes {shapes}')
        key = (tuple(x is None for x in arrays), _key(input_transform), _key(output_transform), _key(dynamic_kwargs))
        if key not in self._run_cache:
            self._run_cache[key] = self._run_graph(arrays, input_transform, output_transform, dynamic_kwargs)
        graph, total = self._run_cache[key], len(given[0])
        batch = minibatch_size or total
        parts = []
        for start in range(0, total, batch):
            feed = {tensor: x[start:start + batch] for tensor, x in zip(graph.inputs, given)}
            parts.append(tfutil.run(graph.outputs, feed))
        outputs = [np.concatenate(output) for output in zip(*parts)] if len(parts) > 1 else parts[0]
        return outputs if return_as_list or len(outputs) > 1 else outputs[0]

    def _run_graph(self, arrays: Any, input_transform: Any, output_transform: Any, dynamic_kwargs: Any) -> _RunGraph:
        with tf.control_dependencies(None), tf.name_scope(f'{self.name.replace(" ", "_")}_run'):
            placeholders: List[Any] = []
            for x, shape in zip(arrays, self.input_shapes):
                if input_transform:
                    shape = [None] + list(np.shape(x)[1:])
                placeholders.append(None if x is None else tf.placeholder(tf.float32, shape))
            inputs = self._transform(placeholders, input_transform)
            outputs = self.get_output_for(*inputs, return_as_list=True, **dynamic_kwargs)
            outputs = self._transform(outputs, output_transform)
        return _RunGraph([p for p in placeholders if p is not None], outputs)

    @staticmethod
    def _transform(tensors: List[Any], transform: Optional[Dict[str, Any]]) -> List[Any]:
        if not transform:
            return tensors
        kwargs = dict(transform)
        result = kwargs.pop('func')(*tensors, **kwargs)
        return list(result) if isinstance(result, (list, tuple)) else [result]

    # ---- variables

    def find_var(self, name_or_var: Union[str, Any]) -> Any:
        """The variable of this local name; a variable is returned as it is."""
        if not isinstance(name_or_var, str):
            return name_or_var
        if name_or_var not in self.vars:
            raise KeyError(f'network {self.name!r} has no variable {name_or_var!r}')
        return self.vars[name_or_var]

    def get_var(self, name_or_var: Union[str, Any]) -> Any:
        """Present value of a variable."""
        return tfutil.run(self.find_var(name_or_var))

    def set_var(self, name_or_var: Union[str, Any], value: Any) -> None:
        """Give a variable a new value."""
        tfutil.set_vars({self.find_var(name_or_var): value})

    def reset_own_vars(self) -> None:
        """Start values for the network's own variables."""
        tfutil.run([v.initializer for v in self.own_vars.values()])

    def copy_vars_from(self, source: 'Network') -> None:
        """Take over the values of the variables that both networks have."""
        values = tfutil.run({local: source.vars[local] for local in self.vars if local in source.vars})
        tfutil.set_vars({self.vars[local]: value for local, value in values.items()})

    def setup_as_moving_average_of(self, source: 'Network', beta: Any = 0.99, beta_nontrainable: Any = 0.0) -> Any:
        """An op that moves every variable towards the source's: new = source + (old - source) * beta.

        beta: number or scalar tensor, for trainable variables; beta_nontrainable: for the others (0 copies them).
        """
        with tf.name_scope(f'{self.name.replace(" ", "_")}_average'):
            updates = []
            for local, variable in self.vars.items():
                if local in source.vars:
                    rate = beta if local in self.trainables else beta_nontrainable
                    new = source.vars[local].read_value()               # now, not at the beginning of the run
                    if not isinstance(rate, float) or rate != 0.0:      # 0 copies, whatever the old value is
                        new = tfutil.lerp(new, variable.read_value(), rate)
                    updates.append(tf.assign(variable, new))
            return tf.group(*updates)

    # ---- copies and states

    def clone(self, name: Optional[str] = None, **new_static_kwargs: Any) -> 'Network':
        """A network of the same build function with its own variables, set to this one's values."""
        net = Network(name or self.name, self.build_func_name, **dict(self.static_kwargs, **new_static_kwargs))
        net.copy_vars_from(self)
        return net

    def state(self) -> NetworkState:
        """All that is stored of the network: options and values, own ones here, the components' in their states."""
        values = tfutil.run(list(self.own_vars.values()))
        variables = [(local, np.float32(value) if np.ndim(value) == 0 else value)
                     for local, value in zip(self.own_vars, values)]
        return NetworkState(version=STATE_VERSION, name=self.name, static_kwargs=dict(self.static_kwargs),
                            components={key: component.state() for key, component in self.components.items()},
                            build_module_src=_build_module_src(self._builder), build_func_name=self.build_func_name,
                            variables=variables)

    @classmethod
    def from_state(cls, state: NetworkState) -> 'Network':
        """A network from its stored state; variables that the state lacks keep their start values.

        Raises UserError for an unknown build function, option, component or variable, and for a wrong shape.
        """
        tfutil.assert_tf_initialized()
        net = cls.__new__(cls)
        try:
            net._build(state.name, state.build_func_name, state.static_kwargs, state.components)
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error).strip().partition('\n')[0]
            raise UserError(f'network {state.name!r}: stored options do not make a {state.build_func_name}: {reason}')
        net._check_state(state)
        stored = dict(state.variables)
        fresh = [v for key in net.components if key not in state.components for v in net.components[key].vars.values()]
        tfutil.run([v.initializer for local, v in net.own_vars.items() if local not in stored] + fresh)
        tfutil.set_vars({net.own_vars[local]: value for local, value in stored.items()})
        return net

    def _check_state(self, state: NetworkState) -> None:
        unknown = [local for local, _ in state.variables if local not in self.own_vars]
        if unknown:
            raise UserError(f'network {self.name!r}: stored variables {listed(unknown)} are unknown to '
                            f'{self.build_func_name}; the file belongs to another kind of network or other options')
        for local, value in state.variables:
            expected = self.own_vars[local].shape.as_list()
            if list(np.shape(value)) != expected:
                raise UserError(f'network {self.name!r}: stored variable {local} has shape {list(np.shape(value))}, '
                                f'its options ask for {expected}; the file is inconsistent')

    # ---- telling

    @property
    def num_params(self) -> int:
        """Number of trainable values."""
        return sum(_size(v) for v in self.trainables.values())

    def summary(self) -> str:
        """A table of the variables: local name, shape, number of values; the last line is the trainable total."""
        lines = [f'{local:<40} {str(v.shape.as_list()):<20} {_size(v):>10}'
                 + ('' if local in self.trainables else '  fixed') for local, v in self.vars.items()]
        return '\n'.join([f'{self.name} ({self.build_func_name})'] + lines + [f'trainable: {self.num_params}'])
