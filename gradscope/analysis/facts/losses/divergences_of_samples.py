"""Differences of log-densities of a sample that was drawn without a graph from what one of them is computed with.

``x = q.sample(); loss = (q.log_prob(x) - target(x)).mean()``: a divergence, if ``x`` had its way back to ``q``. As it
is, the second part has no gradient at all, and the gradient of the first is zero on average, whatever the target is.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, RAISED
from gradscope.recording.rows import OpKind

_DIFFERENCES = frozenset(("add", "sub", "__add__", "__radd__", "__sub__", "__rsub__", "rsub"))
_LINEAR = frozenset(("mean", "sum", "neg", "__neg__", "squeeze", "view", "reshape", "nanmean"))
_READS = frozenset(("item", "size", "dim", "tolist", "isfinite", "isnan", "all", "any"))
_FOLLOWED = 2_000
"""Tensors that are followed back from one part."""


class DivergenceOfSample(NamedTuple):
    """One line that draws."""

    drawn: int
    """The op that made the sample."""
    sample: int
    scored: int
    """The op that made its log-probability."""
    constant: int
    """The other part."""
    difference: int
    """The op that took both."""
    leaves: list[int]
    backward: int


def divergences_of_samples(index: Index, passes: Passes) -> Iterator[DivergenceOfSample]:
    """For each line that draws, that of the last pass."""
    kinds, flags = (index.recording.ops.column(name) for name in ("kind", "flags"))
    last = {index.op_statement[op]: op for op in index.roots if kinds[op] == OpKind.BACKWARD and not flags[op] & RAISED}
    found = dict[int, DivergenceOfSample]()
    for backward in sorted(last.values()):
        for root in index.roots[backward]:
            if (one := _found(index, passes, backward, root)) is not None:
                found[index.op_statement[one.drawn]] = one
    yield from found.values()


def _found(index: Index, passes: Passes, backward: int, root: int) -> DivergenceOfSample | None:
    difference = _difference(index, root, backward)
    if difference < 0:
        return None
    tracked, constant = _parts(index, difference)
    scored = _log_probability(index, tracked, difference)
    if scored < 0 or not index.is_floating(constant):
        return None
    leaves = passes.leaves_behind(index.recording.tensors.column("node")[tracked])
    samples = _behind(index, constant, partial(_is_drawn, index))
    drawn = [one for one in samples.ends if one in _behind(index, tracked, partial(_is_drawn, index)).ends]
    if len(drawn) != 1 or not leaves.isdisjoint(samples.passed) or not index.is_floating(drawn[0]):
        return None
    made = index.made_by(drawn[0])
    if _called_on(index, made) != _called_on(index, scored):
        return None
    is_its_own = bool(leaves) and leaves <= _behind(index, drawn[0], lambda _: False).passed
    if not is_its_own or _changed(index, leaves, made, scored):
        return None
    return DivergenceOfSample(made, drawn[0], scored, constant, difference, sorted(leaves), backward)


def _changed(index: Index, leaves: set[int], first: int, last: int) -> bool:
    """Whether a program wrote some leaves between two ops."""
    storages = {index.storage_at(leaf, first) for leaf in leaves}
    writes = (one for one in writes_by_program(index) if first < one[0] < last)
    return any(index.storage_at(tensor, op) in storages for op, tensor, *_ in writes)


def _difference(index: Index, tensor: int, before: int) -> int:
    """The op that put two parts together of which one has a graph, linear calls apart; NONE for none.

    None either where anything else takes what it gave: a weight, a baseline, a score function.
    """
    for _ in range(len(_LINEAR)):
        op = index.made_by(tensor)
        if op < 0 or not _has_one_user(index, tensor, before):
            return NONE
        name = index.method(op).rpartition(".")[2]
        tracked, others = _parted(index, op)
        if name in _DIFFERENCES and len(tracked) == 1 and len(others) == 1:
            return op
        if len(tracked) != 1 or (others and any(not index.has_one_element(one) for one in others)):
            return NONE
        if name not in _LINEAR and name not in ("mul", "div", "__truediv__"):
            return NONE
        tensor = tracked[0]
    return NONE


def _parts(index: Index, op: int) -> tuple[int, int]:
    tracked, others = _parted(index, op)
    return tracked[0], others[0]


def _parted(index: Index, op: int) -> tuple[list[int], list[int]]:
    """What an op takes that has a graph, and the rest."""
    uses = list(index.uses.of(op))
    tracked = [one for one in uses if index.requires_grad(one, op)]
    return tracked, [one for one in uses if one not in tracked]


def _has_one_user(index: Index, tensor: int, before: int) -> bool:
    users = [op for op in index.users.of(tensor) if op <= before]
    return len([op for op in users if index.call_name(op).rpartition(".")[2] not in _READS]) == 1


def _log_probability(index: Index, tensor: int, before: int) -> int:
    """The op in a call of ``log_prob`` that made a tensor, sums apart, and that nothing else takes; NONE for none."""
    for _ in range(len(_LINEAR)):
        op = index.made_by(tensor)
        if op < 0 or not _has_one_user(index, tensor, before):
            return NONE
        if _is_call_of(index, op, "log_prob"):
            return op
        tracked, others = _parted(index, op)
        if index.method(op).rpartition(".")[2] not in _LINEAR or len(tracked) != 1 or others:
            return NONE
        tensor = tracked[0]
    return NONE


class _Behind(NamedTuple):
    ends: list[int]
    """Where the ways back were left."""
    passed: set[int]
    """All others on them."""


def _behind(index: Index, tensor: int, is_end: Callable[[int], bool]) -> _Behind:
    stack, ends, passed = [tensor], dict[int, None](), set[int]()
    while stack and len(passed) < _FOLLOWED:
        one = stack.pop()
        if is_end(one):
            ends[one] = None
        elif one not in passed:
            passed.add(one)
            stack += index.uses.of(op) if (op := index.made_by(one)) >= 0 else ()
    return _Behind(list(ends), passed)


def _is_drawn(index: Index, tensor: int) -> bool:
    """Whether a call of a ``sample`` gave a tensor, without a graph."""
    op = index.made_by(tensor)
    if op < 0 or index.recording.tensors.column("flags")[tensor] & EXTERNAL:
        return False
    return not index.requires_grad(tensor, op + 1) and _is_call_of(index, op, "sample")


def _is_call_of(index: Index, op: int, name: str) -> bool:
    """Whether an op is what a program called by a name, or a library in that call."""
    called = _called(index, op)
    if called is None or called.attr != name:
        return False
    return index.call_name(op).rpartition(".")[2] == name or index.recording.ops.column("inner")[op] >= 0


def _called_on(index: Index, op: int) -> str:
    """The text of the object whose method an op is a call of."""
    called = _called(index, op)
    return ast.unparse(called.value) if called is not None else ""


def _called(index: Index, op: int) -> ast.Attribute | None:
    tree = parsed(index.span_source(op, exact=True))
    value = tree.body[0].value if tree is not None and tree.body and isinstance(tree.body[0], ast.Expr) else None
    return value.func if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else None
