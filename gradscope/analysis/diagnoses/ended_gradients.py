"""How it is said in which calls the gradients of some leaves end in zeros, where that was measured."""

from __future__ import annotations

import re

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.vanished_gradients import (
    ELEMENTWISE,
    JOINS,
    REDUCTIONS,
    SAMPLERS,
    EndedGradients,
)
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed

_STEPS = 8
"""Calls back to where the points of a sampling come from."""

_RECURRENT = re.compile(r"\b(gru|lstm|rnn_tanh|rnn_relu)$")
_BOTH = "Take both directions: torch.cat([h[-2], h[-1]], 1) of the last layer's states."
_LARGEST = re.compile(r"reduce\s*=\s*['\"](amax|amin)['\"]|['\"](amax|amin)['\"]")
_WITHOUT = re.compile(r"include_self\s*=\s*False")


def ended_finding(sources: Sources, ended: EndedGradients) -> Finding | None:
    """What is said of them; None where it cannot be said what the zeros come from."""
    if ended.kinds <= JOINS:
        return _part_taken(sources, ended)
    if ended.kinds <= SAMPLERS:
        return _outside(sources, ended)
    if ended.kinds <= REDUCTIONS:
        return _included(sources, ended)
    return _flat(sources, ended) if ended.kinds <= ELEMENTWISE else None


def _part_taken(sources: Sources, ended: EndedGradients) -> Finding:
    index = sources.index
    ops = [one.op for one in ended.parts]
    wholes = listed(list(dict.fromkeys(f"{index.call_name(op)} (line {index.op_line(op)})" for op in ended.ops)))
    taken = listed(list(dict.fromkeys(one.source for one in ended.parts)))
    return _finding(
        sources,
        ended,
        f"{_lines(sources, ops)}: {taken} is all that is used of what {wholes} gives, and every way from the loss to "
        f"{_names(sources, ended)} leads to the rest of it",
        [cause for op in reversed(ops) for cause in sources.cause("cut", op)],
        _BOTH if all(_RECURRENT.search(index.func(op)) for op in ended.ops) else "",
    )


def _outside(sources: Sources, ended: EndedGradients) -> Finding:
    index, op = sources.index, ended.ops[-1]
    made = _constant_points(sources, op)
    return _finding(
        sources,
        ended,
        f"{_lines(sources, ended.ops)}: {index.call_name(op)} gave its points zeros alone for gradients that were not "
        f"zero, as it does where they lie outside of the image, which goes from -1 to 1 (in {ended.asked} backward "
        f"passes), and every way from the loss to {_names(sources, ended)} leads through it",
        [*made, *(cause for one in reversed(ended.ops) for cause in sources.cause("cut", one))],
        "Scale coordinates in pixels: 2 * x / (width - 1) - 1.",
    )


def _constant_points(sources: Sources, op: int) -> list[Cause]:
    """Where what was added to the points of a sampling was made, if that has no gradient."""
    index = sources.index
    taken = list(index.uses.of(op))
    tensor = taken[1] if len(taken) > 1 else -1
    for _ in range(_STEPS):
        made = index.made_by(tensor) if tensor >= 0 else -1
        if not 0 <= made < index.op_count:
            return []
        inputs = list(index.uses.of(made))
        tracked = [one for one in inputs if index.requires_grad(one, made)]
        others = [one for one in inputs if one not in tracked]
        if len(tracked) == 1 and len(others) == 1:
            return sources.made_at(others[0])
        tensor = tracked[0] if len(tracked) == 1 else -1
    return []


def _included(sources: Sources, ended: EndedGradients) -> Finding | None:
    index, op = sources.index, ended.ops[-1]
    source = index.span_source(op)
    found = _LARGEST.search(source)
    if found is None or _WITHOUT.search(source):
        return None
    is_largest = "amax" in found.group()
    return _finding(
        sources,
        ended,
        f"{_lines(sources, ended.ops)}: {index.call_name(op)} takes what is there before into account "
        f"(include_self=True), and that was the {'largest' if is_largest else 'smallest'} wherever a gradient came to "
        f"(in {ended.asked} backward passes): every way from the loss to {_names(sources, ended)} leads through it",
        [cause for one in reversed(ended.ops) for cause in sources.cause("cut", one)],
        "Pass include_self=False.",
    )


def _flat(sources: Sources, ended: EndedGradients) -> Finding:
    calls = listed(list(dict.fromkeys(sources.index.call_name(one) for one in ended.ops)))
    return _finding(
        sources,
        ended,
        f"{_lines(sources, ended.ops)}: the derivative of {calls} was zero for every element that a gradient came to, "
        f"in {ended.asked} backward passes, and every way from the loss to {_names(sources, ended)} leads through it",
        [cause for one in reversed(ended.ops) for cause in sources.cause("cut", one)],
        "It is flat for what is that far from zero: scale what goes in.",
    )


def _lines(sources: Sources, ops: list[int]) -> str:
    lines = {sources.index.op_line(op) for op in ops}
    return f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}"


def _names(sources: Sources, ended: EndedGradients) -> str:
    return sources.listed([sources.names.at(leaf, ended.looks[-1].op) for leaf in ended.leaves])


def _finding(sources: Sources, ended: EndedGradients, symptom: str, causes: list[Cause], advice: str) -> Finding:
    return sources.finding(
        symptom,
        why=f"the gradient is all zeros in all {len(ended.looks)} backward passes looked at",
        op=ended.ops[-1],
        tensors=ended.leaves,
        causes=causes,
        evidence=[Evidence("events", look.event) for look in ended.looks],
        advice=advice,
    )
