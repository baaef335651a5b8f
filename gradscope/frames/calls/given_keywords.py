"""Where a call is given an argument by name: what the text of a file tells."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import parsed


def keyword_line(text: str, line: int, function: str, keyword: str) -> int:
    """The line at which the only call of a function on a line gets an argument by name; 0 where that is not clear."""
    tree = parsed(text)
    calls = [
        node
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call)
        and node.lineno <= line <= (node.end_lineno or 0)
        and ast.unparse(node.func).rpartition(".")[2] == function
    ]
    found = [one.value.lineno for call in calls for one in call.keywords if one.arg == keyword]
    return found[0] if len(calls) == len(found) == 1 else 0
