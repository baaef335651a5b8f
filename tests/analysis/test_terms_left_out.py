"""Terms of an energy that were computed from the positions without a graph, where forces are asked of the whole."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ENERGY = """import torch
from torch import nn
pair, angle = (nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)) for _ in range(2))
opt = torch.optim.Adam([*pair.parameters(), *angle.parameters()])
def energy_of(pos):
    energy = pair((pos[:2] - pos[2:]).norm(dim=1, keepdim=True)).sum()
    with torch.no_grad():  # cuts
        cosine = (pos[0] * pos[1]).sum() / (pos[0].norm() * pos[1].norm())
    return energy + angle(cosine.view(1, 1)).sum()
for step in range(3):
    pos = torch.randn(4, 3).requires_grad_()
    energy = energy_of(pos)
    (slope,) = torch.autograd.grad(energy, pos, create_graph=True)
    loss = (-slope - 1).pow(2).mean() + energy.pow(2)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
BLOCK = ENERGY[ENERGY.index("    with torch.no_grad()") : ENERGY.index("    return")]
TERM = "angle(cosine.view(1, 1)).sum()"
DETACHED = """    cosine = (pos[0] * pos[1]).sum() / (pos[0].norm() * pos[1].norm())
    cosine = cosine.detach()  # cuts
"""
NUMPY = """    import numpy as np
    p = pos.detach().numpy()  # cuts
    cosine = torch.tensor(p[0] @ p[1] / (np.linalg.norm(p[0]) * np.linalg.norm(p[1])))
"""
TRAINING = ENERGY[ENERGY.index("    loss =") :]


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("torch.no_grad()", "torch.inference_mode(False), torch.no_grad()"),
        (BLOCK, DETACHED),
        (BLOCK, NUMPY),
        (f"energy + {TERM}", f"sum([energy, {TERM}])"),
        (f"energy + {TERM}", f"torch.stack([energy, {TERM}]).sum()"),
        (f"energy + {TERM}", f"torch.ones(1) * (energy + {TERM})"),
        (f"energy + {TERM}", f"torch.zeros(1).index_add(0, torch.tensor([0, 0]), torch.stack([energy, {TERM}])).sum()"),
        (f"energy + {TERM}", f"(energy + {TERM}) - 3"),
        (TERM, "0.5 * (cosine + 0.3).pow(2)"),
        (TRAINING, "    pos = pos.detach() - 0.1 * slope\n"),
        (
            "(slope,) = torch.autograd.grad(energy, pos, create_graph=True)\n" + TRAINING,
            "energy.backward()\n    pos = pos.detach() - 0.1 * pos.grad\n",
        ),
    ],
)
def test_what_cuts_the_term_off_is_the_cause(old: str, new: str) -> None:
    assert old in ENERGY
    source = ENERGY.replace(old, new, 1)
    assert lines(source) == [line_of(source, "# cuts")]


def test_a_number_in_the_sum_is_one() -> None:
    source = ENERGY.replace("with torch.no_grad():  # cuts", "if True:").replace(
        TERM, "0.5 * (cosine + 0.3).pow(2).item()"
    )
    assert lines(source) == [line_of(source, ".item()")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.no_grad()", "torch.enable_grad()"),
        ("cosine = (pos[0] * pos[1]).sum()", "cosine = (pos.norm(dim=1) < 1).sum()"),  # a count has no derivative
        ("cosine = (pos[0] * pos[1]).sum() / (pos[0].norm() * pos[1].norm())", "cosine = torch.ones(1)"),
        (f"energy + {TERM}", f"energy - {TERM}"),  # a baseline
        (f"energy + {TERM}", "(energy - cosine).exp().log() + cosine"),  # the largest of a logsumexp
        (f"energy + {TERM}", f"energy * cosine + {TERM}"),  # solved for: the energy is stationary in it
        (f"energy + {TERM}", "energy + (-energy.detach()).min()"),  # an offset
        (f"energy + {TERM}", "energy + 2 * energy.exp().item()"),
        ("range(3)", "range(1)"),
        (
            "(-slope - 1)",
            "(-slope - torch.cat([pos[1:2].detach() * 3, pos[:1].detach(), pos[2:].detach()]) * 2 - 1)",
        ),  # (its derivative is added)
    ],
)
def test_terms_that_are_constants_on_purpose_are_none(old: str, new: str) -> None:
    assert old in ENERGY
    assert lines(ENERGY.replace(old, new, 1)) == []


@pytest.mark.parametrize("shown", ["x.round()", "x.clamp(0, 1)"])
def test_a_straight_through_estimate_is_none(shown: str) -> None:
    source = f"""import torch
net = torch.nn.Linear(3, 1)
for step in range(3):
    x = torch.randn(4, 3).requires_grad_()
    y = x + ({shown} - x).detach()
    (slope,) = torch.autograd.grad(y.sum() + net(x).sum(), x)
"""
    assert lines(source) == []
