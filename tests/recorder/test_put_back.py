"""A program that puts something around ours, and its own back later, loses nothing and keeps working."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager

import pytest
import torch
from torch.optim import Optimizer

import gradscope
from gradscope.recorder.torch_internals import capabilities
from tests.recorder.reading import functions

AUTOGRAD = torch._C._autograd
REPLACED = [
    (threading.Thread, "start"),
    (threading.Thread, "_bootstrap_inner"),
    (torch.overrides, "has_torch_function"),
    (Optimizer, "zero_grad"),
    (torch.Tensor, "register_hook"),
    (torch.nn.Module, "register_forward_hook"),
    (torch.utils.hooks.RemovableHandle, "remove"),
    (torch._C, "_create_function_from_trace"),
    (AUTOGRAD, "_push_saved_tensors_default_hooks"),
    (AUTOGRAD, "_pop_saved_tensors_default_hooks"),
]


@pytest.fixture(autouse=True)
def counting_hooks(monkeypatch):
    """As on torch that cannot be asked for the hooks in force."""
    monkeypatch.setattr(capabilities, "_IS_COUNTED", True)


def uses_everything():
    done = []
    thread = threading.Thread(target=lambda: done.append(torch.ones(1) + 1))
    thread.start()
    thread.join()
    weight = torch.ones(2, requires_grad=True)
    weight.register_hook(lambda grad: grad)
    torch.nn.Identity().register_forward_hook(lambda module, args, output: None).remove()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        (weight * weight).sum().backward()
    optimizer = torch.optim.SGD([weight], lr=0.1)
    optimizer.step()
    optimizer.zero_grad()
    torch.overrides.has_torch_function((weight,))
    torch.jit.trace(lambda x: x * 2, torch.ones(2))
    return len(done), weight.grad


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize(("owner", "name"), REPLACED, ids=lambda part: getattr(part, "__name__", part))
def test_what_the_program_wrapped_stays_wrapped_until_it_says_so(owner, name):
    before = vars(owner)[name]
    called = []
    with gradscope.record():
        ours = vars(owner)[name]
        assert ours is not before

        def theirs(*args, **kwargs):
            called.append(name)
            return ours(*args, **kwargs)

        setattr(owner, name, theirs)
    try:
        assert vars(owner)[name] is theirs
        assert uses_everything() == (1, None)
        assert called
        with gradscope.record() as recording:  # a second one goes on top of theirs
            assert uses_everything() == (1, None)
        assert vars(owner)[name] is theirs
        assert "Tensor.add" in functions(recording) and not recording.faults
        setattr(owner, name, ours)
        assert uses_everything() == (1, None)
    finally:
        setattr(owner, name, before)


@contextmanager
def recording_in_a_thread():
    """A recording that another thread opens, and closes when the block ends."""
    opened, close = threading.Event(), threading.Event()

    def records():
        with gradscope.record():
            opened.set()
            close.wait()

    thread = threading.Thread(target=records)
    thread.start()
    opened.wait()
    try:
        yield
    finally:
        close.set()
        thread.join()


def test_recordings_that_end_in_the_order_in_which_they_began_leave_nothing():
    before = [vars(owner)[name] for owner, name in REPLACED]
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(recording_in_a_thread())
        second.enter_context(recording_in_a_thread())
        first.close()
    assert [vars(owner)[name] for owner, name in REPLACED] == before
