"""A hook on a tensor through which no backward pass went, though one came to what the tensor was made from."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.passes.gradient_lives import first_after
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line whose hooks never ran."""
    index, passes = sources.index, sources.passes
    tensors = index.recording.tensors
    for hook in sources.hooks.all:
        if not hook.is_on_tensor or not hook.did or hook.count("runs") or hook.count("removed"):
            continue
        for event in hook.registered:
            tensor = event.tensors[0] if event.tensors else NONE
            node = tensors.column("node")[tensor] if tensor >= 0 else NONE
            if node < 0:
                twin = _used_in_its_place(sources, event, tensor) if tensor >= 0 else None
                if twin is not None:
                    yield _on_unused(sources, hook.name, event, tensor, twin)
                    break
                continue
            if passes.first_walked_at[node] >= 0 or tensors.column("flags")[tensor] & EXTERNAL:
                continue
            later = next(
                (op for op in sources.hooks.pass_ops if op >= event.op and _came_behind(sources, node, op)), NONE
            )
            if later >= 0:
                name = sources.names.at(tensor, tensors.column("op")[tensor])
                line = index.span_line(event.span)
                yield sources.finding(
                    f"Line {line}: {hook.name}, the hook on {name}, never ran",
                    why=f"no backward pass went through {name}; what it was made from got its gradient another way",
                    op=min(event.op, index.op_count - 1),
                    tensors=[tensor],
                    causes=sources.cause_of_event("made", event),
                    evidence=[Evidence("events", event.row), Evidence("ops", later)],
                    advice="Register it on the tensor that the loss is made from.",
                )
                break


def _on_unused(sources: Sources, name: str, event: Happened, tensor: int, twin: tuple[int, int]) -> Finding:
    """A hook on a leaf that nothing was computed from."""
    index, (other, later) = sources.index, twin
    made = index.call_name(index.recording.tensors.column("op")[tensor])
    is_named = sources.names.is_named(other)
    another = f"it is another one than {sources.names.of(other)}, which" if is_named else "another one, made like it,"
    return sources.finding(
        f"Line {index.span_line(event.span)}: {name}, a hook on what {made} gave, never ran",
        why=f"nothing was computed from that tensor, {another} got the gradient",
        op=min(event.op, index.op_count - 1),
        tensors=[tensor, other],
        causes=sources.cause_of_event("made", event),
        evidence=[Evidence("events", event.row), Evidence("ops", later)],
        advice="Store it under a name, and use the one with the hook in the computation.",
    )


def _used_in_its_place(sources: Sources, event: Happened, tensor: int) -> tuple[int, int] | None:
    """A leaf that the same call made of the same memory, or that a leaf without a use lies on, with its next pass."""
    index, storages = sources.index, sources.index.recording.tensors.column("storage")
    made = index.made_by(tensor)
    is_used = any(index.tensors_made(op) for op in index.users.of(tensor))
    if is_used or not 0 <= made < index.op_count or not index.requires_grad(tensor, event.op):
        return None
    for other, passes in sources.lives.passes.items():
        later = first_after(passes, event.op - 1)
        if other == tensor or later < 0:
            continue
        if storages[other] == storages[tensor] or _made_of(index, other) == _made_of(index, tensor):
            return other, later
    return None


def _made_of(index: Index, tensor: int) -> tuple[int, int, int]:
    """What made a tensor, where, and the memory that it took; the tensor itself where that is not known."""
    op = index.made_by(tensor)
    if not 0 <= op < index.op_count or not index.uses.of(op):
        return NONE, NONE, tensor
    ops = index.recording.ops
    return ops.column("func")[op], ops.column("span")[op], index.storage_at(index.uses.of(op)[0], op)


def _came_behind(sources: Sources, node: int, op: int) -> bool:
    """Whether a pass at an op, or a later one, came to what a node leads to."""
    walked = sources.passes.last_walked_at
    return any(after >= 0 and walked[after] >= op for after in sources.index.edges.of(node))


DIAGNOSIS = Diagnosis(
    code="hook-never-ran",
    title="a hook on a tensor that no backward pass goes through",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook was registered on a tensor and never ran, though backward passes ran afterwards and came to
            what the tensor was made from: they went another way. Or nothing was computed from the tensor at all, and
            another one, which the same call had given, got the gradient: a copy that is made anew each time.""",
        reason="""A hook belongs to one tensor. Where its name is given to another one afterwards, or the loss is made
            from another branch, no gradient arrives at it.""",
        remedy="""Register the hook on the tensor that is used further on, after the last statement that rebinds its
            name; or on the leaf.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
scaled = w * 2
scaled.register_hook(lambda grad: print(grad.norm()))
scaled = w * 2
scaled.sum().backward()
""",
        instead_of="scaled = w * 2",
        silent="kept = scaled = w * 2\nkept.sum().backward()",
    ),
    find=_find,
)
