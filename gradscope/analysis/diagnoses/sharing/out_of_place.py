"""How a write in place is spelled out of place, for an advice."""

from __future__ import annotations

from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.index import Index

_SIGNS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"}


def a_new_tensor(index: Index, write: int, name: str = "x") -> str:
    """``a new tensor there (x = x / …)``, with the sign of the write; without an example for other calls.

    Args:
        index: The run.
        write: The op that writes.
        name: What it writes to, if that is a name.
    """
    sign, name = _SIGNS.get(called(index, write)), name if name.isidentifier() else "x"
    return f"a new tensor there ({name} = {name} {sign} …)" if sign else "a new tensor there"
