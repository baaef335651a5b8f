"""An optimizer that is made again for each step or epoch: what it keeps between steps is lost."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import all_steps, all_writes, is_step, replaced_memory
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.epochs_around import is_before_batches
from gradscope.recording.rows import EventKind

TIMES = 4
"""Optimizers of one line from which on it is reported."""

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
        if len(optimizers) < TIMES or len({one.tensors for one in optimizers}) > 1:
            continue
        made_steps = _steps_of_each(sources, optimizers, steps)
        counts = {len(ops) for ops in made_steps}
        if counts == {1} or (min(counts) and _is_made_in_each_epoch(sources, optimizers, made_steps[-1][-1])):
            yield _finding(sources, optimizers, made_steps)


def _steps_of_each(sources: Sources, optimizers: list[Optimizer], steps: list[int]) -> list[list[int]]:
    """The steps of each optimizer, which it made before the next was made."""
    begins = [one.made.op for one in optimizers]
    ends = [*begins[1:], sources.index.op_count]
    stepped = [op for op in steps if sources.index.func(op).endswith(f"{optimizers[0].name}.step")]
    return [
        stepped[bisect_left(stepped, begin) : bisect_left(stepped, end)]
        for begin, end in zip(begins, ends, strict=True)
    ]


def _is_made_in_each_epoch(sources: Sources, optimizers: list[Optimizer], step: int) -> bool:
    """Whether each is made as the others are and trains on from where the last one ended, in an epoch of its own.

    One that a scheduler is made for, that has another learning rate, or that begins after something wrote the weights
    (they were loaded, or drawn again) may begin another training.
    """
    index, last = sources.index, optimizers[-1]
    if any(one.made.detail.get("settings") != last.made.detail.get("settings") for one in optimizers):
        return False
    numbers = {one.made.subject for one in optimizers}
    rates = (event for event in sources.events.of(EventKind.LEARNING_RATE) if event.subject in numbers)
    if any("scheduler" in event.detail for event in rates) or _is_set_anew(index, optimizers):
        return False
    made, stepped = (index.statements[one] for one in (_statement(sources, last), index.op_statement[step]))
    if made.file < 0 or made.file != stepped.file:
        return False
    text = index.recording.files[made.file].text
    lines = [made.line, *([last.called] if last.called else [])]
    return any(is_before_batches(text, line, stepped.line) for line in lines)


def _is_set_anew(index: Index, optimizers: list[Optimizer]) -> bool:
    """Whether something but a step wrote the parameters, or froze one, while these optimizers were made."""
    last, ops = optimizers[-1], index.recording.changes.column("op")
    during = range(optimizers[0].made.op, last.made.op + 1)
    storages = {index.storage_at(tensor, last.made.op) for tensor in last.tensors}
    written = {
        op
        for op, tensor, _, _ in all_writes(index)
        if op in during and index.storage_at(tensor, op) in storages and not is_step(index, op)
    }
    replaced = {op for op, tensor, _ in replaced_memory(index) if tensor in last.tensors}
    frozen = {ops[row] for tensor in last.tensors for row in index.changed_ops.get(tensor, ())}
    return any(op in during for op in written | replaced | frozen)


def _statement(sources: Sources, optimizer: Optimizer) -> int:
    return sources.index.statement_of_span[optimizer.made.span]


def _finding(sources: Sources, optimizers: list[Optimizer], made_steps: list[list[int]]) -> Finding:
    last, most = optimizers[-1], max(map(len, made_steps))
    often = f"{len(optimizers):,} times, for the same parameters"
    what = f"for each step ({often})" if most == 1 else f"after every {most:,} steps or fewer ({often})"
    if most > 1 and min(map(len, made_steps)) == most:
        what = f"after every {most:,} steps ({often})"
    return sources.finding(
        f"Line {last.line}: a new {last.name} is made {what}",
        why=f"each begins without {_KEEPS[last.name]}, as if {'each' if most == 1 else 'the next'} step were the first",
        op=made_steps[-1][0],
        tensors=sorted(last.tensors),
        causes=sources.cause_of_event("made", last.made),
        evidence=[Evidence("events", one.made.row) for one in optimizers[-2:]],
        advice="Make it once, before the loop.",
    )


DIAGNOSIS = Diagnosis(
    code="optimizer-made-anew",
    title="an optimizer that is made again for each step or epoch",
    severity="warning",
    explanation=Explanation(
        meaning="""One line made an optimizer again and again for the same parameters, and each of them made one step,
            or the steps of one epoch. It is not reported for plain SGD, which keeps nothing, nor where another learning
            rate, a scheduler, other data or weights that were set anew begin another training.""",
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
