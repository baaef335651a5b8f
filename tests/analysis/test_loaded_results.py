"""Step sizes and other leaves whose only way to the loss was a ``load_state_dict`` of what was computed from them."""

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

ADAPTED = """
import torch
net, rate = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.zeros(()))
optimizer = torch.optim.SGD([*net.parameters(), rate], lr=0.1)
def adapted():
    grads = torch.autograd.grad(net(torch.ones(2, 3)).square().mean(), list(net.parameters()), create_graph=True)
    return {name: p - rate.exp() * g for (name, p), g in zip(net.named_parameters(), grads)}
for _ in range(3):
    optimizer.zero_grad()
    net.load_state_dict(adapted())  # loads
    net(torch.ones(2, 3)).square().mean().backward()
    optimizer.step()
"""
FUNCTIONAL = ADAPTED.replace("net.load_state_dict(adapted())  # loads\n", "fast = adapted()\n").replace(
    "net(torch.ones(2, 3)).square().mean().backward()",
    "torch.func.functional_call(net, fast, (torch.ones(2, 3),)).square().mean().backward()",
)
AVERAGED = """
import torch
net, slow = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD([*net.parameters(), *slow.parameters()], lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    (net(torch.ones(2, 3)) - slow(torch.ones(2, 3)).detach()).square().mean().backward()
    optimizer.step()
    slow.load_state_dict({n: 0.9 * p + 0.1 * q for (n, p), q in zip(slow.named_parameters(), net.parameters())})
"""


def warned(source: str) -> list[Answer]:
    answers = build(recorded(source)).answers
    return [one for one in answers if one.code == "leaf-unreached" and one.severity == "warning"]


def test_the_load_of_values_with_a_graph_is_what_keeps_the_gradient_away() -> None:
    (answer,) = warned(ADAPTED)
    assert "gave rate no gradient" in answer.text
    assert [cause.line for cause in answer.causes] == [line_of(ADAPTED, "# loads")]
    assert warned(FUNCTIONAL) == []


def test_an_average_that_is_loaded_into_what_it_was_made_of_is_no_way_for_a_gradient() -> None:
    assert not any("load_state_dict" in answer.text for answer in build(recorded(AVERAGED)).answers)
