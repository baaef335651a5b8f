"""Sizes at which an inspector breaks: a graph 200,000 nodes deep, 10,000 parameters."""

from __future__ import annotations

import resource
import sys
import textwrap

import pytest
import torch
from torch import nn

from tests.processes import run as run_command

from .sameness import assert_unnoticed

STACK = 200 * 2**20
"""Bytes of stack that freeing 200,000 nodes takes once Python has touched them; the recorder raises the soft limit."""

DEEP_CHAIN = """
    import sys, torch
    from gradscope.recorder.session import Recorder
    recorder = Recorder(is_user=lambda filename: filename == "<string>")
    with recorder:
        x = torch.ones(1, requires_grad=True)
        y = x
        for _ in range(200_000):
            y = y + 1
        y.backward()
        assert x.grad.item() == 1.0
        del y
    assert [fault.traceback for fault in recorder.recording.faults] == []
    assert len(recorder.recording.nodes) > 200_000
    print("freed")
"""


def test_deep_chain_is_built_run_backward_and_freed():
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY and hard < STACK:
        pytest.skip(f"needs a hard limit of {STACK} bytes of stack, has {hard}")
    code = textwrap.dedent(DEEP_CHAIN)
    command = [sys.executable, "-c", code]
    finished = run_command(command)
    assert (finished.returncode, finished.stdout) == (0, "freed\n"), finished.stderr


def many_parameters():
    parameters = [nn.Parameter(torch.full((2,), float(number))) for number in range(10_000)]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack(list(parameters)).pow(2).sum().backward()
        optimizer.step()
    return parameters[0], parameters[-1], torch.stack([parameter.grad for parameter in parameters]).sum()


def many_modules():
    model = nn.Sequential(*[nn.Linear(1, 1) for _ in range(500)])
    model(torch.ones(1, 1)).sum().backward()
    return model[0].weight, model[-1].bias


def test_many_modules():
    assert len(assert_unnoticed(many_modules).ops) > 0


def test_many_parameters_each_with_its_gradient():
    recording = assert_unnoticed(many_parameters)
    assert len({gradient.op for gradient in recording.gradients}) == 2
    assert len(recording.gradients) == 20_000
