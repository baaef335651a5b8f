"""What an optimizer holds and never required grad, and why the gradient of a leaf is None; and where that is meant."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
from torch import nn
layer, x, table = nn.Linear(3, 4), torch.ones(2, 3), torch.rand(5, 3)
def train(optimizer, loss):
    for i in range(3):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
"""
CODES = {"untracked-in-optimizer", "grad-none-untracked"}


def said(source: str) -> list[tuple[str, str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            "class Gated(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.layer = layer\n"
            "        self.gates = [torch.ones(1) for _ in range(2)]\n"
            "    def forward(self, x): return self.gates[0] * self.layer(x) + self.gates[1]\n"
            "model = Gated()\n"
            "train(torch.optim.Adam([*model.parameters(), *model.gates]), lambda: model(x).sum())",
            ("untracked-in-optimizer", "warning", [13]),
            id="gates in a list",
        ),
        pytest.param(
            "class Text(nn.Module):\n"
            "    def __init__(self, vectors):\n"
            "        super().__init__()\n"
            "        self.words = nn.EmbeddingBag.from_pretrained(vectors, mode='sum')\n"
            "        self.out = nn.Linear(3, 1)\n"
            "    def forward(self, ids): return self.out(self.words(ids))\n"
            "model = Text(table)\n"
            "groups = [{'params': model.out.parameters()}, {'params': model.words.parameters()}]\n"
            "optimizer = torch.optim.SGD(groups, 0.1)\n"
            "train(optimizer, lambda: model(torch.ones(2, 2, dtype=torch.long)).sum())",
            ("untracked-in-optimizer", "warning", [12]),
            id="a table with a group of its own",
        ),
        pytest.param(
            "def lookup(vectors):\n"
            "    return nn.Embedding.from_pretrained(vectors)\n"
            "model = nn.Sequential(lookup(table), nn.Linear(3, 1))\n"
            "train(torch.optim.SGD(model.parameters(), 0.1), lambda: model(torch.tensor([1, 2])).sum())\n"
            "print(model[0].weight.grad.norm() if model[0].weight.grad is not None else None)",
            ("grad-none-untracked", "warning", [10]),
            id="a table that a function makes",
        ),
        pytest.param(
            "class Backbone(nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.body = layer\n"
            "        self.body.requires_grad_(False)\n"
            "    def forward(self, x): return self.body(x)\n"
            "model = nn.Sequential(Backbone(), nn.Linear(4, 1))\n"
            "train(torch.optim.SGD(model.parameters(), 0.1), lambda: model(x).sum())\n"
            "print(model[0].body.weight.grad)",
            ("grad-none-untracked", "warning", [13]),
            id="a backbone that freezes itself",
        ),
        pytest.param(
            "temperature = torch.tensor(0.5)\n"
            "train(torch.optim.SGD(layer.parameters(), 0.1), lambda: (layer(x) / temperature).sum())\n"
            "print(temperature.grad)",
            ("grad-none-untracked", "warning", [9]),
            id="a plain tensor whose gradient is read",
        ),
    ],
)
def test_the_line_that_made_it_so_is_the_cause(source: str, expected: tuple[str, str, list[int]]) -> None:
    assert said(source) == [expected]


def test_the_optimizer_that_was_given_it_is_no_line_to_change() -> None:
    source = (
        "model = nn.Sequential(nn.Embedding.from_pretrained(table), nn.Linear(3, 1))\n"
        "groups = [{'params': part.parameters()} for part in model]\n"
        "optimizer = torch.optim.SGD(groups, 0.1)\n"
        "train(optimizer, lambda: model(torch.tensor([1, 2])).sum())\n"
    )
    plain = (
        "scale = torch.ones(1)\ntrain(torch.optim.SGD([*layer.parameters(), scale]), lambda: (scale * layer(x)).sum())"
    )
    assert [one.text for one in build(recorded(HEAD + source)).answers if one.code in CODES] == [
        "Line 9: Embedding.from_pretrained freezes what it is given, unless freeze=False is: SGD was given "
        "model.0.weight to train, and none of its 3 steps changed it."
    ]
    assert [one.text for one in build(recorded(HEAD + plain)).answers if one.code in CODES] == [
        "Line 9: scale is a plain tensor and does not require grad: SGD was given it to train, and none of its 3 steps "
        "changed it. Make it an nn.Parameter, or requires_grad_() it before the optimizer is made."
    ]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(
            "model = nn.Sequential(nn.Embedding.from_pretrained(table), nn.Linear(3, 1))\n"
            "train(torch.optim.SGD(model.parameters(), 0.1), lambda: model(torch.tensor([1, 2])).sum())",
            id="a frozen table among the parameters of a model",
        ),
        pytest.param(
            "model = nn.Sequential(nn.Embedding.from_pretrained(table, freeze=False), nn.Linear(3, 1))\n"
            "optimizer = torch.optim.SGD([{'params': part.parameters()} for part in model], 0.1)\n"
            "train(optimizer, lambda: model(torch.tensor([1, 2])).sum())",
            id="a table that is trained",
        ),
        pytest.param(
            "layer.requires_grad_(False)\nhead = nn.Linear(4, 1)\n"
            "optimizer = torch.optim.SGD([{'params': part.parameters()} for part in (layer, head)], 0.1)\n"
            "train(optimizer, lambda: head(layer(x)).sum())",
            id="a group that was frozen",
        ),
        pytest.param(
            "w = torch.ones(3)\noptimizer = torch.optim.SGD([w], 0.1)\n"
            "for i in range(3):\n    w.grad = w - x[0]\n    optimizer.step()",
            id="a gradient that the program computes itself",
        ),
        pytest.param(
            "w = torch.ones(3)\noptimizer = torch.optim.SGD([w], 0.1)\nw.requires_grad_()\n"
            "train(optimizer, lambda: (w * x).sum())",
            id="a tensor that is set to require grad later",
        ),
    ],
)
def test_it_is_silent_where_that_is_meant(source: str) -> None:
    assert said(source) == []


UNFREEZES = """
embed, body, head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD(head.parameters(), 0.1)
{}
def loss(): return head(body(embed(x))).sum()
train(optimizer, loss)
body.requires_grad_(True)
optimizer.add_param_group({{"params": body.parameters()}})
train(optimizer, loss)
print(embed.weight.grad)
"""


@pytest.mark.parametrize(
    ("freezes", "severity"),
    [
        ("for part in (embed, body): part.requires_grad_(False)", "note"),
        ("for p in [*embed.parameters(), *body.parameters()]: p.requires_grad = False", "note"),
        ("embed.requires_grad_(False)\noptimizer.add_param_group({'params': embed.parameters()})", "warning"),
        (
            "body.requires_grad_(False)\nhead(embed(x)).sum().backward()\nembed.requires_grad_(False).zero_grad()",
            "warning",
        ),
    ],
    ids=["frozen", "one by one", "given to the optimizer", "had a gradient"],
)
def test_what_is_frozen_and_left_out_of_the_training_is_no_more_than_noted(freezes: str, severity: str) -> None:
    assert [(code, how) for code, how, _ in said(UNFREEZES.format(freezes))] == [("grad-none-untracked", severity)]


def test_a_copy_that_is_frozen_where_it_is_made_was_frozen_there() -> None:
    source = (
        "import copy\nteacher = copy.deepcopy(layer).requires_grad_(False)\n"
        "train(torch.optim.SGD(layer.parameters(), 0.1), lambda: (layer(x) - teacher(x) + 1).pow(2).sum())\n"
        "print(teacher.weight.grad)"
    )
    assert said(source) == [("grad-none-untracked", "note", [10])]
