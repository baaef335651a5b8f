"""Activations in place that overwrite the input of a block: the line that makes them so, and no other."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HEAD = """import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
"""
RUN = """
net = nn.Sequential(nn.Linear(4, 4), Block(), Block(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "skip-path-overwritten"]


def block(made: str, *lines: str) -> str:
    body = "".join(f"        {line}\n" for line in lines)
    return (
        f"{HEAD}class Block(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.conv = nn.Linear(4, 4)\n{made}    def forward(self, x):\n{body}{RUN}"
    )


ACT = "        self.act = nn.ReLU(inplace=True)  # it\n"
LAST = "        self.last = nn.ReLU(inplace=True)\n"
BODY = """        self.body = nn.Sequential(
            nn.LeakyReLU(0.1, inplace=True),  # it
            nn.Linear(4, 4),
            nn.ReLU(inplace=True),
            nn.Linear(4, 4),
        )
"""
OVERWRITTEN = {
    "an identity": (
        ACT + LAST,
        "identity = x",
        "y = self.last(self.conv(self.act(x)))",
        "return identity + self.conv(y)",
    ),
    "the argument": (ACT, "out = self.act(x)", "out = self.conv(out)", "return out + x"),
    "a sequence": (BODY, "return x + self.body(x)"),
    "a function": ("", "out = F.relu(x, inplace=True)  # it", "out = self.conv(out)", "out = out + x", "return out"),
    "a method": ("", "out = self.conv(x.relu_())  # it", "return torch.cat([out, x], -1)[:, :4]"),
    "the name goes on": (ACT, "skip = x", "x = self.act(x)", "x = self.conv(x)", "x += skip", "return x"),
}


@pytest.mark.parametrize("case", OVERWRITTEN)
def test_the_line_that_makes_it_work_in_place_is_the_cause(case: str) -> None:
    source = block(*OVERWRITTEN[case])
    (answer,) = found(source)
    line = line_of(source, "# it")
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [line]
    assert answer.text.startswith(f"Line {line}: ")
    assert answer.text.lower().count("line ") == 1


HEALTHY = {
    "not in place": ("        self.act = nn.ReLU()\n", "return x + self.conv(self.act(x))"),
    "a result that nobody else reads": (ACT, "identity = x", "out = self.act(self.conv(x))", "return out + identity"),
    "both read the new one": (ACT, "x = self.act(x)", "identity = x", "return self.conv(x) + identity"),
    "written for all who read it": ("", "F.relu_(x)", "return x + self.conv(x)"),
    "a copy beside": (ACT, "identity = x.clone()", "return identity + self.conv(self.act(x))"),
    "what has no negative values": (
        ACT,
        "x = F.dropout(F.relu(x), 0.2)",
        "out = self.conv(self.act(x))",
        "return out + x",
    ),
    "at the end": (ACT, "out = self.conv(x)", "out += x", "return self.act(out)"),
    "the input by its new name": (ACT, "out = self.act(self.conv(x))", "x = self.conv(out) + out", "return x"),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of(case: str) -> None:
    recording = recorded(block(*HEALTHY[case]))
    assert recording.info.outcome.kind == "ok"
    assert [answer for answer in build(recording).answers if answer.code == "skip-path-overwritten"] == []
