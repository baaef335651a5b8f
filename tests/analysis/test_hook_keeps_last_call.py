"""Forward hooks that keep something of their module for a backward hook, in one place for all calls or in one each."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.called_by_torch.slots_of_hooks import slot_of_hooks
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
    def forward(self, a, b):
        return {forward}
class Factors:
    def __init__(self, layer):
        self.inputs, self.factors = {{}}, []
        layer.register_forward_pre_hook(self.before)
        layer.register_full_backward_hook(self.after)
        layer.inp = []
    def before(self, module, args):
        {keep}  # kept
    def after(self, mod, grad_input, grad_output):
        self.factors.append(grad_output[0].T @ {read})
net = Twice()
factors, optimizer = Factors(net.layer), torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    a, b = torch.randn(5, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    optimizer.zero_grad()
    net(a, b).pow(2).sum().backward()
    optimizer.step()
"""
TWICE = "self.layer(a) - self.layer(b)"
LOOP = "sum(self.layer(x) for x in (a, b, a + b))"


def causes(forward: str, keep: str, read: str) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(forward=forward, keep=keep, read=read))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "hook-keeps-last-call"]


@pytest.mark.parametrize("forward", [TWICE, LOOP])
@pytest.mark.parametrize(
    ("keep", "read"),
    [
        ("module.inp = args[0].detach()", "mod.inp"),
        ("self.inputs[module] = args[0]", "self.inputs[mod]"),
    ],
)
def test_one_place_for_several_calls(forward: str, keep: str, read: str) -> None:
    ((kept, _),) = causes(forward, keep, read)
    assert kept == line_of(PROGRAM, "# kept")


@pytest.mark.parametrize(
    ("forward", "keep", "read"),
    [
        ("self.layer(a) - b[:, :3]", "module.inp = args[0].detach()", "mod.inp"),
        ("(self.layer(a), self.layer(b).detach())[0]", "module.inp = args[0].detach()", "mod.inp"),
        (TWICE, "module.inp.append(args[0].detach())", "mod.inp.pop()"),
        (TWICE, "module.inp = module.inp + [args[0].detach()]", "mod.inp[0]"),
        ("self.layer(a) - self.layer(a)", "module.inp = args[0].detach()", "mod.inp"),
        (TWICE, "module.rows = len(args[0])", "torch.ones(mod.rows, 4)"),
        (TWICE, "module.scale = 2.0", "(args := torch.ones(5, 4))"),
    ],
)
def test_one_call_or_a_list_of_all_is_silent(forward: str, keep: str, read: str) -> None:
    assert causes(forward, keep, read) == []


def test_places_that_differ_from_call_to_call_or_are_of_the_first_are_none() -> None:
    def found(keep: str, read: str) -> bool:
        text = f"def f(module, args, out):\n    {keep}\ndef b(module, given, grads):\n    {read}\n"
        return slot_of_hooks((text, 1), (text, text.splitlines().index("def b(module, given, grads):") + 1)) is not None

    assert found("kept[module] = out", "use(kept[module])")
    assert not found("kept[state.call] = out; state.call += 1", "use(kept[state.call])")
    assert not found("kept[state.call] = out", "state.call -= 1; use(kept[state.call])")
    assert not found("if module not in kept:\n        kept[module] = out", "use(kept[module])")
    assert not found("kept[module] = out", "use(other[module])")
