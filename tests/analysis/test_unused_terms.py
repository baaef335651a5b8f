"""Terms of a loss that are computed and in no loss, and numbers that are looked at."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
layer = nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
history = []
def criterion(out):
    loss = out.pow(2).mean()
    BODY
    return loss
for step in range(4):
    optimizer.zero_grad()
    criterion(layer(torch.randn(5, 3))).backward()
    optimizer.step()
"""


def said(body: str, *changes: tuple[str, str]) -> tuple[list[int], str]:
    source = SOURCE.replace("BODY", body)
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "term-not-used"], source


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("penalty = layer.weight.abs().sum()  # here", ()),
        ("pass", (("loss = out.pow(2).mean()", "loss = out.pow(2).mean()  # here\n    loss = out.abs().mean()"),)),
        ("if len(out) > 2:\n        kl = out.exp().mean()  # here", ()),
        (
            "pass",
            (("    criterion(", "    extra = layer.weight.pow(2).sum()  # here\n    criterion("),),
        ),
    ],
)
def test_the_line_that_computes_it_is_the_cause(body: str, changes: tuple[tuple[str, str], ...]) -> None:
    lines, source = said(body, *changes)
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "penalty = layer.weight.abs().sum(); loss = loss + penalty",
        "penalty = layer.weight.abs().sum(); history.append(penalty.item())",
        "penalty = layer.weight.abs().sum(); history.append(penalty)",
        "_ = layer.weight.abs().sum()",
        "size = layer.weight.detach().abs().sum()",
        "with torch.no_grad():\n        size = layer.weight.abs().sum()",
        "size = layer.weight.abs()",
        "mean = out.mean()\n    loss = loss + out.sub(mean).pow(2).mean()",
        "other = loss\n    loss = loss * 2",
        "penalty = layer.weight.abs().sum()\n    if penalty > 99: print('large')",
        "penalty = layer.weight.abs().sum()\n    print({k: v for k, v in locals().items()})",
        "penalty = layer.weight.abs().sum()\n    (lambda: history.append(penalty))()",
    ],
)
def test_what_is_used_or_has_no_graph(body: str) -> None:
    assert said(body)[0] == []
