"""A sparse tensor takes up what its own elements and their indices do, whatever others of its shape take up."""

from __future__ import annotations

from textwrap import dedent

import pytest
import torch

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


def allocated_at(report: Report, source: str, where: str) -> int:
    line = line_of(source, where)
    return sum(row.allocated_bytes for row in report.lines if row.line == line)


PARTS = """
import torch
dense = torch.eye(300)
made = dense.{made}  # made
values = made.{values}()  # parts
indices = [getattr(made, name)() for name in {indices}]  # indices
changed = made.{changed}  # changed
"""


@pytest.mark.parametrize(
    ("made", "values", "indices"),
    [
        ("to_sparse()", "_values", ("_indices",)),
        ("to_sparse_csr()", "values", ("crow_indices", "col_indices")),
        ("to_sparse_csc()", "values", ("ccol_indices", "row_indices")),
    ],
)
def test_a_sparse_result_is_what_allocates_and_not_who_asks_for_its_parts(
    made: str, values: str, indices: tuple[str, ...]
) -> None:
    source = PARTS.format(made=made, values=values, indices=indices, changed="detach()")
    report = build(recorded(source))
    result = getattr(torch.eye(300), made.removesuffix("()"))()
    held = {part.untyped_storage() for part in (getattr(result, name)() for name in (values, *indices))}
    expected = sum(storage.nbytes() for storage in held)
    assert expected >= 300 * VALUE
    got = [allocated_at(report, source, f"# {where}") for where in ("made", "parts", "indices", "changed")]
    assert got == [expected, 0, 0, 0]
    assert report.memory.live_bytes == 300 * 300 * VALUE + expected


def test_a_sparse_tensor_that_is_let_go_gives_its_memory_back() -> None:
    source = """
    import torch
    s = torch.eye(300).to_sparse()
    s = None
    t = torch.ones(5)
    """
    assert build(recorded(source)).memory.live_bytes == 5 * VALUE


def test_a_sparse_tensor_made_of_parts_that_are_there_allocates_nothing() -> None:
    source = """
    import torch
    where, values = torch.arange(6).reshape(2, 3), torch.ones(3)
    s = torch.sparse_coo_tensor(where, values, (6, 6), check_invariants=False)  # made
    """
    assert allocated_at(build(recorded(source)), source, "# made") == 0


def test_what_a_sparse_tensor_grows_by_is_allocated_where_it_grows() -> None:
    source = """
    import torch
    s, more = torch.eye(30).to_sparse(), torch.ones(30, 30).to_sparse()
    s.add_(more)  # grown
    values = s._values()  # asked
    """
    report = build(recorded(source))
    assert allocated_at(report, source, "# grown") >= 900 * (2 * INDEX + VALUE)
    assert allocated_at(report, source, "# asked") == 0


def test_sparse_gradients_are_memory_of_the_pass() -> None:
    source = """
    import torch
    table = torch.nn.Embedding(100, 4, sparse=True)
    out = table(torch.arange(50)).sum()
    out.backward()  # pass
    values = table.weight.grad._values()  # asked
    """
    report = build(recorded(source))
    assert allocated_at(report, source, "# pass") == 50 * (INDEX + 4 * VALUE)
    assert allocated_at(report, source, "# asked") == 0
