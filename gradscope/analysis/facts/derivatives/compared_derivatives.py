"""Backwards that return another gradient than autograd gives for the calls of their forward, as the run compared them.

Who clips, masks, rounds or draws in a backward means another gradient: nothing is said of such a one.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.drawn_factors import DRAWS
from gradscope.analysis.facts.derivatives.function_sources import Definition, Lines, WrittenBackward
from gradscope.analysis.facts.events import Events
from gradscope.frames.syntax_trees import last_name, own_parts
from gradscope.recording.rows import EventKind

_SHAPING = DRAWS | frozenset(
    """
    clamp clamp_ clamp_min clamp_max clip clip_ where sign sgn round floor ceil relu relu_ hardtanh maximum minimum
    masked_fill masked_fill_ normalize clip_grad_norm_ threshold heaviside softsign detach_
    """.split()  # noqa: SIM905 - thirty quoted names would hide them
)
_PRECONDITIONS = frozenset(("norm", "vector_norm", "solve", "inv", "inverse", "pinv", "lstsq", "cholesky_solve"))
"""Functions by which a backward rescales or preconditions a gradient, where its forward calls no such."""
_COMPARES = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


class ComparedGradient(NamedTuple):
    """An argument of a Function's, and the gradient that its backward gave for it."""

    argument: str
    least: float
    """What it is times autograd's, at the least."""
    most: float
    lines: list[Lines]
    """What computes it: the statements behind what is returned, and the return."""


def gradients_apart(events: Events, written: WrittenBackward, node: str) -> list[ComparedGradient]:
    """What a backward gives otherwise than autograd would, by the run; none where it may be meant.

    Args:
        events: Of the recording.
        written: The backward's source, with one ``return``.
        node: The name of its nodes' type.
    """
    forward = written.forward
    if forward is None or _shapes_gradients(written) or _is_given_for_backward(forward):
        return []
    names = [one.arg for one in forward.args.args[1:]]
    found = []
    for event in events.of(EventKind.DERIVATIVE):
        for one in event.detail.get("arguments", ()) if event.detail.get("node") == node else ():
            if one["position"] < len(names):
                lines = list(_lines_behind(written, one["position"]))
                found.append(ComparedGradient(names[one["position"]], one["least"], one["most"], lines))
    return found


def _shapes_gradients(written: WrittenBackward) -> bool:
    compares = (one for one in own_parts(written.definition) if isinstance(one, ast.Compare))
    if any(isinstance(one, _COMPARES) for part in compares for one in part.ops):
        return True
    called = _called(written.definition)
    of_forward = _called(written.forward) if written.forward is not None else set()
    return bool(called & _SHAPING or (called & _PRECONDITIONS and not called & _PRECONDITIONS & of_forward))


def _called(definition: Definition) -> set[str]:
    return {last_name(part.func) for part in own_parts(definition) if isinstance(part, ast.Call)}


def _is_given_for_backward(forward: Definition) -> bool:
    """Whether a forward keeps an argument that it computes nothing with: another factor for the way back."""
    context, *arguments = (one.arg for one in forward.args.args)
    kept, read = set[int](), dict[str, list[int]]()
    for part in own_parts(forward):
        if isinstance(part, ast.Assign) and all(ast.unparse(one).startswith(f"{context}.") for one in part.targets):
            kept.update(id(one) for one in ast.walk(part.value) if not isinstance(part.value, ast.Call))
        elif isinstance(part, ast.Call) and ast.unparse(part.func) == f"{context}.save_for_backward":
            kept.update(id(one) for one in ast.walk(part))
        elif isinstance(part, ast.Name) and part.id in arguments:
            read.setdefault(part.id, []).append(id(part))
    return any(kept.issuperset(places) for places in read.values())


def _lines_behind(written: WrittenBackward, position: int) -> Iterator[Lines]:
    """The statements that compute the names in what is returned at a position, in order, and the return itself."""
    returned = written.returns[0]
    value = returned.value
    elements = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
    if position < len(elements) and not any(isinstance(one, ast.Starred) for one in elements):
        element = elements[position]
        wanted = {one.id for one in ast.walk(element) if isinstance(one, ast.Name)} if element is not None else set()
        last: dict[str, ast.stmt] = {}
        for part in own_parts(written.definition):
            if isinstance(part, ast.Assign | ast.AugAssign) and _computes(part.value):
                for target in part.targets if isinstance(part, ast.Assign) else [part.target]:
                    if isinstance(target, ast.Name) and target.id in wanted:
                        last[target.id] = part
        yield from (written.lines_of(one) for one in sorted(last.values(), key=lambda one: one.lineno))
    yield written.lines_of(returned)


def _computes(value: ast.expr) -> bool:
    return any(isinstance(one, ast.BinOp | ast.UnaryOp | ast.Call) for one in ast.walk(value))
