"""Evaluation that builds graphs: blamed at its line, with the bytes that no_grad would save."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))
net.eval()
def batch():
    return torch.ones(512, 64)
"""
EVALUATION = (
    HEAD
    + """
for step in range(4):
    out = net(batch())  # builds
    print(out.argmax(1).sum().item())
"""
)
SILENT = {
    "under no_grad": EVALUATION.replace("out = net(batch())", "with torch.no_grad(): out = net(batch())"),
    "once": HEAD + "out = net(batch())\nprint(out.sum())\n",
    "what a distribution makes of its logits to draw": """import torch
policy = torch.nn.Linear(8, 64)
for step in range(3):
    drawn = torch.distributions.Categorical(logits=policy(torch.ones(4096, 8)))
    action = drawn.sample()
    drawn.log_prob(action).mean().backward()
""",
    "before the pass that a failure kept from coming": EVALUATION + "raise RuntimeError\n",
}


def test_a_loop_of_a_program_without_backward_passes() -> None:
    (answer,) = (answer for answer in build(recorded(EVALUATION)).answers if answer.code == "saved-in-vain")
    assert [cause.line for cause in answer.causes] == [line_of(EVALUATION, "# builds")]
    assert "saved 4.5 MiB" in answer.text


@pytest.mark.parametrize("case", SILENT)
def test_what_needs_no_graph_or_may_need_it_is_not_blamed(case: str) -> None:
    assert "saved-in-vain" not in [answer.code for answer in build(recorded(SILENT[case])).answers]


TRAINED = """
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def forward():
    return net(batch())
def evaluate():
    net.eval()
    return forward().argmax(1)
for step in range(2):
    net.train()
    optimizer.zero_grad()
    forward().sum().backward()
    optimizer.step()
    print(evaluate().sum().item())
"""


def test_an_evaluation_by_the_lines_of_training_is_blamed_at_its_function() -> None:
    source = HEAD + TRAINED
    (answer,) = (answer for answer in build(recorded(source)).answers if answer.code == "saved-in-vain")
    assert [cause.line for cause in answer.causes] == [
        line_of(source, "def evaluate():"),
        line_of(source, "    net.eval()"),
    ]
    guarded = source.replace("def evaluate", "@torch.no_grad()\ndef evaluate")
    assert "saved-in-vain" not in [answer.code for answer in build(recorded(guarded)).answers]


def test_what_only_the_evaluation_runs_is_a_part_of_it() -> None:
    source = HEAD + TRAINED.replace(
        "return forward().argmax(1)", "out = forward().exp()\n    return torch.stack([out] * 40)"
    )
    (answer,) = (answer for answer in build(recorded(source)).answers if answer.code == "saved-in-vain")
    assert answer.causes[0].line == line_of(source, "def evaluate():")


def test_what_runs_after_a_function_that_only_calls_eval_is_not_put_down_to_it() -> None:
    source = HEAD + TRAINED.replace("    return forward().argmax(1)\n", "").replace(
        "print(evaluate()", "evaluate()\n    print(forward()"
    )
    (answer,) = (answer for answer in build(recorded(source)).answers if answer.code == "saved-in-vain")
    assert [cause.line for cause in answer.causes] == [line_of(source, "    net.eval()")]


def test_what_works_with_results_that_another_line_keeps_is_not_blamed() -> None:
    program = """
        import torch
        layer = torch.nn.Linear(800, 800)
        kept = []
        for step in range(8):
            out = layer(torch.ones(800, 800))
            out.sum().backward()
            kept.append(out)
        shown = [one.exp().mean() for one in kept]
    """
    codes = [one.code for one in build(recorded(program)).answers]
    assert "graph-kept-after-pass" in codes
    assert "saved-in-vain" not in codes
    alone = program.replace("kept.append(out)", "kept = [out]")
    assert "saved-in-vain" in [one.code for one in build(recorded(alone)).answers]


FORCES = """
import torch
layer = torch.nn.Linear(500, 500)
layer(torch.ones(1, 500)).sum().backward()
def forces(x):
    return torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)[0]
def evaluate():
    layer.eval()
    return [forces(torch.ones(500, 500, requires_grad=True)).sum().item() for n in range(3)]
evaluate()
"""


def test_what_no_grad_would_make_fail_is_said_of_create_graph() -> None:
    (answer,) = (answer for answer in build(recorded(FORCES)).answers if answer.code == "saved-in-vain")
    assert "no_grad" not in answer.text
    assert [cause.line for cause in answer.causes] == [5]
    without = FORCES.replace(", create_graph=True", "")
    assert "saved-in-vain" not in [answer.code for answer in build(recorded(without)).answers]


ADJOINT = """
import torch
layer = torch.nn.Linear(500, 500)
class Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *weights):
        ctx.save_for_backward(x)
        return forces(x)
    @staticmethod
    def backward(ctx, gradient):
        with torch.enable_grad():
            found = forces(ctx.saved_tensors[0])
        return None, *torch.autograd.grad(found, (layer.weight, layer.bias), gradient, allow_unused=True)
def forces(x):
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(layer(x).tanh().sum(), x, create_graph=True)[0]
for step in range(3):
    Solve.apply(torch.ones(500, 500), *layer.parameters()).square().sum().backward()
"""


def test_what_a_functions_backward_runs_again_is_not_in_vain_in_its_forward() -> None:
    assert "saved-in-vain" not in [answer.code for answer in build(recorded(ADJOINT)).answers]


ESTIMATED = """
import torch
layer = torch.nn.Linear(500, 500)
def rounded(w):
    scale = w.abs().max() / 7
    return (w / scale).round().clamp(-7, 7) * scale
for step in range(3):
    w = layer.weight
    w = {}
    torch.nn.functional.linear(torch.ones(2, 500), w).sum().backward()
"""


@pytest.mark.parametrize(
    ("estimate", "is_in_vain"), [("w + (rounded(w) - w).detach()", False), ("w + rounded(w).detach()", True)]
)
def test_what_a_straight_through_estimate_takes_away_again(estimate: str, is_in_vain: bool) -> None:
    codes = [answer.code for answer in build(recorded(ESTIMATED.format(estimate))).answers]
    assert ("saved-in-vain" in codes) == is_in_vain


STYLE = """
import torch
w = torch.ones(1, requires_grad=True)
for step in range(3):
    x = torch.rand(400, 500) * w
    spread = (x.var(dim=0) + 1e-3).sqrt() * x
    spread = {}
    (x / spread.mean()).sum().backward()
"""


@pytest.mark.parametrize(("spread", "is_in_vain"), [("spread.detach()", False), ("torch.ones(3)", True)])
def test_what_the_next_line_cuts_off(spread: str, is_in_vain: bool) -> None:
    codes = [answer.code for answer in build(recorded(STYLE.format(spread))).answers]
    assert ("saved-in-vain" in codes) == is_in_vain


CUT_OFF = """
import torch
from torch import nn
model, other = nn.Sequential(nn.Linear(64, 512), nn.Sigmoid(), nn.Linear(512, 64)), nn.Linear(64, 1)
optimizer = torch.optim.SGD({held}, lr=0.1)
x = torch.rand(512, 64)
for step in range(3):
    hidden = model(x){cut}
    optimizer.zero_grad()
    other(hidden).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("held", "cut", "found"),
    [
        ("[*model.parameters(), *other.parameters()]", ".gt(0.5).float()", []),
        ("[*model.parameters(), *other.parameters()]", ".detach()", []),
        ("[*other.parameters()]", ".detach()", ["saved-in-vain"]),
        ("[*model.parameters(), *other.parameters()]", "", []),
    ],
)
def test_a_graph_that_is_cut_off_though_it_is_to_be_trained(held: str, cut: str, found: list[str]) -> None:
    codes = [one.code for one in build(recorded(CUT_OFF.format(held=held, cut=cut))).answers]
    assert [one for one in codes if one == "saved-in-vain"] == found


INNER_STEPS = """
import torch
from torch import nn
from torch.func import functional_call
net = nn.Sequential(nn.Linear(64, 512), nn.Sigmoid(), nn.Linear(512, 64))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.rand(64, 64)
for step in range(3):
    weights = dict(net.named_parameters())
    for _ in range(2):
        loss = functional_call(net, weights, (x,)).pow(2).mean()
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {name: nn.Parameter(p - 0.1 * g) for (name, p), g in zip(weights.items(), grads)}
    optimizer.zero_grad()
    functional_call(net, weights, (x,)).mean().backward()
    optimizer.step()
"""


def test_a_graph_of_gradients_that_a_new_leaf_cuts_off_is_wanted() -> None:
    codes = [one.code for one in build(recorded(INNER_STEPS)).answers]
    assert "saved-in-vain" not in codes and "leaf-unreached" in codes


TARGETS = """
import torch
from torch import nn
net, slow = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1)), nn.Linear(4, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
def goal(x):
    return (x[:, :1] + 0.5 * slow(x).tanh()).detach()
for _ in range({}):
    x = torch.randn({}, 4)
    loss = (net(x) - goal(x)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


@pytest.mark.parametrize(("runs", "samples", "codes"), [(200, 4096, []), (5, 400_000, ["saved-in-vain"])])
def test_of_a_target_that_is_detached_where_it_is_computed_one_run_counts(
    runs: int, samples: int, codes: list[str]
) -> None:
    answers = build(recorded(TARGETS.format(runs, samples))).answers
    assert [one.code for one in answers if one.code == "saved-in-vain"] == codes
    called = TARGETS.replace(".detach()", "").replace("goal(x))", "goal(x).detach())")
    kept = called.replace("for _ in", "seen = []\nfor _ in").replace(
        "goal(x).detach()", "(seen.append(goal(x)), seen[-1])[1].detach()"
    )
    for source, expected in ((called, codes), (kept, ["saved-in-vain"])):
        answers = build(recorded(source.format(runs, samples))).answers
        assert [one.code for one in answers if one.code == "saved-in-vain"] == expected
