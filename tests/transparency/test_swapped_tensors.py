"""Tensors that change places: torch refuses those with weak references, and does not meet the recorder's."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils import swap_tensors

from .sameness import assert_unnoticed, recorder_for_tests


def by_name() -> list[Any]:
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3, dtype=torch.float64))
    (p * 2).sum().backward()
    torch.utils.swap_tensors(p, q)
    (p * 3).sum().backward()
    return [p, q, p.grad, q.grad, len(weakref.getweakrefs(p)) > 2]


def by_import() -> list[Any]:
    a, b = torch.ones(2).requires_grad_(), torch.zeros(2).requires_grad_() * 1
    swap_tensors(a, b)
    return [a, b, b.is_leaf, a.grad_fn is not None]


def with_somebody_elses_reference() -> None:
    a, b = torch.ones(2) * 1, torch.zeros(2) * 1
    kept = weakref.ref(b)
    torch.utils.swap_tensors(a, b)
    assert kept() is b


def by_conversion() -> list[Any]:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.ones(4, 2)).sum().backward()
    model.to(torch.float64)
    state = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()
    model.load_state_dict(state)
    model(torch.ones(4, 2, dtype=torch.float64)).sum().backward()
    optimizer.step()
    return [model, [p.grad for p in model.parameters()]]


def of_a_wrapper_subclass() -> list[Any]:
    model = nn.Linear(2, 2)
    model.weight = nn.Parameter(TwoTensor(torch.ones(2, 2), torch.zeros(2, 2)))
    model.to(torch.float64)
    return [model.weight.a, model.weight.b, model.weight.dtype]


@pytest.mark.parametrize(
    "program", [by_name, by_import, with_somebody_elses_reference, by_conversion, of_a_wrapper_subclass]
)
def test_swapped_as_bare(program: Callable[[], Any]) -> None:
    torch.__future__.set_swap_module_params_on_conversion(program is by_conversion)
    try:
        assert_unnoticed(program)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def test_what_is_known_of_a_tensor_goes_with_its_content() -> None:
    recorder = recorder_for_tests()
    with recorder:
        p = torch.ones(2, requires_grad=True)
        q = torch.zeros(3)
        row_p, row_q = recorder.row_of(p), recorder.row_of(q)
        torch.utils.swap_tensors(p, q)
        assert (recorder.row_of(p), recorder.row_of(q)) == (row_q, row_p)
        q.sum().backward()
        (p + 1).sum()
    recording = recorder.recording
    assert [(entry.tensor, entry.grad >= 0) for entry in recording.gradients if entry.tensor in (row_p, row_q)] == [
        (row_p, True)
    ]
    names = {(recording.strings[binding.name], binding.tensor) for binding in recording.bindings}
    assert {("p", row_p), ("p", row_q), ("q", row_p)} <= names
    assert "swap_tensors" in {recording.strings[op.func] for op in recording.ops}
    assert torch.utils.weakref is weakref
