"""Hooks that a loop registers, and that read a variable of the loop when they run."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import functools
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
seen, total = {}, 0
for name, p in net.named_parameters():
    mask = (p > 0).float()
    total += p.numel()
    p.register_hook(lambda grad: grad * mask)  # here
for step in range(2):
    net(torch.ones(2, 3)).sum().backward()
"""
HOOK = "lambda grad: grad * mask"


def found(*changes: tuple[str, str]) -> list[int]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    return [one.causes[0].line - line_of(source, "# here") for one in build(recorded(source)).answers
            if one.code == "hook-reads-late"]  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ((HOOK, "lambda grad: seen.setdefault(name, grad.norm()) and None"),),
        (
            (
                "    p.register_hook(lambda grad: grad * mask)",
                "    def masked(grad):\n        return grad * mask\n    p.register_hook(masked)",
            ),
        ),
    ],
    ids=["lambda", "loop variable", "function"],
)
def test_the_line_that_registers_them_is_named(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == [0]


@pytest.mark.parametrize(
    "changes",
    [
        ((HOOK, "lambda grad, mask=mask: grad * mask"),),
        ((HOOK, "functools.partial(torch.mul, mask)"),),
        ((HOOK, "lambda grad: grad / total"),),
        ((HOOK, "lambda grad: grad * 2"),),
        (("# here", "# here\n    net(torch.ones(2, 3)).sum().backward()"),),
        (("net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))", "net = nn.Linear(3, 2, bias=False)"),),
    ],
    ids=["default", "partial", "a sum", "reads none", "runs in each round", "one round"],
)
def test_hooks_that_have_their_value_or_run_at_once_are_fine(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == []
