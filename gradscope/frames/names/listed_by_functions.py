"""The function of the program's that lists what a call is given: ``Adam(model.decoder_parameters())``."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def listed_by(text: str, first: int, last: int) -> list[tuple[int, int]]:
    """First and last lines of what it returns; empty where no call, or another's, or one of several of the name lists.

    Args:
        text: Source of the file.
        first: The first line of the call that is given it.
        last: Its last line.
    """
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    calls = [one for one in nodes if isinstance(one, ast.Call) and first <= one.lineno <= last]
    given = [part for call in calls for part in (*call.args, *(one.value for one in call.keywords))]
    names = {last_name(one.func) for one in given if isinstance(one, ast.Call)}
    functions = [one for one in nodes if isinstance(one, _FUNCTIONS) and one.name in names]
    if len(functions) != 1:
        return []
    returned = (one for one in ast.walk(functions[0]) if isinstance(one, ast.Return | ast.Yield | ast.YieldFrom))
    return [(one.lineno, one.end_lineno or one.lineno) for one in returned if one.value is not None]
