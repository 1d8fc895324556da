"""What other software does with a snapshot: the standard pickle module and a class dnnlib.tflib.network.Network.

`python -m tests.old_installation list FILE...` prints {file: [[variable, kind, sum of values]...]} by JSON;
`python -m tests.old_installation rewrite SOURCE TARGET PROTOCOL` reads a file and writes it again.
"""

import json
import pickle
import sys
import types

import numpy as np


class Network:
    """Keeps the state it is given, as the original does before it builds anything."""

    def __getstate__(self):
        return self.state

    def __setstate__(self, state):
        self.state = state


def install():
    """Put the class where pickles look for it; the project's own modules are not imported."""
    for name in ('dnnlib', 'dnnlib.tflib', 'dnnlib.tflib.network'):
        sys.modules[name] = types.ModuleType(name)
    sys.modules['dnnlib.tflib.network'].Network = Network
    Network.__module__, Network.__qualname__ = 'dnnlib.tflib.network', 'Network'


def variables(network, prefix):
    """[name, kind, sum] of every variable, the components' too."""
    assert type(network) is Network, type(network)
    assert type(network.state['build_module_src']) is str and type(network.state['static_kwargs']) is dict
    found = [[f'{prefix}/{name}', f'{type(value).__name__} {value.dtype} {list(value.shape)}',
              float(np.sum(value, dtype=np.float64))] for name, value in network.state['variables']]
    for key, component in network.state['components'].items():
        found += variables(component, f'{prefix}/{key}')
    return found


def _load(path):
    with open(path, 'rb') as file:
        return pickle.load(file)


def main(command, *arguments):
    install()
    if command == 'rewrite':
        source, target, protocol = arguments
        networks = _load(source)
        with open(target, 'wb') as file:
            pickle.dump(networks, file, protocol=int(protocol))
    else:
        print(json.dumps({path: [item for network in _load(path) for item in variables(network, network.state['name'])]
                          for path in arguments}))


if __name__ == '__main__':
    main(*sys.argv[1:])
