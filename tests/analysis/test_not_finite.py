"""Gradients that are NaN or infinite: the line that they come from is named, and healthy programs are left alone."""

from __future__ import annotations

import re
from textwrap import dedent
from typing import Any

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.analysis.view import RunView
from tests.analysis.building import line_of, recorded

BORN = {
    "sqrt at 0": """
    w = torch.nn.Parameter(torch.zeros(3))
    d = (w ** 2).sum()
    e = d.sqrt()  # born
    e.backward()
    """,
    "log in the branch that where leaves out": """
    w = torch.nn.Parameter(torch.ones(2))
    p = w * torch.tensor([0.0, 1.0])
    h = torch.log(p)  # born
    torch.where(p > 0, p * h, 0.0).sum().backward()
    """,
    "softmax of a row that is masked throughout": """
    w = torch.nn.Parameter(torch.ones(2, 2))
    mask = torch.tensor([[True, True], [False, True]])  # born
    scores = (w * 2).masked_fill(mask, float("-inf"))  # born
    a = scores.softmax(-1)  # born
    (a @ w)[1].sum().backward()
    """,
    "logaddexp of what cannot be reached": """
    w = torch.nn.Parameter(torch.zeros(3))
    start = torch.full((3,), -float("inf"))  # born
    start[0] = 0.0
    shifted = torch.cat([start[-1:], start[:-1]])
    reached = torch.logaddexp(start + w, shifted)  # born
    reached[1].backward()
    """,
    "logsumexp of a row of -inf": """
    w = torch.nn.Parameter(torch.zeros(2, 2))
    barred = torch.zeros(2, 2).masked_fill(torch.tensor([[True, True], [False, True]]), -float("inf"))  # born
    rows = (w + barred).logsumexp(1)  # born
    rows[1].backward()
    """,
    "hypot at 0": """
    w = torch.nn.Parameter(torch.zeros(2))
    r = torch.hypot(w[0], w[1])  # born
    r.backward()
    """,
    "slogdet of a singular matrix": """
    w = torch.nn.Parameter(torch.stack([torch.eye(2), torch.zeros(2, 2)]))
    sizes = torch.linalg.slogdet(w)[1]  # born
    sizes[0].backward()
    """,
    "qr of columns that are zero": """
    w = torch.nn.Parameter(torch.zeros(2, 2))
    q = torch.linalg.qr(w)[0]  # born
    q.sum().backward()
    """,
    "0 / 0": """
    w = torch.nn.Parameter(torch.ones(2))
    count = torch.tensor([0.0, 1.0])
    mean = (w * count) / count  # born
    loss = mean.sum()
    (loss * 2).backward()
    """,
    "data that lack their spread": """
    x = torch.ones(4, 2)
    z = (x - x.mean(0)) / x.std(0)  # born
    torch.nn.Linear(2, 1)(z).sum().backward()
    """,
    "eigenvectors where eigenvalues are equal": """
    w = torch.nn.Parameter(torch.eye(3))
    values, vectors = torch.linalg.eigh(w)  # born
    (vectors[0].sum() + values.sum()).backward()
    """,
    "overflow of exp": """
    w = torch.nn.Parameter(torch.tensor([100.0, 1.0]))
    e = torch.exp(w)  # born
    (e / e.sum()).sum().backward()
    """,
    "overflow of exp before a clamp": """
    w = torch.nn.Parameter(torch.tensor([100.0, 1.0]))
    ratio = torch.exp(w * 1.0)  # born
    ratio.clamp(max=2.0).mean().backward()
    """,
    "overflow of exp in the branch that where leaves out": """
    w = torch.nn.Parameter(torch.tensor([100.0, 1.0]))
    x = w * w.sigmoid()
    soft = x.expm1()  # born
    torch.where(x > 20, x, soft).sum().backward()
    """,
    "overflow of exp before a minimum": """
    class Rates(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.log_rate = torch.nn.Parameter(torch.tensor([10.0, 200.0]))
        def forward(self):
            rate = (self.log_rate.exp() + 1)  # born
            return torch.minimum(rate, torch.full((2,), 1e3))
    Rates()().sum().backward()
    """,
    "overflow of half precision": """
    w = torch.nn.Parameter(torch.full((4,), 300.0, dtype=torch.float16))
    e = w * w  # born
    e.sum().backward()
    """,
    "overflow of a square of which only the average is kept": """
    def loss_of(w):
        error = w - 1
        squares = error ** 2  # born
        return squares.mean() / 2
    loss_of(torch.nn.Parameter(torch.full((4,), 300.0, dtype=torch.float16))).backward()
    """,
    "what data without a graph gave": """
    def scaled(w):
        share = torch.tensor([0.0, 4.0]).pow(-0.5)  # born
        both = share * torch.tensor([0.0, 1.0])  # born
        return both * w
    scaled(torch.nn.Parameter(torch.ones(2))).sum().backward()
    """,
    "an inverse of data that ends at the bound": """
    def loss_of(w):
        action = torch.tensor([0.5, 1.0])
        before = torch.atanh(action)  # born
        score = -(before - w).pow(2) / 2
        return torch.where(action < 1, score, torch.zeros(2)).sum()
    loss_of(torch.nn.Parameter(torch.zeros(2))).backward()
    """,
    "an inverse by logarithms, taken by a distribution": """
    def loss_of(w):
        action = torch.tensor([0.5, 1.0])
        before = 0.5 * (action.log1p() - (-action).log1p())  # born
        score = torch.distributions.Normal(w, w.exp(), validate_args=False).log_prob(before)
        return torch.where(action < 1, score, torch.zeros(2)).sum()
    loss_of(torch.nn.Parameter(torch.zeros(2))).backward()
    """,
    "an inverse of what is trained": """
    w = torch.nn.Parameter(torch.tensor([0.5, 1.0]))
    before = torch.atanh(w)  # born
    score = -(before - 0.1).pow(2) / 2
    torch.where(w < 1, score, torch.zeros(2)).sum().backward()
    """,
    "a gradient beyond what half precision holds": """
    layer = torch.nn.Linear(8, 1)
    layer = layer.half()  # born
    out = layer(torch.full((4, 8), 100.0).half())
    (out.float().sum() * 1e4).backward()
    """,
    "rows of which nothing is left, filled by a constant in two places": """
    LOG_ZERO = -float("inf")
    def total(w):
        unused = torch.full((4,), LOG_ZERO) + 1
        lines = w.log_softmax(-1)
        row = torch.full((4,), LOG_ZERO)  # born
        row = torch.cat([lines[:1], row[1:]])
        for step in range(2):
            pad = torch.full((1,), LOG_ZERO)  # born
            both = torch.stack([row, torch.cat([pad, row[:-1]])])
            row = torch.logsumexp(both, 0) + lines  # born
        return row[0]
    total(torch.nn.Parameter(torch.zeros(4))).backward()
    """,
    "std of one element": """
    w = torch.nn.Parameter(torch.ones(1))
    s = w.std()  # born
    (w / (s + 1)).sum().backward()
    """,
    "data with a NaN": """
    x = torch.tensor([1.0, float("nan")])  # born
    w = torch.nn.Parameter(torch.ones(2))
    (w * x).sum().backward()
    """,
    "an eps that is 0 in half precision": """
    layer = torch.nn.Linear(2, 1)
    layer.half()  # born
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3)  # born
    for step in range(3):
        optimizer.zero_grad()
        (layer(torch.ones(2, 2).half()) * 1e-3).sum().backward()
        optimizer.step()
    """,
    "a learning rate that is too large": """
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=1e4)  # born
    for step in range(20):
        optimizer.zero_grad()
        (w ** 2).sum().backward()
        optimizer.step()
    """,
}

HEALTHY = {
    "logaddexp with a large negative number": """
    w = torch.nn.Parameter(torch.zeros(3))
    start = torch.full((3,), -1e9)
    start[0] = 0.0
    shifted = torch.cat([start[-1:], start[:-1]])
    torch.logaddexp(start + w, shifted)[1].backward()
    """,
    "logaddexp of -inf and a number": """
    w = torch.nn.Parameter(torch.zeros(3))
    torch.logaddexp(w, torch.full((3,), -float("inf"))).sum().backward()
    """,
    "functions that torch gives a derivative where it has none": """
    w = torch.nn.Parameter(torch.zeros(2, 2))
    terms = w.norm(), torch.atan2(w, w), torch.cdist(w, w), w ** 0.0, torch.dist(w, w), w.std(), w.prod()
    sum(one.sum() for one in terms).backward()
    assert torch.isfinite(w.grad).all()
    """,
    "an eps that half precision can hold": """
    layer = torch.nn.Linear(2, 1).half()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-3, eps=1e-4)
    for step in range(3):
        optimizer.zero_grad()
        (layer(torch.ones(2, 2).half()) * 1e-3).sum().backward()
        optimizer.step()
    """,
    "one entry of the row is left": BORN["softmax of a row that is masked throughout"].replace(
        "True, True", "True, False"
    ),
    "log of what was chosen before": BORN["log in the branch that where leaves out"].replace(
        "torch.log(p)", "torch.log(torch.where(p > 0, p, 1.0))"
    ),
    "the scaler tries a scale that is too large": """
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    for step in range(4):
        optimizer.zero_grad()
        scaler.scale((w * 100).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    """,
    "the program skips the step": """
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for scale in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        (w * scale).sum().backward()
        if torch.isfinite(w.grad).all():
            optimizer.step()
    """,
    "the program replaces it": """
    w = torch.nn.Parameter(torch.zeros(2))
    w.sqrt().sum().backward()
    torch.nan_to_num_(w.grad, posinf=0.0)
    """,
    "an infinite loss that is never used": """
    w = torch.nn.Parameter(torch.ones(2))
    loss = (w * float("inf")).sum()
    if torch.isfinite(loss):
        loss.backward()
    """,
}


def found(source: str) -> list[Answer]:
    answers = build(recorded(source), RunView()).answers
    return [answer for answer in answers if answer.code == "gradient-not-finite"]


def program(body: str) -> str:
    return f"import torch\n{dedent(body)}"


def lines_with(mark: str, source: str) -> set[int]:
    return {number for number, line in enumerate(source.split("\n"), 1) if f"# {mark}" in line}


@pytest.mark.parametrize("case", BORN)
def test_the_line_that_it_comes_from_is_named(case: str) -> None:
    source = program(BORN[case])
    (answer,) = found(source)
    assert {cause.line for cause in answer.causes} <= lines_with("born", source)
    assert answer.causes and answer.severity == "problem"


@pytest.mark.parametrize("case", HEALTHY)
def test_nothing_is_said_of_what_is_meant_or_dealt_with(case: str) -> None:
    assert not found(program(HEALTHY[case]))


def test_a_decomposition_says_what_its_derivative_divides_by() -> None:
    (answer,) = found(program(BORN["eigenvectors where eigenvalues are equal"]))
    assert "as it is where two eigenvalues are equal" in answer.text
    assert answer.advice.endswith("a small diagonal that is added.")


def test_what_is_not_known_is_not_said() -> None:
    source = """import torch
w = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(9):
    optimizer.zero_grad()
    part = w - w.detach() + (step != 5)
    torch.where(part != 0, 1 / part, part).sum().backward()
    optimizer.step()
"""
    (answer,) = found(source)
    assert not answer.causes
    assert "w has become NaN between pass 4 and pass 7" in answer.text
    assert "--nan" in answer.text


def test_a_parameter_that_a_step_spoilt_is_named_where_every_op_is_looked_at() -> None:
    source = program(BORN["an eps that is 0 in half precision"])
    answers = [one for one in build(recorded(source, nan=True), RunView()).answers if one.code == "gradient-not-finite"]
    assert {cause.line for cause in answers[0].causes} <= lines_with("born", source)
    assert "the eps=1e-08 of AdamW is 0 in float16" in answers[0].text


@pytest.mark.parametrize(
    ("case", "where"),
    [
        ("logaddexp of what cannot be reached", "where both of its inputs are -inf"),
        ("logsumexp of a row of -inf", "where every entry is -inf"),
    ],
)
def test_where_sums_of_exponentials_have_no_derivative(case: str, where: str) -> None:
    (answer,) = found(program(BORN[case]))
    assert where in answer.text
    assert answer.text.endswith("Fill with a large negative number instead of -inf.")


DIVERGING = """import torch
torch.manual_seed(0)
inputs = torch.randn(16, 5)
net = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.9)
for step in range(40):
    loss = (net(inputs) - 3 * inputs.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step == 12:
        pass
"""


def test_each_gradient_is_called_what_it_is() -> None:
    (answer,) = found(DIVERGING)
    names: dict[str, Any] = {}
    exec(DIVERGING.replace("optimizer.step()", "if not loss.isfinite(): break\n    optimizer.step()"), names)
    for name, one in names["net"].named_parameters():
        held = "NaN" if one.grad.isnan().any() else "infinite" if one.grad.isinf().any() else ""
        part = next((part for part in re.split(" and (?=the)|, ", answer.text) if f"net.{name}" in part), "")
        assert (held in part) if held else not part, (name, held, answer.text)


def test_a_rate_that_is_raised_later_is_named_though_the_passes_between_were_not_looked_at() -> None:
    source = DIVERGING.replace("lr=0.9", "lr=0.01").replace("pass\n", 'optimizer.param_groups[0]["lr"] = 0.9\n')
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [12, 5]
    assert "has grown to values as large as" in answer.text


def test_a_rate_that_is_set_after_it_has_diverged_is_not_named() -> None:
    source = DIVERGING.replace("pass\n", 'optimizer.param_groups[0]["lr"] = 1.5\n')
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [5]


def test_one_batch_that_is_out_of_range_is_no_divergence() -> None:
    source = DIVERGING.replace("lr=0.9", "lr=0.01").replace(
        "net(inputs) -", "net(inputs * (1e30 if step == 20 else 1)) -"
    )
    (answer,) = found(source)
    assert "diverges" not in answer.text


OUTLIERS = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
first, last = nn.Linear(4, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*first.parameters(), *last.parameters()], lr=1e-3)
def soft(x, threshold=20.0):
    return {}
for step in range(20):
    x = torch.rand(8, 4) * (3000 if step == 6 else 1)
    loss = last(soft(first(x))).abs().mean() if step != 6 else last(soft(first(x))).clamp(-1, 1).mean()
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_([*first.parameters(), *last.parameters()], 1.0)
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("formula", "is_found"),
    [
        ("torch.where(x > threshold, x, torch.log1p(torch.exp(x)))", True),
        ("torch.where(x <= threshold, x.exp().log1p(), x)", True),
        ("torch.where(threshold < x, x, x.exp().log1p())", True),
        ("torch.where(x > threshold, x, torch.log1p(torch.exp(x.clamp(max=threshold))))", False),
        ("F.softplus(x)", False),
    ],
)
def test_a_branch_that_overflows_in_a_pass_that_was_not_looked_at(formula: str, is_found: bool) -> None:
    source = OUTLIERS.format(formula)
    answers = [one for one in build(recorded(source)).answers if one.code == "gradient-not-finite"]
    assert [one.causes[0].line for one in answers if one.causes] == ([line_of(source, "where(")] if is_found else [])


ALIGNED = """import torch
net, loss_of = torch.nn.Linear(4, 5), torch.nn.CTCLoss()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    chances = net(torch.randn(3, 2, 4)).log_softmax(-1)
    targets = torch.tensor([[1, 2, 3], [1, 2, 3]])
    loss = loss_of(chances, targets, torch.tensor([3, 3]), torch.tensor([3, 3]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_ctc_loss_that_nothing_can_be_aligned_with_is_named_where_it_is_made() -> None:
    source = ALIGNED.replace("[1, 2, 3]])", "[1, 2, 2]])")
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [2, 7]
    assert "cannot be aligned" in answer.text
    assert "zero_infinity=True" in answer.advice


@pytest.mark.parametrize("instead", ["torch.nn.CTCLoss(zero_infinity=True)", "torch.nn.CTCLoss(blank=4)"])
def test_a_ctc_loss_that_leaves_such_targets_out_or_has_none_is_fine(instead: str) -> None:
    made = "[1, 2, 2]])" if "zero" in instead else "[1, 2, 3]])"
    assert not found(ALIGNED.replace("torch.nn.CTCLoss()", instead).replace("[1, 2, 3]])", made))


def test_chances_that_are_masked_with_infinity_are_no_matter_of_alignment() -> None:
    masked = "log_softmax(-1).masked_fill(torch.arange(5) == 1, -torch.inf)"
    answers = found(ALIGNED.replace("log_softmax(-1)", masked))
    assert answers
    assert not any("align" in one.text or "zero_infinity" in one.text for one in answers)
