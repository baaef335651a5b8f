"""Names after names changed hands between two ops, and how often lines ran whose calls are parted or run together."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\nx = torch.ones(2, 3)\n"


def report_of(body: str) -> Report:
    return build(recorded(HEAD + body))


def test_a_name_that_was_given_on_is_the_last_one_seen() -> None:
    report = report_of(
        "a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)\n"
        "y = a * b\na, b = b, a\nloss = a.sum()\nloss.backward()\nprint(b.grad)\n"
    )
    (one,) = report.backwards
    assert [row.name for row in one.gradients if row.outcome == "created"] == ["a"]
    assert [graph.leaves for graph in report.graphs] == [("a",)]


@pytest.mark.parametrize("tie", ["actor.weight = critic.weight", "pass"])
def test_what_was_stored_anew_before_the_next_op_is_no_name_of_the_line_before(tie: str) -> None:
    report = report_of(f"actor, critic = nn.Linear(3, 3), nn.Linear(3, 3)\n{tie}\nh = critic(x)\n")
    made = {row.name for row in report.lines if row.line == 4}
    assert {"critic.weight", "critic.bias", "actor.bias"} <= made
    assert ("actor.weight" in made) == (tie == "pass")


def test_a_name_that_another_statement_stored_anew_is_not_that_of_the_tensor_before() -> None:
    report = report_of("a, b = torch.ones(2), torch.ones(3)\na, b = b, a\ny = a * 2\n")
    rows = [row for row in report.lines if row.line == 4]
    assert not [row.name for row in rows if (row.name, row.shape) in (("a", "(3,)"), ("b", "(2,)"))]


def test_a_row_of_a_loop_has_the_name_that_tells_its_tensor_from_the_others() -> None:
    report = report_of(
        "fc1, fc2 = nn.Linear(3, 3), nn.Linear(3, 3)\nwith torch.no_grad():\n"
        "    for p, q in zip(fc1.parameters(), fc2.parameters()):\n        p.mul_(0.9).add_(q)\n"
        "fc1.weight = fc2.weight\n"
    )
    assert {(row.name, row.shape) for row in report.lines if row.line == 7} == {
        ("fc1.weight", "(3, 3)"),
        ("fc1.bias", "(3,)"),
    }


@pytest.mark.parametrize(("kind", "name"), [("nn.ModuleList", "parts.{}.weight"), ("list", "parts[{}].weight")])
def test_the_weight_of_an_item_that_was_replaced_has_its_name_since_then_only(kind: str, name: str) -> None:
    report = report_of(
        f"parts = {kind}([nn.Linear(3, 3) for _ in range(2)])\nparts[0].weight = parts[1].weight\n"
        "parts[1].weight = nn.Parameter(torch.ones(3, 3))\nh = parts[0](x) + parts[1](x)\nh.sum().backward()\n"
    )
    assert name.format(0) not in {row.name for row in report.lines if row.line == 4}
    names = {row.name for row in report.backwards[0].gradients if row.outcome == "created"}
    assert {name.format(0), name.format(1)} <= names


def test_a_loops_variable_that_is_left_over_is_no_better_name_and_none_of_lines_before() -> None:
    report = report_of(
        "model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))\nfor layer in model:\n    pass\nh = model(x)\n"
        "h.sum().backward()\n"
    )
    names = {row.name for row in report.lines if row.line == 4} | {row.name for row in report.backwards[0].gradients}
    assert names == {"model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias"}


@pytest.mark.parametrize(
    ("body", "line", "runs"),
    [
        ("stack = []\nfor number in range(3):\n    stack.append(nn.Linear(3, 3))\n", 6, 3),
        ("stack = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])\n", 4, 1),
        ("net = nn.TransformerEncoderLayer(4, 2)\n", 4, 1),
    ],
)
def test_a_module_that_is_made_after_another_is_another_run(body: str, line: int, runs: int) -> None:
    assert {row.executions for row in report_of(body).lines if row.line == line} == {runs}


@pytest.mark.parametrize("optimizer", ["SGD(net.parameters(), lr=0.1)", "LBFGS(net.parameters(), max_iter=3)"])
def test_a_step_with_a_closure_ran_as_often_as_it_was_called(optimizer: str) -> None:
    report = report_of(
        f"net = nn.Linear(3, 1)\nopt = torch.optim.{optimizer}\nfor step in range(2):\n    def closure():\n"
        "        opt.zero_grad()\n        loss = (net(x) - 1).pow(2).sum()\n        loss.backward()\n"
        "        return loss\n    opt.step(closure)\n"
    )
    assert {row.executions for row in report.lines if row.line == 12} == {2}
    per_call = {row.executions for row in report.lines if 8 <= row.line <= 10}
    (one,) = report.backwards
    assert per_call == {one.executions}


def test_a_reason_is_that_of_a_pass_that_the_tensor_was_there_for() -> None:
    report = report_of(
        "unused = torch.ones(3, requires_grad=True)\nfor step in range(3):\n    v = torch.ones(3, requires_grad=True)\n"
        "    loss = (v * 2).sum()\n    loss.backward(inputs=[unused])\n"
    )
    whys = {row.why for row in report.backwards[0].gradients if row.name.startswith("v")}
    assert whys == {"the pass was asked for the gradient of unused only (inputs=)"}


def test_an_argument_is_not_what_its_line_makes_of_it() -> None:
    report = report_of(
        "class Net(nn.Module):\n    def forward(self, h):\n        h = torch.tanh(h)\n        return h * 2\n"
        "net = Net()\nnet.register_full_backward_hook(lambda module, inner, outer: None)\n"
        "out = net(x.clone().requires_grad_())\n"
    )
    assert {row.grad_fn for row in report.lines if row.line == 6} == {"TanhBackward0"}


def test_a_result_that_a_function_gave_is_no_leaf() -> None:
    report = report_of(
        "class Twice(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, h):\n        return h * 2\n"
        "    @staticmethod\n    def backward(ctx, grad):\n        return grad * 2\n"
        "w = torch.ones(3, requires_grad=True)\nh = Twice.apply(w)\nh.retain_grad()\nh.sum().backward()\n"
    )
    assert {row.name: row.is_leaf for row in report.backwards[0].gradients} == {"w": True, "h": False}


def test_what_a_pass_that_raised_left_alone_is_said_to_be_untouched() -> None:
    report = report_of(
        "w, v = torch.ones(3, requires_grad=True), torch.ones(3)\ntry:\n    for one in (w, v):\n"
        "        (one * 2).sum().backward()\nexcept RuntimeError:\n    pass\n"
    )
    assert [(row.name, row.outcome) for row in report.backwards[0].gradients] == [("w", "untouched")]


@pytest.mark.parametrize(("steps", "runs"), [("", 1), ("for step in range(3):\n    ", 3)])
def test_a_statement_that_cuts_in_many_layers_cuts_once_a_run(steps: str, runs: int) -> None:
    indent = "    " if steps else ""
    body = (
        f"net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))\n{steps}with torch.no_grad():\n{indent}    h = net(x)\n"
    )
    assert [cut.executions for cut in report_of(body).cuts] == [runs]


def test_what_a_parameter_held_before_it_was_swapped_has_its_name() -> None:
    report = report_of(
        "torch.__future__.set_swap_module_params_on_conversion(True)\ntry:\n    model = nn.Linear(2, 2)\n"
        "    model(torch.ones(1, 2)).sum().backward()\n    model.zero_grad()\n    model.to(torch.float64)\n"
        "    model.load_state_dict(nn.Linear(2, 2).state_dict())\nfinally:\n"
        "    torch.__future__.set_swap_module_params_on_conversion(False)\n"
    )
    names = {row.name for row in report.lines if "load_state_dict" in row.source}
    assert {"model.weight", "model.bias"} <= names
    assert "<unnamed>" not in names


def test_a_parameter_that_nothing_names_has_no_name_of_another() -> None:
    report = report_of(
        "named = nn.Linear(2, 2)\ndef give():\n    yield nn.Parameter(torch.ones(2, 2))\n"
        "(next(give()) * named.weight).sum().backward()\n"
    )
    names = [row.name for row in report.backwards[0].gradients]
    assert sorted(name for name in names if name.startswith("named")) == ["named.bias", "named.weight"]


def test_all_that_a_line_takes_out_of_torch_is_named() -> None:
    taken = "print(a.sum().item(), x.tolist(), b.tolist())"
    body = f"a, b = torch.ones(2), torch.ones(2)\nfor step in range(3):\n    {taken}\n"
    (row,) = [row for row in report_of(body).lines if row.line == 6 and row.kind == "export"]
    assert (row.name, row.op) == ("x and b", "Tensor.tolist")
