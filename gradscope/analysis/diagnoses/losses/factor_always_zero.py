"""Dropout that drops everything, and a coefficient that is made whole and stays 0."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.zero_numbers import ZeroNumber, zero_numbers
from gradscope.analysis.facts.modules.places_of_modules import only_module
from gradscope.analysis.report_model import Evidence
from gradscope.frames.values.whole_numbers import whole_number
from gradscope.recording.flags import BELOW

_DROPS = {
    "dropout": "Dropout",
    "dropout1d": "Dropout1d",
    "dropout2d": "Dropout2d",
    "dropout3d": "Dropout3d",
    "alpha_dropout": "AlphaDropout",
}


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in zero_numbers(index, sources.looks):
        if index.func(found.op).rpartition(".")[2] in _DROPS:
            yield _dropped(sources, found)
        elif (finding := _whole(sources, found)) is not None:
            yield finding


def _dropped(sources: Sources, found: ZeroNumber) -> Finding:
    index, op = sources.index, found.op
    is_below = bool(index.recording.ops.column("flags")[op] & BELOW)
    made_at = only_module(index, _DROPS[index.func(op).rpartition(".")[2]]) if is_below else None
    line, causes = index.op_line(op), sources.cause("used", op)
    if made_at is not None:
        line = index.line(*made_at)
        causes = [sources.cause_of_line("made", *made_at, made_at[1], ""), *causes]
    return sources.finding(
        f"Line {line}: this {index.func(op).rpartition('.')[2]} drops every element (p=1)",
        why=f"what comes out of it is zero in all {len(found.passes)} passes looked at, and no gradient goes back "
        "through it",
        op=op,
        tensors=list(index.uses.of(op))[:1],
        causes=causes,
        evidence=[Evidence("events", look.event) for look in found.passes],
        advice="p is the share that is dropped, not the share that is kept.",
    )


def _whole(sources: Sources, found: ZeroNumber) -> Finding | None:
    """A product whose other factor the source divides and makes whole."""
    index, op = sources.index, found.op
    file = index.statements[index.op_statement[op]].file
    if file < 0 or not index.recording.files[file].is_user:
        return None
    text = index.recording.files[file].text
    whole = whole_number(text, index.op_line(op), index.span_source(op, exact=True))
    if whole is None:
        return None
    tensor = index.uses.of(op)[0]
    return sources.finding(
        f"Line {index.line(file, whole.line)}: {whole.source} is a whole number, and was 0 in all {len(found.passes)} "
        "backward passes looked at",
        why=f"{sources.names.at(tensor, op)}, which is multiplied with it, has no part in the loss",
        op=op,
        tensors=[tensor],
        causes=[sources.cause_of_line("set", file, whole.line, whole.end_line, ""), *sources.cause("used", op)],
        evidence=[Evidence("events", look.event) for look in found.passes],
        advice="Divide with / and leave it as it is.",
    )


DIAGNOSIS = Diagnosis(
    code="factor-always-zero",
    title="a factor that is zero in every pass",
    severity="warning",
    explanation=Explanation(
        meaning="""In every backward pass that was looked at, with optimizer steps among them, a dropout dropped all of
            what it was given, or a term was multiplied with a number that the source divides and makes whole
            (step // warmup, int(step / total)) and that was 0.""",
        reason="""p of dropout is the share that is dropped; other libraries ask for the share that is kept. A whole
            quotient is 0 until the divisor is reached. A gradient times 0 is 0.""",
        remedy="""dropout(p=1 - keep); step / warmup instead of step // warmup. A plain 0 as a weight may be meant: it
            is not reported.""",
    ),
    example=Example(
        shows="""\
import torch

first, second = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
for step in range(4):
    weight = step // 10
    optimizer.zero_grad()
    loss = first(torch.ones(2, 3)).sum() + weight * second(torch.ones(2, 3)).sum()
    loss.backward()
    optimizer.step()
""",
        instead_of="weight = step // 10",
        silent="weight = step / 10",
    ),
    find=_find,
)
