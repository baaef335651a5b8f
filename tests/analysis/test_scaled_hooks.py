"""Hooks that limit gradients of a scaled loss: said where the limit holds for the scaled ones, silent elsewhere."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
layer, SCALE = nn.Linear(4, 2), 2.0**14
scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, enabled={enabled})
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
def limit(grad):
    {limit}  # limit
for p in layer.parameters():
    {register}  # register
for step in range(6):
    optimizer.zero_grad()
    loss = (layer(torch.randn(8, 4)) - 1).pow(2).mean()
    {backward}
    scaler.step(optimizer)
    scaler.update()
"""


def causes(
    limit: str = "return grad.clamp(-0.5, 0.5)",
    register: str = "p.register_hook(limit)",
    enabled: bool = True,
    backward: str = "scaler.scale(loss).backward()",
) -> tuple[list[int], str]:
    source = PROGRAM.format(limit=limit, register=register, enabled=enabled, backward=backward)
    answers = [one for one in build(recorded(source)).answers if one.code == "scaled-gradients-clipped"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize(
    "limit",
    [
        "return grad.clamp(-0.5, 0.5)",
        "return torch.clip(grad, min=-0.5, max=0.5)",
        "grad.clamp_(-0.5, 0.5)",
        "return grad * (0.5 / grad.norm().clamp(min=0.5))",
        "return grad / max(1.0, grad.norm().item() / 0.5)",
    ],
)
def test_a_hook_that_limits_what_is_still_scaled(limit: str) -> None:
    found, source = causes(limit)
    assert found == [line_of(source, "# limit"), line_of(source, "# register")]


@pytest.mark.parametrize(
    "register",
    [
        "p.register_hook(lambda g: g.clamp(-0.5, 0.5))",
        "p.register_post_accumulate_grad_hook(lambda p: [p.grad.clamp_(-0.5, 0.5)] and None)",
    ],
)
def test_it_is_found_in_lambdas(register: str) -> None:
    found, source = causes(register=register)
    assert found == [line_of(source, "# register")]


@pytest.mark.parametrize(
    "given",
    [
        {"limit": "return grad.clamp(-0.5 * SCALE, 0.5 * SCALE)"},
        {"limit": "return (grad / SCALE).clamp(-0.5, 0.5) * SCALE"},
        {"limit": "return grad * 0.5"},
        {"limit": "return grad.clamp(-1e6, 1e6)"},
        {"limit": "return torch.nan_to_num(grad)"},
        {"register": "p.register_hook(lambda g, b=0.0001 * scaler.get_scale(): g.clamp(-b, b))"},
        {"enabled": False},
        {"backward": "loss.backward()"},
    ],
)
def test_limits_of_what_is_not_scaled_or_that_know_the_scale_are_none(given: dict[str, str]) -> None:
    assert causes(**given)[0] == []  # type: ignore[arg-type]
