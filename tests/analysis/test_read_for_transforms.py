"""Leaves that torch.func.vmap wraps: where it is given them is known, what its function does with them is not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

GIVEN = """
import torch
w, rows = torch.ones(3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
other = torch.ones(4, 3, requires_grad=True)
xs = torch.ones(4, 3)
{}
y.sum().backward()
print(rows.grad)
"""
FORMS = {
    "a function": "def f(x, row):\n    return (x * w).sum() + (row.detach() * x).sum()\n"
    "y = torch.vmap(f)(xs, rows)  # given",
    "a lambda": "y = torch.vmap(lambda x, row: (x * w).sum() + (row.detach() * x).sum())(xs, rows)  # given",
}


@pytest.mark.parametrize("form", FORMS)
def test_the_line_that_gives_it_to_a_transform_is_named(form: str) -> None:
    source = GIVEN.format(FORMS[form])
    told = [one.text for one in build(recorded(source)).answers if "rows" in one.text]
    assert told and all(f"line {line_of(source, '# given')} reads it" in text for text in told)
    unused = [one.text for one in build(recorded(source)).answers if "other" in one.text]
    assert unused and all("no call was seen to use it" in text for text in unused)
