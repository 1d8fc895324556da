"""Whether parts are of one world: the one place that says that worlds cannot be mixed. Standard library only."""

from typing import Dict, Optional

from dnnlib.util import UserError


def one_world(claims: Dict[str, Optional[str]]) -> Optional[str]:
    """The world on which {what: name of its world, None: it does not say} agree; None where all are silent.

    UserError that lists who says what when they differ.
    """
    said = {what: name for what, name in claims.items() if name}
    if len(set(said.values())) > 1:
        each = ', '.join(f'{what} is of the {name} world' for what, name in said.items())
        raise UserError(f'worlds cannot be mixed: {each}; name parts of one world')
    return next(iter(said.values()), None)
