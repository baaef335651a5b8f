"""Loads of which all weights were overwritten by an initialisation before anything was computed with them.

To load a whole model and to initialise its last layer after that is usual; there the other weights are left as loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modules.loads_overwritten import LOADS
from gradscope.analysis.facts.shapes import numbers_in
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.calls.calls_of_functions import CallLines, calls_that_run
from gradscope.recording import NONE

_INITS = re.compile(
    r"nn\.init\.\w+_|nn\.\w+\._?(reset|init)_\w+"
    r"|Tensor\.(normal|uniform|trunc_normal|zero|fill|bernoulli|exponential)_"
)
_LOOKS = re.compile(r"Tensor\.(data\.__get__|detach|numel|dim|size)|nn\.Module\.state_dict")
"""What gives the memory to an initialisation, and computes nothing."""


class InitAfterLoad(NamedTuple):
    """One load."""

    load: int
    tensors: tuple[int, ...]
    """The weights that it had put values into."""
    init: int
    """The call that overwrote the first of them."""
    call: CallLines | None
    """Where the function around that call was run, after the load; None where that is not known."""


def inits_after_loads(index: Index) -> Iterator[InitAfterLoad]:
    """One for each load that nothing came of."""
    loads = index.calls_of(LOADS.__eq__)
    written: dict[int, list[tuple[int, int]]] = {}
    for op, tensor, *_ in all_writes(index) if loads else ():
        written.setdefault(index.storage_at(tensor, op), []).append((op, tensor))
    for load in loads:
        loaded = list(dict.fromkeys(list(index.uses.of(load))[::2]))
        floating = [one for one in loaded if index.is_floating(one)]
        weights = [one for one in floating if _dimensions(index, one, load) > 1] or floating
        inits = [_init(index, one, load, written) for one in weights]
        if not inits or NONE in inits:
            continue
        yield InitAfterLoad(load, tuple(weights), min(inits), _call(index, min(inits), load))


def _init(index: Index, weight: int, load: int, written: dict[int, list[tuple[int, int]]]) -> int:
    """The initialisation that was the first thing after a load to take a weight, and before another one; else NONE."""
    storage = index.storage_at(weight, load)
    on = {tensor for _, tensor in written.get(storage, ())} | {weight}
    users = sorted({op for tensor in on for op in index.users.of(tensor) if op > load})
    users = [op for op in users if not _LOOKS.fullmatch(index.func(op))]
    inits = [op for op in users if _INITS.fullmatch(index.func(op))]
    if not inits or users[0] != inits[0] or storage < 0:
        return NONE
    if not any(op == inits[0] and _is_whole(index, tensor, weight, op) for op, tensor in written.get(storage, ())):
        return NONE
    rest = [op for op in users if op not in inits]
    return inits[0] if rest and index.func(rest[0]) != LOADS else NONE


def _is_whole(index: Index, tensor: int, weight: int, op: int) -> bool:
    shapes = index.recording.layouts.column("shape")
    return shapes[index.layout_at(tensor, op)] == shapes[index.layout_at(weight, op)]


def _dimensions(index: Index, tensor: int, op: int) -> int:
    shape = index.recording.text(index.recording.layouts[index.layout_at(tensor, op)].shape)
    return len(numbers_in(shape))


def _call(index: Index, init: int, load: int) -> CallLines | None:
    at, loaded = (index.op_statement[op] for op in (init, load))
    if NOWHERE in (at, loaded) or index.statements[at].file != index.statements[loaded].file:
        return None
    one, other, text = index.statements[at], index.statements[loaded], index.recording.text
    function, around = (text(function).rpartition(".")[2] for function in (one.function, other.function))
    if function == around or not function.isidentifier():
        return None
    calls = calls_that_run(index.recording.files[one.file].text, function)
    own = around if around.isidentifier() else ""
    after = [call for call in calls if call.line > other.line and call.function == own]
    return after[0] if after else calls[0] if len(calls) == 1 else None
