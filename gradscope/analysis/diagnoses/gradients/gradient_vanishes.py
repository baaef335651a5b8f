"""Gradients that vanish on their way through many calls of sigmoid or tanh, or in one that is at its limit."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.saturated_gates import SaturatedGates, saturated_gates
from gradscope.analysis.facts.leaf_gradients.vanishing_ways import VanishingWay, vanishing_way
from gradscope.analysis.facts.modules.places_of_modules import places_of_modules
from gradscope.analysis.facts.value_looks import looks_at_passes
from gradscope.analysis.facts.writes import all_steps, all_writes
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers

_ONE_VALUE = ("fill_", "constant_")
_MODULES = {"sigmoid": "Sigmoid", "tanh": "Tanh"}


def _find(sources: Sources) -> Iterator[Finding]:
    found = vanishing_way(sources.index, sources.passes, looks_at_passes(sources.events))
    if found is None:
        yield from _behind_gates(sources)
        return
    causes = _causes(sources, found)
    weights = sources.listed([sources.names.of(weight) for weight in found.weights])
    least, most = found.sizes
    in_all = f"in all {len(found.looks)} backward passes looked at"
    first, largest = (sources.names.of(one) for one in (found.weights[0], found.largest))
    lines = numbers(sorted({cause.line for cause in causes}))
    where = f"Line{'s' if len({cause.line for cause in causes}) > 1 else ''} {lines}: " if causes else ""
    yield sources.finding(
        f"{where}next to nothing is left of the gradient where it comes to {weights}, through "
        f"{len(found.calls):,} calls of {found.function}",
        why=f"the norm of that of {first} is {least:.1e}, and {most:.1e} for {largest}; it was smaller than a "
        f"billionth of it {in_all}",
        op=found.op,
        tensors=found.weights,
        causes=causes,
        evidence=[Evidence("events", look.event) for look in found.looks],
        advice="Use relu or gelu between the layers, with a normalisation or a skip path.",
    )


def _behind_gates(sources: Sources) -> Iterator[Finding]:
    """Weights whose gradient is lost in one call, or in several beside one another."""
    index = sources.index
    found = saturated_gates(index, sources.passes, looks_at_passes(sources.events), all_steps(index))
    if found is None or any(not set(found.weights).isdisjoint(one.leaves) for one in sources.zero_gradients):
        return
    causes = list(dict.fromkeys(cause for op in found.gates for cause in sources.cause("used", op)))
    begins = _begins(sources, found)
    given = {index.made_by(one) for op in found.gates for one in index.uses.of(op)}
    made = [cause for op in sorted(given) if 0 <= op < index.op_count for cause in sources.cause("made", op)]
    weights = sources.listed([sources.names.of(weight) for weight in found.weights])
    lines = numbers(sorted({cause.line for cause in causes}))
    where = f"Line{'s' if len({cause.line for cause in causes}) > 1 else ''} {lines}: " if causes else ""
    most, largest = found.sizes
    start = (
        f"; line {index.op_line(begins[-1])} ({index.call_name(begins[-1])}) set what it starts from" if begins else ""
    )
    times, looked_at = len(found.looks), found.looked_at
    often = f"all {times}" if times == looked_at else f"{times} of {looked_at}"
    yield sources.finding(
        f"{where}next to nothing is left of the gradient where it comes to {weights}: every way to them goes through "
        f"{' or '.join(found.functions)}, which is at its limit{start}",
        why=f"the largest of their norms is {most:.1e}, and that of {sources.names.of(found.largest)} {largest:.1e}; "
        f"it was smaller than a millionth of that in {often} backward passes looked at",
        op=found.op,
        tensors=found.weights,
        causes=[*(cause for op in begins for cause in sources.cause("write", op)), *causes, *made],
        evidence=[Evidence("events", look.event) for look in found.looks],
        advice="Make what goes in smaller: scale or normalise it, or begin with a smaller bias.",
    )


def _begins(sources: Sources, found: SaturatedGates) -> list[int]:
    """The calls that gave weights before gates one value throughout, other than zero, before the first pass."""
    index, first = sources.index, found.looks[0].op
    storages = index.recording.tensors.column("storage")
    own, last = {storages[leaf] for leaf in found.weights}, dict[int, int]()
    for op, tensor, _, _ in all_writes(index):
        if op < first and storages[tensor] in own and index.op_line(op):
            last[storages[tensor]] = op
    return sorted({op for op in last.values() if index.func(op).endswith(_ONE_VALUE)})


def _causes(sources: Sources, found: VanishingWay) -> list[Cause]:
    """The lines that call the function, or else those that make the modules of it."""
    index = sources.index
    direct = [op for op in found.calls if found.function in index.span_source(op)]
    if direct:
        return list(dict.fromkeys(cause for op in direct for cause in sources.cause("used", op)))
    places = places_of_modules(index, _MODULES[found.function])
    return [sources.cause_of_line("made", file, line, line, "") for file, line in places]


DIAGNOSIS = Diagnosis(
    code="gradient-vanishes",
    title="gradients that vanish on their way through many activations",
    severity="warning",
    explanation=Explanation(
        meaning="""In all backward passes that were looked at, the gradients of the first weights were less than a
            billionth of the largest, those between lay between, and the graph leads through many calls of sigmoid or
            tanh. Or the gradients of weights behind a sigmoid, tanh or softmax were less than a millionth of the
            largest, while those of weights that its result is multiplied with had their usual size.""",
        reason="""The derivative of sigmoid is 1/4 at most, that of tanh 1, and of both next to 0 where the input is
            large. The gradient is multiplied by it in each layer. What comes to the first layers is too small for
            SGD to move them; Adam divides by it, until its eps is larger.""",
        remedy="""relu, gelu or silu between the layers, an initialisation that fits them, normalisations, skip
            paths.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

layers = [nn.Linear(8, 8) for _ in range(24)]
optimizer = torch.optim.SGD([p for layer in layers for p in layer.parameters()], lr=0.1)
for step in range(4):
    x = torch.randn(16, 8)
    for layer in layers:
        x = torch.sigmoid(layer(x))
    optimizer.zero_grad()
    x.pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="x = torch.sigmoid(layer(x))",
        silent="x = x + torch.sigmoid(layer(x))",
    ),
    find=_find,
)
