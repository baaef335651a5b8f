"""Why a backward pass gave a tensor no gradient: each row says it, or that it was not looked into."""

from __future__ import annotations

import pytest

from gradscope.analysis.facts import unreached
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import recorded

PLACES = 24
MANY_PLACES = (
    "import torch\nw, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)\n"
    + "(w.detach() * v).sum().backward()\n" * PLACES
    + "print(w.grad)\n"
)


def reasons(report: Report, name: str) -> list[str]:
    """Why each place with backward passes gave a tensor no gradient, as its rows say."""
    return [row.why for one in report.backwards for row in one.gradients if row.name == name]


def test_each_of_many_places_says_why() -> None:
    report = build(recorded(MANY_PLACES))
    assert reasons(report, "w") == [f"cut at line {line} by Tensor.detach" for line in range(3, 3 + PLACES)]
    (none,) = [answer for answer in report.answers if answer.code == "grad-none-unreached"]
    assert f"cut at line {2 + PLACES} by Tensor.detach" in none.text


def test_what_would_cost_too_much_is_said_not_to_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreached, "WALKED_IN_ALL", 12)
    report = build(recorded(MANY_PLACES.replace("print(w.grad)\n", "")))
    why = reasons(report, "w")
    assert why[0] == "cut at line 3 by Tensor.detach"
    assert len(why) == PLACES
    assert why[-1].startswith("not looked into")
    assert not any("not looked into" in answer.text for answer in report.answers)
