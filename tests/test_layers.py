"""The layer table of the house: a module imports from the rows above it, or from its own package; never in a circle."""

import ast
import os

import config

FOLDERS = ('dnnlib', 'renderer', 'worlds', 'perception', 'preprocess', 'vae', 'training', 'sampling', 'metrics',
           'human', 'benchmarks')

ROWS = {        # longest matching prefix decides; ARCHITECTURE.md shows this table
    'config': 0, 'dnnlib': 0,
    'dnnlib.tflib': 1,
    'renderer': 2, 'preprocess': 2,
    'vae': 3, 'perception': 3,
    'worlds': 4,
    'training': 5,
    'sampling': 6,
    'metrics': 7, 'human': 7,
    'benchmarks': 8,
    # Standard library only, so that every folder may know names, the layout of vectors, the camera.
    'renderer.factors': 0, 'renderer.camera': 0, 'worlds.label': 0, 'worlds.agree': 0,
}
SCRIPTS = 9


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
    return SCRIPTS


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
            same_package = row == target_row < SCRIPTS and name.split('.')[0] == target.split('.')[0]
            if not (target_row < row or same_package or row == target_row == 0):
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
