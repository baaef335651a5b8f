"""Laws of the comparison model, for any cells."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gradscope.analysis.comparison.aligned_lines import AlignedLine, merge_lines
from gradscope.analysis.comparison.comparison_model import Cell
from gradscope.analysis.comparison.joined_rows import together
from gradscope.analysis.comparison.side_by_side import label_of, row_of
from gradscope.experiments.compare.comparing import compare

VALUES = st.one_of(st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]))
CELLS = st.lists(
    st.one_of(st.builds(Cell, VALUES, st.just("value"), st.just(False)), st.just(Cell(None, "missing", False))),
    min_size=1,
    max_size=6,
)


@given(CELLS)
def test_a_row_differs_where_two_cells_do(cells: list[Cell]) -> None:
    distinct = {(type(cell.value), cell.value) for cell in cells}
    assert row_of("watch", "", "", cells).differs == (len(distinct) > 1)


@given(CELLS)
def test_a_variant_without_the_name_says_nothing_about_it(cells: list[Cell]) -> None:
    told = [cell for cell in cells if cell.kind == "value"]
    assert row_of("version", "x", "", cells, measured=True).differs == row_of("version", "x", "", told).differs


@given(st.lists(st.tuples(st.sampled_from(["m.a", "m.b", "m.c", "m.d", "x", "y"]), st.integers(0, 1))))
def test_putting_rows_together_loses_no_name_and_no_cell(pairs: list[tuple[str, int]]) -> None:
    rows = [
        ("autograd", row_of("grad", name, f"{name} grad", [Cell(value, "value", False), Cell(2, "value", False)]))
        for name, value in dict(pairs).items()
    ]
    seen = {}
    for _, row in together(rows):
        for name in row.names or (row.name,):
            assert name not in seen
            seen[name] = row.cells
    assert seen == {row.name: row.cells for _, row in rows}


SOURCES = st.lists(st.sampled_from(["a = 1", "b = a.detach()", "loss = b.sum()", "loss.backward()"]), max_size=6)


@given(SOURCES, SOURCES)
def test_aligning_keeps_every_line_once_and_in_order(first: list[str], second: list[str]) -> None:
    columns = [
        [AlignedLine(number, source, "did") for number, source in enumerate(lines, 1)] for lines in (first, second)
    ]
    merged = merge_lines(columns)
    for at, lines in enumerate(columns):
        assert [places[at] for places in merged if at in places] == lines
    if first == second:
        assert all(len(places) == 2 for places in merged)


def test_labels() -> None:
    assert label_of("f(x)") == ("watched", "f(x)")
    assert label_of("f(x)  # of x") == ("watched", "of x")
    assert label_of("f('#')  # storage: of x") == ("storage", "of x")


def test_baseline_marks_what_differs_from_it(tmp_path) -> None:
    file = tmp_path / "two.py"
    file.write_text("import torch\nx = torch.ones(2, requires_grad=True)\n# %% a\ny = x * 2\n# %% b\ny = x.detach()\n")
    comparison = compare(str(file), baseline="b", all_rows=True)
    rows = [row for group in comparison.groups for row in group.rows]
    assert all(not row.cells[1].differs for row in rows)
    assert all(row.cells[0].differs == (row.cells[0].value != row.cells[1].value) for row in rows)
    assert {row.label for row in rows if row.cells[0].differs} >= {"y requires_grad", "y memory", "saved in all"}
    less = compare(str(file))
    assert less.rows_left_out == sum(not row.differs for row in rows if row.name in ("", "x", "y"))
    assert less.differs
    assert replace(less, groups=()).variants == less.variants
