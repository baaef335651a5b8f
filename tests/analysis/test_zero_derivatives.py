"""Gradients of zero: the table of functions is what torch does, and only what is blocked on every way is reported."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from textwrap import dedent
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gradscope.analysis.facts.derivatives.zero_derivatives import ZERO_EVERYWHERE, has_no_derivative
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.recorder.state.graph_values import nodes_behind
from gradscope.recorder.torch_internals.singular_nodes import BY_ARGUMENT, kind_of
from tests.analysis.building import line_of, recorded
from tests.transparency.operators import OPERATORS, tensors_of

X = torch.linspace(0.05, 0.95, 7)
CALLS: dict[str, list[Callable[[Tensor], Tensor]]] = {
    "Round": [torch.round, lambda x: x.round(decimals=1)],
    "Floor": [torch.floor],
    "Ceil": [torch.ceil],
    "Trunc": [torch.trunc, torch.fix],
    "Sign": [torch.sign],
    "Bernoulli": [torch.bernoulli],
    "Poisson": [torch.poisson],
    "Normal": [lambda x: torch.normal(x, 1.0), lambda x: torch.normal(0.0, x), lambda x: torch.normal(x, x)],
}

SMOOTH = [torch.frac, torch.abs, torch.relu, lambda x: x.clamp(0, 1), lambda x: x % 0.3, torch.sigmoid, torch.rrelu]


@pytest.mark.parametrize("name", sorted(ZERO_EVERYWHERE))
def test_the_derivative_is_zero_everywhere(name: str) -> None:
    for call in CALLS[name]:
        for scale in (0.5, 1.0):
            x = (X * scale).requires_grad_()
            y = call(x)
            assert has_no_derivative(y.grad_fn.name())  # type: ignore[union-attr]
            (gradient,) = torch.autograd.grad(y, x, torch.rand(7))
            assert not gradient.any()


@pytest.mark.parametrize("call", SMOOTH)
def test_others_are_not_in_the_table(call: Callable[[Tensor], Tensor]) -> None:
    assert not has_no_derivative(call(X.clone().requires_grad_()).grad_fn.name())  # type: ignore[union-attr]


ELSEWHERE = {"Sgn", "Angle", "Fill", "Zero", "Cdist", "Div", "MaxPool2DWithIndices"}
"""Zero for the samples that come first (real numbers, the norm 0, a rounding mode, equal values), not always."""


@pytest.mark.sweep
def test_no_other_operator_gives_zeros_alone() -> None:
    given: dict[str, set[bool]] = {}
    for operator in OPERATORS:
        if operator.supports_autograd and torch.float32 in operator.supported_dtypes("cpu"):
            for name, zeros in measured(operator):
                given.setdefault(name, set()).add(zeros)
    zero = {name.partition("Backward")[0] for name, found in given.items() if found == {True} and "::" not in name}
    assert zero - ELSEWHERE <= ZERO_EVERYWHERE
    assert not {name for name, found in given.items() if found == {False} and has_no_derivative(name)}


def measured(operator: Any) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    for sample in islice(operator.sample_inputs("cpu", torch.float32, requires_grad=True), 8):
        inputs = [one for one in tensors_of([sample.input, sample.args, sample.kwargs]) if one.requires_grad]
        try:
            outputs = tensors_of(operator.op(sample.input, *sample.args, **sample.kwargs))
        except Exception:
            continue
        for output in outputs:
            if output.grad_fn is None or not output.numel():
                continue
            try:
                loss = (torch.view_as_real(output) if output.is_complex() else output) * 1.0
                gradients = torch.autograd.grad(
                    loss, inputs, torch.rand_like(loss), allow_unused=True, retain_graph=True
                )
            except Exception:
                continue
            numbers = [one for one in gradients if one is not None and one.layout is torch.strided and one.numel()]
            if numbers:
                found.append((output.grad_fn.name(), all(not one.any() for one in numbers)))
    return found


ARGUED: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "GridSampler2D": (lambda x: sampled(x, "nearest", 2), lambda x: sampled(x, "bilinear", 2)),
    "GridSampler3D": (lambda x: sampled(x, "nearest", 3), lambda x: sampled(x, "bilinear", 3)),
    "Div": (lambda x: torch.div(x, 0.3, rounding_mode="floor"), lambda x: torch.div(x, 0.3, rounding_mode=None)),
    "Pow": (lambda x: x**0, lambda x: x**2),
    "Norm": (lambda x: F.pairwise_distance(x.view(1, -1), x.new_zeros(1), p=0), lambda x: x.abs()),
    "LinalgVectorNorm": (lambda x: torch.norm(x, p=0), lambda x: torch.norm(x, p=1)),
    "Dist": (lambda x: torch.dist(x, torch.zeros(12), 0), lambda x: torch.dist(x, torch.zeros(12), 1)),
    "Cdist": (lambda x: torch.cdist(x.view(4, 3), torch.ones(2, 3), p=0), lambda x: (x.view(4, 3) - 1).norm(dim=1)),
    "Pdist": (lambda x: F.pdist(x.view(4, 3), p=0), lambda x: F.pdist(x.view(4, 3), p=1)),
}
"""Of each kind of nodes in the table a call with the argument, and one without that has a derivative."""


def sampled(x: Tensor, mode: str, dims: int) -> Tensor:
    image = torch.arange(64.0).view(1, 1, *(8,) * 2 if dims == 2 else (4,) * 3)
    return F.grid_sample(image, x.view(1, *(1,) * (dims - 1), -1, dims), mode=mode, align_corners=False)


@pytest.mark.parametrize("kind", sorted(BY_ARGUMENT))
def test_an_argument_makes_the_derivative_zero(kind: str) -> None:
    name, values, _ = BY_ARGUMENT[kind]
    with_it, without = ARGUED[kind]
    x = torch.linspace(0.05, 0.95, 12).requires_grad_()
    y = with_it(x)
    assert getattr(node_of(y, kind), f"_saved_{name}") in values
    (gradient,) = torch.autograd.grad(y.sum(), x, allow_unused=True)
    assert gradient is None or not gradient.any()
    (gradient,) = torch.autograd.grad(without(x).sum(), x)
    assert gradient.any()


def node_of(y: Tensor, kind: str) -> Any:
    return next(node for node in nodes_behind([y.grad_fn]) if kind_of(type(node).__name__) == kind)


BY_SETTING = """
import torch
import torch.nn.functional as F
class Config:
    mode: str = "nearest"  # set
cfg = Config()
flow = torch.nn.Conv2d(1, 2, 3, padding=1)
optimizer = torch.optim.SGD(flow.parameters(), lr=0.1)
grid = F.affine_grid(torch.eye(2, 3)[None], (1, 1, 6, 6), align_corners=False)
for step in range(4):
    image = torch.rand(1, 1, 6, 6)
    moved = grid + flow(image).permute(0, 2, 3, 1)
    loss = F.grid_sample(image, moved, mode=cfg.mode, align_corners=False).mean()  # called
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("", "", ["# set", "# called"]),
        ("mode=cfg.mode", "mode='nearest'", ["# called"]),
        ("mode=cfg.mode", "mode='near' + 'est'", ["# called"]),
        ("cfg = Config()", "cfg = Config(); cfg.mode = 'nearest'", ["# called"]),
        ("mode: str", "mode: str = 'bilinear'; other: str", []),
        ("mode=cfg.mode", "mode='bilinear' if step else cfg.mode", []),
        ("F.grid_sample(image, moved", "F.grid_sample(flow(image), grid", []),
    ],
    ids=["a setting", "in the call", "computed", "two places", "another mode", "only once", "by its image"],
)
def test_the_line_that_sets_the_argument_is_named_first(before: str, after: str, lines: list[str]) -> None:
    source = BY_SETTING.replace(before, after) if before else BY_SETTING
    found = [one for one in build(recorded(source)).answers if one.severity != "note"]
    causes = [cause.line for one in found for cause in one.causes]
    assert causes == [line_of(source, line) for line in lines]


BLOCKED = {
    "rounding": """
    w = torch.nn.Parameter(torch.rand(3))
    h = w * 2
    q = h.round()  # blocks
    q.sum().backward()
    """,
    "a sample": """
    w = torch.nn.Parameter(torch.rand(3))
    x = torch.normal(w, 1.0)  # blocks
    (x ** 2).sum().backward()
    """,
    "two roundings": """
    w = torch.nn.Parameter(torch.rand(3))
    a = w.floor()  # blocks
    b = w.ceil()  # blocks
    (a + b).sum().backward()
    """,
    "a bound that is never left": """
    w = torch.nn.Parameter(torch.full((3,), 9.0))
    v = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([v, w], lr=0.1)
    for step in range(4):
        c = w.clamp(-1, 1)  # blocks
        optimizer.zero_grad()
        (c * v).sum().backward()
        optimizer.step()
    """,
    "a minimum that is always the other": """
    w = torch.nn.Parameter(torch.full((3,), 9.0))
    v = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([v, w], lr=0.1)
    for step in range(4):
        c = torch.minimum(w, torch.ones(3))  # blocks
        optimizer.zero_grad()
        (c * v).sum().backward()
        optimizer.step()
    """,
    "a gate that is shut": """
    w = torch.nn.Parameter(torch.full((3,), -200.0))
    v = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([v, w], lr=0.1)
    for step in range(4):
        gate = torch.sigmoid(w)  # blocks
        optimizer.zero_grad()
        ((gate + 1) * v).sum().backward()
        optimizer.step()
    """,
    "softmax of one logit": """
    w = torch.nn.Parameter(torch.rand(3, 1))
    p = torch.softmax(torch.rand(4, 3) @ w, dim=1)  # blocks
    p.clamp(0.1, 0.9).sum().backward()
    """,
    "a layer norm of one feature": """
    w, norm = torch.nn.Parameter(torch.rand(3, 1)), torch.nn.LayerNorm(1, elementwise_affine=False)
    h = norm(torch.rand(4, 3) @ w)  # blocks
    (h - 1).pow(2).sum().backward()
    """,
    "softmax of one logit by a module": """
    w = torch.nn.Parameter(torch.rand(3, 1))
    softmax = torch.nn.LogSoftmax(-1)
    p = softmax(torch.rand(4, 3) @ w)  # blocks
    p.sum().backward()
    """,
    "a straight-through estimator without detach": """
    w = torch.nn.Parameter(torch.rand(3))
    h = w * 2
    q = h.round()
    y = h + (q - h)  # blocks
    y.sum().backward()
    """,
    "the same the other way round": """
    w = torch.nn.Parameter(torch.rand(3))
    h = w * 2
    y = torch.sign(h) - h + h  # blocks
    y.sum().backward()
    """,
    "what is taken away again on several lines": """
    w = torch.nn.Parameter(torch.rand(3))
    shifted = w + 2
    y = shifted - w  # blocks
    y.sum().backward()
    """,
    "a division that rounds": """
    w = torch.nn.Parameter(torch.rand(3))
    y = torch.div(w, 0.1, rounding_mode="floor")  # blocks
    y.sum().backward()
    """,
    "a backward that returns zeros": """
    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, v):
            return (x > 0) * v
        @staticmethod
        def backward(ctx, gradient):
            nothing = torch.zeros_like(gradient)
            return nothing, gradient.sum()  # blocks
    w, v = torch.nn.Parameter(torch.rand(3)), torch.nn.Parameter(torch.ones(()))
    Step.apply(w * 2, v).sum().backward()
    """,
    "cross entropy of one class": """
    w = torch.nn.Parameter(torch.rand(3, 1))
    loss = torch.nn.functional.cross_entropy(torch.rand(4, 3) @ w, torch.zeros(4, dtype=torch.long))  # blocks
    loss.backward()
    """,
}

OPEN = {
    "softmax over the other dimension": BLOCKED["softmax of one logit"].replace("dim=1", "dim=0"),
    "softmax over a dimension that the call does not say": BLOCKED["softmax of one logit"]
    .replace("dim=1", "dim=d")
    .replace("    w =", "    d = 1\n    w ="),
    "a straight-through estimator": BLOCKED["rounding"].replace("h.round()", "h + (h.round() - h).detach()"),
    "a function of the program's that is called as torch's": """
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()
        @staticmethod
        def backward(ctx, gradient):
            return gradient
    w = torch.nn.Parameter(torch.rand(3))
    Round.apply(w * 2).sum().backward()
    """,
    "a backward that returns zeros for another argument": """
    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, v):
            return (x > 0) * v
        @staticmethod
        def backward(ctx, gradient):
            return gradient, torch.zeros_like(gradient)
    w, v = torch.nn.Parameter(torch.rand(3)), torch.ones(3)
    (Step.apply(w, v) * 0).sum().backward()
    """,
    "a straight-through estimator that is added to the end": """
    w = torch.nn.Parameter(torch.rand(3))
    h = w * 2
    y = h + h.round() - h.detach()
    y.sum().backward()
    """,
    "a difference whose other term has a derivative": """
    w = torch.nn.Parameter(torch.tensor([0.5]))
    h = w * 2
    y = h + (h.abs() - h)
    (y * 0).sum().backward()
    """,
    "two parts of one tensor": """
    w = torch.nn.Parameter(torch.rand(4))
    a, b = (w * 1).chunk(2)
    ((a - b) * 0).sum().backward()
    """,
    "twice as much taken away as added": """
    w = torch.nn.Parameter(torch.rand(3))
    h = w * 2
    y = h - torch.sub(h.round(), h, alpha=2)
    (y * 0).sum().backward()
    """,
    "a sample whose probability is used": """
    w = torch.nn.Parameter(torch.rand(3))
    x = torch.bernoulli(w)
    (x * w.log() + (1 - x) * (1 - w).log()).sum().backward()
    """,
    "a minimum of two that are trained": """
    w, v = torch.nn.Parameter(torch.full((3,), 9.0)), torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([v, w], lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        (torch.minimum(w, v) + 0 * w).sum().backward()
        optimizer.step()
    """,
    "one pass in which a clamp is on its bound": """
    w = torch.nn.Parameter(torch.full((3,), 9.0))
    w.clamp(-1, 1).sum().backward()
    """,
    "an adapter that starts at zero": """
    a, b = torch.nn.Parameter(torch.rand(2, 3)), torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.SGD([a, b], lr=0.1)
    for step in range(8):
        (torch.rand(4, 3) @ a.T @ b.T - 1).pow(2).sum().backward()
        if step % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
    """,
    "units that are dead in some passes": """
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(4):
        optimizer.zero_grad()
        (w * (1 if step == 2 else -1)).relu().sum().backward()
        optimizer.step()
    """,
}


def found(body: str) -> list[Answer]:
    answers = build(recorded(f"import torch\n{dedent(body)}")).answers
    return [answer for answer in answers if answer.code == "gradient-always-zero"]


@pytest.mark.parametrize("case", BLOCKED)
def test_what_blocks_every_way_is_named(case: str) -> None:
    lines = f"import torch\n{dedent(BLOCKED[case])}".split("\n")
    (answer,) = found(BLOCKED[case])
    assert {cause.line for cause in answer.causes} == {n for n, line in enumerate(lines, 1) if "# blocks" in line}
    assert answer.subject == "w"


@pytest.mark.parametrize("case", OPEN)
def test_what_leaves_a_way_or_may_change_is_not_reported(case: str) -> None:
    assert not found(OPEN[case])


SATURATED = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(
    nn.Linear(20, 2),
    nn.Softmax(dim=-1),
)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
x, y = torch.rand(6, 20) * 40_000, nn.functional.one_hot(torch.arange(6) % 2, 2).float()
for step in range(10):
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy(model(x), y).backward()
    optimizer.step()
"""


def test_a_softmax_that_gives_only_0_and_1_is_named_where_it_is_made() -> None:
    (answer,) = [one for one in build(recorded(SATURATED)).answers if one.severity == "warning"]
    assert answer.code == "gradient-always-zero"
    assert answer.causes[0].line == line_of(SATURATED, "nn.Softmax")
    assert "(all that it gave was 0 or 1)" in answer.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" * 40_000", ""),
        ("binary_cross_entropy(model(x)", "cross_entropy(model[0](x)"),
    ],
)
def test_a_softmax_with_a_derivative_is_not_blamed(old: str, new: str) -> None:
    source = SATURATED.replace(old, new)
    assert "gradient-always-zero" not in {one.code for one in build(recorded(source)).answers}


SPIKES = """
import torch
from torch import nn
torch.manual_seed(0)
class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()
    @staticmethod
    def backward(ctx, grad):
        v, = ctx.saved_tensors
        window = (v.abs() < 1e-6).float()  # computed
        return grad * window  # returned
first, second = nn.Linear(5, 20), nn.Linear(20, 2)
optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], 1e-2)
x, y = torch.randn(8, 5), torch.arange(8) % 2
for step in range(6):
    loss = nn.functional.cross_entropy(second(Spike.apply(first(x))), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_backward_that_computes_zeros_is_named() -> None:
    (answer,) = [one for one in build(recorded(SPIKES)).answers if one.severity == "warning"]
    assert (answer.code, answer.causes[0].line) == ("gradient-always-zero", line_of(SPIKES, "# returned"))
    assert "first.weight and first.bias" in answer.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("< 1e-6", "< 1.0"),
        ("second(Spike.apply(first(x)))", "second(Spike.apply(first(x)) + first(x))"),
        ("second(Spike.apply(first(x)))", "second(Spike.apply(first(x))) * (step == 4)"),
    ],
    ids=["some are not zero", "another way", "what comes in is zero"],
)
def test_a_backward_that_lets_gradients_pass_is_not_blamed(old: str, new: str) -> None:
    source = SPIKES.replace(old, new)
    assert "gradient-always-zero" not in {one.code for one in build(recorded(source)).answers}


RATIO = """
import torch
from torch import nn
torch.manual_seed(0)
class Batch:
    def __init__(self, tokens, logp=None):
        self.tokens, self.logp = tokens, logp
policy = nn.Linear(3, 4)
optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
def objective(policy, batch, gains):
    logp = policy(batch.tokens).log_softmax(1)[:, 0]
    {second}  # second
    ratio = (logp - {taken}).exp()  # ratio
    return -(ratio * gains).mean()
for step in range(4):
    batch = Batch(torch.rand(5, 3))
    loss = objective(policy, batch, torch.rand(5) - 0.5)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("second", "taken"),
    [
        ("old = logp", "old"),
        ("old = logp if batch.logp is None else batch.logp", "old"),
        ("old = batch.logp if batch.logp is not None else logp", "old"),
        ("old = batch.logp or logp", "old"),
        ("old = getattr(batch, 'old', logp)", "old"),
        ("old = vars(batch).get('old', logp)", "old"),
        ("batch.logp = logp", "batch.logp"),
        ("batch = Batch(batch.tokens, logp=logp)", "batch.logp"),
    ],
)
def test_the_line_that_gives_a_second_name_is_named_where_both_cancel(second: str, taken: str) -> None:
    source = RATIO.format(second=second, taken=taken)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "gradient-always-zero"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "# second"), line_of(source, "# ratio")]


@pytest.mark.parametrize("second", ["old = logp.detach() if batch.logp is None else batch.logp", "old = logp.detach()"])
def test_a_constant_beside_it_cancels_nothing(second: str) -> None:
    source = RATIO.format(second=second, taken="old")
    assert [one for one in build(recorded(source)).answers if one.code == "gradient-always-zero"] == []
