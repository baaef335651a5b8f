"""Forward hooks whose result, detached to be kept, takes the place of the output."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
kept = {}
def keep(output):
    kept["first"] = output.detach()
    return kept["first"]
net[0].register_forward_hook(lambda module, args, output: keep(output))
net(torch.ones(2, 3)).sum().backward()
print(net[0].weight.grad)
"""
DIRECT = PROGRAM.replace("def keep(output)", "def keep(module, args, output)").replace(
    "lambda module, args, output: keep(output)", "keep"
)


@pytest.mark.parametrize("program", [PROGRAM, DIRECT])
def test_the_line_that_returns_it_is_named_first(program: str) -> None:
    (answer,) = (one for one in build(recorded(program)).answers if one.code == "grad-none-unreached")
    assert [cause.line for cause in answer.causes] == [line_of(program, "return kept"), line_of(program, "detach()")]


@pytest.mark.parametrize("program", [PROGRAM, DIRECT])
def test_one_that_returns_nothing_changes_nothing(program: str) -> None:
    assert not build(
        recorded(program.replace("return kept", "print(kept").replace('["first"]\nnet', '["first"])\nnet'))
    ).answers


def test_a_cut_outside_of_hooks_is_the_cause_itself() -> None:
    program = PROGRAM.replace("lambda module, args, output: keep(output)", "lambda module, args, output: None")
    program = program.replace("net(torch.ones(2, 3)).sum()", "net[2](net[1](keep(net[0](torch.ones(2, 3))))).sum()")
    (answer,) = (one for one in build(recorded(program)).answers if one.code == "grad-none-unreached")
    assert [cause.line for cause in answer.causes] == [line_of(program, "detach()")]
