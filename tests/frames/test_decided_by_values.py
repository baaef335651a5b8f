"""Conditions that come out otherwise for another value of a name."""

import ast

import pytest

from gradscope.frames.called_by_torch.decided_by_values import decides_otherwise


@pytest.mark.parametrize(
    ("test", "first", "again", "differs"),
    [
        ("self.n % 2", 1, 4, True),
        ("self.n % 2 == 0", 1, 3, False),
        ("self.training and not self.n", 0, 1, True),
        ("self.n > 99", 1, 100, True),
        ("self.n > 99", 1, 2, False),
        ("self.n % self.every == 0", 1, 4, False),
        ("self.other", 1, 4, False),
        ("1 / self.n > 2", 0, 4, False),
    ],
)
def test_whether_a_condition_comes_out_otherwise(test: str, first: int, again: int, differs: bool) -> None:
    condition = ast.parse(test, mode="eval").body
    assert (
        decides_otherwise(condition, lambda one: isinstance(one, ast.Attribute) and one.attr == "n", first, again)
        is differs
    )
