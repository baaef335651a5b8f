"""How often a module was called for one backward pass."""

from __future__ import annotations

from collections.abc import Collection

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW

_WRAPS = "torch.apply"


def calls_by_pass(index: Index, passes: Passes, parameters: Collection[int]) -> dict[int, int]:
    """By pass the calls, of several inputs, of the module with some parameters, as far as one of them shows them.

    In a module of the program's own several calls may take a parameter: the one that does so most often counts.
    """
    modules = {row.module for row in index.recording.module_tensors if row.tensor in parameters}
    if len(modules) != 1 or not parameters:
        return {}
    inside = {op for op, module in index.recording.module_ops if module in modules}
    flags, spans = index.recording.ops.column("flags"), index.recording.ops.column("span")
    node, by_place = index.recording.tensors.column("node"), dict[tuple[int, int], set[int]]()
    for op in index.users.of(min(parameters)):
        if op not in inside:
            continue
        walked = {passes.first_walked_at[node[made]] for made in index.tensors_made(op) if node[made] >= 0}
        for at in walked:
            given = _given(index, next((one for one in index.uses.of(op) if one not in parameters), NONE))
            by_place.setdefault((at, 0 if flags[op] & BELOW else spans[op] + 1), set()).add(given)
    found: dict[int, int] = {}
    for (at, _), inputs in by_place.items():
        if at >= 0:
            found[at] = max(found.get(at, 0), len(inputs))
    return found


def _given(index: Index, tensor: int) -> int:
    """What a module was given: torch wraps it for backward hooks, anew for each call."""
    made = index.made_by(tensor) if tensor >= 0 else NONE
    is_wrapped = 0 <= made < index.op_count and index.func(made) == _WRAPS and len(index.uses.of(made)) > 0
    return index.uses.of(made)[0] if is_wrapped else tensor
