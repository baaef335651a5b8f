"""Terms of a loss that were multiplied by zero, and the leaves that get a gradient of zeros through them alone."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.derivatives.zero_derivatives import FACTORS, LOOKS
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.index import Index


class ZeroStretch(NamedTuple):
    """Passes in a row of those looked at in which a leaf got zeros alone, for factors of zero."""

    leaf: int
    op: int
    """The last product that is on every way to it, or the last of several."""
    passes: list[PassLook]


def zero_stretches(index: Index, passes: Passes, looks: list[PassLook]) -> list[ZeroStretch]:
    """The longest such stretch of each leaf, where it is long enough."""
    behind = {look.op: _behind_zeros(index, passes, look) for look in looks}
    stretches: dict[int, list[list[PassLook]]] = {}
    for look in looks:
        for leaf in look.gradients:
            known = stretches.setdefault(leaf, [[]])
            if leaf in behind[look.op]:
                known[-1].append(look)
            else:
                known.append([])
    longest = {leaf: max(known, key=len) for leaf, known in stretches.items()}
    return [
        ZeroStretch(leaf, behind[found[-1].op][leaf], found) for leaf, found in longest.items() if len(found) >= LOOKS
    ]


def _behind_zeros(index: Index, passes: Passes, look: PassLook) -> dict[int, int]:
    """For each leaf with zeros to which a pass came through such a product alone: its op."""
    made_by, names, variable = (index.recording.nodes.column(name) for name in ("op", "name", "variable"))
    zero = {
        one.node
        for one in look.derivatives
        if is_zero(one.values)
        and index.recording.text(names[one.node]) in FACTORS
        and 0 <= made_by[one.node] < index.op_count
        and _is_scaled_number(index, one.node)
    }
    if not zero:
        return {}
    reached, todo = set[int](), list(index.root_nodes(look.op))
    while todo:
        node = todo.pop()
        if node not in reached and node not in zero:
            reached.add(node)
            todo += [after for after in index.edges.of(node) if after >= 0]
    found: dict[int, int] = {}
    for node in sorted(zero):
        for behind in passes.behind(node):
            leaf = variable[behind]
            if leaf >= 0 and behind not in reached and is_zero(look.gradients.get(leaf, (1.0, 1.0))):
                found[leaf] = made_by[node]
    return found


def _is_scaled_number(index: Index, node: int) -> bool:
    """Whether a product is a single number, of which one factor alone has a gradient."""
    op, tensors = index.recording.nodes.column("op")[node], index.recording.tensors
    shapes = {
        index.recording.text(index.recording.layouts[tensors.column("layout")[one]].shape)
        for one in index.tensors_made(op)
    }
    return shapes == {"()"} and sum(after >= 0 for after in index.edges.of(node)) == 1
