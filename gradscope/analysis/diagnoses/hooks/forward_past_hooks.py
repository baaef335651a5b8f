"""``forward`` of a module is called in place of the module, and the hooks on it do not run."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed
from gradscope.recording.rows import EventKind

_CALLED = ".forward"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that calls ``forward`` of a module with hooks."""
    index = sources.index
    said: set[int] = set()
    for event in sources.events.of(EventKind.DIRECT_FORWARD):
        hooks = [hook for hook in sources.hooks.all if _is_past(sources, hook, event)]
        if event.span < 0 or event.span in said or not hooks:
            continue
        said.add(event.span)
        names, them = listed([hook.name for hook in hooks]), len(hooks) > 1
        spans = index.recording.ops.column("span")
        last = max((op for op in range(index.op_count) if spans[op] == event.span), default=event.op)
        line = index.span_line(event.span)
        yield sources.finding(
            f"Line {line}: {event.detail.get('module')}.forward is called in place of "
            f"the module, so that {names}, {'hooks' if them else 'the hook'} on it, {'do' if them else 'does'} not run",
            op=min(last, index.op_count - 1),
            tensors=[],
            causes=sources.cause_of_event("used", event),
            evidence=[Evidence("events", event.row), *(Evidence("events", hook.registered[0].row) for hook in hooks)],
            advice="Call the module itself: it runs forward and its hooks.",
        )


def _is_past(sources: Sources, hook: RegisteredHook, event: Happened) -> bool:
    """Whether a hook was on the module when its forward was called so, and not by the hook's own code."""
    registered = [one for one in hook.registered if one.detail.get("on") == event.subject]
    if hook.is_on_tensor or not registered or hook.has_call(event.span):
        return False
    spans = sources.index.recording.ops.column("span")
    is_later = any(spans[op] == event.span for op in range(registered[0].op, len(spans)))
    return registered[0].op <= event.op or is_later


DIAGNOSIS = Diagnosis(
    code="forward-past-hooks",
    title="forward of a module with hooks is called directly",
    severity="warning",
    explanation=Explanation(
        meaning="""The program registered hooks on a module and calls module.forward(...) instead of module(...), at
            the named line: there the hooks do not run.""",
        reason="""Hooks are run by the call of a module (Module.__call__), which calls forward between them. forward
            itself knows nothing of them. What a hook was to keep stays as it was, mostly None, and no error tells.""",
        remedy="""Call the module: module(x) in place of module.forward(x).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

layer, seen = nn.Linear(3, 2), []
layer.register_forward_hook(lambda module, given, result: seen.append(result))
y = layer.forward(torch.ones(1, 3))
y.sum().backward()
""",
        instead_of="y = layer.forward(torch.ones(1, 3))",
        silent="y = layer(torch.ones(1, 3))",
    ),
    find=_find,
)
