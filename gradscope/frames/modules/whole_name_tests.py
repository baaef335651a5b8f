"""Choices of parameters that compare the whole name with some texts: ``[p for n, p in named if n in no_decay]``.

``named_parameters()`` gives ``blocks.0.norm.weight``, and ``"norm.weight"`` in a list equals no such name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.modules.choices_in_scope import own_of_scope, scope_given
from gradscope.frames.modules.name_filters import constants_of, puts
from gradscope.frames.syntax_trees import last_name, parsed


class WholeNameTest(NamedTuple):
    """The tests of a name against the same texts."""

    lines: tuple[tuple[int, int], ...]
    """First and last line of each."""
    text: str
    """``n in no_decay``."""
    sought: tuple[str, ...]


def whole_name_tests(text: str, first: int, last: int) -> list[WholeNameTest]:
    """Those by which parameters are put into what a call is given, in its function or in the one that it gets it of.

    Args:
        text: Source of the file.
        first: The first line of the call, which makes an optimizer.
        last: Its last line.
    """
    tree = parsed(text)
    if tree is None or "named_parameters" not in text:
        return []
    parts = list(own_of_scope(scope_given(tree, first, last)))
    named, constants = _named(parts), constants_of(tree)
    found: dict[tuple[str, ...], list[ast.Compare]] = {}
    for node in parts:
        for name, tests in _choices(node, named):
            for test in (one for whole in tests for one in ast.walk(whole)):
                sought = _sought(test, name, constants)
                if sought and isinstance(test, ast.Compare):
                    found.setdefault(sought, []).append(test)
    return [
        WholeNameTest(
            tuple(sorted({(one.lineno, one.end_lineno or one.lineno) for one in tests})), ast.unparse(tests[-1]), sought
        )
        for sought, tests in found.items()
    ]


def _named(parts: list[ast.AST]) -> set[str]:
    """Names of lists of what ``named_parameters()`` gives."""
    return {
        target.id
        for node in parts
        if isinstance(node, ast.Assign) and _gives_names(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _gives_names(value: ast.expr, named: set[str]) -> bool:
    """Whether an expression is ``model.named_parameters()`` or a list of it."""
    if isinstance(value, ast.Name):
        return value.id in named
    if not isinstance(value, ast.Call):
        return False
    if last_name(value.func) == "named_parameters":
        return not value.args and not value.keywords
    is_list = isinstance(value.func, ast.Name) and value.func.id in ("list", "tuple", "sorted")
    return is_list and len(value.args) == 1 and _gives_names(value.args[0], named)


def _choices(node: ast.AST, named: set[str]) -> Iterator[tuple[str, list[ast.expr]]]:
    """What a loop or a comprehension that puts parameters into something calls the name, and what it tests."""
    if isinstance(node, ast.For):
        variables = _pair(node.target) if _gives_names(node.iter, named) else None
        if variables is not None and puts(node, variables[1]):
            tests = [part.test for part in ast.walk(node) if isinstance(part, ast.If | ast.IfExp)]
            yield variables[0], tests
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        (loop, *others) = node.generators
        variables = _pair(loop.target) if _gives_names(loop.iter, named) and not others else None
        kept = {part.id for part in ast.walk(node.elt) if isinstance(part, ast.Name)}
        if variables is not None and variables[1] in kept:
            yield variables[0], [*loop.ifs, *(part.test for part in ast.walk(node.elt) if isinstance(part, ast.IfExp))]


def _pair(target: ast.expr) -> tuple[str, str] | None:
    names = [one.id for one in target.elts if isinstance(one, ast.Name)] if isinstance(target, ast.Tuple) else []
    return (names[0], names[1]) if len(names) == 2 else None


def _sought(test: ast.AST, name: str, constants: dict[str, object]) -> tuple[str, ...]:
    """The texts of which a comparison asks whether the name is one; empty for other comparisons."""
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return ()
    is_name = isinstance(test.left, ast.Name) and test.left.id == name
    other = test.comparators[0]
    try:
        value = constants.get(last_name(other)) if last_name(other) else ast.literal_eval(other)
    except (ValueError, TypeError, SyntaxError):
        return ()
    if isinstance(test.ops[0], ast.In | ast.NotIn):
        # (in a text, ``in`` asks for a part)
        texts = list(value) if isinstance(value, list | tuple | set) else []
    else:
        texts = [value] if isinstance(test.ops[0], ast.Eq | ast.NotEq) and isinstance(value, str) else []
    return tuple(texts) if is_name and texts and all(isinstance(one, str) for one in texts) else ()
