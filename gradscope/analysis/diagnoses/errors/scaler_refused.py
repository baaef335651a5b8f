"""A GradScaler that refuses a call, since the round before was never closed by ``update()``."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.frames.calls.receivers import calls_on, receivers_at

_REFUSED = {
    "unscale_() is being called after step()": "unscale_",
    "unscale_() has already been called on this optimizer": "unscale_",
    "step() has already been called since the last update()": "step",
}
"""By what torch says, the method that it refuses."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for a program that ended there and has no call of update() on that scaler in any of its files."""
    recording, outcome = sources.index.recording, sources.index.recording.info.outcome
    method = next((method for words, method in _REFUSED.items() if words in outcome.message), "")
    if outcome.kind != "exception" or not method or outcome.file < 0:
        return
    texts = [file.text for file in recording.files if file.is_user]
    text = recording.files[outcome.file].text
    for receiver in sorted(receivers_at(text, outcome.line, method)):
        name = receiver.rpartition(".")[2]
        steps = calls_on(text, name, "step")
        if not steps or any(calls_on(one, name, "update") for one in texts):
            continue
        at, step = (sources.index.line(outcome.file, line) for line in (outcome.line, steps[-1][0]))
        yield sources.finding(
            f"Line {at}: {receiver}.{method}() was refused, since it came in the round before as well: no line calls "
            f"{receiver}.update(), which is to follow {receiver}.step() of line {step}",
            op=sources.index.op_count - 1,
            tensors=[],
            causes=[sources.cause_of_line("step", outcome.file, *lines, "") for lines in steps],
            advice=f"{receiver}.update() behind it sets the scale for the next round.",
        )


DIAGNOSIS = Diagnosis(
    code="scaler-refused",
    title="a GradScaler that is never updated",
    severity="problem",
    explanation=Explanation(
        meaning="""A GradScaler raised that unscale_() or step() came a second time since the last update(), and the
            program calls update() nowhere.""",
        reason="""A scaler goes round: scale(), unscale_(), step(), update(). What it knows of an optimizer (whether
            its gradients were unscaled, whether they were finite) is put back by update() alone.""",
        remedy="scaler.update() once a round, behind the last scaler.step().",
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
