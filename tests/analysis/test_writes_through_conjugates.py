"""In-place arithmetic on conjugates of what stays: the conjugate is a view of it, which the next run takes again."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
pulse = torch.exp(1j * torch.arange(8.0))
taper = torch.linspace(0.5, 1, 8)
w = torch.ones(8, dtype=torch.complex64, requires_grad=True)
for step in range(3):
    spectrum = torch.randn(8, dtype=torch.complex64)
    reference = pulse.conj()
    reference *= taper  # here
    (spectrum * reference * w).abs().sum().backward()
"""


def warned(source: str) -> list[Answer]:
    found = build(recorded(source)).answers
    return [one for one in found if one.code == "write-through-alias" and one.severity == "warning"]


@pytest.mark.parametrize("call", ["reference *= taper", "reference.mul_(taper)", "reference.div_(taper)"])
def test_what_is_written_again_in_each_run(call: str) -> None:
    (answer,) = warned(PROGRAM.replace("reference *= taper", call))
    assert [one.line for one in answer.causes] == [line_of(PROGRAM, "# here"), line_of(PROGRAM, "pulse.conj()")]
    assert "pulse" in answer.text


HEALTHY = {
    "out of place": ("reference *= taper", "reference = reference * taper"),
    "a copy": ("pulse.conj()", "pulse.conj().clone()"),
    "resolved": ("pulse.conj()", "pulse.conj_physical()"),
    "of what each run makes": ("pulse.conj()", "spectrum.conj()"),
    "filled": ("reference *= taper", "reference.copy_(taper)"),
    "once": ("range(3)", "range(1)"),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_is_not_written_again(case: str) -> None:
    old, new = HEALTHY[case]
    assert old in PROGRAM
    assert warned(PROGRAM.replace(old, new)) == []
