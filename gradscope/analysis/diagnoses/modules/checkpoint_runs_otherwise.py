"""Activation checkpointing where what a function reads changed: backward runs it with another mode or attribute."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.rerun_causes import causes_of_state, changed_modes, owned
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.rerun_states import FoundOtherwise, found_otherwise
from gradscope.analysis.facts.modules.rerun_tensors import RerunTensor, rerun_tensors
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.sole_callers import all_calls, function_around
from gradscope.recording.flags import RAISED


def _find(sources: Sources) -> Iterator[Finding]:
    yield from _modes(sources)
    for found in found_otherwise(sources.index, sources.events):
        if found.sort != "left" and found.is_computed_with:
            yield _state(sources, found)
    for one in rerun_tensors(sources.index, sources.events, sources.passes):
        yield _tensor(sources, one)


def _tensor(sources: Sources, one: RerunTensor) -> Finding:
    """A tensor that was another one when backward ran a function again."""
    index = sources.index
    return sources.finding(
        f"Line {index.span_line(one.stored)}: {one.name} is given another tensor between a forward pass and its "
        f"backward, and line {index.op_line(one.read)}, which line {index.span_line(one.checkpoint)} "
        "checkpoints, computes with it",
        why="backward runs the function again and computes with another value than the forward pass did, so that the "
        "gradients are not those of the values that were computed",
        op=one.read,
        tensors=[one.tensor],
        causes=[*sources.cause_of_span("set", one.stored), *sources.cause_of_span("used", one.checkpoint)],
        evidence=[Evidence("ops", one.passed)],
        advice="Hand the tensor to the function as an argument, which checkpoint keeps, or store the new one after "
        "backward.",
    )


def _state(sources: Sources, found: FoundOtherwise) -> Finding:
    """A finding about a number or a text that was another one when backward ran a function again."""
    causes, checkpoint = causes_of_state(sources, found), sources.cause_of_span("used", found.span)
    at, where = (f"line {one[0].line}" if one else "the program" for one in (causes, checkpoint))
    if found.sort == "outside":
        called = _called_from(sources, found)
        by = f", by what line {called[0].line} calls" if called else ""
        causes = [*causes, *called]
        symptom = f"{at.capitalize()}: {owned(found)} is changed between a forward pass and its backward{by}"
        if not found.lines:
            symptom = f"{at.capitalize()}: {owned(found)} was changed when backward came to what is checkpointed there"
        advice = "Change it after backward, or hand its value to the function as an argument."
    else:
        symptom = f"{at.capitalize()}: {owned(found)} is changed whenever the function runs that {where} checkpoints"
        advice = "Change it outside of what is checkpointed, or do not checkpoint that."
    return sources.finding(
        symptom,
        why="backward runs the function again and computes with another value than the forward pass did, so that the "
        "gradients are not those of the values that were computed",
        op=sources.index.op_count - 1,
        tensors=[],
        causes=[*causes, *(checkpoint if found.sort != "outside" else [])],
        evidence=[Evidence("events", found.event)],
        advice=advice,
    )


def _called_from(sources: Sources, found: FoundOtherwise) -> list[Cause]:
    """The one call of the function that changes a name, which can be put elsewhere; none where it is not clear."""
    text = sources.index.recording.files[found.file].text
    functions = {function_around(text, one.line) for one in found.lines}
    calls = (all_calls(text, functions.pop()) or ()) if len(functions) == 1 else ()
    if len(calls) != 1:
        return []
    return [sources.cause_of_line("used", found.file, calls[0].line, calls[0].end_line, "")]


def _modes(sources: Sources) -> Iterator[Finding]:
    """One finding for each call that set the mode, where backward went on without an error."""
    index, last = sources.index, dict[int, Finding]()
    flags = index.recording.ops.column("flags")
    for changed in changed_modes(sources):
        causes = sources.cause_of_event("used", changed.call.event)
        if changed.decided < 0 or flags[changed.back] & RAISED or not causes:
            continue
        name = "train()" if changed.call.training else "eval()"
        last[changed.call.event.span] = sources.finding(
            f"Line {causes[0].line}: {name} is called between a forward pass and its backward",
            why=f"backward runs what is checkpointed again, {index.call_name(changed.decided)} in another mode than "
            "the forward pass did, so that the gradients are not those of the values that were computed",
            op=changed.decided,
            tensors=list(index.uses.of(changed.decided))[:1],
            causes=causes,
            evidence=[Evidence("events", changed.call.event.row), Evidence("ops", changed.back)],
            advice="Call it after backward, or set the mode back before.",
        )
    yield from last.values()


DIAGNOSIS = Diagnosis(
    code="checkpoint-runs-otherwise",
    title="backward runs a checkpointed function with other state than the forward pass",
    severity="problem",
    explanation=Explanation(
        meaning="""Between the run of a function under torch.utils.checkpoint and the backward pass that ran it again
            something changed that it computes with: a number or a text on an object (self.temperature), by the function
            itself or by others, which tensor an attribute names (self.state), or the mode of its dropouts and
            normalizations (train(), eval()).""",
        reason="""Checkpointing keeps no activations. Backward runs the function a second time to have them, with what
            its attributes are by then. Where the two runs differ, the gradients are those of values that the forward
            pass did not compute; nothing fails unless other tensors are saved.""",
        remedy="""Change such state outside of what is checkpointed, and after backward: in the training loop. Or hand
            the value to the function as an argument, which checkpoint keeps.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.utils.checkpoint import checkpoint

class Soft(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.temperature, self.lin = 2.0, torch.nn.Linear(3, 3)
    def forward(self, x):
        share = (self.lin(x) / self.temperature).softmax(dim=-1)
        self.temperature = self.temperature * 0.5
        return share @ x.T

net, x = Soft(), torch.randn(4, 3)
y = checkpoint(net, x, use_reentrant=False)
y.sum().backward()
""",
        instead_of="y = checkpoint(net, x, use_reentrant=False)",
        silent="y = net(x)",
    ),
    find=_find,
)
