"""A self-test: a tiny program run bare and recorded, and what was recorded compared with what torch says itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from gradscope.recorder.session import Recorder
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import Tensor, TensorFlag

FILENAME = "<gradscope self-test>"
PROGRAM = """\
import torch

weight = torch.tensor([1.0, 2.0], requires_grad=True)
hidden = weight * 3
cut = hidden.detach()
view = hidden[0]
with torch.no_grad():
    untracked = weight * 2
loss = (hidden * hidden).sum()
loss.backward()
weight.data.mul_(2)
"""
NAMES = ("weight", "hidden", "cut", "view", "untracked", "loss")


@dataclass(frozen=True)
class Check:
    """One comparison."""

    name: str
    passed: bool
    detail: str
    """What differs; empty when it passed."""


def self_test() -> list[Check]:
    """Run the program bare and recorded, and compare.

    Raises:
        Exception: Whatever the program raises: torch itself does not work then.
    """
    modes = torch._C._len_torch_function_stack()
    bare, recorded = _run(), {}
    recorder = Recorder(is_user=FILENAME.__eq__, sources={FILENAME: PROGRAM})
    recorder.start()
    try:
        recorded = _run()
    finally:
        recorder.stop(recorded)
    recording = recorder.recording
    left = torch._C._len_torch_function_stack() - modes
    return [
        _compare("same results with the recorder on", _results(bare), _results(recorded)),
        _compare("recorded facts are what torch says", _facts_by_torch(recorded), _facts_recorded(recording)),
        _compare("the gradient was seen", [("weight", True)], _gradients(recording)),
        _compare("no fault of the recorder's own", [], [fault.traceback for fault in recording.faults]),
        _compare("nothing left installed", 0, left),
    ]


def _run() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(PROGRAM, FILENAME, "exec"), namespace)
    return namespace


def _compare(name: str, expected: object, found: object) -> Check:
    return Check(name, expected == found, "" if expected == found else f"expected {expected}, found {found}")


def _results(namespace: dict[str, Any]) -> list[tuple[object, ...]]:
    tensors = [namespace[name] for name in NAMES]
    results: list[tuple[object, ...]] = [
        (tensor.tolist(), tensor.requires_grad, tensor._version, str(tensor.dtype)) for tensor in tensors
    ]
    return [*results, (namespace["weight"].grad.tolist(),)]


def _facts_by_torch(namespace: dict[str, Any]) -> list[tuple[object, ...]]:
    """By name: requires_grad, leaf, grad_fn, bytes, and the names on the same storage."""
    places = {name: namespace[name].untyped_storage().data_ptr() for name in NAMES}
    facts: list[tuple[object, ...]] = []
    for name in NAMES:
        tensor = namespace[name]
        grad_fn = tensor.grad_fn.name() if tensor.grad_fn is not None else ""
        sharing = tuple(other for other in NAMES if places[other] == places[name])
        facts.append((name, tensor.requires_grad, tensor.is_leaf, grad_fn, tensor.nbytes, sharing))
    return facts


def _facts_recorded(recording: Recording) -> list[tuple[object, ...]]:
    found = {recording.text(row.name): recording.tensors[row.tensor] for row in recording.bindings}
    rows = {name: found[name] for name in NAMES if name in found}
    facts: list[tuple[object, ...]] = []
    for name, row in rows.items():
        flags = TensorFlag(row.flags)
        sharing = tuple(other for other in rows if rows[other].storage == row.storage)
        nbytes = recording.layouts[row.layout].nbytes
        facts.append(
            (
                name,
                TensorFlag.REQUIRES_GRAD in flags,
                TensorFlag.LEAF in flags,
                _grad_fn(recording, row),
                nbytes,
                sharing,
            )
        )
    return facts


def _grad_fn(recording: Recording, row: Tensor) -> str:
    return "" if row.node == NONE else recording.text(recording.nodes[row.node].name)


def _gradients(recording: Recording) -> list[tuple[str, bool]]:
    names = {row.tensor: recording.text(row.name) for row in recording.bindings}
    return [(names.get(row.tensor, ""), row.grad != NONE) for row in recording.gradients]
