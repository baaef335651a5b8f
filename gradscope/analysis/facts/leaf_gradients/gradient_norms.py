"""How large the gradients of each leaf were, in the backward passes that were looked at."""

from __future__ import annotations

import math

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.value_looks import PassLook, is_zero, looks_at_passes
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import GradientNorms
from gradscope.recording.flags import PARAMETER


def gradient_norms(index: Index, names: BestNames, events: Events) -> tuple[GradientNorms, ...]:
    """A row for each leaf, in the order in which they were first seen: of a model mostly that of its layers."""
    looks = looks_at_passes(events)
    number = {op: position for position, op in enumerate(sorted(index.roots), 1)}
    of_leaf: dict[int, list[PassLook]] = {}
    for look in looks:
        for leaf in look.gradients:
            if index.is_leaf(leaf):
                of_leaf.setdefault(leaf, []).append(look)
    return tuple(_row(index, names, leaf, of_leaf[leaf], number) for leaf in sorted(of_leaf))


def _row(index: Index, names: BestNames, leaf: int, looks: list[PassLook], number: dict[int, int]) -> GradientNorms:
    recording = index.recording
    has_norms = all(leaf in look.norms for look in looks)
    sizes = [look.norms[leaf] if has_norms else max(map(abs, look.gradients[leaf])) for look in looks]
    finite = [size for size in sizes if math.isfinite(size)]
    layout = recording.layouts[index.layout_at(leaf, looks[-1].op)]
    return GradientNorms(
        name=names.at(leaf, looks[-1].op),
        shape=recording.text(layout.shape),
        is_parameter=bool(recording.tensors.column("flags")[leaf] & PARAMETER),
        measure="norm" if has_norms else "largest",
        passes=tuple(number.get(look.op, 0) for look in looks),
        sizes=tuple(sizes),
        least=min(finite, default=None),
        most=max(finite, default=None),
        zero=sum(is_zero(look.gradients[leaf]) for look in looks),
        not_finite=len(sizes) - len(finite),
    )
