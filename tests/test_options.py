"""Number types for argparse: what they take, and one line for what they do not; --help is there at once."""

import argparse
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import config
from dnnlib.options import SEED, real, whole


@pytest.mark.parametrize('kind,text,value', [
    (whole(0), '0', 0), (whole(1, 32), ' 32', 32), (SEED, '4294967295', 2 ** 32 - 1), (real(0, 1), '1', 1.0),
    (real(0, above=True), '1e-9', 1e-9), (real(-2.5), '-2.5', -2.5)])
def test_what_fits(kind, text, value):
    found = kind(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize('kind,text,message', [
    (whole(1), '0', '0 is out of range: expected a whole number from 1 on'),
    (whole(1), '2.5', "'2.5' is not a whole number from 1 on"), (whole(1), '1_5', "'1_5' is not a whole number"),
    (whole(1), '\uff11\uff15', 'is not a whole number'), (real(0), '1_5.5', 'is not a number'),
    (real(0), '\u0663', 'is not a number'),
    (SEED, '4294967296', 'expected a whole number from 0 to 4294967295'),
    (real(0, 1), 'nan', 'nan is out of range: expected a number from 0 to 1'), (real(0), '1e999', 'from 0 on'),
    (real(0, above=True), '0', '0 is out of range: expected a number above 0'), (real(0), 'x', "'x' is not a number")])
def test_what_does_not(kind, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        kind(text)
    assert message in str(caught.value)


@settings(deadline=None)
@given(st.text() | st.integers().map(str) | st.floats().map(str), st.sampled_from([
    (whole(-3, 7), -3, 7), (real(-3, 7), -3, 7), (whole(2), 2, math.inf), (real(2, above=True), 2, math.inf)]))
def test_never_anything_else(text, limits):
    kind, low, high = limits
    try:
        value = kind(text)
    except argparse.ArgumentTypeError:
        return
    assert low <= value <= high and value != math.inf


def test_help_needs_no_numpy():
    code = ('import runpy, sys; sys.argv = ["generate_images.py", "--help"]\n'
            'try:\n    runpy.run_path("generate_images.py", run_name="__main__")\n'
            'except SystemExit:\n    print([name for name in ("numpy", "scipy", "tensorflow") if name in sys.modules])')
    shown = subprocess.run([sys.executable, '-c', code], stdout=subprocess.PIPE, check=True, cwd=config.ROOT)
    assert b'--precision' in shown.stdout and shown.stdout.splitlines()[-1] == b'[]'
