"""``Optimizer.zero_grad()`` is one op, and what is not torch's own in it is recorded call by call."""

import inspect
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import gradscope
from gradscope.recording.rows import Field, OpKind
from tests.analysis.building import recorded
from tests.recorder.reading import changes_of, functions, op_named, tensor_called

ZERO_GRAD = "optim.Optimizer.zero_grad"


def optimizer_of(*parameters) -> torch.optim.SGD:
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    return torch.optim.SGD(parameters, lr=0.1)


@pytest.mark.parametrize("arguments", ["", "True", "set_to_none=True"])
def test_it_is_one_row_with_the_parameters_whose_gradients_went(arguments):
    recording = recorded(f"""
    import torch
    held, free = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    (held * 2).sum().backward()
    torch.optim.SGD([held, free], lr=0.1).zero_grad({arguments})
    torch.optim.SGD([held, free], lr=0.1).zero_grad({arguments})
    """)
    op, row = op_named(recording, ZERO_GRAD)
    assert functions(recording).count(ZERO_GRAD) == 2
    assert (row.kind, row.calls) == (OpKind.GROUP, 1)
    held, free = tensor_called(recording, "held"), tensor_called(recording, "free")
    gradient = recording.gradients[0].grad
    assert [use.tensor for use in recording.uses if use.op == op] == [held]
    assert changes_of(recording, held, Field.GRAD) == [(gradient, -1)]
    assert changes_of(recording, free, Field.GRAD) == []
    assert recording.tensors[gradient].died == op


def test_gradients_that_are_filled_with_zeros_are_seen_to_change():
    recording = recorded("""
    import torch
    w = torch.ones(2, requires_grad=True)
    (w * 2).sum().backward()
    torch.optim.SGD([w], lr=0.1).zero_grad(set_to_none=False)
    """)
    gradient = recording.gradients[0].grad
    assert changes_of(recording, gradient, Field.VERSION)


def test_every_recorder_and_the_programs_own_modes_see_it():
    class Noting(TorchFunctionMode):
        noted: ClassVar = []

        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.grad.__get__, torch.Tensor.grad.__set__):
                Noting.noted.append(func)
            return func(*args, **(kwargs or {}))

    optimizer = optimizer_of(nn.Parameter(torch.ones(2)))
    with gradscope.record() as outer, gradscope.record() as inner:
        optimizer.zero_grad()
    assert functions(outer) == functions(inner) == [ZERO_GRAD]
    first, second = (optimizer_of(nn.Parameter(torch.ones(2))) for _ in range(2))
    with Noting():
        first.zero_grad()
        alone, Noting.noted = Noting.noted, []
        with gradscope.record():
            second.zero_grad()
    assert Noting.noted == alone == [torch.Tensor.grad.__get__, torch.Tensor.grad.__set__]


def test_a_subclass_of_the_programs_answers_for_itself():
    class Talking(torch.Tensor):
        asked = 0

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            Talking.asked += 1
            return super().__torch_function__(func, types, args, kwargs)

    optimizer = optimizer_of(torch.ones(2).as_subclass(Talking).requires_grad_())
    Talking.asked = 0
    with gradscope.record() as recording:
        optimizer.zero_grad()
    assert Talking.asked > 1
    assert functions(recording) == [ZERO_GRAD]


def test_what_raises_raises_as_it_does_without():
    optimizer = optimizer_of(nn.Parameter(torch.ones(2)))
    with gradscope.record(), pytest.raises(TypeError, match="positional arguments"):
        optimizer.zero_grad(True, 2)
    optimizer.param_groups.append({"params": None})
    with gradscope.record() as recording, pytest.raises(TypeError, match="not iterable"):
        optimizer.zero_grad()
    assert functions(recording) == [ZERO_GRAD]
    assert not recording.faults
    unready = torch.optim.SGD.__new__(torch.optim.SGD)
    with gradscope.record(), pytest.raises(AttributeError, match="'defaults'"):
        unready.zero_grad()
    assert str(inspect.signature(optimizer.zero_grad)) == "(set_to_none: bool = True) -> None"
