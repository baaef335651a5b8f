"""Arrays that are normalised in place through a tensor on them, again each time that a tensor is put on them."""

from __future__ import annotations

import pytest
import torch

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.recorder.state.wrapped_arrays import BLOCKS, EVENTS
from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded

PROGRAM = """
import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
data = rng.normal(5, 3, size=(12, 6)).astype(np.float32)
mean, std = torch.full((6,), 5.0), torch.full((6,), 3.0)
model = nn.Linear(6, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def item(i):
    {before}
    x = {wrapped}
    {prepared}
    return x

for epoch in range(3):
    for at in range(0, 12, 4):
        x = torch.stack([item(i) for i in range(at, at + 4)])
        loss = {loss}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
USUAL = {
    "before": "pass",
    "wrapped": "torch.from_numpy(data[i])",
    "prepared": "x.sub_(mean).div_(std)",
    "loss": "(model(x) - 1).pow(2).mean()",
}


def found(**changed: str) -> list[Answer]:
    answers = build(recorded(PROGRAM.format(**{**USUAL, **changed}))).answers
    return [answer for answer in answers if answer.code == "data-written-again"]


@pytest.mark.parametrize(
    ("changed", "written", "put"),
    [
        ({}, "x.sub_(mean).div_(std)", "x = torch.from_numpy(data[i])"),
        ({"wrapped": "torch.as_tensor(data[i])"}, "x.sub_(mean).div_(std)", "x = torch.as_tensor(data[i])"),
        ({"prepared": "x /= 255"}, "x /= 255", "x = torch.from_numpy(data[i])"),
        ({"prepared": "x.add_(0.1 * torch.randn(6))"}, "x.add_(0.1 * torch.randn(6))", "x = torch.from_numpy(data[i])"),
        (
            {"prepared": "x[:3] -= mean[:3]; x[3:] *= 2"},
            "x[:3] -= mean[:3]; x[3:] *= 2",
            "x = torch.from_numpy(data[i])",
        ),
        (
            {"prepared": "x.sub_(torch.tensor([5.0] * 6)).div_(torch.tensor([3.0] * 6))"},
            "x.sub_(torch.tensor([5.0] * 6)).div_(torch.tensor([3.0] * 6))",
            "x = torch.from_numpy(data[i])",
        ),
        (
            {"wrapped": "torch.from_numpy(data[i]).float()"},
            "x.sub_(mean).div_(std)",
            "x = torch.from_numpy(data[i]).float()",
        ),
    ],
)
def test_the_write_is_named_and_where_the_tensor_was_put_on_the_array(
    changed: dict[str, str], written: str, put: str
) -> None:
    (answer,) = found(**changed)
    assert [cause.source.strip() for cause in answer.causes] == [written, put]
    assert "3 times in a row" in answer.text


@pytest.mark.parametrize(
    "changed",
    [
        {"prepared": "x = (x - mean) / std"},
        {"wrapped": "torch.from_numpy(data[i].copy())"},
        {"wrapped": "torch.from_numpy(data[i]).clone()"},
        {"wrapped": "torch.tensor(data[i])"},
        {"before": "data[i] = rng.normal(5, 3, size=6)"},  # (numpy fills it anew)
        {"prepared": "x.clamp_(min=0)"},
        {"prepared": "x.add_(1)"},  # (a count)
        {"prepared": "x.mul_(0.9).add_(model.weight.detach()[0])"},  # (an average, kept in an array)
        {"prepared": "x.sub_(x.mean())"},
        {"prepared": "x.copy_(mean)"},
        {"prepared": "x.sub_(mean); y = x.clone(); x.add_(mean); x = y"},
        {"loss": "model(torch.ones(1, 6)).sum() + 0 * x[0, 0].item()"},  # (nothing trained takes it)
    ],
)
def test_what_differs_in_one_place_is_not_reported(changed: dict[str, str]) -> None:
    assert found(**changed) == []


def test_only_writes_to_what_a_write_had_left_are_noted() -> None:
    recording = recorded(PROGRAM.format(**USUAL))
    kinds = list(recording.events.column("kind"))
    assert kinds.count(EventKind.WRITTEN_AGAIN) == 2 * 12 * 2  # (two epochs, two writes)
    assert kinds.count(EventKind.WRITTEN_AGAIN) < EVENTS < BLOCKS


def test_from_numpy_is_torchs_own_again_afterwards() -> None:
    before = torch.from_numpy
    recorded("import torch, numpy; torch.from_numpy(numpy.ones(2))")
    assert torch.from_numpy is before


def test_an_array_that_is_no_array_is_refused_as_ever() -> None:
    recording = recorded("import torch\ntorch.from_numpy([1.0])")
    assert recording.info.outcome.message == "expected np.ndarray (got list)"
