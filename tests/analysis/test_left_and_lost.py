"""Gradients that are left where they do harm, steps and writes that change nothing, data that changes as it is read."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.without_effect.writes_to_temporaries import temporaries_written
from tests.analysis.building import line_of, recorded


def causes(source: str, code: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == code]


ATTACK = """
import torch
from torch import nn
def attacked(model, x):
    x = x.clone().requires_grad_()
    loss = model(x).pow(2).sum()
    {attack}
    return (x + 0.1 * {gradient}.sign()).detach()
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    x = attacked(model, torch.ones(2, 3))
    {clear}
    model(x).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("attack", "gradient", "clear", "found"),
    [
        ("loss.backward()", "x.grad", "pass", [[6, 11]]),
        ("loss.backward()", "x.grad", "optimizer.zero_grad()", []),
        ("loss.backward(inputs=[x])", "x.grad", "pass", []),
        ("gradient, = torch.autograd.grad(loss, x)", "gradient", "pass", []),
        ("loss.backward(create_graph=True)", "x.grad", "pass", []),
        ("loss.backward()", "x", "pass", []),
    ],
)
def test_what_a_pass_for_an_input_leaves_in_the_weights(
    attack: str, gradient: str, clear: str, found: list[int]
) -> None:
    source = ATTACK.format(attack=attack, gradient=gradient, clear=clear)
    assert causes(source, "gradients-left-in-weights") == found


TOGETHER = """
import torch
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    x = torch.ones(2, 3, requires_grad=True)
    model(x).sum().backward()
    disturbed = x.detach() + 0.1 * x.grad.sign()
    model(disturbed).sum().backward()
    optimizer.step()
"""


def test_a_batch_and_its_disturbed_copy_may_be_trained_on_together() -> None:
    assert causes(TOGETHER, "gradients-left-in-weights") == []


STACKED = """
import torch
from torch.func import functional_call, stack_module_state, vmap
members = [torch.nn.Linear(3, 1) for _ in range(2)]
stacked, buffers = stack_module_state(members)
optimizer = torch.optim.SGD([{}], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    vmap(lambda p: functional_call(members[0], p, torch.ones(4, 3)))(stacked).pow(2).sum().backward()
    optimizer.step()
    {}
"""


@pytest.mark.parametrize(
    ("held", "update", "count"),
    [
        ("p for one in members for p in one.parameters()", "pass", 1),
        ("*stacked.values()", "pass", 0),
        ("members[0].weight", "for p in stacked.values(): p.data.sub_(0.1 * p.grad)", 0),
    ],
)
def test_an_optimizer_whose_parameters_never_had_a_gradient(held: str, update: str, count: int) -> None:
    assert len(causes(STACKED.format(held, update), "steps-without-gradients")) == count


CYCLE = """
import torch
def curvature(kept=[]):
    layer = torch.nn.Linear(3, 1)
    layer(torch.ones(2, 3)).pow(2).sum().backward(create_graph=True)
    second = torch.autograd.grad(layer.weight.grad.sum(), layer.weight)[0].sum().item()
    {}
    return second
print([curvature() for _ in range({})])
"""


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize(
    ("after", "rounds", "found"),
    [("pass", 3, [[4]]), ("layer.weight.grad = layer.bias.grad = None", 3, []), ("pass", 1, [])],
)
def test_parameters_that_only_their_gradients_keep(after: str, rounds: int, found: list[list[int]]) -> None:
    assert causes(CYCLE.format(after, rounds), "gradient-cycle") == found


ITEMS = """
import torch
class Signals:
    def __init__(self):
        self.x, self.seen = torch.ones(4, 3), torch.zeros(4)
    def __getitem__(self, i):
        self.seen[i] += 1
        x = self.x[i]{}
        return self.transform(x)
    def transform(self, x):
        x.{}
        return x
data = Signals()
for epoch in range({}): total = sum(data[i].sum() for i in range(4))
"""


@pytest.mark.parametrize(
    ("copy", "write", "epochs", "found"),
    [
        ("", "mul_(1 + 0.1 * torch.rand(3))", 3, [[10, 7]]),
        ("", "mul_(1.1)", 1, []),
        ("", "clamp_(0, 1)", 3, []),
        (".clone()", "mul_(1.1)", 3, []),
    ],
)
def test_items_that_are_changed_in_place(copy: str, write: str, epochs: int, found: list[list[int]]) -> None:
    assert causes(ITEMS.format(copy, write, epochs), "data-written-again") == found


LOST = """
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
x, mask, layer = torch.ones(4, 3), torch.tensor([True, False, True, False]), weight_norm(nn.Linear(3, 2))
with torch.no_grad():
    {}
print(x, layer(x))
"""


@pytest.mark.parametrize(
    ("statement", "is_lost"),
    [
        ("x[mask].zero_()", True),
        ("x[[0, 2]].add_(1)", True),
        ("x[mask][0] = 5", True),
        ("x.double().mul_(2)", True),
        ("nn.init.zeros_(layer.weight)", True),
        ("layer.weight.mul_(0.1)", True),
        ("x[0].zero_()", False),
        ("x[1:][0] = 5", False),
        ("x[mask] = 0", False),
        ("y = x[mask].zero_()", False),
        ("print(x[mask].zero_())", False),
        ("nn.init.zeros_(layer.bias)", False),
        ("torch.empty(3).uniform_()", False),
        ("layer.parametrizations.weight.original0.mul_(0.1)", False),
        ("x.detach().zero_()", False),
    ],
)
def test_writes_into_what_nothing_holds(statement: str, is_lost: bool) -> None:
    assert causes(LOST.format(statement), "write-lost") == ([[6]] if is_lost else [])


COMPUTED = """
import warnings
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
warnings.simplefilter("ignore")
class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T
def init(tensor):
    return tensor.data.normal_(0, 0.01)
layer = nn.Linear(3, 3)
{}
{}  # write
print(layer(torch.ones(2, 3)))
"""
NORMED = "layer = parametrizations.weight_norm(layer)"
WRITTEN = [
    "layer.weight.data.normal_(0, 0.01)",
    "layer.weight.data = torch.zeros(3, 3)",
    "layer.weight.data *= 2",
    "with torch.no_grad(): layer.weight[0] = 1",
    "with torch.no_grad(): w = layer.weight; w.mul_(2)",
    "[nn.init.normal_(m.weight.data) for m in [layer]]",
    "init(layer.weight)",
]


@pytest.mark.parametrize(
    ("made", "write"),
    [
        *((NORMED, write) for write in WRITTEN),
        ("layer = nn.utils.weight_norm(layer)", "layer.weight.data.normal_(0, 0.01)"),
        ("layer = nn.utils.weight_norm(layer); layer(torch.ones(2, 3))", "nn.init.normal_(layer.weight)"),
        ("prune.l1_unstructured(layer, 'weight', 0.3)", "layer.weight.data.normal_(0, 0.01)"),
        ("parametrize.register_parametrization(layer, 'weight', Symmetric())", "nn.init.normal_(layer.weight)"),
        ("parametrize.register_parametrization(layer, 'weight', Symmetric())", "layer.weight.data.fill_(1)"),
    ],
)
def test_what_is_written_into_a_weight_that_is_computed_anew(made: str, write: str) -> None:
    source = COMPUTED.format(made, write)
    line = line_of(source, "return tensor.data") if "init(layer" in write[:10] else line_of(source, "# write")
    assert causes(source, "write-lost") == [[line]]
    assert not causes(COMPUTED.format("pass", write), "write-lost")


@pytest.mark.parametrize(
    "write",
    [
        "layer.weight = torch.zeros(3, 3)",
        "layer.parametrizations.weight.original0.data.normal_()",
        "layer.bias.data.zero_()",
        "w = layer.weight.data; w.mul_(2)\nprint(w)",
        "w = layer.weight.data; w.mul_(2); layer.weight = w",
        "with torch.no_grad(): layer.weight += 1",
        "w = layer.weight.detach().clone(); w.mul_(2); print(w)",
        "with parametrize.cached(): layer.weight.data.mul_(2); layer(torch.ones(2, 3))",
    ],
)
def test_what_is_used_or_assigned_of_such_a_weight_is_not_lost(write: str) -> None:
    assert not causes(COMPUTED.format(NORMED, write), "write-lost")


def test_what_the_text_says_is_written() -> None:
    text = "nn.init.zeros_(layer.weight)\nx[mask].zero_()\nw.zero_()\ny = x[0].zero_()\nx[a][0] += 1\nf(x[0])\ng_()"
    assert temporaries_written(text) == {1: "layer.weight", 2: "x[mask]", 5: "x[a]"}


PENALTY = """
import torch
critic = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
def penalty():
    mixed = torch.rand(2, 3, requires_grad=True)
    out = critic(mixed).sum()
    {}
    return (gradient.norm() - 1) ** 2{}
for step in range(4):
    loss = critic(torch.ones(2, 3)).sum() + penalty()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
FILLED = "out.backward(create_graph=True); gradient = mixed.grad"


@pytest.mark.filterwarnings("ignore:Using backward")
@pytest.mark.parametrize(
    ("differentiated", "after", "found"),
    [
        (FILLED, "", [[7]]),
        (f"{FILLED}; mixed.grad = None", "", []),
        ("(gradient,) = torch.autograd.grad(out, mixed, create_graph=True)", "", []),
    ],
)
def test_inputs_that_only_their_gradients_keep(differentiated: str, after: str, found: list[list[int]]) -> None:
    assert causes(PENALTY.format(differentiated, after), "gradient-cycle") == found
