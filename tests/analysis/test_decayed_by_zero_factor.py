"""A part of the loss with the weight 0, and decay meanwhile: said where it shrinks layers, silent where it does not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
trunk, main, aux = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
class Settings: weight = 0.0
optimizer = torch.optim.{optimizer}  # made
for step in range({steps}):
    hidden = trunk(torch.randn(8, 3)).tanh()
    first, second = main(hidden).pow(2).mean(), (aux(hidden) - 1).pow(2).mean()
    weight = {weight}
    loss = {loss}  # sum
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
ALL = "[*trunk.parameters(), *main.parameters(), *aux.parameters()]"
DECAY = f"AdamW({ALL}, lr=0.1, weight_decay=0.1)"


def causes(
    loss: str = "first + weight * second",
    weight: str = "0.0 if step < 15 else 0.5",
    optimizer: str = DECAY,
    steps: int = 20,
) -> tuple[list[int], str]:
    source = PROGRAM.format(optimizer=optimizer, weight=weight, loss=loss, steps=steps)
    answers = [one for one in build(recorded(source)).answers if one.code == "decayed-though-zeroed"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"weight": "max(0.0, (step - 12) / 10)"},
        {"weight": "Settings.weight"},
        {"weight": "torch.tensor(0.0)"},
        {"loss": "second * weight + first"},
        {"loss": "sum(w * part for w, part in ((1.0, first), (weight, second)))"},
        {"optimizer": f"Adam({ALL}, weight_decay=0.01)"},
        {"optimizer": f"SGD({ALL}, lr=0.1, weight_decay=0.1)"},
    ],
)
def test_what_a_weight_of_zero_leaves_to_decay(given: dict[str, str]) -> None:
    found, source = causes(**given)  # type: ignore[arg-type]
    assert found == [line_of(source, "# sum"), line_of(source, "# made")]


@pytest.mark.parametrize(
    "given",
    [
        {"loss": "first + weight * second if weight else first"},
        {"loss": "first + 0.0 * second"},
        {"loss": "first + 0 * sum(p.sum() for p in aux.parameters())"},
        {"weight": "0.01"},
        {"weight": "0.0 if step < 2 else 0.5"},
        {"optimizer": f"AdamW({ALL}, lr=0.05, weight_decay=0.0)"},
        {"optimizer": f"AdamW({ALL}, lr=0.01)"},
        {"loss": "first + weight * second + 0.1 * aux(hidden).mean()"},
        {"steps": 4},
    ],
)
def test_what_is_left_out_or_written_so_or_hardly_changes_is_none(given: dict[str, object]) -> None:
    assert causes(**given)[0] == []  # type: ignore[arg-type]
