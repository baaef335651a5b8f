"""Terms of a loss that change its value alone: numbers taken out of tensors, gradients without a graph."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

NUMBER = """
import torch
w = torch.ones(3, requires_grad=True)
def loss_of(w, weight=0.5):
    error = (w * 2 - 1).pow(2).sum()
    size = w.norm()
    {}
    return loss
loss_of(w).backward()
"""

PENALTY = """
import torch
critic = torch.nn.Linear(2, 1)
x = torch.ones(4, 2, requires_grad=True)
(slope,) = torch.autograd.grad(critic(x).sum(), x{})
penalty = (slope.norm(dim=1) - 1).pow(2).mean()
loss = critic(x).mean() + 10 * penalty
loss.backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    "body",
    [
        "size = w.norm().item(); loss = error + weight * size".replace("; ", "\n    "),
        "loss = error + weight * w.norm().item()",
        "loss = error + weight * w.norm().detach().item()",
        "loss = error\n    loss += 2 * float(w.norm())",
        "sizes = [one.norm().item() for one in (w,)]\n    loss = error + weight * sum(sizes)",
        "sizes = []\n    for one in (w,):\n        sizes.append(one.norm().item())\n    loss = error + sum(sizes)",
    ],
)
def test_the_line_that_takes_the_number_out_is_the_cause(body: str) -> None:
    source = NUMBER.replace("    size = w.norm()\n", "").format(body)
    taken = "float(" if "float" in body else ".item()"
    assert lines(source) == [line_of(source, taken)]


@pytest.mark.parametrize(
    "body",
    [
        "loss = error + weight * size",
        "n = size.item()\n    loss = error * n + weight",
        "loss = error * size.item() + 3",
        "n = size.item()\n    loss = error + weight",
        "n = size.detach().item()\n    loss = error + 1",
        "n = w.detach().norm().item()\n    loss = error + n",
    ],
)
def test_tensors_weights_and_what_had_no_graph_are_none(body: str) -> None:
    assert lines(NUMBER.format(body)) == []


@pytest.mark.parametrize(("given", "count"), [("", 1), ("create_graph=True", 0)])
def test_a_function_that_leaves_the_graph_to_its_caller_names_the_call(given: str, count: int) -> None:
    source = f"""
import torch
critic = torch.nn.Linear(2, 1)
x = torch.ones(4, 2, requires_grad=True)
def slope(x, **options):
    (found,) = torch.autograd.grad(critic(x).sum(), x, **options)
    return found.norm(dim=1)
def penalty(x):
    return (slope(x, {given}) - 1).pow(2).mean()
loss = critic(x).mean() + 10 * penalty(x)
loss.backward()
"""
    assert lines(source) == [line_of(source, "(slope(")] * count


@pytest.mark.parametrize(("graph", "count"), [("", 1), (", create_graph=True", 0)])
def test_a_penalty_on_gradients_needs_their_graph(graph: str, count: int) -> None:
    source = PENALTY.format(graph)
    assert lines(source) == [line_of(source, "autograd.grad")] * count


def test_in_a_call_of_several_lines_the_argument_that_decides_is_named() -> None:
    source = PENALTY.format(",\n    create_graph=critic.bias is None,  # decides\n")
    assert lines(source) == [line_of(source, "# decides")]


ONCE = """
import torch
from torch.autograd.function import once_differentiable
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    @once_differentiable  # marked
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad
x = torch.ones(3, requires_grad=True)
y = Square.apply(x).sum()
(slope,) = torch.autograd.grad(y, x, create_graph=True)
(slope.pow(2).sum() + y).backward()
"""


def test_a_gradient_asked_for_with_its_graph_does_not_want_for_create_graph() -> None:
    assert lines(ONCE) == [line_of(ONCE, "# marked")]
    assert lines(ONCE.replace("    @once_differentiable  # marked\n", "")) == []
    assert lines(ONCE.replace("Square.apply(x).sum()", "(2 * x).sum()")) == []  # (a constant: there is no mistake)


ELSEWHERE = """
import torch
class Trainer:
    def __init__(self):
        self.w = torch.ones(3, requires_grad=True)
        self.last, self.plain = 0.0, 2.0
    def parts(self):
        error, size = (self.w * 2 - 1).pow(2).sum(), {size}
        self.last = size
        return error, size
    def named(self):
        error, size = self.parts()
        return {{"error": error, "size": size}}
    def step(self):
        {body}
        loss.backward()
Trainer().step()
"""


@pytest.mark.parametrize(
    "body",
    [
        "error, size = self.parts(); loss = error + 0.1 * size",
        "both = self.named(); loss = both['error'] + 0.1 * both['size']",
        "error, _ = self.parts(); loss = error + 0.1 * self.last",
        "parts = self.parts(); loss = parts[0] + 0.1 * parts[1]",
        "loss = sum(self.parts())",
    ],
)
@pytest.mark.parametrize(("size", "count"), [("self.w.norm().item()", 1), ("self.w.norm()", 0), ("3.5", 0)])
def test_a_number_is_followed_to_the_function_that_returns_it(body: str, size: str, count: int) -> None:
    source = ELSEWHERE.format(size=size, body=body.replace("; ", "\n        "))
    assert lines(source) == [line_of(source, "error, size = (")] * count


SUMMED = """
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 3)
class Run:
    def loss(self):
        {begun}
        for _ in range(3):
            log_p = torch.log_softmax(net(torch.randn(1, 4)), dim=1)
            {added}  # out
            bonus = bonus + (log_p.exp() * log_p).sum()
            self.bonus = bonus
        {returned}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    Run().loss().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("begun", "added", "returned"),
    [
        ("main, bonus = 0.0, 0.0", "main = main - {} * 1.5", "return main / 3 + 0.01 * bonus"),
        ("main = bonus = 0.0", "main -= {} * 1.5", "loss = main / 3\n        return loss + 0.01 * bonus"),
        ("(main, bonus) = [], 0.0", "main.append(-{})", "loss = sum(main)\n        loss = loss + bonus; return loss"),
        ("main, bonus = dict(policy=0.0), 0", "main['policy'] -= {} * 1.5", "return main['policy'] + 0.01 * bonus"),
        ("self.main, bonus = 0.0, 0.0", "self.main -= {} * 1.5", "return self.main + 0.01 * bonus"),
        ("main, bonus = [], 0.0", "main.append({})", "return sum(-one for one in main) + 0.01 * bonus"),
        ("main, bonus = [], 0.0", "main.append({})", "return sum(w * x for w, x in enumerate(main)) + bonus"),
        ("main, bonus = [], 0.0", "main.append({})", "return sum(w * x for x, w in zip(main, (1, 2, 3))) + bonus"),
    ],
)
@pytest.mark.parametrize(("value", "count"), [("log_p[0, 1].item()", 1), ("log_p[0, 1]", 0)])
def test_a_term_that_is_summed_up_beside_others_is_followed(
    begun: str, added: str, returned: str, value: str, count: int
) -> None:
    source = SUMMED.format(begun=begun, added=added.format(value), returned=returned)
    assert lines(source) == [line_of(source, "# out")] * count


@pytest.mark.parametrize("average", ["np.mean", "statistics.fmean"])
def test_an_average_of_numbers_is_a_number(average: str) -> None:
    returned = f"return {average}(main) + 0.01 * bonus"
    source = SUMMED.format(begun="main, bonus = [], 0.0", added="main.append(log_p[0, 1].item())", returned=returned)
    source = source.replace("import torch", "import statistics\nimport numpy as np\nimport torch", 1)
    assert lines(source) == [line_of(source, "# out")]
    assert lines(source.replace("log_p[0, 1].item()", "log_p.detach()[0, 1].item()")) == []


@pytest.mark.parametrize(
    ("begun", "added", "returned"),
    [
        ("seen, bonus = 0.0, 0.0", "seen += log_p[0, 1].item()", "self.seen = seen; return bonus"),
        ("seen, bonus = 0.0, 0.0", "seen += log_p[0, 1].item()", "return bonus * seen + 1.0"),
        ("main, bonus = 0.0, 0.0", "main += log_p.detach()[0, 1].item()", "return main + bonus"),
        ("bonus = 0.0; self.seen = 0.0", "self.seen += log_p[0, 1].item()", "return bonus + self.bonus"),
    ],
)
def test_numbers_for_a_log_beside_a_sum_and_weights_are_no_terms(begun: str, added: str, returned: str) -> None:
    assert lines(SUMMED.format(begun=begun, added=added, returned=returned)) == []


TERM = """
import numpy as np
import torch
w = torch.linspace(-1, 1, 5, requires_grad=True)
data = torch.rand(5)
def term(x):
    {first}
    return {returned}
loss = (w * 2 - 1).pow(2).mean() + 0.1 * {used}
loss.backward()
"""


def lost(first: str, returned: str, used: str) -> list[str]:
    source = TERM.format(first=first, returned=returned, used=used)
    return [source.strip().split("\n")[line - 1].strip() for line in lines(source)]


@pytest.mark.parametrize(
    ("first", "returned"),
    [
        ("values = np.quantile(x.detach().numpy(), 0.5)", "torch.as_tensor(values).pow(2)"),
        ("values = x.tolist()", "torch.tensor(values).abs().sum()"),
        ("count = (x > 0.5).float()", "count.mean()"),
        ("best = x.argmax()", "(best - 2).float().abs()"),
        ("number = torch.tensor(float(x.sum()))", "number"),
        ("whole = (x * 4).long()", "whole.float().sum()"),
        ("whole = torch.round(x * 4)", "whole.abs().mean()"),
        ("sample = torch.bernoulli(x.sigmoid())", "sample.sum()"),
    ],
)
def test_a_term_without_a_way_back_names_the_line_that_lost_it(first: str, returned: str) -> None:
    assert lost(first, returned, "term(w)") == [first]


@pytest.mark.parametrize(
    ("first", "returned", "used"),
    [
        ("values = x.detach().numpy()", "torch.as_tensor(values).abs().mean()", "term(data)"),
        ("count = (x > 0.5).float()", "count.mean()", "term(data)"),
        ("size = x.detach().norm()", "size", "term(w)"),
        ("with torch.no_grad(): size = x.norm()", "size", "term(w)"),
        ("values = x.detach().numpy()", "torch.as_tensor(values).mean()", "term(w)"),
        ("hard = (x > 0).float()", "(hard + x - x.detach()).mean()", "term(w)"),
        ("hard = (x > 0).float()", "(hard * x).mean()", "term(w)"),
        ("best = x.argmax()", "x[best]", "term(w)"),
        ("part = x - x.floor()", "part.mean()", "term(w)"),
        ("part = x - x.long().float()", "part.mean()", "term(w)"),
        ("same = x + x.round() - x.detach()", "same.mean()", "term(w)"),
    ],
)
def test_data_and_what_is_cut_off_on_purpose_are_none(first: str, returned: str, used: str) -> None:
    assert lost(first, returned, used) == []


CUT_PENALTY = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
other = torch.nn.Linear(3, 3)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.rand(5, 3)
out = net(x)
task = (out - x).pow(2).mean()
{}
loss.backward()
"""


@pytest.mark.parametrize(
    "body",
    [
        "loss = task + 0.1 * sum(p.data.pow(2).sum() for p in net.parameters())  # here",
        "still = out.detach()  # here\nloss = task + still.abs().mean()",
        "with torch.no_grad():  # here\n    size = net(x).norm()\nloss = task + size",
        "with torch.no_grad():  # here\n    taken = net(x).log_softmax(1)[:, 0]\nloss = -taken.mean() - 1e-3 * task",
        "with torch.no_grad():  # here\n    taken = net(x).log_softmax(1)[:, 0]\nloss = task - taken.mean()",
    ],
)
def test_a_penalty_on_values_that_were_cut_off_is_told_by_the_cut(body: str) -> None:
    source = CUT_PENALTY.format(body)
    assert lines(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "loss = task + sum(p.pow(2).sum() for p in net.parameters())",
        "loss = task + other.weight.detach().pow(2).sum()",
        "loss = task - out.detach().pow(2).mean()",
        "with torch.no_grad():\n    base = net(x)\nloss = task - base.mean()",
        "with torch.no_grad():\n    drawn = other(x).log_softmax(1)\nloss = task - drawn.mean()",
        "loss = task + out.pow(2).mean().detach()",
        "target = out.detach()\nloss = task + (target * target.exp().log()).mean() + (target - out).pow(2).mean()",
        "loss = task * out.detach().pow(2).mean()",
        "loss = task + (out.sum() - task).detach()",
        "print(out.detach().pow(2).mean())\nloss = task",
    ],
)
def test_constants_that_are_meant_are_no_lost_penalties(body: str) -> None:
    assert lines(CUT_PENALTY.format(body)) == []


def test_a_fixed_scale_does_not_cut_an_entropy_off() -> None:
    source = """
import torch
from torch.distributions import Normal
net = torch.nn.Linear(3, 1)
policy = Normal(net(torch.rand(4, 3)), 0.5)
loss = policy.log_prob(torch.ones(4, 1)).mean() - 0.1 * policy.entropy().mean()
loss.backward()
"""
    assert lines(source) == []


DISTILLED = """
import torch
from torch.nn import functional as F
student, teacher = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)
optimizer = torch.optim.SGD(student.parameters(), 0.1)
def soft(mine, others):
    target = (others / 2).softmax(-1)
    mine = (ARGUMENT / 2).log_softmax(-1)
    return F.kl_div(mine, target, reduction="batchmean")
def distance(own, others):
    return F.kl_div((ARGUMENT / 2).log_softmax(-1), (others / 2).softmax(-1), reduction="batchmean")
for step in range(2):
    x = torch.randn(8, 4)
    with torch.no_grad():
        given = teacher(x)
    logits = student(x)
    loss = F.cross_entropy(logits, x[:, :3].argmax(1)) + 0.5 * CALLED(logits, given)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_function_that_never_reads_what_has_the_gradient_is_named_where_it_takes_the_other():
    source = DISTILLED.replace("ARGUMENT", "others").replace("CALLED", "distance")
    assert lines(source) == [line_of(source, "return F.kl_div((others")]


@pytest.mark.parametrize(("called", "argument"), [("distance", "own"), ("soft", "mine")])
def test_a_function_that_reads_it_is_fine(called: str, argument: str):
    assert lines(DISTILLED.replace("ARGUMENT", argument).replace("CALLED", called)) == []


FAR = """
import math
import torch
w = torch.linspace(-1, 1, 5, requires_grad=True)
table = torch.eye(5)
def violations(paths):
    found = []
    for one in paths:
        if one > 2:
            found.append(1.0)
        else:
            found.append(0.0)
    return found
def check(first, second):
    bad = [not table[a, b] for a, b in zip(first.tolist(), {second})]  # left
    return {built}
class Rate:
    def __call__(self, logits):
        best = logits.argmax(-1).tolist()  # left
        rates = violations(best)
        return {built_here}
rate = Rate()
grid = w[:, None] * torch.arange(40.0)
loss = (w * 2 - 1).pow(2).mean()
{term}
total = loss + 0.1 * term
total.backward()
"""


@pytest.mark.parametrize("built", ["torch.FloatTensor(bad)", "torch.tensor(bad).float()", "torch.as_tensor(bad) * 1.0"])
@pytest.mark.parametrize("term", ["apart = check({0}, grid.argmin(0))\nterm = (apart.exp() - 1).sum()"])
def test_what_left_torch_in_a_function_that_builds_a_tensor_of_it_is_the_cause(term: str, built: str) -> None:
    fill = {"built": built, "second": "second.tolist()", "built_here": "0"}
    source = FAR.format(term=term.format("grid.argmax(0)"), **fill)
    assert lines(source) == [line_of(source, "zip(first")]
    fill["second"] = "[0] * 40"
    assert lines(FAR.format(term=term.format("torch.arange(40) % 5"), **fill)) == []


@pytest.mark.parametrize("built", ["torch.tensor(rates).mean()", "torch.Tensor(rates).mean()"])
def test_values_are_followed_through_the_functions_that_they_are_given_to(built: str) -> None:
    fill = {"built": "0", "second": "second", "built_here": built}
    source = FAR.format(term="term = rate(grid)", **fill)
    assert lines(source) == [line_of(source, "best = ")]
    assert lines(FAR.format(term="term = rate(grid.detach())", **fill)) == []


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("wrong = (w.sigmoid() > 0.5).float().mean().item()  # out\n    loss = error + 0.5 * wrong", 1),
        ("n = math.log(w.norm())  # out\n    loss = error + 0.5 * n", 1),
        ("wrong = (w.detach().sigmoid() > 0.5).float().mean().item()\n    loss = error + 0.5 * wrong", 0),
        ("n = math.log(3.0)\n    loss = error + 0.5 * n", 0),
        (
            "loss = 0\n    for one in (1, 2):\n        scale = w.norm().item()\n        loss = loss + scale * error",
            0,
        ),
    ],
)
def test_numbers_by_comparison_and_by_math_and_a_sum_that_starts_as_a_number(body: str, count: int) -> None:
    source = "import math\n" + NUMBER.format(body)
    assert lines(source) == ([line_of(source, "# out")] if count else [])


JUDGED = """
import torch
from torch import nn
torch.manual_seed(0)
maker, judge = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
of_maker = torch.optim.SGD(maker.parameters(), lr=0.1)
of_judge = torch.optim.SGD(judge.parameters(), lr=0.1)
softplus = nn.functional.softplus
def judge_step(real):
    {thaw}
    real = real.clone().requires_grad_()
    {made}
    (slope,) = torch.autograd.grad(judge(real).sum(), real, create_graph=True)
    loss = slope.pow(2).sum() + softplus(-judge(real)).mean() + softplus(judge(fake)).mean()
    of_judge.zero_grad()
    loss.backward()
    of_judge.step()
def maker_step(x, wanted):
    judge.requires_grad_(False)
    out = maker(x)
    {term}
    of_maker.zero_grad()
    loss.backward()
    of_maker.step()
for _ in range(4):
    judge_step(torch.randn(5, 4))
    maker_step(torch.randn(5, 3), torch.randn(5, 4))
"""
FAKES = (
    "with torch.no_grad(): fake = maker(torch.randn(5, 3))",
    "fake = maker(torch.randn(5, 3)).detach()",
)


@pytest.mark.parametrize("made", FAKES)
def test_what_a_frozen_judge_says_of_made_samples_is_not_cut_off_by_what_made_them(made: str) -> None:
    term = "loss = softplus(-judge(out)).mean()"
    assert lines(JUDGED.format(made=made, term=term, thaw="pass")) == []
    assert lines(JUDGED.format(made=made, term=term, thaw="judge.requires_grad_(True)")) == []


@pytest.mark.parametrize("made", FAKES)
def test_what_is_cut_off_where_the_judge_is_frozen_for_it_is_told(made: str) -> None:
    term = (
        "with torch.no_grad(): said = softplus(-judge(maker(x))).mean()  # cut\n"
        "    loss = (out - wanted).abs().mean() + said"
    )
    source = JUDGED.format(made=made, term=term, thaw="judge.requires_grad_(True)")
    assert lines(source) == [line_of(source, "# cut")]
