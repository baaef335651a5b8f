"""Statements are found by position, with the names that they read and store."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.frames.statements import dotted, parse_source
from gradscope.targets.source import parse as parse_program

SOURCE = """\
import torch
w = torch.ones(3); b = w * 2
for x, y in zip(w, b):
    total = (x
             + self.layer.weight)
    model.bias += y
def f(w):
    with lock, open(p) as handle:
        made = Square.apply(w)
    return made
made = other
"""


def names_at(line: int, col: int) -> tuple[set[str], set[str]]:
    statement = parse_source(SOURCE).at(line, col)
    return set(statement.loads), set(statement.stores)


def test_two_statements_on_a_line_are_told_apart_by_column():
    assert names_at(2, 4) == ({"torch.ones", "torch"}, {"w"})
    assert names_at(2, 24) == ({"w"}, {"b"})


def test_a_compound_statement_stands_for_its_header():
    assert names_at(3, 12) == ({"zip", "w", "b"}, {"x", "y"})
    loads, stores = names_at(8, 10)
    assert stores == {"handle"} and "lock" in loads


def test_a_statement_of_several_lines_is_found_from_each():
    assert names_at(5, 20)[1] == {"total"}
    assert "self.layer.weight" in names_at(5, 20)[0]


def test_an_augmented_assignment_reads_what_it_stores():
    loads, stores = names_at(6, 4)
    assert stores == {"model.bias"} and {"model.bias", "y"} <= loads


@pytest.mark.parametrize(
    ("call", "made"),
    [("getattr(w, 'sample')", False), ("kept.get(0)", False), ("self.kept.pop()", False), ("load(0)", True)],
)
def test_what_a_container_hands_over_was_not_made_by_the_call(call: str, made: bool):
    assert (parse_source(f"x = {call}").call_assigned_to("x", 0, 2) is not None) is made


def test_the_assigning_call_is_known_only_where_it_is_certain():
    source = parse_source(SOURCE)
    call = source.call_assigned_to("made", 0, 10)
    assert call is not None and (call.function, call.line) == ("Square.apply", 9)
    assert source.call_assigned_to("made", 0, 11) is None, "the module's made comes from no call"
    assert source.call_assigned_to("nothing", 0, 11) is None


def test_source_that_does_not_parse_has_no_statements():
    assert parse_source("def (:").statements == []
    assert parse_source("x = '\0'").statements == []


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=1, max_size=5))
def test_dotted_names_are_read_as_they_are_written(parts: list[str]) -> None:
    name = ".".join(parts)
    assert dotted(ast.parse(name, mode="eval").body) == name


def test_a_text_is_parsed_again_where_python_failed_because_another_thread_parsed_too(monkeypatch):
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch (before=39, after=35)")]

    def fails_once(*args: object, **kwargs: object) -> ast.AST:
        if failures:
            raise failures.pop()
        return parse(*args, **kwargs)

    monkeypatch.setattr(ast, "parse", fails_once)
    assert parse_source("only_in_this_test = 1").at(1, 0).stores == ("only_in_this_test",)
    assert not failures
    failures.append(SystemError("AST constructor recursion depth mismatch (before=201, after=251)"))
    assert len(parse_program("a = 1\nb = 2\n", "two.py").body) == 2
    assert not failures


def test_what_one_name_hands_to_another_is_found_under_that():
    text = "a, b = f(), g()\na, b = b, a\nc = b\nif c:\n    a = c\nprint(a, b)\n"
    source = parse_source(text)
    made, third, used = (source.at(line, 0) for line in (1, 3, 6))
    assert (source.found_under("a.weight", made, third), source.found_under("b", made, third)) == ("b.weight", "a")
    assert source.found_under("a", made, used) == "c", "the last of the names that hold it for sure"
    assert source.found_under("b", made, used) == "", "what was b's may have lost its name at line 5"
    assert source.found_under("d", made, used) == "d"


def test_a_call_is_not_where_its_own_arguments_come_from():
    source = parse_source("h = f(x)\nh = g(h)\nh = m(h); h = n(h)\n")
    assert source.call_assigned_to("h", 1, 2).function == "f"
    assert source.call_assigned_to("h", 3, 3, 10).function == "m"
