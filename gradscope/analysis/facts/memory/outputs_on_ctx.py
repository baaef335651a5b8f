"""Outputs of custom Functions that their own node keeps as an attribute of ctx: the two keep each other in memory.

A node's attributes are read when it is seen, and a tensor's node when the call that gave it is over: where one leads
to the other both ways, nothing but ``del ctx.y``, in a backward that runs, or Python's search for cycles ends that.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_ATTRIBUTE = "ctx."
PASSES = 2
"""Backward passes that an output outlives after it was used last, from which on it has stayed."""


class OutputOnCtx(NamedTuple):
    """An output and the node that keeps it."""

    node: int
    output: int
    attr: str
    """Of ctx."""


def outputs_on_ctx(index: Index) -> list[OutputOnCtx]:
    """Each of a run, in order."""
    saved, recording = index.recording.saved, index.recording
    named = {text: recording.text(text) for text in set(saved.column("attr"))}
    attributes = {text: name.removeprefix(_ATTRIBUTE) for text, name in named.items() if name.startswith(_ATTRIBUTE)}
    if not attributes:
        return []
    columns = (saved.column(name) for name in ("node", "attr", "tensor"))
    return [
        OutputOnCtx(node, tensor, attributes[attr])
        for node, attr, tensor in zip(*columns, strict=True)
        if attr in attributes and tensor >= 0 and _node_of(index, tensor) == node
    ]


def _node_of(index: Index, tensor: int) -> int:
    node = index.node_after(tensor)
    return node if node != NONE else index.given_at_use.get(tensor, (NONE, NONE))[1]


def stayed(index: Index, passes: Passes, kept: list[OutputOnCtx]) -> list[OutputOnCtx]:
    """Those that outlived passes after everything was done with them; none that a name of the program holds at the end.

    Done with is one whose node a pass has used up or, where no pass came, which no call takes any more.
    """
    outputs = {one.output for one in kept}
    uses, bindings = index.recording.uses, index.recording.bindings
    last = {
        tensor: op for op, tensor in zip(uses.column("op"), uses.column("tensor"), strict=True) if tensor in outputs
    }
    named = zip(bindings.column("tensor"), bindings.column("op"), strict=True)
    held = {tensor for tensor, op in named if op == index.op_count and tensor in outputs}
    died, made_at = (index.recording.tensors.column(name) for name in ("died", "op"))
    backwards = index.of_kind(OpKind.BACKWARD)
    found = []
    for one in kept:
        done = max(passes.used_up_at[one.node], last.get(one.output, NONE), made_at[one.output])
        end = index.op_count if died[one.output] == NONE else died[one.output]
        if one.output not in held and bisect_right(backwards, end) - bisect_right(backwards, done) >= PASSES:
            found.append(one)
    return found
