"""Assertions about autograd: each holds where it is to hold, and says what it found where it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from gradscope.testing import (
    assert_frozen,
    assert_grads,
    assert_no_new_graph,
    assert_own_memory,
    assert_shares_memory,
)


@pytest.fixture
def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


def test_every_parameter_that_is_to_learn_has_a_gradient(net: nn.Module):
    net(torch.ones(1, 2)).sum().backward()
    assert_grads(net)
    net[0].requires_grad_(False)
    net[0].weight.grad = None
    assert_grads(net)  # what is frozen needs none
    net[1].bias.grad = None
    with pytest.raises(
        AssertionError, match=r"^got no gradient \(1 of 2 that require grad\): 1\.bias; \.grad is None$"
    ):
        assert_grads(net)
    with pytest.raises(AssertionError, match=r"no gradient can be there: 0\.weight, .* do not"):
        assert_grads(net.requires_grad_(False))


def test_tensors_are_named_or_numbered_and_inner_ones_are_said_to_be_so():
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    h.sum().backward()
    assert_grads(w)
    for tensors, name in ((h, "the tensor"), ([w, h], "tensor 1"), ({"h": h}, "h")):
        with pytest.raises(AssertionError, match=f"these are no leaves: {name}$"):
            assert_grads(tensors)
    kept = w * 2
    kept.retain_grad()
    kept.sum().backward()
    assert_grads(kept)


def test_what_is_frozen_requires_no_grad_and_has_none(net: nn.Module):
    with pytest.raises(AssertionError, match=r"^not frozen \(4 of 4\): 0\.weight, .* require grad$"):
        assert_frozen(net)
    net(torch.ones(1, 2)).sum().backward()
    net.requires_grad_(False)
    with pytest.raises(AssertionError, match=r"a gradient left from before: 0\.weight, 0\.bias, 1\.weight, 1\.bias;"):
        assert_frozen(net)
    net.zero_grad()
    assert_frozen(net)


def test_a_block_without_a_graph(net: nn.Module):
    x = torch.ones(1, 2)
    with assert_no_new_graph(), torch.no_grad():
        net(x)
    with assert_no_new_graph():
        x * 2
        net[0].weight.detach().add(1)
    with pytest.raises(AssertionError) as caught, assert_no_new_graph():
        y = net(x)
        y.item()
    first, second = str(caught.value).split("\n")
    assert first == "autograd tracked what was to be untracked:"
    assert second.endswith(": y = net(x) (y has grad_fn AddmmBackward0)")
    with pytest.raises(ZeroDivisionError), assert_no_new_graph():
        net(x)
        raise ZeroDivisionError


def test_shared_memory():
    x = torch.ones(4)
    assert_shares_memory(x, x[2:])
    assert_shares_memory(x, x.detach())
    assert_own_memory(x, x.clone())
    with pytest.raises(AssertionError, match="do not share memory"):
        assert_shares_memory(x, x.clone())
    with pytest.raises(AssertionError, match="share memory: they lie on one block"):
        assert_own_memory(x, x.view(2, 2))
    assert_own_memory(torch.empty(0), torch.empty(0))


def test_the_package_does_not_import_them_until_they_are_asked_for():
    code = "import sys, gradscope; assert 'torch' not in sys.modules; gradscope.testing.assert_grads"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
