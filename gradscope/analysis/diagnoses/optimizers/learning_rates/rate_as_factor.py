"""A ``LambdaLR`` whose function returns the learning rate, where a factor of it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.called_by_torch.schedule_functions import given_rate, returned_rates
from gradscope.recording.rows import EventKind

STEPS = 2
"""Steps of the optimizer from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each scheduler that was made."""
    index, recording = sources.index, sources.index.recording
    optimizers = {one.made.subject: one for one in seen_optimizers(index, sources.events)}
    texts = [file.text for file in recording.files if file.is_user]
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer = optimizers.get(event.subject)
        if event.detail.get("scheduler") != "LambdaLR" or event.detail.get("call") != "made" or event.span < 0:
            continue
        base = optimizer.setting(min(optimizer.tensors), "lr") if optimizer is not None and optimizer.tensors else 0.0
        if optimizer is None or not 0 < base < 1:
            continue
        made, at = recording.spans[optimizer.made.span], recording.spans[event.span]
        rate = given_rate(recording.files[made.file].text, made.stmt_line, made.stmt_end_line)
        text = recording.files[at.file].text
        found = returned_rates(text, at.stmt_line, at.stmt_end_line, rate, texts) if rate else []
        steps = [op for tensor in optimizer.tensors for op in sources.lives.steps.get(tensor, ()) if is_step(index, op)]
        if not found or len(set(steps)) < STEPS:
            continue
        files = {file.text: number for number, file in enumerate(recording.files)}
        lines = dict.fromkeys(index.line(files[one.text], one.line) for one in found)
        yield sources.finding(
            f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: the function of the LambdaLR of line "
            f"{index.span_line(event.span)} gives "
            f"{found[0].source}, a learning rate",
            why=f"the scheduler multiplies what it returns by the rate {rate} = {base:g} of the {optimizer.name} of "
            f"line {optimizer.line}, so that this is in it twice",
            op=max(steps),
            tensors=sorted(optimizer.tensors)[:1],
            causes=[
                *(sources.cause_of_line("used", files[one.text], one.line, one.end_line, "") for one in found),
                *sources.cause_of_event("made", event),
            ],
            evidence=[Evidence("events", event.row), Evidence("events", optimizer.made.row)],
            advice=f"Return the factor alone, without {found[0].rate}.",
        )


DIAGNOSIS = Diagnosis(
    code="rate-as-factor",
    title="a LambdaLR whose function returns the learning rate itself",
    severity="warning",
    explanation=Explanation(
        meaning="""By the text, all that the function of a LambdaLR returns is a product with the learning rate in it,
            which the optimizer was given as lr under the same name. The rate was below 1.""",
        reason="""LambdaLR sets the rate to the optimizer's initial rate times what the function returns. Where that is
            a rate already, the two are multiplied: 0.001 becomes 0.000001, and training stands still.""",
        remedy="""Return a factor: 1.0 for the full rate. Or give the optimizer lr=1.0 and return rates.""",
    ),
    example=Example(
        shows="""\
import torch

lr, layer = 0.01, torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda step: lr * min(1.0, (step + 1) / 4),
)
for step in range(4):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.step()
""",
        instead_of="lambda step: lr * min(1.0, (step + 1) / 4),",
        silent="lambda step: min(1.0, (step + 1) / 4),",
    ),
    find=_find,
)
