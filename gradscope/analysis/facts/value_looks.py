"""What was found when values were looked at around backward passes: which were NaN, infinite or zero."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.recording.rows import EventKind

Range = tuple[float, float]
"""The smallest and the largest value; both NaN where there is a NaN."""


class KeptValues(NamedTuple):
    """What a node kept for backward."""

    node: int
    attr: str
    values: Range


class Derivative(NamedTuple):
    """What a node gives back for a gradient of ones, where it is not finite or zero throughout."""

    node: int
    values: Range
    at: float | None
    """What the node keeps at the first element where it is not finite, if that is known."""


class PaddingLook(NamedTuple):
    """A look-up in an embedding that was given its padding index."""

    node: int
    times: int
    """Indices that are the padding index."""
    indices: int
    kinds: int
    """Different indices."""
    inside: int
    """Of the ``times``, those between others along every dimension."""


@dataclass(eq=False, repr=False)
class PassLook:
    """One backward pass that was looked at."""

    op: int
    event: int
    """Its row in ``events``."""
    roots: list[Range] = field(default_factory=list)
    gradients: dict[int, Range] = field(default_factory=dict)
    """By the tensor whose gradient it is; of one that could not be asked nothing is known."""
    norms: dict[int, float] = field(default_factory=dict)
    """2-norms, likewise; older recordings have none."""
    zeros: list[int] = field(default_factory=list)
    """Tensors whose gradient is zero, and which hold zeros alone as well."""
    alike: list[tuple[int, int]] = field(default_factory=list)
    """Tensors, with the dimension along which they and their gradients have the same values throughout."""
    kept: list[KeptValues] = field(default_factory=list)
    derivatives: list[Derivative] = field(default_factory=list)
    by_argument: dict[int, frozenset[int]] = field(default_factory=dict)
    """Nodes that give zeros for an argument that they were called with: the places of the inputs, none for all."""
    vanished: dict[int, frozenset[int]] | None = None
    """Nodes that were given what is not zero and gave zeros alone to nodes behind them: the places of these. None: not
    asked."""
    underflown: dict[int, float] = field(default_factory=dict)
    """Of these, the nodes that made a gradient zero by giving it in float16: how large it was, without its sign."""
    padding: list[PaddingLook] = field(default_factory=list)
    tensors: dict[int, Range] = field(default_factory=dict)
    """Tensors that lived before the pass; looked at only where the loss was not finite."""
    nodes: list[int] = field(default_factory=list)
    """Nodes that were given what is finite and gave what is not, in the order in which they ran: of all with ``--nan``,
    else of Functions that are not torch's own."""

    @property
    def bad_roots(self) -> list[Range]:
        """What is not finite of that from which the pass started."""
        return [values for values in self.roots if is_bad(values)]

    @property
    def bad_gradients(self) -> list[int]:
        """The tensors whose gradient is not finite."""
        return [tensor for tensor, values in self.gradients.items() if is_bad(values)]


def is_nan(values: Range) -> bool:
    """Whether there is a NaN."""
    return math.isnan(values[0]) or math.isnan(values[1])


def is_bad(values: Range) -> bool:
    """Whether there is a NaN or an infinity."""
    return not (math.isfinite(values[0]) and math.isfinite(values[1]))


def is_zero(values: Range) -> bool:
    """Whether there is nothing but zeros."""
    return values[0] == 0 == values[1]


def word_for(values: Range) -> str:
    """``NaN`` or ``infinite``."""
    return "NaN" if is_nan(values) else "infinite"


def looks_at_passes(events: Events) -> list[PassLook]:
    """Every backward pass that was looked at, in the order of the run."""
    found: dict[int, PassLook] = {}
    for event in events.of(EventKind.GRADIENTS):
        look = found.setdefault(event.subject, PassLook(event.subject, event.row))
        look.roots += [one for one in map(_range, _list(event.detail, "roots")) if one is not None]
        look.gradients.update(_by_tensor(event.tensors, event.detail))
        norms = zip(event.tensors, _list(event.detail, "norms"), strict=False)
        look.norms.update({tensor: float(norm) for tensor, norm in norms if isinstance(norm, (int, float))})
        look.zeros += [event.tensors[place] for place in _list(event.detail, "zeros") if place < len(event.tensors)]
        look.alike += [(event.tensors[place], dim) for place, dim in _list(event.detail, "alike")]
    for event in events.of(EventKind.VALUES):
        if event.subject in found:
            look = found[event.subject]
            look.nodes += _list(event.detail, "nodes")
            look.kept += [KeptValues(node, attr, (low, high)) for node, attr, low, high in _list(event.detail, "keep")]
            look.derivatives += [
                Derivative(node, (low, high), at) for node, low, high, at in _list(event.detail, "derivatives")
            ]
            by_argument = _list(event.detail, "by_argument")
            look.by_argument.update({node: frozenset(places) for node, places in by_argument})
            look.padding += [PaddingLook(*one) for one in _list(event.detail, "padding")]
            if isinstance(event.detail.get("vanished"), list):
                look.vanished = {node: frozenset(places) for node, places in event.detail["vanished"]}
                look.underflown = {node: float(size) for node, size in _list(event.detail, "underflown")}
            look.tensors.update(_by_tensor(event.tensors, event.detail))
    return [found[op] for op in sorted(found)]


def born_in_ops(events: Events) -> dict[int, Range]:
    """Ops in which a NaN or an infinity was born, and the range of what they gave (``--nan`` only)."""
    born = ((event.subject, _range(event.detail.get("born"))) for event in events.of(EventKind.VALUES))
    return {op: values for op, values in born if values is not None}


def _by_tensor(tensors: tuple[int, ...], detail: dict[str, Any]) -> dict[int, Range]:
    ranges = map(_range, _list(detail, "ranges"))
    return {tensor: values for tensor, values in zip(tensors, ranges, strict=False) if values is not None}


def _list(detail: dict[str, Any], key: str) -> list[Any]:
    value = detail.get(key)
    return value if isinstance(value, list) else []


def _range(value: Any) -> Range | None:
    return (value[0], value[1]) if isinstance(value, list) and len(value) == 2 else None
