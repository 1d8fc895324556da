"""House rules a machine can check: cheap imports, instant --help, docstrings, short functions, no private paths."""

import ast
import os
import subprocess
import sys

import pytest

import config

PACKAGES = ('dnnlib', 'dnnlib.tflib', 'renderer', 'worlds', 'perception', 'preprocess', 'vae', 'training', 'sampling',
            'metrics', 'human')
LONGEST = {'training/networks_stylegan.py': 80, 'training/training_loop.py': 150}      # lines of one function


def _project_files(*endings):
    listing = subprocess.run(['git', 'ls-files'], cwd=config.ROOT, stdout=subprocess.PIPE, universal_newlines=True)
    if listing.returncode:
        pytest.skip('not a git checkout: no list of project files')
    return [name for name in listing.stdout.splitlines()
            if name.endswith(endings) and os.path.exists(os.path.join(config.ROOT, name))]


def _tree(name):
    with open(os.path.join(config.ROOT, name), encoding='utf-8') as file:
        return ast.parse(file.read())


def _run(*arguments):
    return subprocess.run([sys.executable] + list(arguments), cwd=config.ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=120)


def test_importing_packages_is_cheap():
    there = [p for p in PACKAGES if os.path.isdir(os.path.join(config.ROOT, *p.split('.')))]
    code = f'import sys, {", ".join(there)}\nassert "tensorflow" not in sys.modules and "cv2" not in sys.modules'
    done = _run('-c', code)
    assert done.returncode == 0, done.stderr


SCRIPTS = [name for name in sorted(os.listdir(config.ROOT)) if name.endswith('.py') and name != 'config.py']


@pytest.mark.parametrize('script', SCRIPTS + ['vae/demo.py'])
def test_help_needs_no_tensorflow(script):
    code = (f'import runpy, sys\nsys.argv = [{script!r}, "--help"]\n'
            f'try: runpy.run_path({script!r}, run_name="__main__")\n'
            'except SystemExit as end: assert not end.code, end.code\n'
            'assert "tensorflow" not in sys.modules')
    done = _run('-c', code)
    assert done.returncode == 0, done.stderr
    assert 'usage' in done.stdout


def test_modules_and_public_functions_have_docstrings():
    bare = []
    for name in _project_files('.py'):
        tree = _tree(name)
        if not ast.get_docstring(tree) and tree.body:
            bare.append(name)
        if name.startswith('tests/'):
            continue
        definitions = list(tree.body)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                definitions += node.body
        bare += [f'{name}:{node.lineno} {node.name}' for node in definitions
                 if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_')
                 and not ast.get_docstring(node)]
    assert not bare, 'no docstring: ' + ', '.join(bare)


def test_functions_are_short():
    long = []
    for name in _project_files('.py'):
        if name.startswith('tests/'):
            continue
        for node in ast.walk(_tree(name)):
            if isinstance(node, ast.FunctionDef):
                end = max(getattr(n, 'lineno', 0) for n in ast.walk(node))
                doc = ast.get_docstring(node)
                length = end - node.lineno + 1 - (len(doc.splitlines()) if doc else 0)
                if length > LONGEST.get(name, 60):
                    long.append(f'{name}:{node.lineno} {node.name} ({length} lines)')
    assert not long, 'too long: ' + ', '.join(long)


def test_syntax_of_python37():
    for name in _project_files('.py'):
        with open(os.path.join(config.ROOT, name), encoding='utf-8') as file:
            text = file.read()
        if sys.version_info >= (3, 8):
            ast.parse(text, filename=name, feature_version=(3, 7))
        else:
            ast.parse(text, filename=name)


def test_no_file_above_its_budget():
    large = [(name, os.path.getsize(os.path.join(config.ROOT, name))) for name in _project_files('')
             if not name.startswith('tests/data/')]
    assert all(size < 6e6 for _, size in large), [item for item in large if item[1] >= 6e6]


def test_all_packages_are_installed():
    """`pip install -e .` must find every folder of code."""
    with open(os.path.join(config.ROOT, 'pyproject.toml'), encoding='utf-8') as file:
        text = file.read()
    for package in PACKAGES + ('dnnlib.submission',):
        assert f'"{package}"' in text, package
