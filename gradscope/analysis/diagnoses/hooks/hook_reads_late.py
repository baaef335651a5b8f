"""A loop registers hooks that read a variable of the loop: all of them find its last value."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.called_by_torch.late_hooks import LateHook, late_hooks


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that registers several before the first of them runs."""
    spans, files = sources.index.recording.spans, sources.index.recording.files
    for hook in sources.hooks.all:
        span = spans[hook.registered[0].span]
        text = files[span.file].text if span.file >= 0 and files[span.file].is_user else ""
        late = next((one for one in late_hooks(text) if one.line <= span.line <= one.end_line), None)
        if late is not None and _run_behind_the_loop(sources, hook):
            yield _finding(sources, hook, late)


def _run_behind_the_loop(sources: Sources, hook: RegisteredHook) -> bool:
    """Whether several were registered with no pass between them, and ran later, as far as it is known of their kind."""
    first, last = hook.registered[0].op, hook.registered[-1].op
    passes = sources.hooks.pass_ops
    is_at_once = bisect_left(passes, first) == bisect_left(passes, last) < len(passes)
    has_run = hook.count("runs") > 1 if hook.is_on_tensor else True
    owners = {one.tensors[:1] for one in hook.registered}
    return len(hook.registered) > 1 and len(owners) > 1 and is_at_once and has_run


def _finding(sources: Sources, hook: RegisteredHook, late: LateHook) -> Finding:
    index, event = sources.index, hook.registered[-1]
    names, one, count = listed(late.names), late.names[0], len(hook.registered)
    return sources.finding(
        f"Line {index.span_line(event.span)}: each of the {count:,} hooks that are registered here reads {names} when "
        "it runs, behind the loop: all of them find what the last round left there",
        why="Python looks a name up when a function runs, not when it is made",
        op=min(event.op, index.op_count - 1),
        tensors=list(event.tensors[:1]),
        causes=sources.cause_of_event("made", event),
        evidence=[Evidence("events", hook.registered[0].row), Evidence("events", event.row)],
        advice=f"Bind the value when it is made: lambda grad, {one}={one}: …, or functools.partial.",
    )


DIAGNOSIS = Diagnosis(
    code="hook-reads-late",
    title="hooks of a loop that all read the last value of its variable",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop registered a lambda, or a function that is made in the loop, as a hook in each of its rounds.
            The hook reads a variable that the loop sets anew each time, and ran when the loop was over.""",
        reason="""A function has the variables around it, not their values at the time. When backward runs the hooks,
            the variable has the value of the last round, for all of them: one mask, one name, one factor.""",
        remedy="""lambda grad, mask=mask: grad * mask keeps the value as a default; functools.partial(scale, mask)
            does, and so does a function that makes the hook and is given the value.""",
    ),
    example=Example(
        shows="""\
import torch

weights = [torch.ones(3, requires_grad=True) for _ in range(2)]
masks = [torch.tensor([1.0, 0.0, 0.0]), torch.ones(3)]
for weight, mask in zip(weights, masks):
    weight.register_hook(lambda grad: grad * mask)
sum(weight.sum() for weight in weights).backward()
""",
        instead_of="weight.register_hook(lambda grad: grad * mask)",
        silent="weight.register_hook(lambda grad, mask=mask: grad * mask)",
    ),
    find=_find,
)
