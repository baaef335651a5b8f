"""Cells and directives: which lines belong to a cell, and which statement a comment is about."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradscope.errors import TargetError
from gradscope.targets.program import Directive, Program
from gradscope.targets.resolve import resolve


def program(source: str) -> Program:
    return resolve("", code=textwrap.dedent(source).lstrip("\n"))


def bound(source: str) -> list[tuple[str, int, bool]]:
    """Expression, line of the statement, and whether it is evaluated before it."""
    return [(item.expression, item.statement_line, item.before) for item in program(source).directives]


def test_a_comment_behind_code_belongs_to_the_statement_on_its_line():
    source = """
        a = 1  # watch: a
        b = 2; c = 3  # expect: c == 3
        d = (4 +
             5)  # watch: d
        """
    assert bound(source) == [("a", 1, False), ("c == 3", 2, False), ("d", 3, False)]
    directive = program(source).directives[2]
    assert directive == Directive("watch", "d", 4, 3, 0)


def test_a_comment_line_belongs_to_the_statement_before_it_in_its_block():
    source = """
        for i in range(2):
            x = i
            # watch: x
        # watch: i
        if i:
            y = 1
        else:
            # expect: not i
            y = 2
            # watch: y

        # watch: y + 1
        """
    assert bound(source) == [
        ("x", 2, False),
        ("i", 1, False),
        ("not i", 9, True),
        ("y", 9, False),
        ("y + 1", 5, False),
    ]


def test_at_the_head_of_a_block_it_stands_before_the_first_statement():
    source = """
        with open('x') as f:  # watch: f
            a = 1
        with open('x') as g:
            # watch: g
            a = 2
        def h(x):  # expect: x > 0
            return x  # watch: x
        try:
            a = 3
        except ValueError:  # watch: a
            a = 4
        """
    assert bound(source) == [("f", 2, True), ("g", 5, True), ("x > 0", 7, True), ("x", 7, True), ("a", 11, True)]


def test_what_stands_in_a_string_is_no_directive_and_no_cell():
    source = '''
        text = """
        # watch: text
        # %% cell
        """
        x = "# expect: 1"
        '''
    assert program(source).directives == ()
    assert program(source).cells == ()


def test_a_trailing_comment_may_follow_the_expression():
    assert bound("x = 1  # watch: x  # why")[0][0] == "x  # why"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# expect: x\nx = 1", "line 1: no statement stands before"),
        ("x = 1  # expect: x ==", "line 1: # expect: x == is no Python expression: invalid syntax"),
        ("x = 1  # expect:", "(nothing) is no Python expression"),
        ("x = 1  # watch: y = 2", "is no Python expression"),
    ],
)
def test_a_directive_that_makes_no_sense_is_an_error(source, message):
    with pytest.raises(TargetError) as caught:
        program(source)
    assert message in caught.value.message


CELLS = """\
setup = 1
# %% one
a = 1
#%% [code] two words
b = 2

# %%
c = 3
"""


def test_cells_have_names_and_lines(tmp_path: Path):
    path = tmp_path / "cells.py"
    path.write_text(CELLS)
    cells = resolve(str(path)).cells
    assert [(cell.name, cell.line, cell.end_line) for cell in cells] == [
        ("one", 2, 3),
        ("two words", 4, 6),
        ("cell 3", 7, 9),
    ]


def test_only_what_jupytext_says_of_a_cell_is_no_part_of_its_name():
    source = """
        # %% w[0] grad
        # %% w[1] grad
        # %% [markdown]
        # Text is no variant.
        # %% title [md]
        # %% [code]
        # %% w[0] grad
        # %% w[0] grad
        """
    cells = [(cell.name, cell.line) for cell in program(source).cells]
    assert cells == [("w[0] grad", 1), ("w[1] grad", 2), ("cell 3", 6), ("w[0] grad (2)", 7), ("w[0] grad (3)", 8)]


def test_one_cell_is_the_set_up_and_that_cell_on_their_own_lines(tmp_path: Path):
    path = tmp_path / "cells.py"
    path.write_text(CELLS)
    one = resolve(f"{path}::two words")
    assert one.source.split("\n") == ["setup = 1", "", "", "#%% [code] two words", "b = 2", "", "", "", ""]
    assert (one.kind.name, one.cell, len(one.cells)) == ("cell", "two words", 3)
    assert one.filename == str(path)


@pytest.mark.parametrize(
    ("name", "hint"), [("tow words", "::two words?"), ("zzz", "its cells: one, two words, cell 3")]
)
def test_an_unknown_cell_is_an_error_that_names_the_others(tmp_path: Path, name: str, hint: str):
    path = tmp_path / "cells.py"
    path.write_text(CELLS)
    with pytest.raises(TargetError) as caught:
        resolve(f"{path}::{name}")
    assert hint in caught.value.hint
