"""Where a NaN or an infinity comes out of what had none: every op and node is looked at (``gradscope run --nan``).

Each look waits for the device.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunction, DisableTorchFunctionSubclass

from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.value_ranges import Range, is_bad, is_zero, remarkable_ranges
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise
from gradscope.recording.rows import EventKind

OF_A_LINE = 3
"""Births that are noted of one call site."""

_VALUES = int(EventKind.VALUES)


class ForwardBirths:
    """Looks at what each op gives.

    Args:
        tape: Where rows go.
        identity: The tensors that were seen.
    """

    def __init__(self, tape: Tape, identity: Identity) -> None:
        self._tape = tape
        self._identity = identity
        self._bad: set[int] = set()
        """Tensors that had a NaN or an infinity when an op last gave or changed them."""
        self._nan: set[int] = set()
        self._noted: dict[int, int] = {}

    def note(self, op: int, span: int, thread: int, inputs: list[Any], results: list[Any]) -> None:
        """Look at what an op gave or changed.

        Args:
            op: The op.
            span: Where it was called.
            thread: The thread's number.
            inputs: The tensors that it took.
            results: Those that it made, gave or changed.
        """
        if dispatch_modes() or is_observed_otherwise():
            return
        with torch.no_grad(), DisableTorchFunctionSubclass():
            found = remarkable_ranges(results)
            worst = _worst(found)
            if worst is not None:
                changed = {id(tensor) for tensor in results}
                asked = [tensor for tensor in inputs if id(tensor) not in changed]
                before = _worst(remarkable_ranges(asked))
                rows = {self._identity.row_of(tensor) for tensor in inputs if id(tensor) in changed}
                had_nan = _has_nan(before) or not rows.isdisjoint(self._nan)
                had_any = before is not None or not rows.isdisjoint(self._bad)
                if not (had_nan if _has_nan(worst) else had_any):
                    self._write(op, span, thread, worst, results)
        for tensor, values in zip(results, found, strict=True):
            row = self._identity.row_of(tensor)
            (self._bad.add if is_bad(values) else self._bad.discard)(row)
            (self._nan.add if _has_nan(values) else self._nan.discard)(row)

    def _write(self, op: int, span: int, thread: int, values: Range, results: list[Any]) -> None:
        count = self._noted.get(span, 0)
        self._noted[span] = count + 1
        if count < OF_A_LINE:
            rows = [row for row in map(self._identity.row_of, results) if row >= 0]
            self._tape.add_event(_VALUES, span, thread, op, json.dumps({"born": values}), rows)


class BackwardBirths:
    """Looks at what nodes of a pass are given and give, by hooks that are taken off when the pass is over.

    Args:
        nodes: Those to look at; leaves have nothing to look at.
        row_of: Gives the row of a node, or NONE.
        waits: Look at what is on a device, too, and wait for it.
    """

    def __init__(self, nodes: Iterable[Any], row_of: Callable[[Any], int], waits: bool) -> None:
        self._waits = waits
        self.nodes: list[int] = []
        """Those that were given what is finite and gave what is not, in the order in which they ran."""
        self.zeros: list[int] = []
        """Those that were given what is not zero and gave zeros alone, likewise."""
        self._handles = [
            node.register_hook(self._hook(row))
            for node in nodes
            if not hasattr(node, "variable") and (row := row_of(node)) >= 0
        ]

    def _hook(self, row: int) -> Callable[[Any, Any], None]:
        def look(given_back: Any, given: Any) -> None:
            with DisableTorchFunction(), torch.no_grad():  # (this order: else the mode is handed what no_grad sets)
                found = remarkable_ranges(_tensors(given_back), waits=self._waits)
                if _worst(found) is not None:
                    if _worst(remarkable_ranges(_tensors(given))) is None:
                        self.nodes.append(row)
                elif found and all(map(is_zero, found)) and not all(map(is_zero, remarkable_ranges(_tensors(given)))):
                    self.zeros.append(row)

        return look

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _tensors(gradients: Iterable[Any]) -> list[Tensor]:
    return [one for one in gradients if isinstance(one, Tensor)]


def _has_nan(values: Range | None) -> bool:
    return values is not None and values[0] != values[0]


def _worst(ranges: Iterable[Range | None]) -> Range | None:
    """A range with a NaN, else one with an infinity, else None."""
    bad = [values for values in ranges if values is not None and is_bad(values)]
    return next((values for values in bad if _has_nan(values)), bad[0] if bad else None)
