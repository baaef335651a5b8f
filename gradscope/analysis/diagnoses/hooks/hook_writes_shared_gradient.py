"""A hook that writes its gradient in place, where the same gradient goes to another tensor as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE

_HANDS_ON = ("AddBackward0",)
"""Nodes that give the gradient that they get, itself, to both of their inputs."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that registers such a hook."""
    for hook in sources.hooks.all:
        is_written = hook.count("in_place") or (hook.count("runs") and hook.source.writes_data)
        if hook.kind != "tensor" or not is_written:
            continue
        for event in hook.registered:
            shared = _shared_with(sources, event.tensors[0]) if event.tensors else (NONE, NONE)
            if shared[0] < 0:
                continue
            writes = hook.source.writes
            registered = sources.cause_of_event("made", event)
            causes = sources.causes_at("write", [hook.lines(*lines) for lines in writes[:1]]) or registered
            own, other = (sources.names.of(tensor) for tensor in (event.tensors[0], shared[0]))
            yield sources.finding(
                f"Line {causes[0].line if causes else 0}: {hook.name}, a hook on {own}, writes its gradient in place",
                why=f"the addition of {own} and {other} gives both one gradient, so that of {other} is changed too",
                op=shared[1],
                tensors=[event.tensors[0], shared[0]],
                causes=causes,
                evidence=[Evidence("events", event.row)],
                advice="A hook is to return a new gradient: return grad * 0.1.",
            )
            break


def _shared_with(sources: Sources, tensor: int) -> tuple[int, int]:
    """The tensor that gets the same gradient, later, and the op that took both; NONE where that is not known.

    Of two results the one that was made later is reached first: a write there is seen by the other one. Of a leaf it is
    not known when its gradient is taken.
    """
    index, recording = sources.index, sources.index.recording
    node, made_at = recording.tensors.column("node")[tensor], recording.tensors.column("op")
    names, made_by, variable = (recording.nodes.column(name) for name in ("name", "op", "variable"))
    for op in index.users.of(tensor) if node >= 0 else ():
        taken = list(index.uses.of(op))
        if len(taken) != 2 or "alpha" in index.span_source(op):
            continue
        other = taken[1 - taken.index(tensor)]
        is_alike = len({recording.layouts[recording.tensors.column("layout")[one]].shape for one in taken}) == 1
        before = recording.tensors.column("node")[other]
        if other == tensor or not is_alike or before < 0 or variable[before] >= 0 or made_at[other] >= made_at[tensor]:
            continue
        for result in index.tensors_made(op):
            adds = recording.tensors.column("node")[result]
            is_walked = adds >= 0 and sources.passes.first_walked_at[adds] >= 0 and made_by[adds] == op
            if is_walked and recording.text(names[adds]) in _HANDS_ON:
                return other, op
    return NONE, NONE


DIAGNOSIS = Diagnosis(
    code="hook-writes-shared-gradient",
    title="a hook that changes the gradient of another tensor too",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook wrote the gradient that it was given in place. The tensor was added to another one, and both
            get the very same gradient: the other one's was changed with it.""",
        reason="""The backward of an addition makes no copies: it hands one gradient on to both inputs. torch asks hooks
            not to modify their argument, and does not check.""",
        remedy="Return a new gradient instead of writing it: return grad * 0.1, return grad.clamp(-1, 1).",
    ),
    example=Example(
        shows="""\
import torch


def damp(grad):
    grad.mul_(0.1)


w = torch.ones(3, requires_grad=True)
skip = w * 2
branch = skip.exp()
branch.register_hook(damp)
(skip + branch).pow(2).sum().backward()
""",
        instead_of="grad.mul_(0.1)",
        silent="return grad * 0.1",
    ),
    find=_find,
)
