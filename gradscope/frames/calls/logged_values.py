"""Calls of a logger that hand a value on as it is: ``log.info("loss %s", loss)``."""

from __future__ import annotations

import ast
import re

from gradscope.frames.names.put_statements import Put, function_of, parts_with_graphs
from gradscope.frames.syntax_trees import dotted_name, parsed

_LEVELS = ("debug", "info", "warning", "warn", "error", "exception", "critical", "log")
_IN_RECORD = re.compile(r"^\w+\.\w+\[\d+\]\.(args\[[^\]]+\]|msg)$")
"""The name of what a log record holds at the end."""
_HOLDER = "the log"


def is_in_log(name: str) -> bool:
    """Whether a name is that of what a log record holds that a handler keeps."""
    return _IN_RECORD.match(name) is not None


def logged_in(text: str) -> list[Put]:
    """All calls of a text that hand a logger something which may have a graph, as what puts it into the log."""
    tree = parsed(text)
    if tree is None or "logging" not in text:
        return []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in _LEVELS:
            continue
        given = [part for one in node.args for part in parts_with_graphs(one)]
        names = tuple(filter(None, (dotted_name(part) for part in given)))
        calls = tuple(dotted_name(one.func).rpartition(".")[2] for one in given if isinstance(one, ast.Call))
        if names or calls:
            end = node.end_lineno or node.lineno
            around = [one for one in functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
            code = max(around, key=lambda one: one.lineno, default=None)
            found.append(Put(node.lineno, end, _HOLDER, names, calls, *function_of(code)))
    return found
