"""Activation checkpointing: what is said of a function that backward runs again, and what is not."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """\
import torch
from torch.utils.checkpoint import checkpoint
norm, x = torch.nn.BatchNorm1d(3), torch.randn(4, 3, requires_grad=True)
def normed(x):
    return norm(x).exp()
def dropped(x, training=True):
    return torch.nn.functional.dropout(x.exp(), 0.5, training).exp()
"""


def codes(program: str) -> dict[str, list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.code.startswith("checkpoint")}


def test_the_line_that_checkpoints_is_named() -> None:
    twice = codes("y = checkpoint(normed, x, use_reentrant=False)\ny.sum().backward()")
    assert twice == {"checkpoint-updates-twice": [8]}
    anew = codes("y = checkpoint(dropped, x, use_reentrant=False, preserve_rng_state=False)\ny.sum().backward()")
    assert anew == {"checkpoint-draws-anew": [8]}


@pytest.mark.parametrize(
    "program",
    [
        "checkpoint(normed, x, use_reentrant=False)",
        "norm.eval()\ncheckpoint(normed, x, use_reentrant=False).sum().backward()",
        "with torch.no_grad():\n    checkpoint(normed, x, use_reentrant=False)\nnormed(x).sum().backward()",
        "checkpoint(dropped, x, use_reentrant=False).sum().backward()",
        "checkpoint(dropped, x, False, use_reentrant=False, preserve_rng_state=False).sum().backward()",
    ],
    ids=["no-backward", "evaluation", "no-grad", "state-kept", "nothing-dropped"],
)
def test_healthy_checkpoints_are_left_alone(program: str) -> None:
    assert codes(program) == {}


def test_layers_of_torch_that_are_checkpointed_as_they_are_are_seen() -> None:
    program = (
        "net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 3))\n"
        "checkpoint(net, x, use_reentrant=False, preserve_rng_state=False).sum().backward()"
    )
    assert codes(program) == {"checkpoint-draws-anew": [9]}
