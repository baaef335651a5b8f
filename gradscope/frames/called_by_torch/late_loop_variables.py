"""Functions given to ``checkpoint`` in a loop that read a variable of the loop: by the time of backward it has its last
value.

``for block in blocks: x = checkpoint(lambda h: block(h), x)``. Python looks the name up when the function runs. It may
be handed to ``checkpoint`` by another function of the file: ``x = self.run(lambda h: block(h), x)``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.called_by_torch.changing_names import changing_names, names_read
from gradscope.frames.called_by_torch.handed_to_checkpoint import CheckpointedArguments
from gradscope.frames.syntax_trees import parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class LateVariable(NamedTuple):
    """One call of ``checkpoint``, or of a function that hands on to it what it is given."""

    line: int
    """Of the call."""
    end_line: int
    name: str
    """The variable of the loop."""
    is_handed_on: bool = False
    """By a function of the file that calls ``checkpoint`` with it."""
    function: str = ""
    """The one that the call is in; empty for none."""


@lru_cache(maxsize=16)
def late_variables(text: str) -> tuple[LateVariable, ...]:
    """Those of a file."""
    tree = parsed(text) if "checkpoint" in text else None
    return () if tree is None else tuple(_LateReads(tree).within(tree, [], ""))


class _LateReads:
    """Looks at the loops of a file."""

    def __init__(self, tree: ast.Module) -> None:
        self._arguments = CheckpointedArguments(tree)

    def within(self, node: ast.AST, loops: list[ast.AST], function: str) -> Iterator[LateVariable]:
        """The calls below a node, which is in some loops of its function."""
        for child in ast.iter_child_nodes(node):
            inside, within = loops, function
            if isinstance(child, _CODE):
                inside, within = [], getattr(child, "name", function)
            elif isinstance(child, (ast.For, *_COMPREHENSIONS)):
                inside = [*loops, child]
            if isinstance(child, ast.Call) and loops:
                for given, is_handed_on in self._arguments.of(child):
                    if names := read_late(given, loops[-1]):
                        end = child.end_lineno or child.lineno
                        yield LateVariable(child.lineno, end, names[0], is_handed_on, function)
            yield from self.within(child, inside, within)


def read_late(given: ast.expr, loop: ast.AST) -> list[str]:
    """The variables of a loop that a function, which is made in it, reads."""
    code: ast.AST | None = given if isinstance(given, ast.Lambda) else None
    if isinstance(given, ast.Name):
        made = [one for one in ast.walk(loop) if isinstance(one, ast.FunctionDef) and one.name == given.id]
        code = made[0] if len(made) == 1 else None
    if not isinstance(code, _CODE):
        return []
    own = {one.arg for one in ast.walk(code.args) if isinstance(one, ast.arg)}
    body = code.body if isinstance(code.body, list) else [code.body]
    own |= {one.id for part in body for one in ast.walk(part)
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}  # fmt: skip
    changing = changing_names(loop)
    return [name for name in dict.fromkeys(name for part in body for name in names_read(part))
            if name in changing and name not in own]  # fmt: skip
