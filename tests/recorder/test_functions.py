"""Torch's functions are described as people write them, and by what torch's schemas say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import get_testing_overrides

from gradscope.recorder.calls.torch_functions import describe
from gradscope.recording.rows import OpKind


@pytest.mark.parametrize(
    ("function", "name", "kind"),
    [
        (torch.Tensor.mul, "Tensor.mul", OpKind.CALL),
        (torch.ones, "torch.ones", OpKind.CALL),
        (F.relu, "F.relu", OpKind.CALL),
        (torch.Tensor.data.__get__, "Tensor.data.__get__", OpKind.CALL),
        (torch.Tensor.requires_grad.__set__, "Tensor.requires_grad.__set__", OpKind.SET),
        (torch.Tensor.requires_grad_, "Tensor.requires_grad_", OpKind.SET),
        (torch.Tensor.grad.__get__, "Tensor.grad.__get__", OpKind.READ_GRAD),
        (torch.Tensor.backward, "Tensor.backward", OpKind.BACKWARD),
        (torch.autograd.grad, "torch.autograd.grad", OpKind.GRAD),
        (torch.Tensor.item, "Tensor.item", OpKind.EXPORT),
        (torch._C._set_grad_enabled, "torch._set_grad_enabled", OpKind.MODE),
    ],
)
def test_name_and_kind(function, name, kind):
    described = describe(function)
    assert (described.name, described.kind) == (name, kind)


def test_what_may_mutate_is_taken_from_the_schemas():
    assert not describe(torch.Tensor.mul).mutates
    assert not describe(torch.matmul).mutates
    assert describe(torch.Tensor.mul_).mutates
    assert describe(torch.Tensor.__setitem__).mutates
    assert describe(torch.Tensor.__iadd__).mutates
    assert describe(F.batch_norm).mutates, "a Python function has no schema: it may"


def test_metadata_is_ignored_and_every_function_of_torch_can_be_described():
    assert describe(torch.Tensor.shape.__get__).ignored
    assert describe(torch.Tensor.size).ignored
    described = [describe(function) for function in get_testing_overrides()]
    assert all(info.name for info in described)
    in_place_but_ignored = [info.name for info in described if info.ignored and info.mutates]
    assert in_place_but_ignored == []
