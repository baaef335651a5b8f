"""A seed that is set again and again for something beside the training, which then draws the same numbers again."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.program.repeated_draws import RepeatedDraws, repeated_draws
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each place that seeds."""
    for one in repeated_draws(sources.index, sources.events, sources.passes, sources.lives):
        yield _finding(sources, one)


def _finding(sources: Sources, one: RepeatedDraws) -> Finding:
    index, last = sources.index, one.draws[-1]
    called = listed(list(dict.fromkeys(index.call_name(op) for op in one.draws)))
    place, *around = _places(sources, one.through)
    helper = f" (torch.manual_seed at line {index.span_line(around[0])})" if around else ""
    return sources.finding(
        f"Line {index.op_line(last)}: the training draws the same numbers again and again ({called}, in "
        f"{one.stretches:,} stretches of it that were looked at, the generator went through the same states)",
        why=f"line {index.span_line(place)} seeds the generator of the whole program with {one.seed} "
        f"before each{helper}",
        op=last,
        tensors=index.tensors_made(last)[:1],
        causes=[cause for span in (place, *around) for cause in sources.cause_of_span("set", span)],
        evidence=[Evidence("events", call.row) for call in one.calls],
        advice="Let what is to be the same each time draw from a torch.Generator of its own, or inside of "
        "torch.random.fork_rng().",
    )


def _places(sources: Sources, through: tuple[int, ...]) -> list[int]:
    """The line to change first: where a helper that does no more than seed was called, and the helper's after it."""
    index = sources.index
    spans = index.recording.spans
    if len(through) > 1:
        own = (spans[through[0]].file, spans[through[0]].function)
        ran = {(spans[one].file, spans[one].function) for one in set(index.recording.ops.column("span")) if one >= 0}
        if own not in ran:
            return [through[1], through[0]]
    return [through[0]]


DIAGNOSIS = Diagnosis(
    code="draws-repeat",
    title="a seed that is set again in the middle of the training, so that its random numbers repeat",
    severity="warning",
    explanation=Explanation(
        meaning="""torch.manual_seed was called several times with one seed, by something that runs beside the training
            of one model (a preview, an evaluation). After each call the training went on and drew random numbers:
            noise, time steps, dropout masks, batches. The generator was found in the same state each time: these were
            the same numbers. Or it was called in each step, so that the masks of dropout, or what is drawn after the
            function that seeds for its own draws, were the same in each.""",
        reason="""torch.manual_seed sets the generator of the whole program. All that draws without a generator of its
            own goes on from there.""",
        remedy="""generator = torch.Generator().manual_seed(seed), given to each draw that is to be the same; or put the
            evaluation into with torch.random.fork_rng():, which puts the state back.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

def preview():
    torch.manual_seed(0)
    with torch.no_grad():
        return layer(torch.randn(4, 2))

for epoch in range(4):
    for step in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 2)).pow(2).mean().backward()
        optimizer.step()
    preview()
""",
        instead_of="torch.manual_seed(0)",
        silent="torch.manual_seed(epoch)",
    ),
    find=_find,
)
