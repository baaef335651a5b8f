"""Results put into a list or dict of parameters: each becomes a new leaf; the line that puts them there is named."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ADAPTED = """
import torch
import torch.nn.functional as F
from torch import nn
net = nn.Linear(3, 1)
held = nn.ParameterDict()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def adapt(x):
    weights = dict(net.named_parameters())
    loss = net(x).pow(2).mean()
    grads = torch.autograd.grad(loss, [*weights.values()], create_graph=True)
    {}
for step in range(3):
    x = torch.rand(4, 3)
    fast = adapt(x)
    optimizer.zero_grad()
    F.linear(x, fast["weight"], fast["bias"]).pow(2).mean().backward()
    optimizer.step()
"""
EACH = "for (name, w), g in zip(weights.items(), grads):"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (f"fast = nn.ParameterDict()\n{EACH}\n    fast[name] = w - g\nreturn fast", ["fast[name] =", "fast = nn"]),
        (
            f"fast = nn.ParameterDict()\n{EACH}\n    new = w - g\n    fast[name] = new\nreturn fast",
            ["fast[name] =", "fast = nn"],
        ),
        (f"{EACH}\n    held[name] = w - g\nreturn held", ["held[name] ="]),
        (
            "new = {n: w - g for (n, w), g in zip(weights.items(), grads)}\nreturn nn.ParameterDict(new)",
            ["return nn.Par"],
        ),
        (f"fast = {{}}\n{EACH}\n    fast[name] = nn.Parameter(w - g)\nreturn fast", ["fast[name] ="]),
        (f"fast = {{}}\n{EACH}\n    fast[name] = w - g\nreturn fast", []),
    ],
)
def test_the_line_that_makes_new_leaves(body: str, lines: list[str]) -> None:
    source = ADAPTED.format(body.replace("\n", "\n    "))
    found = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    causes = {cause.line for answer in found for cause in answer.causes}
    assert causes == {line_of(source, line) for line in lines}
    assert all(answer.text.startswith("Backward gave") for answer in found)
