"""The recorder unpacks no saved tensor: no forward pass is run again, no hook of the program's is called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd.graph import save_on_cpu, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from .sameness import assert_unnoticed


class Counted(nn.Module):
    """A block that counts how often it runs forward."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return self.dropout(torch.relu(self.linear(x)))


def checkpointed(use_reentrant):
    block = Counted()
    x = torch.randn(3, 4, requires_grad=True)
    out = checkpoint(block, x, use_reentrant=use_reentrant)
    runs_before = block.runs
    other = out * 2
    seen = out.detach().sum()
    other.sum().backward()
    return x, block, runs_before, block.runs, seen


def reentrant():
    return checkpointed(True)


def not_reentrant():
    return checkpointed(False)


def sequential():
    blocks = nn.Sequential(Counted(), Counted(), Counted(), Counted())
    x = torch.randn(3, 4, requires_grad=True)
    checkpoint_sequential(blocks, 2, x, use_reentrant=False).sum().backward()
    return x, blocks, [block.runs for block in blocks]


def nested_checkpoints():
    inner, outer = Counted(), Counted()
    x = torch.randn(3, 4, requires_grad=True)

    def both(value):
        return outer(checkpoint(inner, value, use_reentrant=False))

    checkpoint(both, x, use_reentrant=False).sum().backward()
    return x, inner.runs, outer.runs


def saved_on_cpu():
    x = torch.randn(3, requires_grad=True)
    with save_on_cpu():
        out = (x * x).exp()
    out.sum().backward()
    return x, out


def own_hooks():
    calls = []

    def pack(tensor):
        calls.append("pack")
        return tensor.clone()

    def unpack(packed):
        calls.append("unpack")
        return packed

    x = torch.randn(3, requires_grad=True)
    with saved_tensors_hooks(pack, unpack):
        out = (x * x).exp()
        inside = list(calls)
        view = out[1:]
    after = out * x
    before = list(calls)
    after.sum().backward()
    return x, out, view, inside, before, calls


def hooks_on_one_node():
    calls = []

    def unpack(packed):
        calls.append("unpack")
        return packed

    x = torch.randn(3, requires_grad=True)
    out = x.exp()
    out.grad_fn._raw_saved_result.register_hooks(lambda tensor: calls.append("pack") or tensor.clone(), unpack)
    twice = out * 2
    before = list(calls)
    twice.sum().backward()
    return x, before, calls


def hooks_that_keep_what_they_are_given():
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return len(kept) - 1

    x = torch.randn(3, requires_grad=True)
    with saved_tensors_hooks(pack, kept.__getitem__):
        out = x.sin().cos()
    out.sum().backward()
    return x, len(kept), [tensor.detach().clone() for tensor in kept]


def changed_after_it_was_saved():
    x = torch.randn(3, requires_grad=True)
    y = (x * 2).exp()
    total = y.sum()
    y.detach().mul_(2)
    total.backward()


def second_backward():
    x = torch.randn(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


def disabled_hooks():
    x = torch.randn(3, requires_grad=True)
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        (x * x).sum().backward()
    return x


PROGRAMS = [
    reentrant,
    not_reentrant,
    sequential,
    nested_checkpoints,
    saved_on_cpu,
    own_hooks,
    hooks_on_one_node,
    hooks_that_keep_what_they_are_given,
    disabled_hooks,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


@pytest.mark.parametrize(
    ("program", "message"),
    [(changed_after_it_was_saved, "modified by an inplace operation"), (second_backward, "backward through the graph")],
)
def test_autograd_still_finds_the_error(program, message):
    recording = assert_unnoticed(program)
    assert any(message in recording.text(error.message) for error in recording.errors)
