"""Layers that are one layer several times: ``nn.ModuleList([block] * depth)``, ``[block for _ in range(depth)]``."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, first_step_of, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.repeated_items import repeated_item
from gradscope.frames.modules.repeated_models import repeated_models
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """Lists of layers, and lists of models with an optimizer each."""
    yield from _in_lists(sources)
    yield from _with_optimizers(sources)


def _with_optimizers(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes optimizers of one set of weights, for each item of a list that repeats.

    An optimizer that is made anew for one model, again and again, is made so of no such list.
    """
    index = sources.index
    alike: dict[tuple[int, int, frozenset[int]], list[Optimizer]] = {}
    for one in seen_optimizers(index, sources.events):
        span = index.recording.spans[one.made.span]
        alike.setdefault((span.file, span.line, one.tensors), []).append(one)
    for (file, line, tensors), made in alike.items():
        if len(made) < 2 or not tensors:
            continue
        repeated = repeated_models(index.recording.files[file].text, line)
        step = first_step_of(index, made[-1].made)
        if repeated is None or step < 0:
            continue
        yield sources.finding(
            f"Line {index.line(file, repeated.line)}: {repeated.written} is a list of one model several times",
            why=f"the {len(made)} optimizers ({made[0].name}) of line {made[0].line} all train one set of weights",
            op=step,
            tensors=sorted(tensors),
            causes=[sources.cause_of_line("made", file, repeated.line, repeated.end_line, "")],
            evidence=[Evidence("events", one.made.row) for one in made],
            advice="Make one in each round of a loop: [… for _ in range(n)].",
        )


def _in_lists(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that repeats one module, about the last such list."""
    index = sources.index
    last: dict[tuple[int, int], Finding] = {}
    for event in sources.events.of(EventKind.REPEATED_MODULE):
        span = index.recording.spans[event.span] if event.span >= 0 else None
        repeated = None if span is None else repeated_item(index.recording.files[span.file].text, span.line)
        if span is None or repeated is None or not event.tensors or not index.op_count:
            continue
        detail = event.detail
        last[span.file, repeated.line] = sources.finding(
            f"Line {index.line(span.file, repeated.line)}: {repeated.written} puts one {detail.get('module')} into the "
            f"{detail.get('list')} {detail.get('times')} times, so that its layers are one set of weights",
            op=min(event.op, index.op_count - 1),
            tensors=event.tensors,
            causes=[
                sources.cause_of_line(
                    "made", span.file, repeated.line, repeated.end_line, index.recording.text(span.function)
                )
            ],
            evidence=[Evidence("events", event.row)],
            advice="Make one in each round of a loop: [… for _ in range(n)].",
        )
    yield from last.values()


DIAGNOSIS = Diagnosis(
    code="repeated-module",
    title="a list of layers that is one layer several times",
    severity="warning",
    explanation=Explanation(
        meaning="""An nn.ModuleList, nn.Sequential or another module was given one module with parameters several times:
            by a list of one item times a number, a comprehension whose item is always the same, append() or
            add_module() in a loop. Or a plain list has one model several times, with an optimizer for each.""",
        reason="""[block] * depth and [block for _ in range(depth)] make a list with depth references to the one block.
            Its weights are used in every layer, get the sum of all their gradients, and are counted once.""",
        remedy="""Make a block for each layer: nn.ModuleList([Block() for _ in range(depth)]), or copy.deepcopy(block).
            Where sharing is meant, loop over the one block, or call it shared.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

layers = nn.Sequential(*[nn.Linear(3, 3)] * 4)
layers(torch.ones(2, 3)).sum().backward()
""",
        instead_of="layers = nn.Sequential(*[nn.Linear(3, 3)] * 4)",
        silent="layers = nn.Sequential(*[nn.Linear(3, 3) for _ in range(4)])",
    ),
    find=_find,
)
