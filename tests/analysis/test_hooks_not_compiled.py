"""Hooks that are registered on modules of compiled functions that have run."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
fast = torch.compile(net, backend="aot_eager")
fast(torch.ones(2, 3)).sum().backward()
seen = []
net[0].register_forward_hook(lambda module, args, output: seen.append(output.norm()))
fast(torch.ones(2, 3)).sum().backward()
"""
LAST = "fast(torch.ones(2, 3)).sum().backward()\n"


def causes(program: str) -> list[list[int]]:
    answers = build(recorded(program)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "hook-not-compiled"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (
            "register_forward_hook(lambda module, args, output",
            "register_full_backward_hook(lambda module, args, output",
        ),
    ],
)
def test_a_hook_that_comes_after_the_first_call(old: str, new: str) -> None:
    assert causes(PROGRAM.replace(old, new)) == [[6, 3]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('torch.compile(net, backend="aot_eager")', "net"),
        (LAST, ""),
        (
            f"seen.append(output.norm()))\n{LAST}",
            "seen.append(output.norm()))\nfast(torch.ones(5, 3)).sum().backward()\n",
        ),
        (
            f"seen.append(output.norm()))\n{LAST}",
            "seen.append(output.norm()))\nnet(torch.ones(2, 3)).sum().backward()\n",
        ),
        ("output.norm()))\n", "output.norm())).remove()\n"),
        ("net[0].register", "torch.nn.Linear(3, 3).register"),
    ],
    ids=["not compiled", "no first call", "compiled anew", "called as it is", "removed", "of another module"],
)
def test_a_hook_that_runs_or_need_not(old: str, new: str) -> None:
    assert causes(PROGRAM.replace(old, new, 1)) == []
