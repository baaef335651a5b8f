"""A ``no_grad`` around work that other threads do, in which it does not hold."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modes.tracked_in_threads import tracked_in_threads
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that puts grad mode off."""
    index, said = sources.index, set[int]()
    for found in tracked_in_threads(index, sources.cuts.regions, sources.passes):
        made_at = index.recording.tensors.column("op")[found.tensors[0]]
        function = index.op_place(made_at).function
        yield sources.finding(
            _symptom(sources, found.region, function),
            why=f"{index.call_name(found.taken_by)} took what it gave together with its graph, and a backward pass "
            "went through that",
            op=found.region,
            tensors=found.tensors[:1],
            causes=sources.cause("set", found.region),
            evidence=[Evidence("ops", made_at), Evidence("ops", found.walked_by)],
            advice=_advice(sources, found.region),
        )
        said.add(index.op_statement[found.region])
    for kept in sources.kept_in_threads:
        made_at = index.recording.tensors.column("op")[kept.tensors[-1]]
        if index.op_statement[kept.region] not in said:
            yield sources.finding(
                _symptom(sources, kept.region, index.op_place(made_at).function),
                why=f"{index.times_made(kept.tensors):,} results were kept with their graphs, and no pass walks them",
                op=kept.region,
                tensors=kept.tensors[-1:],
                causes=sources.cause("set", kept.region),
                evidence=[Evidence("ops", made_at)],
                advice=_advice(sources, kept.region),
            )


def _symptom(sources: Sources, region: int, function: str) -> str:
    index = sources.index
    return (
        f"Line {index.op_line(region)}: {_mode(sources, region)} holds in its own thread only, {function} ran in other "
        "threads meanwhile and tracked gradients"
    )


def _advice(sources: Sources, region: int) -> str:
    return f"Put {_mode(sources, region)} inside the function that the threads run, or detach() what it returns."


def _mode(sources: Sources, region: int) -> str:
    return sources.index.func(region).partition(".")[0]


DIAGNOSIS = Diagnosis(
    code="no-grad-in-other-thread",
    title="no_grad around work that other threads do",
    severity="warning",
    explanation=Explanation(
        meaning="""While a thread was under no_grad, other threads computed with gradients on. What they gave was used
            with its graph, and a backward pass went on into it, or several results were kept with their graphs, which
            nothing walks.""",
        reason="""Grad mode belongs to a thread. A new thread, and one of a pool, begins with gradients on, whatever the
            thread that starts it or gives it work has set.""",
        remedy="""Put the no_grad into the function that the threads run (@torch.no_grad() above it), or detach() its
            results.""",
    ),
    example=Example(
        shows="""\
import torch
from concurrent.futures import ThreadPoolExecutor

layer = torch.nn.Linear(3, 1)

def embed(x):
    return layer(x)

with ThreadPoolExecutor(1) as pool, torch.no_grad():
    targets = list(pool.map(embed, [torch.ones(2, 3)]))
loss = (layer(torch.zeros(2, 3)) - targets[0]).pow(2).sum()
loss.backward()
""",
        instead_of="def embed(x):",
        silent="@torch.no_grad()\ndef embed(x):",
    ),
    find=_find,
)
