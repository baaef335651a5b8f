"""A hook that computes another value for what it is given, under a name of its own, and returns nothing."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.recording.flags import EXTERNAL

_REPLACES = {
    "tensor": "the gradient",
    "forward": "the output",
    "forward_pre": "the input",
    "backward": "the gradient of the input",
    "backward_pre": "the gradient of the output",
}
"""What a value that a hook returns takes the place of, by the kind of hook."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for hook in sources.hooks.all:
        found = hook.source.rebinds_in_vain() if hook.kind in _REPLACES else None
        if found is None or (hook.is_on_tensor and hook.did and not hook.count("runs")):
            continue
        (first, last), name = found
        lines, event = hook.lines(first, last), hook.registered[-1]
        yield sources.finding(
            f"Line {lines.line}: {hook.name}, a hook, gives {name} another value and returns nothing",
            why=f"a name of the function's own changes nothing outside; only what a hook returns takes the place of "
            f"{_REPLACES[hook.kind]}",
            op=min(event.op, index.op_count - 1),
            tensors=[],
            causes=[
                *sources.causes_at("returned", [lines]),
                *sources.cause_of_event("made", event),
            ],
            evidence=[Evidence("events", event.row)],
            advice=f"return {name} at the end of it.",
        )
    yield from _of_no_argument(sources)
    yield from _of_gradients(sources)


def _of_gradients(sources: Sources) -> Iterator[Finding]:
    """Of hooks on tensors that ran, gave nothing back and wrote nothing: where they drop another gradient."""
    for hook in sources.hooks.all:
        if hook.kind != "tensor" or not hook.count("runs") or hook.count("returned") or hook.count("in_place"):
            continue
        found = hook.source.changes_in_vain()
        if found is None or hook.source.rebinds_in_vain() is not None:
            continue
        (first, last), name = found
        event, runs = hook.registered[-1], hook.count("runs")
        lines = hook.lines(first, last)
        what = f"{name}, which nothing reads," if name else "another gradient, which nothing takes,"
        yield sources.finding(
            f"Line {lines.line}: {hook.name}, a hook, computes {what} and returns nothing",
            why=f"the gradient went on as it was in all {runs:,} runs of it: only what a hook returns takes its place"
            if runs > 1
            else "the gradient went on as it was: only what a hook returns takes its place",
            op=min(event.op, sources.index.op_count - 1),
            tensors=[],
            causes=[*sources.causes_at("returned", [lines]), *sources.cause_of_event("made", event)],
            evidence=[Evidence("events", event.row)],
            advice=f"return {name} at the end of it." if name else "Return it.",
        )


def _of_no_argument(sources: Sources) -> Iterator[Finding]:
    """Of forward hooks, what was seen computed under another name than an argument's, and gone unread.

    What takes the place of an input or output has its shape and dtype: a number for a look at them has not.
    """
    for hook in sources.hooks.all:
        found = hook.source.computes_in_vain() if hook.kind in ("forward", "forward_pre") else None
        if found is None or hook.source.rebinds_in_vain() is not None:
            continue
        (first, last), name = found
        ops = _replacing(sources, hook.ops_at(first, last))
        if not ops:
            continue
        event, times = hook.registered[-1], sources.index.times(ops)
        lines = hook.lines(first, last)
        yield sources.finding(
            f"Line {lines.line}: {hook.name}, a hook, computes {name} ({times} {'time' if times == 1 else 'times'}) "
            "and returns nothing",
            why=f"nothing reads {name}, and the module went on with what it gave to the hook: only what a hook "
            f"returns takes the place of {_REPLACES[hook.kind]}",
            op=ops[-1],
            tensors=[],
            causes=[*sources.causes_at("returned", [lines]), *sources.cause_of_event("made", event)],
            evidence=[Evidence("events", event.row)],
            advice=f"return {name} at the end of it.",
        )


def _replacing(sources: Sources, ops: list[int]) -> list[int]:
    """The last ops of the runs of a statement, where each made a tensor like one that the statement was given."""
    index, tensors = sources.index, sources.index.recording.tensors
    layouts, made_at, own = tensors.column("layout"), tensors.column("op"), set(ops)
    like: dict[int, list[int]] = {}
    spans = index.recording.ops.column("span")
    given = {
        _kind_of(sources, layouts[one])
        for op in ops
        for one in index.uses.of(op)
        if made_at[one] not in own or tensors.column("flags")[one] & EXTERNAL
    }
    for op in ops:
        like.setdefault(spans[op], []).append(op)
    outermost = max(like.values(), key=lambda several: several[-1], default=[])
    made = [[_kind_of(sources, layouts[one]) for one in index.tensors_made(op)] for op in outermost]
    return outermost if made and all(kinds and kinds[-1] in given for kinds in made) else []


def _kind_of(sources: Sources, layout: int) -> tuple[int, int]:
    """Shape and dtype, as texts of the recording."""
    row = sources.index.recording.layouts[layout]
    return row.shape, row.dtype


DIAGNOSIS = Diagnosis(
    code="hook-returns-nothing",
    title="a hook that computes another value and does not return it",
    severity="warning",
    explanation=Explanation(
        meaning="""A hook assigns to the name of one of its arguments a value that is computed from it, does not read
            the name afterwards, and has no return. Or a forward hook gives another name such a value, of the same shape
            and dtype, which nothing reads. Or a hook on a tensor that returned nothing in any of its runs computes
            another gradient (torch.clamp(grad, -1, 1)) that nothing takes.""",
        reason="""An assignment binds a name of the function's own. Autograd and modules go on with what they gave to
            the hook, unless it returns something in its place.""",
        remedy="""Return the new value: for a full backward hook a tuple of gradients of the inputs, for a forward hook
            the output, for a hook on a tensor its gradient.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)


def double(grad):
    grad = grad * 2
    print("seen")


layer.weight.register_hook(double)
layer(torch.ones(2, 3)).sum().backward()
""",
        instead_of='print("seen")',
        silent="return grad",
    ),
    find=_find,
)
