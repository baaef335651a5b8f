"""What the nodes of a graph keep and what their derivatives are, asked right before a backward pass frees it.

Nothing of it is seen by the program: no saved-tensor hook runs, no node is made, and a node that is called gives its
derivative without freeing what it has saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from gradscope.recorder.state.padding_rows import is_look_up, padding_rows
from gradscope.recorder.state.value_ranges import Range, Ranges, is_bad, is_zero, numbers_of
from gradscope.recorder.torch_internals.capabilities import saved_hooks_were_used, saved_tensors_tell_hooks
from gradscope.recorder.torch_internals.singular_nodes import (
    BY_ARGUMENT,
    DECOMPOSITIONS,
    ENDING,
    FACTORS,
    FLAT,
    FLAT_BESIDE,
    INVERSES,
    KEEPS_FLAT,
    POLES,
    PRODUCTS,
    SATURATES,
    kind_of,
)

NODES = 20_000
"""Nodes of one graph that are looked at."""

_PROBED, _DECOMPOSED = 1 << 22, 1 << 14
"""Elements of the largest derivative that is asked for."""

_RAW = "_raw_saved_"
_limits: dict[type, int] = {}
"""Elements of the largest derivative that is asked of nodes of a type; 0 where nothing is asked of them."""

_KEPT, _KEPT_FLAT, _KEPT_FACTOR, _KEPT_HALF = -1, -2, -3, -4
"""What nodes keep is asked, not their derivative; it may tell that the derivative is zero."""

_SATURATED = 1 << 16
"""Elements of the largest result that is asked whether all of it is 0 or 1."""

_BESIDE = _PROBED - 1
"""The derivative is asked for of nodes that give one alone."""

_FLAT_AT = KEEPS_FLAT | FACTORS

_kept_by: dict[type, list[tuple[str, str]]] = {}

_Argument = tuple[str, tuple[object, ...], tuple[int, ...]]
_arguments: dict[type, _Argument | None] = {}
"""The argument of nodes of a type, as :data:`BY_ARGUMENT` has it; None: there is none."""


class Asked:
    """One tensor that a node keeps, or the derivative that it gives."""

    __slots__ = ("at", "attr", "flat_at", "is_factor", "node", "overflown_at", "values")

    def __init__(
        self, node: int, attr: str, flat_at: tuple[float, ...] = (), overflown_at: tuple[float, ...] = ()
    ) -> None:
        self.node = node
        self.overflown_at = overflown_at
        """Where an end of its range is one of these, a number in float16 was larger than it can hold."""
        self.flat_at = flat_at
        """Where it is one of these values throughout, the derivative is zero."""
        self.is_factor = False
        """It is a factor in float16 of the gradient that the node gives."""
        self.attr = attr
        """As ``saved`` has it; empty for the derivative."""
        self.values: Range | None = None
        self.at: float | None = None
        """What the node keeps where its derivative is not finite; known on the CPU alone."""


class GraphValues:
    """What was asked of the nodes behind some roots.

    Args:
        roots: The ``grad_fn`` of each.
        row_of: Gives the row of a node, or NONE.
        in_full: Whether every node is asked what it keeps, not only those whose derivative may end.
    """

    def __init__(self, roots: list[Any], row_of: Callable[[Any], int], in_full: bool) -> None:
        asked: list[Asked] = []
        tensors: list[Tensor] = []
        sources: dict[int, tuple[Tensor, Tensor]] = {}
        self.by_argument: list[tuple[int, tuple[int, ...]]] = []
        """Nodes whose derivative is zero by an argument, with the places of the inputs by which it is (none: all)."""
        look_ups: list[Any] = []
        self.functions: list[Any] = []
        """Nodes of Functions that are not torch's own: what they give can be seen only while a pass runs."""
        for node in nodes_behind(roots):
            kind = type(node)
            if hasattr(kind, "_forward_cls"):  # a Function: its code is not run, its class not kept
                if not kind._forward_cls.__module__.startswith("torch."):
                    self.functions.append(node)
                continue
            if is_look_up(node):
                look_ups.append(node)
            argument = _arguments[kind] if kind in _arguments else _argument_of(kind)
            if argument is not None and _is_zero_by(node, argument) and (row := row_of(node)) >= 0:
                self.by_argument.append((row, argument[2]))
            limit = _limits.get(kind)
            if limit is None:
                limit = _limits[kind] = _limit_of(kind)
            if not (in_full or limit) or (row := row_of(node)) < 0:
                continue
            kept = kept_of(node)
            if kept is None or (limit == _BESIDE and not in_full and _gives_several(node)):
                continue
            is_number = limit == _KEPT_FACTOR and _is_one_number(kept) and not _gives_several(node)
            if not in_full and (limit == _KEPT_HALF or (limit == _KEPT_FACTOR and not is_number)):
                for attr, tensor in kept:
                    if tensor.dtype is torch.float16:
                        asked.append(Asked(row, attr))
                        asked[-1].is_factor = True
                        tensors.append(tensor)
                continue
            flat_at = _FLAT_AT[kind_of(kind.__name__)] if limit == _KEPT_FLAT or is_number else ()
            for attr, tensor in kept:
                asked.append(Asked(row, attr, flat_at, _overflown_at(kind, attr, tensor)))
                is_whole = is_number and not tensor.is_floating_point() and not tensor.is_complex()
                tensors.append(tensor.double() if is_whole else tensor)  # (ranges are asked of floating point alone)
            if limit == _KEPT and kind_of(kind.__name__) in SATURATES and kept and kept[-1][1].numel() <= _SATURATED:
                asked.append(Asked(row, "", (0.0,)))
                tensors.append(kept[-1][1] * (1 - kept[-1][1]))
            for derivative in _derivatives(node, 0 if limit == _BESIDE and _gives_several(node) else limit):
                if kept:
                    sources[len(asked)] = (derivative, dict(kept).get("other", kept[-1][1]))
                asked.append(Asked(row, ""))
                tensors.append(derivative)
        self.padding_rows = padding_rows(look_ups, row_of, kept_of)
        self._asked = asked
        self._ranges = Ranges(tensors)
        if self._ranges.is_free:
            self._take(sources)

    def _take(self, sources: dict[int, tuple[Tensor, Tensor]]) -> None:
        for position, (one, values) in enumerate(zip(self._asked, self._ranges.read(), strict=True)):
            one.values = values
            if position in sources and is_bad(values):
                one.at = _value_at(*sources[position])

    @property
    def is_overflown(self) -> bool:
        """Whether a number in float16 was larger than it can hold, as far as that is known without waiting."""
        return self._ranges.is_free and any(map(is_overflown, self._asked))

    def read(self) -> list[Asked]:
        """All that was asked."""
        if not self._ranges.is_free:
            self._take({})
        return [one for one in self._asked if one.values is not None]


def _argument_of(kind: type) -> _Argument | None:
    found = BY_ARGUMENT.get(kind_of(kind.__name__))
    _arguments[kind] = found if found is not None and hasattr(kind, f"_saved_{found[0]}") else None
    return _arguments[kind]


def _is_zero_by(node: Any, argument: _Argument) -> bool:
    value = getattr(node, f"_saved_{argument[0]}")
    return type(value) in (int, float, str) and value in argument[1]


def _limit_of(kind: type) -> int:
    name = kind_of(kind.__name__)
    if name in DECOMPOSITIONS:
        return _DECOMPOSED
    if name in ENDING or name in KEEPS_FLAT:
        return _KEPT if name in ENDING else _KEPT_FLAT
    if name in FACTORS:
        return _KEPT_FACTOR
    if name in PRODUCTS:
        return _KEPT_HALF
    if name in FLAT_BESIDE:
        return _BESIDE
    return _PROBED if name in POLES or name in FLAT else 0


def _is_one_number(kept: list[tuple[str, Tensor]]) -> bool:
    return len(kept) == 1 and kept[0][1].numel() == 1


def _gives_several(node: Any) -> bool:
    return sum(following is not None for following, _ in node.next_functions) > 1


def kept_of(node: Any) -> list[tuple[str, Tensor]] | None:
    """The tensors that a node keeps for its backward, by name; None where a hook would run to read one of them."""
    kind = type(node)
    attributes = _kept_by.get(kind)
    if attributes is None:
        names = [name for name in dir(kind) if name.startswith(_RAW)]
        attributes = _kept_by[kind] = [(name, name.removeprefix(_RAW)) for name in names]
    if not saved_tensors_tell_hooks and saved_hooks_were_used():
        return None
    found: list[tuple[str, Tensor]] = []
    for name, short in attributes:
        try:
            value = getattr(node, name if saved_tensors_tell_hooks else f"_saved_{short}")
        except RuntimeError:  # freed, or written to since
            continue
        for item in value if isinstance(value, (tuple, list)) else (value,):
            if saved_tensors_tell_hooks and item is not None and item.unpack_hook is not None:
                return None
            tensor = item.data if saved_tensors_tell_hooks and item is not None else item
            if isinstance(tensor, Tensor):
                found.append((short, tensor))
    return found


def nodes_behind(roots: list[Any]) -> Iterator[Any]:
    """Some nodes and what is behind them, each once; not all of a very large graph."""
    seen, todo = set(roots), list(roots)
    while todo and len(seen) < NODES:
        node = todo.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                todo.append(following)


def _derivatives(node: Any, limit: int) -> list[Tensor]:
    """What a node gives back for a gradient of ones; empty where it cannot be called so."""
    try:
        if limit <= 0:
            return []
        forms = node._input_metadata
        if sum(math.prod(form.shape) for form in forms) > limit:
            return []
        given = node(*(torch.ones(form.shape, dtype=form.dtype, device=form.device) for form in forms))
    except (AttributeError, RuntimeError, TypeError, ValueError, NotImplementedError):
        return []  # freed already, of a shape that is not known, or without a derivative
    return [one for one in (given if isinstance(given, tuple) else (given,)) if isinstance(one, Tensor)]


def _value_at(derivative: Tensor, kept: Tensor) -> float | None:
    """What was kept at the first element whose derivative is not finite."""
    found, values = numbers_of(derivative), numbers_of(kept)
    if found is None or values is None or found.shape != values.shape:
        return None
    at = torch.isfinite(found).logical_not().flatten().to(torch.uint8).argmax()
    return float(values.flatten()[at])


def _overflown_at(kind: type, attr: str, tensor: Tensor) -> tuple[float, ...]:
    if tensor.dtype is not torch.float16:
        return ()
    is_inverse = attr == "result" and kind_of(kind.__name__) in INVERSES
    return (math.inf, 0.0) if is_inverse else (math.inf,)  # (1 / 65,504 is not zero)


def is_overflown(one: Asked) -> bool:
    """Whether it tells that a number in float16 was larger than it can hold."""
    return one.values is not None and not set(one.values).isdisjoint(one.overflown_at)


def is_extreme(one: Asked) -> bool:
    """Whether it tells that a derivative is not finite, or zero throughout."""
    return is_flat(one) or (not one.attr and not one.flat_at and is_bad(one.values))


def is_flat(one: Asked) -> bool:
    """Whether it tells that a derivative is zero throughout."""
    if one.flat_at:
        return one.values is not None and one.values[0] == one.values[1] and one.values[0] in one.flat_at
    return not one.attr and is_zero(one.values)
