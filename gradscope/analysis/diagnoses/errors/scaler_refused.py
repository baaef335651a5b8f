"""A GradScaler that refuses a call, since the round before was never closed by ``update()``."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.unclosed_rounds import UnclosedRound, unclosed_round
from gradscope.analysis.report_model import Cause
from gradscope.frames.blocks.early_exits import condition_of_last, early_exit
from gradscope.frames.calls.calls_beside import call_beside
from gradscope.frames.calls.receivers import calls_on, receivers_at

_REFUSED = {
    "unscale_() is being called after step()": "unscale_",
    "unscale_() has already been called on this optimizer": "unscale_",
    "step() has already been called since the last update()": "step",
}
"""By what torch says, the method that it refuses."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for a program that ended there: by the step that no line updates the scaler behind, or else by the
    update that did not run in the round before.
    """
    recording, outcome = sources.index.recording, sources.index.recording.info.outcome
    method = next((method for words, method in _REFUSED.items() if words in outcome.message), "")
    if outcome.kind != "exception" or not method or outcome.file < 0:
        return
    texts = [file.text for file in recording.files if file.is_user]
    text = recording.files[outcome.file].text
    for receiver in sorted(receivers_at(text, outcome.line, method)):
        name = receiver.rpartition(".")[2]
        steps = calls_on(text, name, "step")
        if not any(calls_on(one, name, "update") for one in texts):
            if steps:
                yield _never_updated(sources, receiver, method, steps)
        elif (left := unclosed_round(sources.index, sources.events, sources.lives, method)) is not None:
            updates = calls_on(text, name, "update")
            if left.is_added_to:
                yield _added_up(sources, receiver, method)
            elif updates:
                # of several, the one that the round comes to next
                update = next((one for one in updates if one[0] >= outcome.line), updates[-1])
                yield _left_out(sources, receiver, method, update, left)


def _never_updated(sources: Sources, receiver: str, method: str, steps: tuple[tuple[int, int], ...]) -> Finding:
    outcome = sources.index.recording.info.outcome
    at, step = (sources.index.line(outcome.file, line) for line in (outcome.line, steps[-1][0]))
    return sources.finding(
        f"Line {at}: {receiver}.{method}() was refused, since it came in the round before as well: no line calls "
        f"{receiver}.update(), which is to follow {receiver}.step() of line {step}",
        op=sources.index.op_count - 1,
        tensors=[],
        causes=[sources.cause_of_line("step", outcome.file, *lines, "") for lines in steps],
        advice=f"{receiver}.update() behind it sets the scale for the next round.",
    )


def _left_out(sources: Sources, receiver: str, method: str, update: tuple[int, int], left: UnclosedRound) -> Finding:
    """By the update, and by what decides that it runs: a condition around it or its call, or an exit before it."""
    index, outcome = sources.index, sources.index.recording.info.outcome
    file, text = outcome.file, index.recording.files[outcome.file].text
    causes, called = [_line(sources, *update)], call_beside(text, update[0], [outcome.line])
    reached, runs = update[0], "did not run"
    if called is not None:
        reached = called.line
        causes.append(_line(sources, called.line, called.end_line))
    if reached > outcome.line:
        leaves, condition = early_exit(text, outcome.line, reached), condition_of_last(text, outcome.line, reached)
        if condition:
            causes.append(_line(sources, condition, condition))
            runs = f"did not run: it is under the condition of line {index.line(file, condition)}"
        elif leaves is not None:
            causes.append(_line(sources, leaves.line, leaves.end_line))
            runs = f"did not run after the {leaves.word} of line {index.line(file, leaves.line)}"
    before = f", after {left.updates:,} update{'s' if left.updates > 1 else ''}" if left.updates else ""
    return sources.finding(
        f"Line {index.line(file, outcome.line)}: {receiver}.{method}() was refused{before}, since it came in the round "
        f"before as well, in which {receiver}.update() of line {index.line(file, update[0])} {runs}",
        op=index.op_count - 1,
        tensors=[],
        causes=causes,
        advice=f"{receiver}.update() has to end each round that unscales or steps, also one whose step is left out.",
    )


def _added_up(sources: Sources, receiver: str, method: str) -> Finding:
    """By the call that was refused: where rounds add up their gradients, it is one for all of them."""
    index, outcome = sources.index, sources.index.recording.info.outcome
    return sources.finding(
        f"Line {index.line(outcome.file, outcome.line)}: {receiver}.{method}() was refused, since it came in the round "
        f"before as well, to whose gradients this one added, and {receiver}.update() did not run in between",
        op=index.op_count - 1,
        tensors=[],
        causes=[_line(sources, outcome.line, outcome.line)],
        advice=f"Call {method}() once for all that is added up, where {receiver}.update() ends that.",
    )


def _line(sources: Sources, line: int, end_line: int) -> Cause:
    return sources.cause_of_line("step", sources.index.recording.info.outcome.file, line, end_line, "")


DIAGNOSIS = Diagnosis(
    code="scaler-refused",
    title="a GradScaler that is not updated in each round",
    severity="problem",
    explanation=Explanation(
        meaning="""A GradScaler raised that unscale_() or step() came a second time since the last update(), and the
            program calls update() nowhere, or not in each round: under the condition under which it steps, or behind
            what leaves the round before. Where the rounds add up their gradients, the call that was refused is to come
            once for all of them.""",
        reason="""A scaler goes round: scale(), unscale_(), step(), update(). What it knows of an optimizer (whether
            its gradients were unscaled, whether they were finite) is put back by update() alone.""",
        remedy="""scaler.update() once a round, behind the last scaler.step(), and also where that is left out since the
            gradients were too large.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")
for batch in torch.ones(3, 2, 3):
    optimizer.zero_grad()
    scaler.scale(layer(batch).sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
""",
        instead_of="scaler.step(optimizer)",
        silent="scaler.step(optimizer), scaler.update()",
    ),
    find=_find,
)
