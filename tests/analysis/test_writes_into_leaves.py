"""Inner steps of meta learning that are written into leaves in place: no gradient comes to what decided on them."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

HYPER = """
import torch
from torch import nn
torch.manual_seed(0)
model, rate = nn.Linear(4, 1), nn.Parameter(torch.tensor(0.1))
outer = torch.optim.Adam([rate], lr=0.01)
for _ in range(4):
    loss = model(torch.randn(8, 4)).square().mean()
    grads = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    with torch.no_grad():
        for p, g in zip(model.parameters(), grads):
            p.copy_(p - rate * g)  # writes
    held_out = model(torch.randn(8, 4)).square().mean()
    outer.zero_grad()
    held_out.backward()
    outer.step()
"""

GENERATED = """
import torch
from torch import nn
torch.manual_seed(0)
target, hyper = nn.Linear(4, 3), nn.Linear(2, 15)
outer = torch.optim.Adam(hyper.parameters(), lr=0.01)
for _ in range(4):
    flat = hyper(torch.randn(2))
    WRITE
    loss = target(torch.randn(8, 4)).square().mean()
    outer.zero_grad()
    loss.backward()
    outer.step()
"""

COPIED = """
import torch
from torch import nn
torch.manual_seed(0)
meta = nn.Linear(4, 1)
start = meta.weight.detach().clone()
outer = torch.optim.Adam(meta.parameters(), lr=0.01)
for _ in range(5):
    fast = nn.Linear(4, 1)
    fast.load_state_dict(meta.state_dict())  # copies
    loss = fast(torch.randn(8, 4)).square().mean()
    grads = torch.autograd.grad(loss, list(fast.parameters()))
    for p, g in zip(fast.parameters(), grads):
        p.data = p.data - 0.1 * g
    held_out = fast(torch.randn(8, 4)).square().mean()
    outer.zero_grad()
    held_out.backward()
    outer.step()
"""


def unreached(source: str) -> list[Answer]:
    answers = build(recorded(source)).answers
    return [one for one in answers if one.code == "leaf-unreached" and one.severity != "note"]


@pytest.mark.parametrize(
    "write", ["p.copy_(p - rate * g)", "p.sub_(rate * g)", "p -= rate * g", "p.data.sub_(rate * g)"]
)
def test_a_rate_that_is_learned_through_steps_in_place_has_no_gradient(write: str) -> None:
    source = HYPER.replace("p.copy_(p - rate * g)", write)
    (answer,) = unreached(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# writes")]
    assert "what was computed from it into" in answer.text


def test_a_rate_that_is_learned_through_a_graph_has_its_gradient() -> None:
    source = HYPER.replace("    with torch.no_grad():\n        for", "    fast = []\n    for").replace(
        "            p.copy_(p - rate * g)", "        fast.append(p - rate * g)"
    )
    assert unreached(source.replace("held_out = model(torch.randn(8, 4))", "held_out = (fast[0] + fast[1])")) == []


def test_a_leaf_that_no_optimizer_holds_may_be_meant_to_have_none() -> None:
    source = HYPER.replace("outer = torch.optim.Adam([rate]", "outer = torch.optim.Adam(model.parameters()")
    assert not any("past the graph" in one.text for one in unreached(source))


@pytest.mark.parametrize(
    "write",
    [
        "nn.utils.vector_to_parameters(flat, target.parameters())",
        "target.weight.data = flat[:12].view(3, 4); target.bias.data = flat[12:]",
        "target.load_state_dict(dict(weight=flat[:12].view(3, 4), bias=flat[12:]))",
        "torch.no_grad().__enter__(); target.weight.copy_(flat[:12].view(3, 4)); torch.set_grad_enabled(True)",
    ],
)
def test_weights_that_a_network_generates_are_written_past_its_graph(write: str) -> None:
    source = GENERATED.replace("WRITE", f"{write}  # writes")
    (answer,) = unreached(source)
    assert answer.causes[0].line == line_of(source, "# writes")


def test_a_write_after_the_loss_was_computed_is_not_why() -> None:
    source = GENERATED.replace("    WRITE\n", "").replace(
        "    outer.zero_grad()", "    target.weight.data = flat[:12].view(3, 4)\n    outer.zero_grad()"
    )
    assert not any("past the graph" in one.text for one in unreached(source))


@pytest.mark.parametrize(
    "copy",
    [
        "fast.load_state_dict(meta.state_dict())",
        "fast.load_state_dict({k: v.clone() for k, v in meta.state_dict().items()})",
        "[p.data.copy_(q.data) for p, q in zip(fast.parameters(), meta.parameters())]",
        "fast = __import__('copy').deepcopy(meta)",
    ],
)
def test_weights_of_which_a_copy_alone_is_used_get_nothing_though_a_snapshot_was_taken(copy: str) -> None:
    source = COPIED.replace("fast.load_state_dict(meta.state_dict())", copy)
    (answer,) = unreached(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# copies")]
    assert "5 steps of the Adam" in answer.text


@pytest.mark.parametrize(
    "given",
    [
        # the gradients of the adapted weights are put over, or the difference to them is taken for one
        "for p, q in zip(meta.parameters(), fast.parameters()):\n        p.grad = q.grad.clone()",
        "for p, q in zip(meta.parameters(), fast.parameters()):\n        p.grad = (p - q).detach()",
    ],
)
def test_weights_that_are_given_their_gradients_by_hand_are_trained(given: str) -> None:
    assert unreached(COPIED.replace("    outer.step()", f"    {given}\n    outer.step()")) == []


def test_weights_that_are_moved_towards_the_adapted_ones_are_trained() -> None:
    moved = "for p, q in zip(meta.parameters(), fast.parameters()):\n        p.data.lerp_(q.data, 0.1)"
    assert unreached(COPIED.replace("    outer.step()", f"    outer.step()\n    {moved}")) == []
