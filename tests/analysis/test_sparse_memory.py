"""A sparse tensor takes up what its own elements and their indices do, whatever others of its shape take up."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import line_of, recorded

INDEX = 8
"""Bytes of one index in one dimension."""
VALUE = 4
"""Bytes of a ``float32``."""


def gradient_bytes(report: Report) -> dict[str, int]:
    """What was created for each leaf in any of the passes."""
    return {row.name: row.nbytes for one in report.backwards for row in one.gradients if row.outcome == "created"}


TABLES = """
import torch
a = torch.nn.Embedding(100, 4, sparse={sparse})
b = torch.nn.Embedding(100, 4, sparse={sparse})
a(torch.arange({first})).sum().backward()
b(torch.arange({second})).sum().backward()
"""


@pytest.mark.parametrize(("first", "second"), [(2, 50), (50, 2), (3, 3)])
def test_sparse_gradients_of_one_shape_have_each_its_own_size(first: int, second: int) -> None:
    report = build(recorded(TABLES.format(sparse=True, first=first, second=second)))
    row = INDEX + 4 * VALUE
    assert gradient_bytes(report) == {"a.weight": first * row, "b.weight": second * row}
    assert report.memory.gradient_bytes == (first + second) * row


def test_dense_gradients_of_one_shape_have_one_size() -> None:
    report = build(recorded(TABLES.format(sparse=False, first=2, second=50)))
    assert gradient_bytes(report) == {"a.weight": 400 * VALUE, "b.weight": 400 * VALUE}


@pytest.mark.parametrize("order", ["dense, sparse", "sparse, dense"])
def test_a_sparse_tensor_is_not_taken_for_an_expanded_one_whose_strides_are_0_too(order: str) -> None:
    source = f"""
    import torch
    dense, sparse = torch.zeros(()).expand(100, 4), torch.eye(100, 4).to_sparse()
    assert dense.stride() == (0, 0)
    for one in ({order}):
        one.abs()
    """
    recording = recorded(source)
    of_shape = {
        recording.text(row.form): row.nbytes
        for row in (recording.layouts[layout] for layout in recording.tensors.column("layout"))
        if recording.text(row.shape) == "(100, 4)" and recording.text(row.stride) != "(4, 1)"
    }
    assert of_shape == {"strided": 400 * VALUE, "sparse_coo": 4 * (2 * INDEX + VALUE)}


@pytest.mark.parametrize(
    ("made", "notes"),
    [("(torch.arange(6) < size).to_sparse()", ()), ("torch.ones(size)", ("s: (2,) in the first run",))],
)
def test_a_sparse_result_with_more_elements_is_not_said_to_have_had_another_shape(
    made: str, notes: tuple[str, ...]
) -> None:
    source = dedent(f"""
    import torch
    for size in (2, 5):
        s = {made}  # here
    """)
    (row,) = [row for row in build(recorded(source)).lines if row.line == line_of(source, "# here")]
    assert row.notes == notes
