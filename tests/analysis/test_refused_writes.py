"""Writes in place that raise at once, and tensors from inference mode: which line is to change."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = "import torch\np = torch.ones(3, 2, requires_grad=True)\n"
CODES = {"inplace-refused", "inference-tensor"}


def said(program: str) -> list[tuple[str, str, list[int]]]:
    answers = build(recorded(HEAD + program)).answers
    return [(one.code, one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("program", "code", "lines"),
    [
        ("p.mul_(2)", "inplace-refused", [3]),
        ("v = p[0]\nv += 1", "inplace-refused", [4]),
        ("a, b, c = (p * 2).unbind()\na += 1", "inplace-refused", [4]),
        ("e = torch.ones(1, 2).expand(3, 2)\ne += 1", "inplace-refused", [3, 4]),
        ("h = p * 2\nwith torch.no_grad():\n    v = h[0]\nv += 1", "inplace-refused", [5, 4, 6]),
        ("with torch.inference_mode():\n    t = torch.ones(2)\nt.add_(1)", "inference-tensor", [3]),
        ("@torch.inference_mode()\ndef f():\n    return torch.ones(2)\n(p * f()).sum()", "inference-tensor", [3]),
    ],
)
def test_the_line_to_change_is_named(program: str, code: str, lines: list[int]) -> None:
    assert said(program) == [(code, "problem", lines)]


def test_an_error_that_was_caught_is_a_note() -> None:
    caught = "try:\n    p.mul_(2)\nexcept RuntimeError:\n    pass"
    assert said(caught) == [("inplace-refused", "note", [4])]
