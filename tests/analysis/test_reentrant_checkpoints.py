"""Reentrant checkpointing keeps gradients out where no argument requires grad: the call is named, not what it ran."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
net, head = nn.Linear(3, 3), nn.Linear(3, 1)
x = torch.ones(2, 3){}
h = checkpoint(lambda x: torch.relu(net(x)), x, use_reentrant={})
head(h).sum().backward()
"""


def test_the_call_is_the_cause_where_no_argument_requires_grad() -> None:
    source = PROGRAM.format("", True)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert answer.subject == "net.weight and net.bias"
    assert [cause.line for cause in answer.causes] == [line_of(source, "h = checkpoint")]
    assert "use_reentrant=True" in answer.text


@pytest.mark.parametrize(("grad", "reentrant"), [(".requires_grad_()", True), ("", False)])
def test_an_argument_that_requires_grad_or_the_other_kind_lets_them_through(grad: str, reentrant: bool) -> None:
    assert not [one for one in build(recorded(PROGRAM.format(grad, reentrant))).answers if one.code == "leaf-unreached"]


def test_where_another_line_says_that_it_is_reentrant_that_is_named_first() -> None:
    source = PROGRAM.format("", True).replace("h = checkpoint(", "from functools import partial\nh = run(")
    source = source.replace(", use_reentrant=True", "")
    source = source.replace("h = run", "run = partial(checkpoint, use_reentrant=True)  # told\nh = run")
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "# told"), line_of(source, "h = run")]
