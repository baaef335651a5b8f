"""Until when the program could still start a backward pass through a node of the graph."""

from __future__ import annotations

from array import array

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field


def held_until(index: Index, passes: Passes) -> array[int]:
    """For each node, the first op at whose start no tensor was left that leads to it.

    The number of ops for nodes that a tensor leads to at the end, and for those that no tensor was seen to lead to.
    """
    starts, following = passes.edge_starts, index.edges.values
    until = array("i", [NONE]) * len(index.recording.nodes)
    for died, root in sorted(((died, node) for _, died, node in tensor_nodes(index)), reverse=True):
        stack = [root]
        while stack:
            node = stack.pop()
            if until[node] < 0:
                until[node] = died
                stack += (after for after in following[starts[node] : starts[node + 1]] if after >= 0)
    return array("i", (index.op_count if died < 0 else died for died in until))


def tensor_nodes(index: Index) -> list[tuple[int, int, int]]:
    """Each tensor with a grad_fn, when it was gone, and the node."""
    tensors, changes, end = index.recording.tensors, index.recording.changes, index.op_count
    died = tensors.column("died")
    found = [
        (tensor, end if gone == NONE else gone, node)
        for tensor, (gone, node) in enumerate(zip(died, tensors.column("node"), strict=True))
        if node >= 0
    ]
    columns = (changes.column(name) for name in ("tensor", "field", "after"))
    for tensor, field, node in zip(*columns, strict=True):
        if field == Field.GRAD_FN and node >= 0:
            found.append((tensor, end if died[tensor] == NONE else died[tensor], node))
    return found
