"""The lines of a program are about what it made, not what a library did for itself in a call."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow, Report
from tests.analysis.building import recorded

LIBRARY = """
import torch
from torch import nn

TABLE = torch.arange(3)

class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("angles", torch.linspace(0.0, 1.0, 3))
        self.weight = nn.Parameter(torch.zeros(3))
        self.weight.data.uniform_(-1, 1)
    def forward(self, x):
        torch.isfinite(x.detach()).all()
        return x * self.weight

def fit(step, model, loss_of):
    model.train()
    model.eval()
    model.training = True
    for _ in range(4):
        step(lambda: loss_of(model))

class SGD(torch.optim.SGD):
    pass

def loss_with_constant(tensor):
    bound = torch.softmax(tensor, 0).argmax().float()
    loss = (tensor * 2).sum() + bound
    loss.backward()

def checked(tensor):
    log = tensor.detach().clone()
    assert log.sum() < 1e9
    return tensor * 2

def quiet_step(tensor):
    with torch.no_grad():
        tensor.mul(1.0)

def drawn(low):
    return torch.tensor([low, low]).sum()

def cut(tensor):
    return tensor.detach() * 1

def train(model, loss_of):
    optimizers = [torch.optim.SGD([one], lr=0.1) for one in model.parameters()]
    for _ in range(4):
        loss_of(model)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

def backward_from(model, loss_of):
    (loss_of(model) / 2).backward()

class Solved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, force, x, weight):
        ctx.force = force
        ctx.save_for_backward(x, weight)
        with torch.no_grad():
            return force(x)
    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            found = ctx.force(x.detach())
        return None, None, torch.autograd.grad(found, weight, gradient)[0]

def solved(force, x, weight):
    return Solved.apply(force, x, weight)
"""


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "used_library.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "used_library", raising=False)


def report(source: str) -> Report:
    return build(recorded("import torch\nimport used_library\n" + source))


def rows(source: str) -> list[LineRow]:
    """Rows of the table but for those about no tensor, without the import of torch."""
    return [row for row in report(source).lines if row.name]


def test_what_a_library_makes_while_it_is_imported_is_no_row() -> None:
    assert rows("x = torch.ones(3)\n")[0].source == "x = torch.ones(3)"


def test_a_layer_of_a_library_is_told_by_its_parameter() -> None:
    made = rows("layer = used_library.Layer()\nprint(layer(torch.ones(3)).sum())\n")
    assert [(row.name, row.requires_grad, row.kind) for row in made if row.line == 3] == [
        ("layer.weight", True, "made")
    ]


def test_a_table_that_the_program_uses_itself_is_told() -> None:
    made = rows("layer = used_library.Layer()\ny = layer.angles * 2\nprint(layer(y))\n")
    assert {row.name for row in made if row.line == 3} == {"layer.weight", "layer.angles"}


def test_a_cut_that_a_library_makes_for_itself_is_none_of_the_programs() -> None:
    found = report("w = torch.ones(3, requires_grad=True)\ny = used_library.checked(w)\ny.sum().backward()\n")
    assert [row.kind for row in found.lines if row.line == 4] == ["made"]
    assert {cut.by_library for cut in found.cuts} == {True}
    assert found.summary.cuts == 0


def test_one_whose_result_the_program_holds_is() -> None:
    found = report("w = torch.ones(3, requires_grad=True)\ny = used_library.cut(w)\nz = y * 2\n")
    assert [row.kind for row in found.lines if row.line == 4] == ["cut"]
    assert found.summary.cuts == 1


def test_a_term_that_a_library_adds_for_itself_is_no_warning() -> None:
    source = "w = torch.ones(3, requires_grad=True)\nfor _ in range(2):\n    used_library.loss_with_constant(w)\n"
    assert [answer.code for answer in report(source).answers] == []
    own = (
        "w = torch.ones(3, requires_grad=True)\nbound = torch.softmax(w, 0).argmax().float()\n"
        "loss = (w * 2).sum() + bound\nloss.backward()\n"
    )
    assert [answer.code for answer in report(own).answers] == ["term-without-gradient"]


_TRAINED = """
model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def loss_of(model):
    optimizer.zero_grad()
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    return loss
"""


def test_a_call_that_runs_steps_in_a_library_ran_once() -> None:
    found = report(f"{_TRAINED}used_library.fit(optimizer.step, model, loss_of)\n")
    assert {row.executions for row in found.lines if "fit(" in row.source} == {1}
    assert {row.executions for row in found.lines if row.source.strip() == "loss.backward()"} == {4}


def test_a_library_that_calls_eval_may_put_the_mode_back_unseen() -> None:
    assert [one.code for one in report(f"{_TRAINED}used_library.fit(optimizer.step, model, loss_of)\n").answers] == []
    own = f"{_TRAINED}model.eval()\nfor _ in range(4):\n    optimizer.step(lambda: loss_of(model))\n"
    assert [one.code for one in report(own).answers] == ["trained-in-evaluation"]


def test_a_mode_that_a_library_sets_and_sets_back_is_no_row() -> None:
    found = report("w = torch.ones(3, requires_grad=True)\nused_library.quiet_step(w)\nprint(w * 2)\n")
    assert found.modes == ()
    assert not any("sets" in note for row in found.lines for note in row.notes)


def test_constants_of_a_library_are_not_taken_for_values_that_left_torch() -> None:
    source = (
        "w = torch.ones(1, requires_grad=True)\nv = torch.ones(1, requires_grad=True)\nn = w.sum().item()\n"
        "loss = v.sum() + used_library.drawn(n)\nloss.backward()\n"
        "assert w.grad is None\n"
    )
    assert not any("plain values" in answer.text for answer in report(source).answers)
    own = source.replace("used_library.drawn(n)", "torch.tensor([n]).sum()")
    assert any("plain values" in answer.text for answer in report(own).answers)


def test_a_layer_that_a_library_wants_a_gradient_of_is_a_problem() -> None:
    source = (
        "first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)\n"
        "first(torch.ones(1, 2)).sum().backward()\nsecond.weight.sum()\n"
        "{}raise ValueError('Per sample gradient is not initialized')\n"
    )
    found = report(source.format("")).answers
    assert [(one.severity, [cause.line for cause in one.causes]) for one in found if one.code == "leaf-unreached"] == [
        ("problem", [3])
    ]
    silent = report(source.format("# ")).answers
    assert {one.severity for one in silent if one.code == "leaf-unreached"} <= {"note"}


def test_parameters_that_a_library_was_not_told_of_are_named_where_they_are_used() -> None:
    source = (
        "known, unknown = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)\n\n"
        "def loss_of(model):\n"
        "    loss = unknown(known(torch.ones(1, 2))).sum()\n"
        "    loss.backward()\n"
        "    return loss\n\n"
        "used_library.train(known, loss_of)\n"
    )
    (answer,) = [one for one in report(source).answers if one.code == "never-stepped"]
    assert [cause.line for cause in answer.causes] == [6]
    known = report(source.replace("train(known,", "train(torch.nn.ModuleList([known, unknown]),"))
    assert "never-stepped" not in {one.code for one in known.answers}


def test_the_line_that_leaves_the_backward_of_a_function_without_a_graph_is_named() -> None:
    source = (
        "layer = torch.nn.Linear(2, 2)\n\ndef force(x):\n    moved = layer(x)\n    return {}\n\n"
        "y = used_library.solved(force, torch.ones(2), layer.weight)\n(y * 2).sum().backward()\n"
    )
    (answer,) = report(source.format("torch.tensor(moved.tolist())")).answers
    assert answer.code == "backward-no-grad"
    assert [cause.line for cause in answer.causes] == [7]
    assert [one.code for one in report(source.format("moved * 1.0")).answers if one.severity == "problem"] == []


def test_what_ended_a_program_is_told_though_it_is_about_a_librarys_own_tensor() -> None:
    source = (
        "model = torch.nn.Linear(2, 1)\n\ndef loss_of(model):\n    with torch.no_grad():\n"
        "        return model(torch.ones(1, 2)).sum()\n\nused_library.backward_from(model, loss_of)\n"
    )
    (answer,) = report(source).answers
    assert (answer.code, answer.severity, [cause.line for cause in answer.causes][:1]) == (
        "backward-no-grad",
        "problem",
        [6],
    )
