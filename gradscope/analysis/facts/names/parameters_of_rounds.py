"""Names of parameters that are made anew in each round: of the later rounds the first ones tell them.

Names are looked at in the first rounds, then ever more rarely. A call's result has the name that it had in other runs
(see :mod:`.slots`); what a module has in it (``model = nn.Linear(3, 1)``) is no result, but comes in one order as well.
"""

from __future__ import annotations

from array import array

from gradscope.analysis.facts.names.slots import FULL_MATCHES
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER


def named_in_other_rounds(index: Index, best: array[int]) -> dict[int, int]:
    """For parameters that no name was seen to hold those that were in their place in the first rounds.

    Args:
        index: The recording.
        best: For each tensor the best name it was seen under, NONE for none.
    """
    found: dict[int, int] = {}
    for alike in parameters_of_calls(index):
        named = next((place for place, tensor in enumerate(alike) if best[tensor] < 0), len(alike))
        if FULL_MATCHES <= named < len(alike):
            found.update(_by_place(alike, named, best))
    return found


def parameters_of_calls(index: Index) -> list[list[int]]:
    """Parameters of one layout that were first seen with one call in the source, in the order of the run."""
    made_at, layouts, flags = (index.recording.tensors.column(name) for name in ("op", "layout", "flags"))
    spans, inner, funcs = (index.recording.ops.column(name) for name in ("span", "inner", "func"))
    alike: dict[tuple[int, int, int, int, int], list[int]] = {}
    for tensor, op in enumerate(made_at):
        if flags[tensor] & PARAMETER and op < index.op_count:
            key = (spans[op], inner[op], funcs[op], layouts[tensor], flags[tensor])
            alike.setdefault(key, []).append(tensor)
    return list(alike.values())


def _by_place(alike: list[int], named: int, best: array[int]) -> dict[int, int]:
    """For each of those without a name the one in its place, if the names of all others come round in one order.

    Args:
        alike: The tensors.
        named: How many of the first have a name.
        best: The names.
    """
    names = [best[tensor] for tensor in alike]
    length = next((one for one in range(1, named // 2 + 1) if names[one:named] == names[: named - one]), 0)
    if not length or any(0 <= name != names[place % length] for place, name in enumerate(names)):
        return {}
    return {alike[place]: alike[place % length] for place, name in enumerate(names) if name < 0}
