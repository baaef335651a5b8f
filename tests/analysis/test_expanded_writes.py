"""Writes to parts of expanded tensors: told where several parts are one memory, and only there."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded("import torch\n" + source)).answers if answer.code == CODE]


CODE = "write-into-expanded"
SHARED = {
    "a row, added to": """
def masks(n):
    return torch.zeros(4).expand(n, 4)  # expands
rows = masks(5)
rows[0] += 1  # writes
print(rows)
""",
    "an element, set": """
table = torch.broadcast_to(torch.zeros(3, 1), (3, 5))  # expands
table[1, 2] = 7  # writes
print(table)
""",
}


@pytest.mark.parametrize("case", SHARED)
def test_the_line_that_expands_is_the_cause_with_the_write_beside_it(case: str) -> None:
    source = "import torch\n" + SHARED[case]
    answers = found(SHARED[case])
    assert answers
    for answer in answers:
        assert [cause.line for cause in answer.causes] == [line_of(source, "# expands"), line_of(source, "# writes")]
        assert "5 parts" in answer.text


APART = {
    "a copy": "rows = torch.zeros(4).expand(5, 4).clone()\nrows[0] += 1\n",
    "one row": "rows = torch.zeros(4).expand(1, 4)\nrows[0] += 1\n",
    "what it was expanded from": "row = torch.zeros(4)\nrows = row.expand(5, 4)\nrow += 1\n",
    "a result of it": "rows = torch.zeros(4).expand(5, 4) * 2\nrows[0] += 1\n",
}


@pytest.mark.parametrize("case", APART)
def test_parts_with_memory_of_their_own_are_left_alone(case: str) -> None:
    assert found(APART[case]) == []
