"""The layer table of the house: a module imports from the rows above it, or from its own package; never in a circle."""

import ast
import os

import config

FOLDERS = ('dnnlib', 'renderer', 'vae', 'preprocess', 'training', 'metrics', 'synthetic', 'benchmarks')

ROWS = {        # longest matching prefix decides; rows as in the table
    'config': 0, 'renderer.factors': 0, 'renderer.camera': 0, 'dnnlib': 0, 'dnnlib.util': 0, 'dnnlib.submission': 0,
    'training.schedule': 0, 'dnnlib.tfrecords': 1, 'training.config_rules': 1, 'training.configs': 1,
    'dnnlib.tflib': 1,
    'renderer': 2, 'preprocess': 2,
    'vae': 3, 'training.networks_stylegan': 3, 'training.networks_recon': 3, 'training.networks_id': 3,
    'training.networks_parser': 3, 'training.networks_frozen': 3, 'training.networks_small': 3,
    'training.parser_warp': 3, 'training.dataset': 3,
    'synthetic.face_model': 3, 'synthetic.photos': 3, 'synthetic': 3,
    'training': 4, 'training.perception': 4,
    'training.objectives': 5, 'training.editing': 5, 'metrics': 5,
    'synthetic.experts': 5, 'synthetic.embed': 5, 'synthetic.expert_lessons': 5, 'synthetic.expert_photos': 5,
    'training.evaluation': 6, 'training.towers': 6, 'training.training_loop': 6,
    'vae.demo': 7, 'benchmarks': 7, 'benchmarks.face': 6, 'benchmarks.sampling': 6, 'benchmarks.common': 0,
}

def _modules():
    names = {}
    for folder in FOLDERS:
        for where, _, files in os.walk(os.path.join(config.ROOT, folder)):
            for file in files:
                if file.endswith('.py'):
                    path = os.path.join(where, file)
                    name = os.path.relpath(path, config.ROOT)[:-3].replace(os.sep, '.')
                    names[name[:-9] if name.endswith('.__init__') else name] = path
    for file in os.listdir(config.ROOT):
        if file.endswith('.py'):
            names[file[:-3]] = os.path.join(config.ROOT, file)
    return names


def _row(name):
    parts = name.split('.')
    for n in range(len(parts), 0, -1):
        if '.'.join(parts[:n]) in ROWS:
            return ROWS['.'.join(parts[:n])]
    return 7        # root scripts


def _imports(name, path, modules):
    """Modules of the project that `name` imports, at any depth of its code."""
    found = set()
    package = name if path.endswith('__init__.py') else name.rpartition('.')[0]
    with open(path, encoding='utf-8') as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parts = package.split('.')
                base = '.'.join(parts[:len(parts) - node.level + 1] + ([node.module] if node.module else []))
            found.update(f'{base}.{alias.name}' if f'{base}.{alias.name}' in modules else base for alias in node.names)
    return {target for target in found if target in modules and target != name}


def test_imports_follow_the_layers():
    modules = _modules()
    wrong = []
    for name, path in modules.items():
        for target in _imports(name, path, modules):
            row, target_row = _row(name), _row(target)
            same_package = row == target_row < 7 and name.split('.')[0] == target.split('.')[0]
            if not (target_row < row or same_package):
                wrong.append(f'{name} (row {row}) imports {target} (row {target_row})')
    assert not wrong, '\n'.join(sorted(wrong))


def test_no_import_circles():
    modules = _modules()
    graph = {name: _imports(name, path, modules) for name, path in modules.items()}
    done, active = set(), []

    def visit(name):
        if name in done:
            return
        assert name not in active, 'import circle: ' + ' -> '.join(active[active.index(name):] + [name])
        active.append(name)
        for target in sorted(graph[name]):
            visit(target)
        active.pop()
        done.add(name)

    for name in sorted(graph):
        visit(name)


def test_only_compat_imports_tensorflow():
    for name, path in _modules().items():
        if name == 'dnnlib.tflib.compat':
            continue
        with open(path, encoding='utf-8') as file:
            tree = ast.parse(file.read())
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ''] \
                if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split('.')[0] == 'tensorflow' for n in names), f'{path} imports TensorFlow'
