"""Norms of scaled gradients that decide whether a step is made: said where hardly one is, silent elsewhere."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
layer, SCALE = nn.Linear(4, 1), 2.0**14
params = list(layer.parameters())
scaler = torch.amp.GradScaler("cpu", init_scale=SCALE, enabled={enabled})
optimizer = torch.optim.SGD(params, lr=0.01)
def norm_of(params):
    return torch.stack([p.grad.norm() for p in params]).norm()
def make():
    scaler.step(optimizer)
    scaler.update()
for step in range(8):
    optimizer.zero_grad()
    loss = (layer(torch.randn(8, 4)) - 1).pow(2).mean()
    scaler.scale(loss).backward()
    {norm}
    {decide}
"""
NORM, IF_SMALL = "norm = norm_of(params)  # norm", "if norm < {}:\n        scaler.step(optimizer); scaler.update()"
IF_LARGE = "if norm > 20.0:\n        continue\n    scaler.step(optimizer); scaler.update()"
SMALL = IF_SMALL.format(20.0)


def causes(norm: str = NORM, decide: str = SMALL, enabled: bool = True) -> tuple[list[int], str]:
    source = PROGRAM.format(norm=norm.replace("\n", "\n    "), decide=decide, enabled=enabled)
    answers = [one for one in build(recorded(source)).answers if one.code == "scaled-gradients-clipped"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize("decide", [SMALL, IF_LARGE, SMALL.replace("20.0", "20.0 and step >= 0")])
@pytest.mark.parametrize(
    "norm",
    [
        NORM,
        "norm = norm_of(params).item()  # norm",
        "norm = torch.nn.utils.get_total_norm([p.grad for p in params])  # norm",
        "norm = torch.nn.utils.clip_grad_norm_(params, float('inf'))  # norm",
        "norm = max(p.grad.abs().max() for p in params)  # norm",
        "norm = sum(p.grad.pow(2).sum().item() for p in params) ** 0.5  # norm",
        "total = 0.0\nfor p in params:\n    total += p.grad.norm().item() ** 2  # norm\nnorm = total ** 0.5",
    ],
)
def test_a_norm_of_scaled_gradients_that_lets_no_step_by(norm: str, decide: str) -> None:
    found, source = causes(norm, decide)
    assert found == [line_of(source, "# norm")]


def test_it_is_found_in_the_condition_itself() -> None:
    found, source = causes("pass", SMALL.replace("norm <", "norm_of(params) <"))
    assert found == [line_of(source, "if norm_of")]


@pytest.mark.parametrize(
    "given",
    [
        {"norm": f"scaler.unscale_(optimizer)\n{NORM}", "decide": SMALL + "\n    else: scaler.update()"},
        {"norm": NORM.replace("  #", " / SCALE  #")},
        {"norm": f"{NORM}\nnorm = norm / scaler.get_scale()"},
        {"norm": f"factor = 1 / scaler.get_scale()\n{NORM}\nnorm = norm * factor"},
        {"norm": f"for p in params: p.grad.div_(scaler.get_scale())\n{NORM}"},
        {"norm": f"for p in params: p.grad = p.grad / scaler.get_scale()\n{NORM}"},
        {"decide": SMALL.replace("20.0", "20.0 * SCALE")},
        {"norm": f"limit = 1e-9 * SCALE\n{NORM}", "decide": SMALL.replace("20.0", "limit")},
        {"decide": SMALL.replace("20.0", "float('inf')")},
        {"decide": SMALL.replace("norm < 20.0", "torch.isfinite(norm)")},
        {"decide": SMALL.replace("20.0", "1e9")},
        {"decide": "if norm > 20.0: print('large')\n    make()"},
        {"decide": "if norm > 20.0: print('large')\n    if step == 7: scaler.step(optimizer); scaler.update()"},
        {"norm": "print([p.grad.norm() for p in params]); norm = loss.item()"},
        {"enabled": False},
    ],
)
def test_norms_that_know_the_scale_or_withhold_nothing_are_none(given: dict[str, str]) -> None:
    assert causes(**given)[0] == []  # type: ignore[arg-type]
