"""Evaluations in the middle of training that leave a model in evaluation mode; and where that is meant, or put back."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
body, head = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1))
model, x = nn.Sequential(body, head), torch.randn(6, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def step(net=model):
    optimizer.zero_grad()
    net(x).square().sum().backward()
    optimizer.step()
def score(net=model):
    with torch.no_grad(): return net(x).sum().item()
"""
LINES = HEAD.strip("\n").count("\n") + 1


def said(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [
        (one.text, [cause.line - LINES for cause in one.causes])
        for one in answers
        if one.code == "trained-in-evaluation"
    ]


EPOCH = """\
for epoch in range(3):
    model.train()
    for i in range(6):
        step()
        if i % 3 == 1:
            {}
"""
VALIDATE = "def validate():\n    model.eval()\n    return score()\n"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param(EPOCH.format("model.eval(); score()"), 6, id="in the loop"),
        pytest.param(VALIDATE + EPOCH.format("validate()"), 9, id="by a function"),
        pytest.param(
            "def validate():\n    with torch.no_grad():\n        model.eval()\n        return model(x).sum()\n"
            + EPOCH.format("validate()"),
            10,
            id="by a function that opens no_grad first",
        ),
        pytest.param(
            "class Trainer:\n"
            "    def start(self):\n        body.train(); head.train()\n"
            "    def stop(self):\n        body.eval(); head.eval()\n"
            "    def validate(self):\n        self.stop()\n        return score()\n"
            "    def fit(self):\n        for epoch in range(3):\n            self.start()\n"
            "            for i in range(6):\n"
            "                step()\n                if i % 3 == 1: self.validate()\n"
            "Trainer().fit()",
            14,
            id="by helpers of a class, on parts of the model",
        ),
        pytest.param(
            "def sample():\n    model.eval()\n    return score()\n"
            "for i in range(9):\n    step()\n    if i == 4: sample()\n",
            2,
            id="by what samples from it, and train() is never called",
        ),
        pytest.param(
            "def validate():\n    model.eval()\n    return model(x).sum().item()\n" + EPOCH.format("validate()"),
            9,
            id="with gradients on",
        ),
    ],
)
def test_the_evaluation_is_named(source: str, line: int) -> None:
    ((text, causes),) = said(source)
    assert causes == [line]
    assert " steps" in text


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(EPOCH.format("model.eval(); score(); model.train()"), id="put back at once"),
        pytest.param(
            "def validate():\n    before = model.training\n    model.eval()\n    score()\n    model.train(before)\n"
            + EPOCH.format("validate()"),
            id="put back to what it was",
        ),
        pytest.param(
            "def validate():\n    before = [m.training for m in model.modules()]\n    model.eval()\n    score()\n"
            "    for m, mode in zip(model.modules(), before): m.training = mode\n" + EPOCH.format("validate()"),
            id="put back without a call",
        ),
        pytest.param(
            EPOCH.replace("        step()", "        model.train(); step()").format("model.eval(); score()"),
            id="train() in each round",
        ),
        pytest.param(
            EPOCH.replace("model.train()", "model.train(); body.eval()").format("score()"),
            id="a part that is kept in evaluation",
        ),
        pytest.param(
            VALIDATE + "for epoch in range(6):\n    model.train()\n    if epoch > 2: body[1].eval()\n"
            "    for i in range(3): step()\n    validate()\n",
            id="batch norms that are frozen after a while",
        ),
        pytest.param(
            VALIDATE + "for epoch in range(6):\n    model.train(epoch < 3)\n"
            "    for i in range(3): step()\n    validate()\nmodel.train(); step()",
            id="epochs that train in evaluation mode",
        ),
        pytest.param(
            EPOCH.format("body.eval(); score(); body.train()"),
            id="a part that is evaluated",
        ),
        pytest.param(
            "def adapt():\n    for i in range(3): step()\n"
            "def test():\n    model.eval()\n"
            "    for task in range(3):\n        score()\n        adapt()\n        score()\n"
            "for i in range(3): model.train(); adapt(); test()\nmodel.train()",
            id="an evaluation that trains",
        ),
        pytest.param(
            "model = nn.Sequential(nn.Linear(2, 4), nn.LayerNorm(4), nn.Dropout(0.0))\n"
            "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\n"
            + EPOCH.format("model.eval(); score(model)").replace("step()", "step(model)"),
            id="a model without a mode",
        ),
        pytest.param(
            "other = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))\n" + EPOCH.format("other.eval(); score(other)"),
            id="another model",
        ),
        pytest.param(EPOCH.format("model.eval(); score(); head.train(); body.train()"), id="put back by parts"),
        pytest.param(
            "for i in range(3): model.train(); step()\n"
            "for i in range(3): body.eval(); score(); body[1].train(); step()",
            id="only the part with a mode is put back",
        ),
    ],
)
def test_it_is_silent(source: str) -> None:
    assert not said(source)


FROZEN_STATISTICS = """
import torch
from torch import nn
torch.manual_seed(0)
stages = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)) for _ in range(2))
class Net(nn.Module):
    def __init__(self, keeps):
        super().__init__()
        self.stages, self.head, self.keeps = stages, nn.Linear(2, 1), keeps
    def train(self, mode=True):
        super().train(mode)
        for norm in self.modules():
            if self.keeps and isinstance(norm, nn.BatchNorm1d): norm.eval()
        return self
    def forward(self, x):
        for stage in self.stages: x = stage(x)
        return self.head(x)
x = torch.randn(6, 2)
def epoch(net, optimizer, evaluates=True):
    net.train()
    for i in range(4):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    if evaluates:
        with torch.no_grad():
            net.eval()
            net(x)
first = Net(False)
optimizer = torch.optim.SGD(first.parameters(), lr=0.01)
for _ in range(3): epoch(first, optimizer)
"""


def test_statistics_that_stand_still_while_a_stage_is_frozen_for_some_epochs() -> None:
    second = """
stages[0].requires_grad_(False)
net = Net(True)
optimizer = torch.optim.SGD(net.head.parameters(), lr=0.01)
optimizer.add_param_group({"params": stages[1].parameters()})
for n in range(6):
    if n == 4: optimizer.add_param_group({"params": stages[0].requires_grad_(True).parameters()})
    epoch(net, optimizer, n in (1, 5))
"""
    answers = build(recorded(FROZEN_STATISTICS + second)).answers
    assert [one.text for one in answers if one.code == "trained-in-evaluation" and one.severity != "note"] == []


@pytest.mark.parametrize(
    ("evaluates", "called"),
    [("net.eval()", "net"), ("[part.eval() for part in net]", "net.0 and net.1")],
)
def test_the_module_is_named_as_the_program_names_it(evaluates: str, called: str) -> None:
    program = f"""
import torch
from torch import nn
parts = [nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))]
net, x = nn.Sequential(*parts), torch.randn(6, 2)
del parts
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for epoch in range(3):
    net.train()
    for i in range(6):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
        if i == 2:
            {evaluates}
            with torch.no_grad():
                net(x)
"""
    (text,) = [one.text for one in build(recorded(program)).answers if one.code == "trained-in-evaluation"]
    assert f" leaves {called} in evaluation mode" in text


KEEPS = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
class Evaluating:
    def __init__(self, model):
        self.model = model
    def __enter__(self):
        self.model.eval()
        self.was = self.model.training  # on entering
    def __exit__(self, *_):
        self.model.train(self.was)
@torch.no_grad()
def evaluate(model):
    BEFORE
    score = model(torch.rand(4, 4)).mean()
    AFTER
    return score
for epoch in range(2):
    net.train()
    for step in range(8):
        optimizer.zero_grad()
        net(torch.rand(4, 4)).mean().backward()
        optimizer.step()
        if step % 4 == 3:
            evaluate(net)
"""


def kept(before: str, after: str) -> tuple[str, list[int]]:
    source = KEEPS.replace("BEFORE", before.replace("; ", "\n    ")).replace("AFTER", after)
    found = [one for one in build(recorded(source)).answers if one.code == "trained-in-evaluation"]
    return source, [cause.line for one in found for cause in one.causes]


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("model.eval(); was = model.training", "model.train(was)", "was = model"),
        ("was = model.eval().training", "model.train(was)", "was = model"),
        ("model.train(False); was = model.training", "model.train(mode=was)", "was = model"),
        ("model.eval(); was = model.training", "if was: model.train()", "was = model"),
        ("helper = Evaluating(model); helper.__enter__()", "helper.__exit__()", "# on entering"),
    ],
)
def test_the_mode_is_kept_after_it_was_set(before: str, after: str, named: str) -> None:
    source, lines = kept(before, after)
    assert lines == [line_of(source, named)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("was = model.training; model.eval()", "model.train(was)"),
        ("was = model.training; model.eval()", "if was: model.train()"),
        ("model.eval(); print(model.training)", "model.train()"),
    ],
)
def test_the_mode_is_kept_before_it_is_set(before: str, after: str) -> None:
    assert kept(before, after)[1] == []


def test_a_mode_that_is_set_again_after_an_evaluation_and_was_that_before() -> None:
    source = KEEPS.replace("BEFORE", "was = model.training\n    model.eval()").replace("AFTER", "model.train(was)")
    source = source.replace("    for step in", "    if epoch: net.eval()  # frozen\n    for step in")
    found = [one for one in build(recorded(source)).answers if one.code == "trained-in-evaluation"]
    assert line_of(source, "was = model") not in [cause.line for one in found for cause in one.causes]
    assert not any("an evaluation" in one.text or "the evaluation" in one.text for one in found)


PROBE = """
features = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
top = nn.Sequential(nn.Linear(4, 4), {}, nn.Linear(4, 1))
probe = nn.Sequential(features, top)
features.requires_grad_({})
optimizer = torch.optim.SGD(top.parameters(), lr=0.01)
probe.eval()
for _ in range(6):
    step(probe)
"""


@pytest.mark.parametrize(
    ("between", "is_trained", "is_told"),
    [("nn.Tanh()", False, False), ("nn.Tanh()", True, True), ("nn.Dropout(0.5)", False, True)],
)
def test_a_head_on_frozen_features_leaves_them_as_they_are(between: str, is_trained: bool, is_told: bool) -> None:
    assert bool(said(PROBE.format(between, is_trained))) is is_told
