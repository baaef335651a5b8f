"""Hooks that a loop registers again on the same tensor or module, while the ones before are still there."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.modules.hooks_in_chains import FORWARD_HOOKS, longest_chain, ops_in_hook, runs_between
from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.called_by_torch.hook_source import meets_parameters_again
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.calls.reached_functions import function_named, reached_functions

_TWICE = 2
AT_LEAST = 3
"""Hooks of one code on one object from which on a loop registers them."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that registers; what a hook of these registers when it runs follows from it."""
    yield from _at_once(sources)
    there_at_once = [one for one in sources.hooks.all if _there(one) >= AT_LEAST]
    chained = {id(one): _chained(sources, one) for one in there_at_once}
    repeated = [one for one in there_at_once if chained[id(one)] or _has_passes_between(sources, one)]
    for hook in repeated:
        there, last = _there(hook), hook.registered[-1]
        if any(other is not hook and other.has_call(last.span) for other in repeated):
            continue
        why = "none was removed, so all of them run in each pass"
        if hook.count("returned") or hook.count("in_place"):
            why += ", each changing the gradient once more"
        elif chained[id(hook)]:
            why = f"none was removed, and {chained[id(hook)]} of them ran in one call, each on what the one before gave"
        called = _called_in_loop(sources, last)
        by = f", as line {called[0].line} calls {called[1]} in a loop" if called is not None else ""
        yield sources.finding(
            f"Line {sources.index.span_line(last.span)}: registers {hook.name} again and again{by}, and {there} "
            f"of it are on one {'tensor' if hook.is_on_tensor else 'module'} at once",
            why=why,
            op=min(last.op, sources.index.op_count - 1),
            tensors=last.tensors[:1],
            causes=[*([called[0]] if called is not None else []), *sources.cause_of_event("made", last)],
            evidence=[Evidence("events", event.row) for event in hook.registered[-AT_LEAST:]],
            advice="Register it once, before the loop, or keep the handle and remove() it.",
        )


def _called_in_loop(sources: Sources, event: Happened) -> tuple[Cause, str] | None:
    """The one call, by its name, of the function that registers, where that stands in a loop.

    With the name; of a class's ``__init__`` that of the class.
    """
    recording = sources.index.recording
    span = recording.spans[event.span]
    text, function = recording.files[span.file].text, recording.text(span.function)
    parts = [part for part in function.split(".") if not part.startswith("<")]
    name = "_" if not parts else parts[-2] if parts[-1] == "__init__" and len(parts) > 1 else parts[-1]
    calls = calls_of(text, name) if not name.startswith("_") and name != "forward" else ()
    if len(calls) != 1 or not loops_around(text, calls[0].line):
        return None
    index = sources.index
    passes = {function_named(recording.text(index.function_of(op)[1])) for op in sources.hooks.pass_ops}
    if reached_functions(text, span.line) & passes:
        return None  # (a round of the training as a whole: what is registered is the matter, not that it is called)
    call = calls[0]
    return sources.cause_of_line("used", span.file, call.line, call.end_line, call.function or "<module>"), name


def _at_once(sources: Sources) -> Iterator[Finding]:
    """Hooks that change the gradient, registered several times by a loop that meets a tensor in each module."""
    recording = sources.index.recording
    for hook in sources.hooks.all:
        last, there = hook.registered[-1], _there(hook)
        span = recording.spans[last.span]
        if there < _TWICE or not hook.is_on_tensor or not (hook.count("returned") or hook.count("in_place")):
            continue
        if not meets_parameters_again(recording.files[span.file].text, span.line):
            continue
        most = max(hook.registered, key=lambda event: int(event.detail.get("there", 0)))
        yield sources.finding(
            f"Line {span.line}: registers {hook.name} {there} times on {sources.names.of(most.tensors[0])}",
            why="modules() gives a module and those in it, and parameters() of each gives a parameter again; all of "
            "them run in each pass, each changing the gradient once more",
            op=min(most.op, sources.index.op_count - 1),
            tensors=most.tensors[:1],
            causes=sources.cause_of_event("made", most),
            evidence=[Evidence("events", most.row)],
            advice="parameters() of the whole model gives each once, as parameters(recurse=False) of each module does.",
        )


def _there(hook: RegisteredHook) -> int:
    """How many of its code were on one object at once."""
    return max(int(event.detail.get("there", 0)) for event in hook.registered) + 1


def _chained(sources: Sources, hook: RegisteredHook) -> int:
    """How many of it ran one after the other, each on what the one before it gave, where it ran between registrations.

    A forward hook that returns something, or writes in place, does so without any backward pass.
    """
    if hook.kind not in FORWARD_HOOKS:
        return 0
    ops = ops_in_hook(sources.index, hook)
    longest = longest_chain(sources.index, ops) if runs_between(hook, ops) >= AT_LEAST else 0
    return longest if longest >= _TWICE else 0


def _has_passes_between(sources: Sources, hook: RegisteredHook) -> bool:
    """Whether backward passes ran between the registrations: several at one time may be meant to be several."""
    first: dict[int, int] = {}
    for event in hook.registered:
        first.setdefault(int(event.detail.get("there", 0)), event.op)
    return len({sources.hooks.passes_before(op) for op in first.values()}) >= AT_LEAST


DIAGNOSIS = Diagnosis(
    code="hook-registered-again",
    title="a hook that is registered again in each iteration",
    severity="warning",
    explanation=Explanation(
        meaning="""The same line registered the same hook several times on one tensor or module, with backward passes
            in between, and none of them was removed: they add up. Or it is a forward hook that changes what the module
            gives, and several of it were seen to run in one call. Or the line did so at once, in loops that meet a
            tensor several times.""",
        reason="""register_hook() and its relatives add a hook to those that are there. What it does is then done once
            more in each iteration: a gradient that it halves is halved again, a list that it fills grows faster.""",
        remedy="""Register it once, before the loop or where the module is made; or keep the handle that is returned,
            and call its remove().""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
for step in range(5):
    w.register_hook(lambda grad: grad * 0.5)
    w.sum().backward()
""",
        instead_of="w.register_hook(lambda grad: grad * 0.5)",
        silent="handle = w.register_hook(lambda grad: grad * 0.5)\nw.exp().sum().backward()\nhandle.remove()",
    ),
    find=_find,
)
