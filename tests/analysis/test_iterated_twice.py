"""Iterators that one block goes through twice: said where the second time was in vain, silent where it was not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HELPER = """
import torch
from torch import nn
layer = nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
def scale_down({parameters}):
    {prepared}
    norm = sum(p.grad.pow(2).sum() for p in params) ** 0.5  # first
    if {condition}:
        for p in params:
            p.grad.mul_(1e-4 / norm)
for step in range(3):
    optimizer.zero_grad()
    layer(torch.ones(2, 4)).sum().backward()
    scale_down({given})  # given
    optimizer.step()
"""


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "iterator-used-up"]
    return [cause.line for answer in answers for cause in answer.causes]


def of_helper(
    given: str, parameters: str = "params", prepared: str = "pass", condition: str = "norm > 1e-4"
) -> tuple[list[int], list[int]]:
    source = HELPER.format(given=given, parameters=parameters, prepared=prepared, condition=condition)
    return found(source), [line_of(source, "# given"), line_of(source, "# first")]


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ("layer.parameters()", "params"),
        ("(p for p in layer.parameters())", "params"),
        ("filter(lambda p: p.requires_grad, layer.parameters())", "params"),
        ("1.0, layer.parameters()", "limit, params"),
        ("params=layer.parameters(), limit=1.0", "limit, params"),
    ],
)
def test_a_helper_that_is_given_an_iterator(given: str, parameters: str) -> None:
    lines, expected = of_helper(given, parameters)
    assert lines == expected


@pytest.mark.parametrize(
    ("given", "prepared", "condition"),
    [
        ("list(layer.parameters())", "pass", "norm > 1e-4"),
        ("[p for p in layer.parameters()]", "pass", "norm > 1e-4"),
        ("layer.parameters()", "params = list(params)", "norm > 1e-4"),
        ("layer.parameters()", "pass", "torch.is_anomaly_enabled()"),
    ],
)
def test_a_helper_that_has_a_list_or_comes_to_it_once_only(given: str, prepared: str, condition: str) -> None:
    lines, _ = of_helper(given, prepared=prepared, condition=condition)
    assert lines == []


def test_a_helper_that_another_call_gives_a_list() -> None:
    source = HELPER.format(given="layer.parameters()", parameters="params", prepared="pass", condition="norm > 1e-4")
    assert found(f"{source}scale_down(list(layer.parameters()))\n") == []


VARIABLE = """
import torch
from torch import nn
layer = nn.Linear(4, 1)
for step in range(3):
    weights = {made}
    first = sum(w.abs().sum() for w in weights)  # first
    {between}
    second = sum(w.pow(2).sum() for w in weights)
    (layer(torch.ones(2, 4)).sum() + 0.1 * first + 0.1 * second).backward()
"""


def test_a_variable_that_two_penalties_go_through() -> None:
    source = VARIABLE.format(made="layer.parameters()", between="pass")
    assert found(source) == [line_of(source, "weights ="), line_of(source, "# first")]


@pytest.mark.parametrize(
    ("made", "between"),
    [("list(layer.parameters())", "pass"), ("layer.parameters()", "weights = layer.parameters()")],
)
def test_a_variable_that_is_a_list_or_is_made_anew(made: str, between: str) -> None:
    assert found(VARIABLE.format(made=made, between=between)) == []


def test_a_first_loop_that_may_leave_something() -> None:
    source = VARIABLE.format(made="layer.parameters()", between="pass").replace(
        "sum(w.abs().sum() for w in weights)", "any(w.abs().sum() > 0 for w in weights) * 1.0"
    )
    assert found(source) == []
