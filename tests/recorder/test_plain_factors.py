"""The plain numbers that arithmetic without gradients is given."""

from __future__ import annotations

import json

import pytest

from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded


def factors(call: str) -> list[float]:
    recording = recorded(
        f"import torch\na, b = torch.ones(2), torch.ones(2)\nw = torch.ones(2, requires_grad=True)\n{call}"
    )
    rows = [row for row in recording.events if row.kind == EventKind.FACTOR]
    assert all(row.subject == len(recording.ops) - 1 for row in rows)
    return [json.loads(recording.text(row.detail))["by"] for row in rows]


@pytest.mark.parametrize(
    ("call", "by"),
    [
        ("a.mul_(0.5)", [0.5]),
        ("0.5 * a", [0.5]),
        ("a.add_(b, alpha=2)", [2.0]),
        ("a.lerp_(b, 0.25)", [0.25]),
        ("torch.lerp(a, b, weight=0.25)", [0.25]),
        ("a + b", []),
        ("a.lerp(b, a)", []),
        ("w * 0.5", []),
    ],
)
def test_a_factor_is_noted_of_calls_that_need_no_gradients(call: str, by: list[float]):
    assert factors(call) == by
