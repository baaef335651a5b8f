"""Parameters that ``load_state_dict(assign=True)`` put into a module in place of those that it had."""

from __future__ import annotations

import re

from gradscope.analysis.index import Index
from gradscope.recording import NONE

_LOADS = "nn.Module.load_state_dict"
_ASSIGNS = re.compile(r"\bassign\s*=\s*(?!False)")


def assigning_loads(index: Index) -> list[int]:
    """The calls of ``load_state_dict`` that were told to assign, in the order of the run."""
    return [op for op in index.calls_of(_LOADS.__eq__) if _ASSIGNS.search(index.span_source(op))]


def assigning_load(index: Index, tensor: int, since: int) -> int:
    """The load after an op that put a parameter into its module; NONE where none did, or it is not clear which.

    The parameter was not there before the load, and its memory was: the module has what the dict had.
    """
    first, storage = (index.recording.tensors.column(name)[tensor] for name in ("op", "storage"))
    if storage < 0:
        return NONE
    made_at = index.recording.storages.column("op")[storage]
    loads = {index.op_statement[op]: op for op in assigning_loads(index) if max(since, made_at) <= op <= first}
    load = loads.popitem()[1] if len(loads) == 1 else NONE
    return load if load >= 0 and index.op_line(load) else NONE
