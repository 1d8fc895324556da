"""Names of a face's parts and of the files that hold one; apart from sampling.faces, so that --help needs no NumPy."""

from dnnlib.util import UserError
from renderer import factors

PARTS = dict([(factor.word, factor.coeffs) for factor in factors.FACTORS], noise=slice(factors.NUM_COEFFS, None))
FILE_PARTS = [part for part in PARTS if part != 'noise']
FILE_KINDS = ('npz', 'mat')
_ALIASES = {factor.name: factor.word for factor in factors.FACTORS}


def part_name(name: str) -> str:
    """'expression' for 'expression' or 'exp', and so on for identity, lighting, pose and noise. UserError otherwise."""
    word = _ALIASES.get(name, name)
    if word not in PARTS:
        raise UserError(f'unknown part of a face {name!r}: expected one of {", ".join(PARTS)}')
    return word
