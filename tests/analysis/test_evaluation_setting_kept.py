"""Settings that a forward pass in evaluation overwrites for the training after it; and those that are set back."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

NET = """
import torch
import torch.nn.functional as F
class Core(torch.nn.Module):
    def __init__(self, dim, dropout=0.3):
        super().__init__()
        self.layer = torch.nn.Linear(dim, dim)
        self.p = dropout
        self.last = None
    def forward(self, x):
        h = self.layer(x).relu()
        if not self.training:  # condition
            self.p = 0.0  # written
        return F.dropout(h, self.p)  # read
core = Core(4)
net = torch.nn.Sequential(core, torch.nn.Linear(4, 1))
x = torch.arange(8.0).reshape(2, 4)
for epoch in range(3):
    net.train()
    net(x).sum().backward()
    net.eval()
    with torch.no_grad():
        net(x)
"""
CONDITION = "        if not self.training:  # condition\n            self.p = 0.0  # written\n"
READ = "return F.dropout(h, self.p)  # read"
LOOP = NET[NET.index("for epoch") :]


def lines(source: str) -> list[int]:
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    answers = build(recording).answers
    return [cause.line for one in answers if one.code == "evaluation-setting-kept" for cause in one.causes]


def changed(*changes: tuple[str, str]) -> str:
    source = NET
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [
            (
                CONDITION,
                "        if self.training:  # condition\n            pass\n        else:\n"
                "            self.p = 0.0  # written\n",
            )
        ],
        [(CONDITION, "        self.p = self.p if self.training else 0.0  # condition, written\n")],
        [(READ, "return h + self.p * torch.randn_like(h)  # read")],
        [("Core(4)", "Core(4, dropout=0.5)")],
        [("dropout=0.3", "dropout"), ("Core(4)", "Core(4, 0.2)")],
    ],
)
def test_a_number_that_nothing_sets_back(changes: list[tuple[str, str]]):
    source = changed(*changes)
    assert lines(source) == list(dict.fromkeys([line_of(source, "written"), line_of(source, "# condition")]))


@pytest.mark.parametrize(
    "changes",
    [
        # set back: in the other branch, in train(), before each pass, from outside
        [("self.p = 0.0  # written\n", "self.p = 0.0\n        else:\n            self.p = 0.3\n")],
        [
            (
                "    def forward",
                "    def train(self, mode=True):\n        self.p = 0.3\n        return super().train(mode)\n"
                "    def forward",
            )
        ],
        [("    net.train()", "    net.train()\n    core.p = 0.3")],
        [("    net.train()", "    net.train()\n    setattr(core, 'p', 0.3)")],
        # a local variable, a cache, a flag
        [("self.p = 0.0", "p = 0.0")],
        [("self.p = 0.0", "self.last = h")],
        [
            ("self.p = 0.0", "self.seen = True"),
            (READ, "return F.dropout(h, self.p) + self.seen"),
            ("self.last = None", "self.seen = False"),
        ],
        # the very value that it had; or not known
        [("dropout=0.3", "dropout=0.0")],
        [("Core(4)", "Core(4, float(0))")],
        # nothing trains after the evaluation, or only another object does
        [("    net.eval()\n", "    if epoch == 2:\n        net.eval()\n")],
        [
            ("x = torch", "other = torch.nn.Sequential(Core(4))\nboth = torch.nn.ModuleList([net, other])\nx = torch"),
            ("    net.train()\n", "    both.train()\n    other.eval()\n"),
            ("    net.eval()\n", ""),
            ("        net(x)\n", "        other(x)\n"),
        ],
        # the pass in evaluation does not come there
        [(CONDITION, "        if not self.training:\n            return h\n" + CONDITION)],
    ],
)
def test_what_training_does_not_go_on_with(changes: list[tuple[str, str]]):
    assert lines(changed(*changes)) == []
