"""Where a text makes a parameter of what is one already: ``self.out.weight = nn.Parameter(self.embed.weight)``.

``nn.Embedding.from_pretrained(weight, freeze=False)`` makes one of what it is given, too.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_MAKERS = ("Parameter", "from_pretrained")
_SIMPLE = (ast.Assign, ast.Expr, ast.Return)


class WrappedAgain(NamedTuple):
    """A statement."""

    line: int
    end_line: int
    by: str
    """What makes the parameter: ``nn.Parameter``."""


def wrapped_again(text: str, weight: Collection[str], made: Collection[str]) -> WrappedAgain | None:
    """The one statement that makes a parameter of a weight; None where none does, or several do.

    Args:
        text: Source of the file.
        weight: Names under which the weight was seen.
        made: Names under which the parameter was seen; of several statements that which assigns to one counts.
    """
    tree = parsed(text) if any(f"{maker}(" in text for maker in _MAKERS) else None
    found: list[tuple[ast.stmt, ast.Call]] = []
    nodes = ast.walk(tree) if tree is not None else ()
    for node in (one for one in nodes if isinstance(one, _SIMPLE)):
        for call in _calls(node):
            if any(_is_name(one, weight) for value in call.args[:1] for one in _chains(value)):
                found.append((node, call))
    if len(found) > 1:
        found = [one for one in found if any(_is_name(target, made) for target in _targets(one[0]))]
    if len(found) != 1:
        return None
    statement, call = found[0]
    return WrappedAgain(statement.lineno, statement.end_lineno or statement.lineno, ast.unparse(call.func))


def _calls(statement: ast.stmt) -> Iterator[ast.Call]:
    calls = (one for one in ast.walk(statement) if isinstance(one, ast.Call))
    return (one for one in calls if last_name(one.func) in _MAKERS)


def _chains(value: ast.expr) -> Iterator[str]:
    """The names and attributes in a value: ``embed.weight`` of ``embed.weight.data.t()``."""
    return (ast.unparse(one) for one in ast.walk(value) if isinstance(one, ast.Name | ast.Attribute))


def _targets(statement: ast.stmt) -> Iterator[str]:
    for target in statement.targets if isinstance(statement, ast.Assign) else ():
        yield ast.unparse(target)


def _is_name(text: str, names: Collection[str]) -> bool:
    """Whether a text is one of some names; a method calls by ``self`` what others call by the object's name."""
    ending = text.removeprefix("self") if text.startswith("self.") else ""
    return text in names or bool(ending and any(name.endswith(ending) for name in names))
