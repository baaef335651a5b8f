"""A forward hook that keeps an output which the module after it overwrites in place."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.overwritten_inputs import OverwrittenInput, overwritten_inputs
from gradscope.analysis.facts.memory_writes.overwritten_outputs import OverwrittenOutputs
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.inplace_modules import made_in_place


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for one in OverwrittenOutputs(index, sources.hooks.all).found():
        event = one.hook.registered[-1]
        yield sources.finding(
            f"Line {one.kept_at.line}: {one.hook.name}, a forward hook, keeps the output that it is given, and "
            f"{index.call_name(one.written)} in place overwrote it before it was read",
            why="both are one memory, so that what was kept holds the result of the call after the module",
            op=one.read,
            tensors=[one.tensor],
            causes=[*sources.causes_at("made", [one.kept_at]), *sources.cause_of_event("made", event)],
            evidence=[Evidence("ops", one.written), Evidence("events", event.row)],
            advice="Keep a clone() of it, or make the module after it with inplace=False.",
        )
    for given in overwritten_inputs(index, sources.hooks.all):
        yield _of_input(sources, given)


def _of_input(sources: Sources, one: OverwrittenInput) -> Finding:
    """What a hook takes for the input of a module, where the module's result lies by then."""
    index, event = sources.index, one.hook.registered[-1]
    registered = sources.cause_of_event("made", event)
    at = f" (line {registered[0].line})" if registered else ""
    is_pre = one.hook.kind == "forward_pre"
    kind = "a hook before a module" if is_pre else "a forward hook"
    does = "keeps the input that it is given" if one.is_kept else "computes with the input that it is given"
    by, works = index.call_name(one.written), f"the {one.module} works in place"
    when = f"{by} overwrote it before it was read" if is_pre else f"{by} had overwritten it by then"
    return sources.finding(
        f"Line {one.at.line}: {one.hook.name}, {kind}{at}, {does}, and {when}",
        why=f"{works}, so that its result is there"
        + ("" if is_pre else "; a forward hook runs when the module is done"),
        op=one.read,
        tensors=[one.tensor],
        causes=[*registered, *_made_in_place(sources, one), *sources.causes_at("made", [one.at])],
        evidence=[Evidence("ops", one.written), Evidence("events", event.row)],
        advice="Make the module with inplace=False; or keep a clone() of it in a register_forward_pre_hook.",
    )


def _made_in_place(sources: Sources, one: OverwrittenInput) -> list[Cause]:
    """The line that makes the module, where the text has one alone that does."""
    recording = sources.index.recording
    made = [
        (number, lines)
        for number, file in enumerate(recording.files)
        if file.is_user
        for lines in made_in_place(file.text, one.module)
    ]
    return [sources.cause_of_line("made", made[0][0], *made[0][1], "")] if len(made) == 1 else []


DIAGNOSIS = Diagnosis(
    code="hook-output-overwritten",
    title="what a forward hook kept was overwritten in place",
    severity="warning",
    explanation=Explanation(
        meaning="""A forward hook keeps the output of a module as it is. A call after the module, mostly an activation
            with inplace=True, wrote that tensor, and later the program read what the hook had kept. Or a
            hook on a module that works in place keeps the module's input, or a forward hook computes with it.""",
        reason="""A hook is given the tensor itself. ReLU(inplace=True) writes its result into its input, which is the
            very tensor that was kept: the features are those after the activation.""",
        remedy="""Keep output.clone(), or make the activation with inplace=False. detach() is no copy. Where the result
            of the activation is what is wanted, hook that.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 1))
kept = {}


def keep(module, args, output):
    kept["first"] = output


net[0].register_forward_hook(keep)
net(torch.randn(3, 4)).sum().backward()
print(kept["first"].min())
""",
        instead_of='kept["first"] = output',
        silent='kept["first"] = output.clone()',
    ),
    find=_find,
)
