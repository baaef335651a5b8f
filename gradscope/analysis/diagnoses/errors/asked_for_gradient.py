"""A gradient was asked for of a tensor that the root was not made from, or that does not require grad."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.compiled_results import ADVICE, beside_compiled
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.steps_between import step_between
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, EXTERNAL, RAISED
from gradscope.recording.rows import EventKind, Field, OpKind

_UNUSED = "appears to not have been used in the graph"
_UNTRACKED = (
    "of the differentiated Tensors does not require grad",
    "cannot register a hook on a tensor that doesn't require gradient",
    "can't retain_grad on Tensor that has requires_grad=False",
)
_POSITION = re.compile(r"Tensor at index (\d+)")


class _Absence(NamedTuple):
    """Why there is no gradient, the lines to change, and what to do."""

    why: str
    causes: list[Cause]
    advice: str


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    yield from _find_hooks(sources)
    yield from _find_given_none(sources)
    index = sources.index
    raised = sources.raised(_UNUSED, *_UNTRACKED)
    last = {index.op_statement[op]: (op, message, severity) for op, message, severity in raised if index.uses.of(op)}
    for op, message, severity in last.values():
        tensor = _meant(sources, op, message)
        if tensor < 0 or (_UNUSED in message and _is_view_of_used(sources, op, tensor)):
            continue
        reason = _unused(sources, op, tensor) if _UNUSED in message else _untracked(sources, op, tensor)
        yield sources.finding(
            f"Line {index.op_line(op)}: {index.call_name(op)} failed for {sources.names.at(tensor, op)}",
            why=reason.why,
            op=op,
            tensors=[tensor],
            causes=reason.causes,
            advice=reason.advice,
            severity=severity,
        )


def _find_hooks(sources: Sources) -> Iterator[Finding]:
    """Hooks that were to be registered on a tensor that does not require grad."""
    index = sources.index
    for event in sources.events.of(EventKind.REFUSED):
        message, error, call = (str(event.detail.get(name, "")) for name in ("message", "error", "call"))
        if not index.op_count or not event.tensors or not any(one in message for one in _UNTRACKED):
            continue
        op, tensor = min(event.op, index.op_count - 1), event.tensors[0]
        here = sources.cause_of_event("used", event)
        reason = _untracked(sources, op, tensor)
        yield sources.finding(
            f"Line {here[0].line if here else 0}: {call} failed for {sources.names.at(tensor, op)}",
            why=reason.why,
            op=op,
            tensors=[tensor],
            causes=[*reason.causes[:1], *here],
            evidence=[Evidence("events", event.row)],
            advice=reason.advice,
            severity=sources.severity_of_error(event.span, error, message),
        )


def _find_given_none(sources: Sources) -> Iterator[Finding]:
    """Calls with allow_unused that asked for one tensor and got None, since it was made beside the way to the root.

    What torch or a library asks in a call of the program's (``hessian``, ``jacobian``) is no question of the program's,
    and what it asks for are tensors that only it holds.
    """
    index = sources.index
    flags, asked = index.recording.ops.column("flags"), dict[int, tuple[int, int]]()
    for op in index.of_kind(OpKind.GRAD):
        roots = sources.gradients.roots.get(op, [])
        tensors = index.uses.of(op)[len(roots) :]
        gave = index.tensors_made(op) or index.results.of(op)
        if len(tensors) == 1 and roots and not flags[op] & (RAISED | BELOW) and not gave:
            asked[index.op_statement[op]] = op, tensors[0]
    for op, tensor in asked.values():
        roots = sources.gradients.roots[op]
        steps = sources.flow.origins_of_all(roots, op)
        if tensor in steps or not index.requires_grad(tensor, op) or _is_view_of_used(sources, op, tensor):
            continue
        reason = _made_beside(sources, op, tensor, listed([sources.names.at(one, op) for one in roots]), set(steps))
        if reason is not None:
            yield sources.finding(
                f"Line {index.op_line(op)}: {index.call_name(op)} gave no gradient (None) for "
                f"{sources.names.at(tensor, op)}",
                why=reason.why,
                op=op,
                tensors=[tensor],
                causes=reason.causes,
                advice=reason.advice,
                severity="warning",
            )


def _meant(sources: Sources, op: int, message: str) -> int:
    """The tensor that the message is about; NONE where it is not clear which."""
    index, taken = sources.index, list(sources.index.uses.of(op))
    if "differentiated" not in message:
        return taken[0]
    asked_for = taken[len(sources.gradients.roots.get(op, ())) :]
    if match := _POSITION.search(message):
        position = int(match[1])
        return asked_for[position] if position < len(asked_for) else NONE
    if _UNUSED in message:
        behind = sources.flow.origins_of_all(sources.gradients.roots.get(op, []), op)
        asked_for = [tensor for tensor in asked_for if tensor not in behind]
    else:
        asked_for = [tensor for tensor in asked_for if not index.requires_grad(tensor, op)]
    return asked_for[0] if asked_for else NONE


def _untracked(sources: Sources, op: int, tensor: int) -> _Absence:
    """It does not require grad: the graph was cut on the way to it, or nothing was ever set to require grad."""
    index, made = sources.index, sources.index.recording.tensors.column("op")[tensor]
    steps = sources.flow.origins(tensor, op)
    leaves = [one for one in steps if one != tensor and index.is_leaf_with_grad(one, op)]
    cuts = [step.op for leaf in leaves for step in sources.flow.path(steps, leaf) if step.loses]
    if not cuts and made < index.op_count and sources.cuts.is_cut[made]:
        cuts = [made]
    if cuts:
        return _Absence(
            f"it does not require grad, the graph was cut at {sources.cuts.where(cuts[0])}",
            sources.cut_causes(cuts[:1]),
            "",
        )
    return _Absence(
        f"it does not require grad ({sources.made(tensor)})",
        [*sources.made_at(tensor), *sources.cause("used", op)],
        "Call requires_grad_() on it before it is used.",
    )


def _unused(sources: Sources, op: int, tensor: int) -> _Absence:
    """It requires grad, and the graph behind the root does not lead to it."""
    index, roots = sources.index, sources.gradients.roots.get(op, [])
    root = listed([sources.names.at(one, op) for one in roots])
    steps = sources.flow.origins_of_all(roots, op)
    cut = next((step.op for step in sources.flow.path(steps, tensor) if step.loses), NONE)
    if cut >= 0:
        return _Absence(
            f"the graph from it to {root} was cut at {sources.cuts.where(cut)}", sources.cut_causes([cut]), ""
        )
    way = sources.flow.path(steps, tensor)
    if way and not index.requires_grad(tensor, way[0].op):
        used, set_at = index.op_line(way[0].op), _set_at(sources, tensor, way[0].op, op)
        later = f", line {set_at[0].line} set that later" if set_at else ""
        return _Absence(
            f"it did not require grad when line {used} used it for {root}{later}",
            [*set_at, *sources.cause("used", way[0].op)],
            "Call requires_grad_() on it before that.",
        )
    if tensor in steps:
        return _Absence(f"the graph behind {root} does not lead to it", sources.cause("used", op), "")
    return (
        _made_beside(sources, op, tensor, root, set(steps))
        or _left_torch(sources, op, tensor)
        or _stepped(sources, op, tensor, root, steps)
        or _never_used(sources, op, tensor, root)
    )


def _set_at(sources: Sources, tensor: int, after: int, before: int) -> list[Cause]:
    """The line that made a tensor require grad, between two ops."""
    changes = sources.index.recording.changes
    columns = (changes.column(name) for name in ("tensor", "field", "op"))
    rows = zip(*columns, strict=True)
    ops = [op for one, field, op in rows if one == tensor and field == Field.REQUIRES_GRAD and after < op < before]
    return sources.cause("set", ops[-1]) if ops else []


def _made_beside(sources: Sources, op: int, tensor: int, root: str, behind: set[int]) -> _Absence | None:
    """It was made from a tensor behind the root, and the root was made from that tensor: ``grad(u, x[:, :1])``.

    So were both results of one compiled function.
    """
    index, tensors = sources.index, sources.index.recording.tensors
    compiled = beside_compiled(sources, tensor, sources.gradients.roots.get(op, []))
    if compiled is not None:
        why, causes = compiled
        return _Absence(why, [*causes, *sources.cause("backward", op)], ADVICE)
    made = tensors.column("op")[tensor]
    if tensors.column("flags")[tensor] & EXTERNAL or made >= index.op_count:
        return None
    shared = [one for one in index.uses.of(made) if one in behind and index.requires_grad(one, op)]
    if not shared:
        return None
    known = sources.names.at(shared[0], made)
    its_own = "the tensor of that name before it" if known == sources.names.at(tensor, op) else known
    return _Absence(
        f"{root} was not made from it but from {its_own}; it is a new tensor, which line {index.op_line(made)} made "
        f"by {index.call_name(made)}",
        sources.made_at(tensor),
        f"Compute {root} from it, or ask for the gradient of what it was made from.",
    )


def _left_torch(sources: Sources, op: int, tensor: int) -> _Absence | None:
    """What was made of it left torch as plain values, of which the root was built anew."""
    reason = sources.gradients.reason_for(op, tensor)
    if reason is None or reason.cut_op < 0:
        return None
    return _Absence(reason.why, sources.cut_causes([reason.cut_op]), "")


def _stepped(sources: Sources, op: int, tensor: int, root: str, behind: Collection[int]) -> _Absence | None:
    """The weights that the root was made from were written in place with the gradients of a pass through it."""
    index = sources.index
    between = step_between(index, sources.passes, tensor, behind, op)
    if between is None:
        return None
    names = sources.listed([sources.names.at(leaf, between.wrote) for leaf in between.leaves])
    wrote = index.op_line(between.wrote)
    return _Absence(
        f"line {wrote} ({index.call_name(between.wrote)}) writes {names} in place, with the gradients of line "
        f"{index.op_line(between.passed)}, and a step is no part of the graph: no way leads through it to {root}",
        [*sources.cause("cut", between.wrote), *sources.cause("backward", between.passed)],
        "Make the step with autograd.grad(..., create_graph=True) and new tensors: p - lr * g, for functional_call.",
    )


def _is_view_of_used(sources: Sources, op: int, tensor: int) -> bool:
    """Whether it is a view of what the root was made from: there is a diagnosis of its own for that."""
    index = sources.index
    made, on = index.recording.tensors.column("op")[tensor], index.storage_at(tensor, op)
    if index.is_leaf(tensor) or made >= index.op_count or on < 0:
        return False
    behind = sources.flow.origins_of_all(sources.gradients.roots.get(op, []), op)
    return tensor not in behind and any(
        one in behind and index.storage_at(one, op) == on for one in index.uses.of(made)
    )


def _never_used(sources: Sources, op: int, tensor: int, root: str) -> _Absence:
    index, uses = sources.index, sources.flow.computed_with(tensor, op)
    advice = "Use it there, or pass allow_unused=True and take None for it."
    if not uses:
        return _Absence(
            f"no call was seen to use it before, so {root} was not made from it", sources.cause("backward", op), advice
        )
    return _Absence(
        f"line {index.op_line(uses[-1])} uses it, and no way from there to {root} was seen",
        [*sources.cause("used", uses[-1]), *sources.cause("backward", op)],
        advice,
    )


DIAGNOSIS = Diagnosis(
    code="asked-for-gradient",
    title="a gradient was asked for that there is none of",
    severity="problem",
    explanation=Explanation(
        meaning="""autograd.grad raised since one of the tensors whose gradient it was asked for was not used for the
            output or does not require grad, or gave None for it with allow_unused=True; or a hook or retain_grad() was
            asked for on a tensor that does not.""",
        reason="""Autograd goes from the output back through the very tensors that it was computed from. A copy that is
            made for the question, or a name that was given to another tensor meanwhile, is none of those, though it
            holds the same values.""",
        remedy="""Compute the output from the tensor that is asked about, or ask about the one that it was computed
            from. Where a tensor may be unused, allow_unused=True gives None for it, and materialize_grads=True
            zeros.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, 2, requires_grad=True)
u = (x**2).sum()
x = x * 1.0
(slope,) = torch.autograd.grad(u, x)
""",
        instead_of="x = x * 1.0",
        silent="x.mul(1.0)",
    ),
    find=_find,
)
