"""Weight decay and gradients that a hook makes zero: said where it moves them, silent where nothing is to stay."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
table, other = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.ones(3))
free = torch.ones(4, 1)
free[:2] = 0
held, old = free[:, 0] == 0, table.detach().clone()
{before}
def hold(grad):
    {hold}
table.register_hook(hold)
optimizer = torch.optim.{optimizer}  # made
for step in range(9):
    optimizer.zero_grad()
    ((table * torch.randn(4, 2)).sum() + other.sum()).backward()
    optimizer.step()
    {after}
"""
ADAM, SGD = ("Adam([table, other], lr=0.1, weight_decay=0.1)", "SGD([table, other], lr=0.1, weight_decay=0.1)")
PRODUCT = "return grad * free"


def causes(
    hold: str = PRODUCT, optimizer: str = ADAM, before: str = "pass", after: str = "pass", hook: str = ""
) -> tuple[list[int], str]:
    hold = hold.replace("\n", "\n    ")
    source = PROGRAM.format(hold=hold, optimizer=optimizer, before=before, after=after)
    source = source.replace("table.register_hook(hold)", hook or "table.register_hook(hold)")
    answers = [one for one in build(recorded(source)).answers if one.code == "decayed-though-zeroed"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize("optimizer", [ADAM, SGD, ADAM.replace("Adam", "AdamW")])
@pytest.mark.parametrize(
    "hold",
    [
        PRODUCT,
        "grad = grad.clone()\ngrad[:2] = 0\nreturn grad",
        "return grad.masked_fill(held[:, None], 0.0)",
        "return torch.where(held[:, None], 0.0, grad)",
        "grad *= free",
        "return torch.zeros_like(grad)",
    ],
)
def test_what_a_hook_holds_still_is_moved_by_decay(hold: str, optimizer: str) -> None:
    found, source = causes(hold, optimizer)
    assert found == [line_of(source, "# made")]


@pytest.mark.parametrize(
    "hook",
    [
        "table.register_hook(lambda g: g * free)",
        "def mask(p):\n    p.grad.mul_(free)\ntable.register_post_accumulate_grad_hook(mask)",
    ],
)
def test_it_is_found_in_lambdas_and_in_hooks_of_what_was_accumulated(hook: str) -> None:
    found, source = causes(hook=hook)
    assert found == [line_of(source, "# made")]


def test_the_sentence_names_the_line_of_the_optimizer_and_no_other() -> None:
    source = causes()[1]
    (text,) = [one.text for one in build(recorded(source)).answers if one.code == "decayed-though-zeroed"]
    assert text.startswith(f"Line {line_of(source, '# made')}: this Adam has weight_decay=0.1, which also moves")
    assert text.count("ine ") == 1


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "Adam([table, other], lr=0.1)"},
        {"optimizer": "Adam([{'params': [table]}, {'params': [other], 'weight_decay': 0.1}], lr=0.1)"},
        {"before": "table.data[:2] = 0"},
        {"after": "table.data[held] = old[held]"},
        {"after": "with torch.no_grad(): table.copy_(torch.where(held[:, None], old, table))"},
        {"hold": "return grad * 0.5"},
        {"hold": "return grad * (torch.rand(4, 2) > 0.5)"},
        {"hold": "return grad.clamp(min=0.0)"},
        {"hold": "return grad * (grad.abs() > 0.5)"},
        {"hold": "pad = free\nreturn grad * pad"},
    ],
)
def test_what_does_not_move_or_is_not_held_is_none(given: dict[str, str]) -> None:
    assert causes(**given)[0] == []
