"""Looking at the loss and the gradients of backward passes: NaN, infinite, zero. Ever more rarely as a run goes on.

On the CPU a loss of one element is read before each pass, which costs less than a microsecond; where it is not finite,
everything in the graph is looked at before the pass frees it. On a device nothing is read before the next look or the
end of the recording, so that no pass waits for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.alike_units import alike_along
from gradscope.recorder.state.births import BackwardBirths
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.graph_values import GraphValues, is_extreme, is_flat, is_overflown, nodes_behind
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.state.value_ranges import Norms, Range, Ranges, is_bad, is_zero
from gradscope.recorder.state.vanished import PASSES, Vanished
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise, without_tangents
from gradscope.recording.rows import EventKind

FIRST_PASSES = 4
"""Passes that are all looked at."""

IN_A_ROW = 2
"""Passes that are looked at from each later power of two on: programs alternate between models."""

FIRST_OF_KIND = 2
"""Passes that are looked at of those that start from nodes of a kind: a branch may be taken late, and once."""

_KINDS = 256
"""Kinds of nodes that are told apart: a program may build another graph for each pass."""

BAD_LOSSES = 3
"""Passes from a loss that is not finite before which everything is looked at."""

OVERFLOWS = 3
"""Passes with an infinity in float16 before which everything that their graph keeps is looked at."""

_SURVEYED = 1 << 26
"""Elements of the tensors that are looked at where a loss is not finite."""

_GRADIENTS, _VALUES = int(EventKind.GRADIENTS), int(EventKind.VALUES)


@contextmanager
def _unseen() -> Iterator[None]:
    """What is asked of the program's tensors meanwhile is followed neither backward nor forward."""
    with torch.no_grad(), without_tangents(False), DisableTorchFunctionSubclass():
        yield


def is_due(number: int) -> bool:
    """Whether a pass is looked at, by its number from 0 on."""
    return number < FIRST_PASSES or (number > 7 and number - (1 << number.bit_length() - 1) < IN_A_ROW)


class Look:
    """One look: what was found before the pass, and while it runs: of Functions, or of each node (``--nan``)."""

    def __init__(
        self,
        roots: Ranges,
        graph: GraphValues,
        surveyed: list[int],
        survey: Ranges,
        births: BackwardBirths,
        vanished: Vanished | None,
    ) -> None:
        self.roots = roots
        self.graph = graph
        self.surveyed = surveyed
        self.survey = survey
        self.births = births
        self.vanished = vanished

    def end(self) -> None:
        """The pass is over, or has raised."""
        self.births.remove()
        if self.vanished is not None:
            self.vanished.remove()
        self.graph.functions.clear()


class GradientLooks:
    """Decides which passes are looked at, and writes what was found.

    Args:
        tape: Where rows go.
        identity: The tensors that were seen.
        graph: The nodes that were seen.
        is_thorough: Look at every pass, and at each of its nodes while it runs.
    """

    # (a slot is where the native core counts: see native/core.h)
    __slots__ = ("__dict__", "passes")

    def __init__(self, tape: Tape, identity: Identity, graph: GraphNodes, is_thorough: bool = False) -> None:
        self._is_thorough = is_thorough
        self._tape = tape
        self._identity = identity
        self._graph = graph
        self.passes = 0
        """Backward passes that have begun."""
        self._bad_losses = 0
        self._overflows = 0
        self._has_zeros = False
        """Leaves that hold other values got zeros alone in the last pass that was looked at."""
        self._vanished = 0
        self._kinds: dict[tuple[type, ...], int] = {}
        """For each kind of nodes from which passes started: how many of these were told apart by it."""
        self._unread: list[Callable[[], None]] = []

    def before(self, roots: list[Any]) -> Look | None:
        """Look at what a pass is to start from, and at its graph, if it is its turn."""
        number = self.passes
        self.passes = number + 1
        if dispatch_modes() or is_observed_otherwise():
            return None
        is_bad_loss = self._bad_losses < BAD_LOSSES and any(map(is_bad_number, roots))
        if not all(type(root) in PLAIN for root in roots):
            return None
        is_rare = self._is_rare(roots)
        if not (is_bad_loss or is_rare or self._is_thorough or is_due(number)):
            return None
        self.settle()
        self._bad_losses += is_bad_loss
        with _unseen(), suppress(RuntimeError):  # (no memory left)
            nodes = [root.grad_fn for root in roots if root.requires_grad and root.grad_fn is not None]
            surveyed = self._alive() if is_bad_loss else []
            graph = GraphValues(nodes, self._graph.row_of, is_bad_loss)
            if graph.is_overflown and not is_bad_loss and self._overflows < OVERFLOWS:
                self._overflows += 1
                graph = GraphValues(nodes, self._graph.row_of, in_full=True)
            return Look(
                Ranges(roots),
                graph,
                [row for row, _ in surveyed],
                Ranges(tensor for _, tensor in surveyed),
                BackwardBirths(
                    nodes_behind(nodes) if self._is_thorough else graph.functions,
                    self._graph.row_of,
                    waits=self._is_thorough,
                ),
                self._vanishing(nodes),
            )
        return None

    def _vanishing(self, roots: list[Any]) -> Vanished | None:
        """Asks where gradients end in zeros, if some did in the pass before; a few times only: each node is asked."""
        if not self._has_zeros or self._vanished == PASSES:
            return None
        self._vanished += 1
        return Vanished(roots, self._graph.row_of)

    def _is_rare(self, roots: list[Any]) -> bool:
        """Whether few passes before started from such nodes."""
        kind: list[type] = []
        with DisableTorchFunctionSubclass():
            for root in roots:
                node = root.grad_fn
                kind += (type(node), *(type(behind) for behind, _ in node.next_functions)) if node is not None else ()
        key = tuple(kind)
        count = self._kinds.get(key, 0)
        if count == FIRST_OF_KIND or (not count and len(self._kinds) == _KINDS):
            return False
        self._kinds[key] = count + 1
        return True

    def after(self, look: Look, op: int, span: int, thread: int, given: list[tuple[int, Any]]) -> None:
        """Look at the gradients that a pass gave (rows of the tensors whose they are, and gradients)."""
        look.end()
        with _unseen():
            rows, found = [row for row, _ in given], Ranges(gradient for _, gradient in given)
            norms = Norms(gradient for _, gradient in given)
            alike = self._alike(given)

        def write() -> None:
            self._write(look, found, norms, alike, rows, op, span, thread)

        if found.is_free and look.roots.is_free:
            write()
        else:
            self._unread.append(write)

    @property
    def has_unread(self) -> bool:
        """Whether something is left on a device."""
        return bool(self._unread)

    def settle(self) -> None:
        """Read what was left on a device."""
        while self._unread:
            self._unread.pop(0)()

    def _alive(self) -> list[tuple[int, Tensor]]:
        """The tensors of the program's that live, with their rows."""
        found, left = [], _SURVEYED
        for seen in list(self._identity.tensors.values()):
            tensor = seen()
            if tensor is not None and type(tensor) in PLAIN and tensor.device.type != "meta":
                left -= tensor.numel()
                if left < 0:
                    break
                found.append((seen.row, tensor))
        return found

    def _alike(self, given: list[tuple[int, Any]]) -> list[list[int]]:
        """The positions of leaves whose units are all the same, and the dimension along which they are."""
        leaves = (self._identity.leaves.get(row) for row, _ in given)
        return [
            [place, dim]
            for place, ((_, gradient), leaf) in enumerate(zip(given, leaves, strict=True))
            if leaf is not None
            for dim in alike_along(gradient, leaf())
        ]

    def _write(
        self,
        look: Look,
        found: Ranges,
        norms: Norms,
        alike: list[list[int]],
        rows: list[int],
        op: int,
        span: int,
        thread: int,
    ) -> None:
        roots, ranges = look.roots.read(), found.read()
        detail = {
            "roots": [_plain(one) for one in roots],
            "ranges": [_plain(one) for one in ranges],
            "norms": norms.read(),
        }
        zeros = self._zeros_themselves(rows, ranges)
        self._has_zeros = sum(map(is_zero, ranges)) > len(zeros)
        if zeros:
            detail["zeros"] = zeros
        if alike:
            detail["alike"] = alike
        self._tape.add_event(_GRADIENTS, span, thread, op, json.dumps(detail), rows)
        asked = look.graph.read()
        is_wrong = any(map(is_bad, (*roots, *ranges)))
        is_shown = is_wrong or any(map(is_overflown, asked))
        kept, derivatives = [], []
        has_zeros = any(map(is_zero, ranges))
        for one in asked:
            if one.attr and (is_shown or (has_zeros and one.is_factor)):
                kept.append([one.node, one.attr, *_rounded(one.values)])
            if is_flat(one) or (is_wrong and is_extreme(one)):
                values = (0.0, 0.0) if is_flat(one) else _rounded(one.values)
                derivatives.append([one.node, *values, one.at])
        derivatives += [[node, 0.0, 0.0, None] for node in look.births.zeros]
        born = look.births.nodes
        vanished = look.vanished.found if look.vanished is not None and look.vanished.is_known else None
        others = (look.surveyed, born, look.graph.by_argument, look.graph.padding_rows)
        if kept or derivatives or any(others) or vanished is not None:
            found_there = {
                "padding": look.graph.padding_rows,
                "vanished": vanished,
                "underflown": look.vanished.underflown if look.vanished is not None and vanished is not None else [],
                "by_argument": look.graph.by_argument,
                "nodes": born,
                "keep": kept,
                "derivatives": derivatives,
                "ranges": [_plain(one) for one in look.survey.read()],
            }
            self._tape.add_event(_VALUES, span, thread, op, json.dumps(found_there), look.surveyed)

    def _zeros_themselves(self, rows: list[int], ranges: list[Range | None]) -> list[int]:
        """The positions of leaves whose gradient is zero, and which hold zeros alone as well."""
        places = [place for place, values in enumerate(ranges) if is_zero(values)]
        leaves = [self._identity.leaves.get(rows[place]) for place in places]
        if not leaves:
            return []
        with torch.no_grad(), DisableTorchFunctionSubclass():
            held = Ranges(None if leaf is None else leaf() for leaf in leaves).read()
        return [place for place, values in zip(places, held, strict=True) if is_zero(values)]


def is_bad_number(root: Any) -> bool:
    """Whether a loss is not finite, where that can be read without waiting."""
    if type(root) not in PLAIN or root.numel() != 1 or not root.is_cpu or root.layout is not torch.strided:
        return False
    number = root.item()
    return not math.isfinite(abs(number))


def _rounded(values: Range | None) -> Range:
    low, high = values or (math.nan, 0.0)
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def _plain(values: Range | None) -> Range | None:
    return None if values is None else _rounded(values)
