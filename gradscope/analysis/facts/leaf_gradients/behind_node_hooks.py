"""Leaves whose gradient is zero in every pass, and to which every way leads through a node with a hook of the text's.

What such a hook does is not seen: it is known which nodes have it, by the name of the tensor in the call that registers
it, what its source says, and what arrived behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_bad, is_zero
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.node_hooks import NodeHook, node_hooks, source_of

_LOOKS = 2
"""Passes in which it must have been zero."""


class BehindNodeHook(NamedTuple):
    """The leaves behind one hook."""

    file: int
    hook: NodeHook
    returns: tuple[int, int] | None
    """The lines on which it returns something, the first."""
    leaves: tuple[int, ...]
    looks: tuple[PassLook, ...]


def behind_node_hooks(
    index: Index, passes: Passes, looks: list[PassLook], lives: GradientLives
) -> Iterator[BehindNodeHook]:
    """One for each call that registers a hook whose source says zeros."""
    for number, file in enumerate(index.recording.files):
        for hook in node_hooks(file.text) if file.is_user else ():
            source = source_of(file.text, hook)
            nodes = _nodes(index, number, hook) if source.is_zero_on_purpose else set()
            leaves = _behind(index, passes, looks, nodes) if nodes else set()
            stepped = tuple(sorted(leaf for leaf in leaves if leaf in lives.steps))
            if stepped:
                returns = source.returns[0] if source.returns else None
                looked = tuple(look for look in looks if not leaves.isdisjoint(look.gradients))
                yield BehindNodeHook(number, hook, returns, stepped, looked)


def hooked_nodes(index: Index) -> set[int]:
    """The nodes with such a hook, whatever it does: what they gave may be what that made of it."""
    files = enumerate(index.recording.files)
    hooks = [(number, hook) for number, file in files if file.is_user for hook in node_hooks(file.text)]
    return {node for number, hook in hooks for node in _nodes(index, number, hook)}


def _nodes(index: Index, file: int, hook: NodeHook) -> set[int]:
    """The nodes of the tensors that a function had under the name that the call gives."""
    text, tensors = index.recording.text, index.recording.tensors
    made_at, bindings = tensors.column("op"), index.recording.bindings
    columns = (bindings.column(name) for name in ("name", "tensor"))
    found: set[int] = set()
    for name, tensor in zip(*columns, strict=True):
        if text(name) != hook.tensor or not made_at[tensor] < index.op_count:
            continue
        there = index.statements[index.op_statement[made_at[tensor]]]
        around = text(there.function).rpartition(".")[2].replace("<module>", "")
        if there.file == file and around == hook.function and there.line <= hook.line:
            found.add(index.node_after(tensor))
    return found - {-1}


def _behind(index: Index, passes: Passes, looks: list[PassLook], nodes: set[int]) -> set[int]:
    """The leaves with zeros in each look, to which no way leads past the nodes, of losses that were not zero."""
    variables = index.recording.nodes.column("variable")
    found, others = set[int](), set[int]()
    looked: dict[int, int] = {}
    for look in looks:
        past, hooked, todo = set[int](), set[int](), list(index.root_nodes(look.op))
        while todo:
            node = todo.pop()
            if node in past or node in hooked:
                continue
            if node in nodes:
                hooked.add(node)
                continue
            past.add(node)
            todo += [one for one in index.edges.of(node) if one >= 0]
        if not hooked or any(map(is_bad, look.gradients.values())) or all(map(is_zero, look.roots)):
            continue
        around = {variables[node] for node in past}
        behind = {variables[one] for node in hooked for one in passes.behind(node)} - around - {-1}
        zero = {leaf for leaf, values in look.gradients.items() if is_zero(values)} - set(look.zeros)
        for leaf in behind & set(look.gradients):
            looked[leaf] = looked.get(leaf, 0) + 1
        found |= behind & zero
        others |= set(look.gradients) - (behind & zero)
    return {leaf for leaf in found - others if looked[leaf] >= _LOOKS}
