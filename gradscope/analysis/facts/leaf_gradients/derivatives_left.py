"""Backward passes made for a derivative alone, whose other gradients a step then applies along with those of the loss.

``energy.sum().backward(create_graph=True)`` is to fill ``positions.grad``, and fills that of the parameters as well. A
penalty is written the same way (``loss.backward(create_graph=True)``, then a pass from the norm of a gradient), and
there both passes are meant: so it is looked for what the first pass started from, which the loss of the second one is
then computed from in its own right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before, ops_between
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps with such gradients from which on it is reported."""

_REDUCES = ("sum", "mean")


class DerivativeLeft(NamedTuple):
    """One line that computes a derivative by a pass that gives gradients to parameters too."""

    derivative: int
    """The last such pass."""
    of: int
    """The tensor whose derivative is computed."""
    by: int
    """The leaf by which it is, whose gradient the loss is computed from."""
    own: int
    """The pass from the loss."""
    step: int
    parameters: list[int]
    steps: list[int]


def derivatives_left(index: Index, passes: Passes, lives: GradientLives) -> Iterator[DerivativeLeft]:
    """One for each line of such a pass."""
    kinds = index.recording.ops.column("kind")
    creating = sorted(op for op in index.creating_graphs if kinds[op] == OpKind.BACKWARD)
    found: dict[int, list[DerivativeLeft]] = {}
    for parameter, steps in lives.steps.items() if creating else ():
        for step in steps:
            since = max(last_before(lives.cleared.get(parameter, []), step), last_before(steps, step))
            given = ops_between(lives.passes.get(parameter, []), since, step)
            derivatives = ops_between(creating, since, step)
            if len(given) > 1 and derivatives and derivatives[0] in given[:-1] and given[-1] not in creating:
                one = _left(index, passes, lives, derivatives[0], given[-1])
                if one is not None:
                    at = index.op_statement[derivatives[0]]
                    found.setdefault(at, []).append(one._replace(step=step, parameters=[parameter], steps=[step]))
    for group in found.values():
        steps = sorted({one.step for one in group})
        if len(steps) >= STEPS:
            parameters = sorted({tensor for one in group for tensor in one.parameters})
            yield max(group)._replace(parameters=parameters, steps=steps)


def _left(index: Index, passes: Passes, lives: GradientLives, derivative: int, own: int) -> DerivativeLeft | None:
    """Whether the loss of a pass is computed from a gradient of an earlier one, and from what that one started from."""
    nodes = index.recording.tensors.column("node")
    behind = {node for root in index.root_nodes(own) for node in passes.behind(root)}

    def is_taken(tensor: int) -> bool:
        uses = (op for op in index.users.of(tensor) if derivative < op < own)
        made = (one for op in uses for one in index.tensors_made(op))
        return any(nodes[one] >= 0 and nodes[one] in behind for one in made)

    owners = {lives.owners.get(one, NONE) for one in lives.given.get(derivative, ()) if is_taken(one)}
    if not owners or any(owner < 0 or owner in lives.steps for owner in owners):
        return None  # (a gradient that a step applies as well: a penalty on it)
    of = next((one for one in _started_from(index, derivative) if is_taken(one)), NONE)
    return DerivativeLeft(derivative, of, min(owners), own, NONE, [], []) if of >= 0 else None


def _started_from(index: Index, op: int) -> Iterator[int]:
    """What a pass started from, and what that is the sum or mean of."""
    for root in index.roots.get(op, ()):
        yield root
        made = index.made_by(root)
        if made >= 0 and index.func(made).rpartition(".")[2] in _REDUCES:
            yield from index.uses.of(made)
