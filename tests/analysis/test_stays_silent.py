"""Programs on which a rule must stay silent, each close to one of which it speaks."""

from __future__ import annotations

import pytest

from gradscope.analysis.lines.highlights import lines_that_matter
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import recorded

HEAD = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"
TWO_LEAVES = "x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)\n"


def report_of(source: str) -> Report:
    return build(recorded(HEAD + source))


def codes(source: str) -> list[str]:
    return [answer.code for answer in report_of(source).answers]


SILENT = {
    "a leaf whose name had its gradient before": (
        "leaf-unreached",
        """
x, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
first = (x * v).sum()
first.backward(retain_graph=True)
kept, x = x, torch.ones(3, requires_grad=True)
first.backward()
""",
    ),
    "points of a grid, where one optimizer takes over from another": (
        "never-stepped",
        """
class Problem:
    def __init__(self):
        self.x = torch.rand(8, 1, requires_grad=True)
    def loss(self, net):
        u = net(self.x)
        slope, = torch.autograd.grad(u.sum(), self.x, create_graph=True)
        return (slope + u).pow(2).mean()
problem, net = Problem(), nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
adam = torch.optim.Adam(net.parameters())
for step in range(5):
    adam.zero_grad()
    problem.loss(net).backward()
    adam.step()
lbfgs = torch.optim.LBFGS(net.parameters(), max_iter=5)
def closure():
    lbfgs.zero_grad()
    loss = problem.loss(net)
    loss.backward()
    return loss
lbfgs.step(closure)
""",
    ),
    "zeros that another gradient takes the place of": (
        "cleared-before-step",
        """
body, weights = nn.Linear(3, 2), nn.Parameter(torch.ones(2))
optimizer = torch.optim.Adam([weights], lr=0.1)
for step in range(4):
    losses = body(torch.randn(5, 3)).pow(2).mean(0)
    (weights * losses).sum().backward(retain_graph=True)
    weights.grad.zero_()
    sizes = torch.stack([w * torch.autograd.grad(one, body.weight, retain_graph=True)[0].norm()
                         for w, one in zip(weights, losses)])
    weights.grad = torch.autograd.grad((sizes - sizes.mean().detach()).abs().sum(), weights)[0]
    optimizer.step()
    body.zero_grad()
""",
    ),
    "a leaf beside a pass that raised in the end": (
        "leaf-unreached",
        f"{TWO_LEAVES}for number in (1, 5):\n    (x * 2)[:1].backward(torch.ones(number))\n",
    ),
    "gradients that were applied again once": (
        "gradients-applied-again",
        """
layer = nn.Linear(2, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(2):
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
""",
    ),
    "a sum that is begun anew": (
        "graph-carried-along",
        """
w = torch.ones(3, requires_grad=True)
for step in range(24):
    if step % 4 == 0:
        total = 0
    loss = (w * step).sum()
    loss.backward()
    total = total + loss
""",
    ),
    "batches that the program keeps itself": (
        "memory-kept-by-graph",
        """
w = torch.ones(1000, requires_grad=True)
batches = []
for step in range(20):
    batch = torch.rand(1000)
    batches.append(batch)
losses = [(w * batch).sum() for batch in batches]
""",
    ),
    "a small graph that nothing uses": (
        "saved-in-vain",
        "w = torch.ones(3, requires_grad=True)\nw.sum().backward()\nvalidation = (w.exp() * 2).mean()\n",
    ),
    "a write that is told as an error already": (
        "write-through-alias",
        "x = torch.ones(3, requires_grad=True)\ny = x.sigmoid()\nz = y.sum()\ny.detach().zero_()\nz.backward()\n",
    ),
    "a plain tensor that needs no gradient any more": (
        "frozen",
        f"{TWO_LEAVES}(x * w).sum().backward()\nx.requires_grad_(False)\n(x * w).sum().backward()\n",
    ),
}


@pytest.mark.parametrize("case", SILENT)
def test_it_is_not_told(case: str) -> None:
    code, source = SILENT[case]
    assert code not in codes(source)


TRAINING = """
first, second = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.SGD(first.parameters(), lr=0.1)
def train(layer):
    layer(torch.ones(3, 2)).sum().backward()
for step in range(3):
    train(first)
    {}
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("line", "times"),
    [
        ("train(second)", 1),
        ("if step == 2: train(second), train(second)", 0),
        ("if step == 0: train(second)", 0),
        ("if step < 2: train(second)\n    else: del second", 0),
    ],
    ids=["trained", "before the last step only", "in one pass only", "gone before the last step"],
)
def test_a_parameter_is_said_not_to_be_stepped_after_two_passes_and_two_steps(line: str, times: int) -> None:
    assert codes(TRAINING.format(line)).count("never-stepped") == times


def test_none_that_a_pass_left_was_not_cleared_before_that_pass() -> None:
    source = f"{TWO_LEAVES}x.sum().backward()\nx.grad = None\nw.sum().backward()\nprint(x.grad)\n"
    assert codes(source) == ["grad-none-unreached"]


def test_autograd_grad_is_no_pass_that_fills_grad() -> None:
    source = f"{TWO_LEAVES}torch.autograd.grad((x * w).sum(), [x])\nprint(x.grad)\n"
    assert codes(source) == ["grad-none-no-backward"]


def test_memory_saved_in_vain_counts_once() -> None:
    source = "w = torch.ones(1000, 1000, requires_grad=True)\nw.sum().backward()\ny = w.exp()\nz = y.sin()\n"
    (told,) = report_of(source).answers
    assert told.code == "saved-in-vain"
    assert "saved 3.8 MiB" in told.text


def test_a_leaf_is_no_way_into_a_graph_that_was_used_up() -> None:
    source = f"{TWO_LEAVES}y = x * w\ny.sum().backward()\nz = w * 3\nloss = (y + z).sum()\nloss.backward()\n"
    (told,) = report_of(source).answers
    assert "since loss leads through y (made at line 5) into a graph" in told.text


def test_only_leaves_are_counted_among_leaves() -> None:
    source = f"{TWO_LEAVES}y = x * w\ny.retain_grad()\ny.sum().backward()\n"
    assert report_of(source).summary.leaves_with_gradient == 2


def test_a_pass_that_raised_uses_nothing_up() -> None:
    source = """
x = torch.ones(3, requires_grad=True)
y = x.sigmoid()
z = y.sum()
try:
    z.backward(torch.ones(5))
except RuntimeError:
    pass
y.data.zero_()
z.backward()
"""
    assert [write.effect for write in report_of(source).inplace_writes] == ["silently_wrong"]


def test_what_runs_without_grad_mode_does_not_crowd_out_a_cut() -> None:
    source = """
x = torch.ones(3, requires_grad=True)
y = x.detach()
with torch.no_grad():
    for step in range(3):
        a = x * 2
        b = x * 3
        c = x * 4
        d = x * 5
"""
    assert "y" in {row.name for row in lines_that_matter(report_of(source))}


def test_a_write_is_not_seen_by_what_was_made_later() -> None:
    (write,) = report_of("a = torch.ones(3)\na.add_(1)\nb = a[1:]\n").inplace_writes
    assert write.seen_by == ()


def test_leaves_that_a_library_keeps_to_itself_are_not_told() -> None:
    source = """
class Takes(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, kept):
        return h * 1
    @staticmethod
    def backward(ctx, grad):
        return grad, None
def use(h):
    return Takes.apply(h, torch.nn.Parameter(torch.ones(3)))
w = torch.ones(3, requires_grad=True)
loss = use(w).sum()
loss.backward()
"""
    (backward,) = report_of(source).backwards
    assert [row.name for row in backward.gradients] == ["w"]


@pytest.mark.parametrize("check", ["print(all(p.grad is None for p in [t]))", "assert t.grad is None"])
def test_a_check_that_what_is_frozen_has_no_gradient_is_no_surprise(check: str) -> None:
    source = (
        f"import torch\nt, w = torch.ones(2), torch.ones(2, requires_grad=True)\n(t * w).sum().backward()\n{check}\n"
    )
    assert [one for one in build(recorded(source)).answers if one.severity != "note"] == []
    (told,) = build(recorded(source.replace(check, "print(t.grad)"))).answers
    assert told.code == "grad-none-untracked" and told.severity != "note"


@pytest.mark.parametrize(
    "passes_by",
    [
        "for p in m.parameters():\n    if p.grad is not None:\n        p.grad.mul_(2)",
        "for p in m.parameters():\n    if p.grad is None:\n        continue\n    p.grad.mul_(2)",
        "norm = sum(p.grad.norm() for p in m.parameters() if p.grad is not None)",
    ],
)
def test_passing_by_gradients_that_are_none_is_no_surprise(passes_by: str) -> None:
    source = (
        f"{HEAD}m = nn.ModuleDict({{'a': nn.Linear(2, 2), 'rest': nn.Linear(2, 2)}})\n"
        f"m['a'](torch.ones(1, 2)).sum().backward()\n{passes_by}\n"
    )
    assert [one.severity for one in build(recorded(source)).answers] == ["note"]
    cut = source.replace("m['a'](torch.ones(1, 2))", "m['a'](m['rest'](torch.ones(1, 2)).detach())")
    (told,) = (one for one in build(recorded(cut)).answers if one.code == "grad-none-unreached")
    assert told.severity == "problem" and "cut at line 5" in told.text


@pytest.mark.parametrize("made", ["nn.Linear(2, 1)", "copy.deepcopy(m)", "pickle.loads(pickle.dumps(m))"])
def test_a_leaf_made_after_the_backward_pass_was_not_left_out_by_it(made: str) -> None:
    source = (
        f"import copy, pickle\n{HEAD}m = nn.Linear(2, 1)\nm(torch.ones(1, 2)).sum().backward()\n"
        f"late = {made}\nprint(late.weight.grad)\n"
    )
    (told,) = build(recorded(source)).answers
    assert (told.code, told.severity) == ("grad-none-no-backward", "note")
    assert told.text.endswith("no backward pass ran after line 7 had made it.")


def test_a_parameter_that_was_first_seen_after_a_pass_may_be_older() -> None:
    late = "w = torch.ones(2, requires_grad=True)\nlate = nn.Parameter(torch.ones(2))\n"
    (told,) = build(recorded(f"{HEAD}{late}(w * 2).sum().backward()\nprint(late.grad)\n")).answers
    assert told.code == "grad-none-unreached"
    assert told.text.endswith("no call was seen to use it before this backward pass.")


def test_a_line_that_matters_has_all_of_its_rows() -> None:
    """``requires_grad_(False)`` on a model of four tensors: not on three of them."""
    assignments = "\n".join(f"v{n} = torch.zeros(2)" for n in range(60))
    source = f"""import torch
frozen = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
frozen.requires_grad_(False)
{assignments}
"""
    rows = [row for row in lines_that_matter(report_of(source)) if "requires_grad_" in row.source]
    assert [row.name for row in rows] == ["frozen.0.weight", "frozen.0.bias", "frozen.1.weight", "frozen.1.bias"]


PULLED = """
x = torch.randn(2, 3)
net = torch.nn.Linear(3, 3)
for step in range(2):
    out, pull = torch.func.vjp(torch.tanh, x)
    h = x + pull(torch.ones(2, 3))[0] * out
    h = h + net(h)
    h.sum().backward()
"""
CONSTANT = """
w = torch.ones(3, requires_grad=True)
(slope,) = torch.autograd.grad((w * 2).sum(), w, create_graph=True)
(slope.pow(2).sum() + w.sum()).backward()
"""


@pytest.mark.parametrize("source", [PULLED, CONSTANT])
def test_a_gradient_that_is_a_constant_though_a_graph_was_made_is_not_lost(source: str) -> None:
    """torch.func.vjp of what no leaf is behind; and the gradient of a sum. Nothing of torch's own is a leaf."""
    report = report_of(source)
    assert not [answer.text for answer in report.answers if "create_graph" in answer.text]
    assert not report.cuts
    assert {row.name for one in report.backwards for row in one.gradients} <= {"net.weight", "net.bias", "w"}
