"""Evaluations in training mode, in a program that never calls eval()."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)
    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.body(x)))))
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x, y = torch.randn(24, 4), torch.arange(24) % 2
test, wanted = torch.randn(16, 4), torch.arange(16) % 2
@torch.no_grad()
def evaluate():  # region
    total = 0.0
    for at in range(0, 16, 8):
        out = model(test[at : at + 8])  # here
        total += nn.functional.cross_entropy(out, wanted[at : at + 8]).item()
    return total
for epoch in range(3):
    for at in range(0, 24, 8):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[at : at + 8]), y[at : at + 8]).backward()
        optimizer.step()
    print(evaluate())
"""
CALLED = "nn.functional.cross_entropy(out, wanted[at : at + 8]).item()"


def found(*changes: tuple[str, str]) -> list[str]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    return [one.text for one in build(recorded(source)).answers if one.code == "evaluated-without-eval"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("torch.randn(16, 4)", "torch.randn(16, 4)"), "dropouts drop values and batch norms normalise"),
        ((CALLED, "(out.argmax(1) == wanted[at : at + 8]).sum().item()"), "dropouts drop values and batch norms"),
        (("nn.BatchNorm1d(8)", "nn.LayerNorm(8)"), "(6 times): dropouts drop values: nothing"),
        (("nn.Dropout(0.5)", "nn.Identity()"), "(6 times): batch norms normalise"),
    ],
)
def test_the_line_that_runs_the_model_is_named(change: tuple[str, str], parts: str) -> None:
    (text,) = found(change)
    assert text.startswith(f"Line {line_of(SOURCE, '# here')}: ")
    assert parts in text and "nothing calls eval() before it" in text


@pytest.mark.parametrize(
    "changes",
    [
        (("    total = 0.0\n", "    total = 0.0\n    model.eval()\n"),),
        (("model(test[at : at + 8])", "torch.stack([model(test[at : at + 8]) for _ in range(4)]).mean(0)"),),
        (("total += " + CALLED, "total += out.argmax(1).sum().item()"),),
        (("model(test[at", "model(x[at"),),
        ((CALLED, "0"),),
        (
            ("return total", "return out.softmax(1)"),
            ("print(evaluate())", "(model(x[:8]).softmax(1) - evaluate()).pow(2).mean().backward()"),
        ),
        (("nn.BatchNorm1d(8), nn.Dropout(0.5)", "nn.LayerNorm(8), nn.Identity()"),),
    ],
    ids=["eval", "several draws", "no labels", "data of the training", "not looked at", "for a loss", "no such layer"],
)
def test_what_is_no_evaluation_or_runs_as_it_should(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == []


AS_FUNCTION = "nn.functional.batch_norm(self.body(x), self.mean, self.var, self.scale, {})"
OF_FUNCTIONS = (
    ("self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.5)", "self.drop = nn.Identity()\n" + """\
        self.scale = nn.Parameter(torch.ones(8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))"""),
)  # fmt: skip


@pytest.mark.parametrize("mode", ["training=True", "None, True", "training=batch_stats", "None, batch_stats"])
def test_eval_changes_nothing_of_a_norm_that_is_told_its_mode(mode: str) -> None:
    called = ("self.norm(self.body(x))", AS_FUNCTION.format(mode))
    assert found(*OF_FUNCTIONS, called, ("forward(self, x)", "forward(self, x, batch_stats=True)")) == []


@pytest.mark.parametrize(
    "call", ["nn.functional.dropout({}, 0.5)", "F.dropout({})", "dropout({}, p=0.5, training=True)"]
)
def test_eval_changes_nothing_of_a_dropout_that_is_told_its_mode(call: str) -> None:
    imports = "from torch import nn\nimport torch.nn.functional as F\nfrom torch.nn.functional import dropout\n"
    changes = ("from torch import nn\n", imports), ("nn.BatchNorm1d(8)", "nn.Identity()")
    assert found(*changes, ("self.drop(torch.relu(self.norm(self.body(x))))", call.format("self.body(x).relu()"))) == []


@pytest.mark.parametrize(
    "mode", ["training=self.training", "None, self.training", "training=batch_stats or self.training"]
)
def test_what_is_told_the_mode_of_its_module_runs_as_in_training(mode: str) -> None:
    called = ("self.norm(self.body(x))", AS_FUNCTION.format(mode))
    (text,) = found(*OF_FUNCTIONS, called, ("forward(self, x)", "forward(self, x, batch_stats=False)"))
    assert "batch norms normalise" in text


def test_a_module_beside_a_function_is_told_of_alone() -> None:
    called = ("self.norm(self.body(x))", "self.norm(nn.functional.dropout(self.body(x), 0.1))")
    (text,) = found(called, ("nn.Dropout(0.5)", "nn.Identity()"))
    assert "batch norms normalise" in text and "dropouts" not in text
