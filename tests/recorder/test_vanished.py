"""Where gradients end in zeros is asked of a few passes only, nothing of it is left behind or changes a gradient."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from gradscope.recorder.state import vanished
from gradscope.recording import Recording
from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded

PROGRAM = """
import torch
torch.manual_seed(0)
w, v = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w, v], lr=0.1)
given = []
for step in range({steps}):
    optimizer.zero_grad()
    y = torch.stack([w * 2, v * 3])
    loss = (y[{taken}] ** 2).sum()
    loss.backward()
    given.append(w.grad.clone())
    optimizer.step()
"""


def asked(recording: Recording) -> list[Any]:
    details = [json.loads(recording.text(one.detail)) for one in recording.events if one.kind == EventKind.VALUES]
    return [one["vanished"] for one in details if one.get("vanished") is not None]


def names(recording: Recording, found: list[Any]) -> list[tuple[str, list[int]]]:
    return [(recording.text(recording.nodes[node].name), places) for node, places in found]


def test_the_node_that_gave_zeros_is_found_with_what_got_them() -> None:
    recording = recorded(PROGRAM.format(steps=3, taken="1"))
    first, second = asked(recording)
    assert names(recording, first) == names(recording, second) == [("StackBackward0", [0])]


@pytest.mark.parametrize(("weight", "size"), [(1e-9, 2e-9), (1, None), (0, None)])
def test_how_large_a_gradient_was_that_float16_made_zero_is_noted(weight: float, size: float | None) -> None:
    source = f"""
    import torch
    w = torch.nn.Parameter(torch.ones(3))
    for step in range(3):
        w.grad = None
        (w.half().float() * 2 * {weight}).sum().backward()
    """
    recording = recorded(source)
    events = [one for one in recording.events if one.kind == EventKind.VALUES]
    found = [json.loads(recording.text(one.detail)).get("underflown") for one in events]
    if size is None:
        assert not any(found)
    else:
        [(node, noted)] = found[-1]
        assert recording.text(recording.nodes[node].name) == "ToCopyBackward0"
        assert noted == pytest.approx(size)


def test_without_zeros_no_node_is_asked() -> None:
    assert asked(recorded(PROGRAM.format(steps=3, taken=":"))) == []


def test_a_few_passes_alone_are_asked() -> None:
    assert len(asked(recorded(PROGRAM.format(steps=400, taken="1")))) == vanished.PASSES


def test_a_large_graph_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanished, "NODES", 3)
    assert asked(recorded(PROGRAM.format(steps=3, taken="1"))) == []


def test_hooks_are_taken_off_and_a_graph_that_is_kept_goes_on() -> None:
    recording = recorded(
        """
    import torch
    w, v = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    y = torch.stack([w * 2, v * 3])
    for step in range(3):
        w.grad = v.grad = None
        y[1].sum().backward(retain_graph=True)
    counted = []
    for node in (y.grad_fn, y.grad_fn.next_functions[0][0]):
        node.register_hook(lambda *_: counted.append(1))
    y.sum().backward()
    assert len(counted) == 2
    assert v.grad.tolist() == [6.0] * 3 and w.grad.tolist() == [2.0] * 3
    """
    )
    assert recording.info.outcome.kind == "ok"


def test_gradients_that_are_sparse_are_not_asked() -> None:
    recording = recorded(
        """
    import torch
    e, w = torch.nn.Embedding(4, 2, sparse=True), torch.nn.Parameter(torch.ones(2))
    for step in range(3):
        w.grad = None
        y = torch.stack([w * 2, e(torch.tensor([1]))[0]])
        y[1].sum().backward()
    """
    )
    assert all(("EmbeddingBackward0", [0]) not in names(recording, one) for one in asked(recording))
    assert torch.is_grad_enabled()
