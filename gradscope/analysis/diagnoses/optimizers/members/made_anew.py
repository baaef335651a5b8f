"""An optimizer that is made again for each step: what it keeps between steps is lost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.report_model import Evidence

TIMES = 4
"""Optimizers of one line with one step each from which on it is reported."""

_KEEPS = {
    "Adam": "its running means of gradients",
    "AdamW": "its running means of gradients",
    "NAdam": "its running means of gradients",
    "RAdam": "its running means of gradients",
    "Adamax": "its running means of gradients",
    "RMSprop": "its running mean of squares",
    "Adagrad": "its sums of squares",
    "Adadelta": "its running means of squares",
    "SGD": "its momentum",
}
"""What each optimizer keeps from one step to the next; SGD only where it was made with momentum."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    made: dict[tuple[int, str], list[Optimizer]] = {}
    for one in seen_optimizers(index, sources.events):
        if one.name in _KEEPS and (one.name != "SGD" or any(one.setting(leaf, "momentum") for leaf in one.tensors)):
            made.setdefault((index.statement_of_span[one.made.span], one.name), []).append(one)
    if not any(len(optimizers) >= TIMES for optimizers in made.values()):
        return
    steps = all_steps(index)
    for optimizers in made.values():
        if len(optimizers) >= TIMES and _has_one_step_each(sources, optimizers, steps):
            yield _finding(sources, optimizers, steps)


def _has_one_step_each(sources: Sources, optimizers: list[Optimizer], steps: list[int]) -> bool:
    """Whether all hold the same parameters, and each made one step before the next was made."""
    begins = [one.made.op for one in optimizers]
    ends = [*begins[1:], sources.index.op_count]
    stepped = [op for op in steps if sources.index.func(op).endswith(f"{optimizers[0].name}.step")]
    counts = [bisect_left(stepped, end) - bisect_left(stepped, begin) for begin, end in zip(begins, ends, strict=True)]
    return len({one.tensors for one in optimizers}) == 1 and all(count == 1 for count in counts)


def _finding(sources: Sources, optimizers: list[Optimizer], steps: list[int]) -> Finding:
    last = optimizers[-1]
    step = steps[bisect_left(steps, last.made.op)]
    return sources.finding(
        f"Line {last.line}: a new {last.name} is made for each step ({len(optimizers):,} times, for the same "
        "parameters)",
        why=f"{_KEEPS[last.name]} starts from nothing each time, as if each step were the first",
        op=step,
        tensors=sorted(last.tensors),
        causes=sources.cause_of_event("made", last.made),
        evidence=[Evidence("events", one.made.row) for one in optimizers[-2:]],
        advice="Make it once, before the loop.",
    )


DIAGNOSIS = Diagnosis(
    code="optimizer-made-anew",
    title="an optimizer that is made again for each step",
    severity="warning",
    explanation=Explanation(
        meaning="""One line made an optimizer again and again for the same parameters, and each of them made one step.
            It is not reported for plain SGD, which keeps nothing, nor where each makes several steps.""",
        reason="""Adam, RMSprop and momentum work by what they keep from the steps before. A new one has none of it:
            Adam's first step changes each weight by the learning rate, whatever its gradient's size.""",
        remedy="""Make the optimizer once, next to the model, and hand it to the function that steps. To change the
            learning rate, set it in its param_groups or use a scheduler.""",
    ),
    example=Example(
        shows="""\
import torch

net = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
for step in range(5):
    optimizer = torch.optim.Adam(net.parameters())
    optimizer.zero_grad()
    net(torch.rand(4, 3)).sum().backward()
    optimizer.step()
""",
        instead_of="optimizer = torch.optim.Adam(net.parameters())",
        silent="pass",
    ),
    find=_find,
)
