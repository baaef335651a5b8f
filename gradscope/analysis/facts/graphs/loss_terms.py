"""What a loss is the sum of: terms that the graph leads to, constants, and plain numbers."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.recording.rows import Field

_SUMS = frozenset(("Tensor.add", "Tensor.sub", "Tensor.rsub"))
_PUT_TOGETHER = frozenset(("Tensor.stack", "Tensor.cat"))
_ADDED_TO = frozenset(("Tensor.add_", "Tensor.sub_"))
_SCALED = frozenset(("Tensor.mul", "Tensor.div", "Tensor.neg"))
_OF_ALL = frozenset(("Tensor.mean", "Tensor.sum"))
_LONGEST = 1_000
"""Terms of one loss that are looked at."""


class Terms(NamedTuple):
    """The terms of a loss that no gradient flows through."""

    constants: list[tuple[int, int]]
    """Tensors that did not require grad, and the ops that added them."""
    with_numbers: list[int]
    """Ops that took in one tensor: what else they added is a number."""
    tracked: list[int]
    """Numbers (tensors of no dimension) that are no sums of others and required grad."""


def terms_without_gradient(index: Index, root: int, before: int) -> Terms:
    """Those of a tensor, by the ops before another one: through sums, and products with numbers."""
    found, stack, seen = Terms([], [], []), [root], {root}
    made_at = index.recording.tensors.column("op")
    while stack and len(seen) < _LONGEST:
        tensor = stack.pop()
        ops = [op for op in index.users.of(tensor) if op < before and index.method(op) in _ADDED_TO]
        for op in [made_at[tensor], *ops]:
            name, taken = index.method(op), list(index.uses.of(op))
            if name in _SUMS | _ADDED_TO and taken:
                found.constants.extend((one, op) for one in _constants(index, op, taken))
                if len(taken) == 1:
                    found.with_numbers.append(op)
            elif name in _PUT_TOGETHER and len(taken) > 1:
                found.constants.extend((one, op) for one in _constants(index, op, taken))
            elif op == made_at[tensor] and name not in _SCALED and is_number(index, tensor):
                found.tracked.append(tensor)
            if name not in _SUMS | _ADDED_TO | _PUT_TOGETHER and (name not in _SCALED | _OF_ALL or len(taken) != 1):
                continue
            new = [one for one in taken if one not in seen and index.requires_grad(one, op)]
            seen.update(new)
            stack += new
    return found


def _constants(index: Index, op: int, taken: list[int]) -> list[int]:
    """What an op took that had no graph.

    What a custom Function, or a checkpoint, gave is known to have one where it was looked at since. It was not where
    the node of the op leads to more than what is known: then nothing is said of any.
    """
    constants = [one for one in taken if not index.requires_grad(one, op)]
    changes = (index.recording.changes[row] for row in index.changes.of(op))
    nodes = [index.recording.tensors.column("node")[made] for made in index.tensors_made(op)]
    nodes += [change.after for change in changes if change.field == Field.GRAD_FN]
    edges = [following for node in nodes[:1] if node >= 0 for following in index.edges.of(node) if following >= 0]
    return constants if len(edges) <= len(taken) - len(constants) else []


def is_number(index: Index, tensor: int) -> bool:
    """Whether a tensor has no dimension."""
    recording = index.recording
    return recording.text(recording.layouts[recording.tensors.column("layout")[tensor]].shape) == "()"
