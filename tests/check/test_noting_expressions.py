"""An expression gives what Python gives, evaluates each part once, and can tell what each part was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gradscope.errors import UsageError
from gradscope.expressions.known_parts import NotingExpression, describe_value


class Counted:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def size(self) -> int:
        self.asked += 1
        return 3

    def take(self, *values: Any, **named: Any) -> tuple[Any, ...]:
        self.asked += 1
        return values + tuple(named.values())


def evaluated(expression: str, **names: Any) -> tuple[Any, dict[str, str]]:
    values: dict[int, Any] = {}
    noting = NotingExpression(expression, "-e")
    result = noting.evaluate(names, values.__setitem__)
    return result, {part.expression: part.value for part in noting.describe(values)}


@pytest.mark.parametrize(
    "expression",
    [
        "1 + a * 2 == 7",
        "a < b < 10",
        "a > b < nosuch",
        "a and not b",
        "b if a else nosuch",
        "[x + a for x in range(b) if x > 1]",
        "all(x < b for x in (a, 1))",
        "(lambda x, y=a: x + y)(b)",
        "(n := a + 1) + n",
        "text[1:b]",
        "text[-1]",
        "{'k': a, **{'l': b}}",
        "[*text, a]",
        "f'{a!r:>5} {b}'",
        "sorted([b, a], key=lambda x: -x)",
        "max(*[a, b], key=abs)",
        "dict(**{'a': a})",
        "text.upper().lower().count('e')",
        "(a, b) == (3, 4)",
        "-a ** 2",
        "{a, b}",
        "...",
    ],
)
def test_it_gives_what_python_gives(expression: str) -> None:
    names = {"a": 3, "b": 4, "text": "hello"}
    assert evaluated(expression, **names)[0] == eval(expression, dict(names))


def test_each_part_is_evaluated_once() -> None:
    counted = Counted()
    evaluated("c.size + c.take(c.size, x=c.size)[0] == 1", c=counted)
    assert counted.asked == 4


def test_what_is_not_reached_is_not_evaluated() -> None:
    counted = Counted()
    value, shown = evaluated("a and c.size", a=0, c=counted)
    assert (value, counted.asked, shown) == (0, 0, {"a and c.size": "0", "a": "0"})


def test_parts_are_told_whole_before_part_in_source_order() -> None:
    _, shown = evaluated("len(text) == a + 1 and flags[a]", text="abc", a=3, flags={3: True})
    assert list(shown.items()) == [
        ("len(text) == a + 1", "False"),
        ("len(text)", "3"),
        ("text", "'abc'"),
        ("a + 1", "4"),
        ("a", "3"),
    ]


def test_modules_functions_and_what_says_itself_are_left_out() -> None:
    _, shown = evaluated("t.dtype == torch.float64 or callable(torch.ones) is None", t=torch.ones(2), torch=torch)
    assert shown == {
        "t.dtype == torch.float64": "False",
        "t.dtype": "torch.float32",
        "t": "tensor([1., 1.])",
        "callable(torch.ones) is None": "False",
        "callable(torch.ones)": "True",
    }


def test_it_leaves_the_names_alone() -> None:
    names = {"a": 1}
    NotingExpression("(b := a + 1)", "-e").evaluate(names)
    assert names == {"a": 1}


@pytest.mark.parametrize("expression", ["a =", "a = 1", "", "import os", "yield 1", "a\0", "(" * 500])
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match=r"-e .* is no Python expression"):
        NotingExpression(expression, "-e")


def test_values_fit_on_a_line() -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise ValueError

    assert describe_value("a\nb") == r"'a\nb'"
    assert describe_value(torch.zeros(2, 2)) == "tensor([[0., 0.], [0., 0.]])"
    large = torch.zeros(100, 3, requires_grad=True)
    assert describe_value(large) == "Tensor (100, 3) float32 on cpu, requires_grad=True"
    assert len(describe_value(list(range(10_000)))) <= 200
    assert describe_value(Hostile()) == "<ValueError in repr>"
