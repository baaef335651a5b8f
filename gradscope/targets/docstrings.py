"""The examples in docstrings: ``file.py::docstrings`` runs what stands behind ``>>>`` in them, as ``doctest`` does."""

from __future__ import annotations

import ast

from gradscope.targets.program import Snippet
from gradscope.targets.transcripts import read_transcript

DOCSTRINGS_PART = "docstrings"
"""What stands behind ``::``."""


def read_docstrings(tree: ast.Module, text: str) -> tuple[Snippet, ...]:
    """The examples of each docstring of a file, on their lines; those of one docstring share their names."""
    lines = text.split("\n")
    found: list[Snippet] = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        docstring = _docstring(node)
        if docstring is None:
            continue
        first, last = docstring.lineno, docstring.end_lineno or docstring.lineno
        quoted = "\n".join(lines[first - 1 : last])
        if first == last or quoted.lstrip("rRuU\"' \t").startswith(">>>"):
            quoted = quoted.replace('"""', "   ").replace("'''", "   ")
        group = getattr(node, "name", "") or "the module"
        found += read_transcript(quoted, first=first, group=f"{group}, line {first}")
    return tuple(sorted(found, key=lambda snippet: snippet.line))


def _docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.Constant | None:
    first = node.body[0] if node.body else None
    value = first.value if isinstance(first, ast.Expr) else None
    return value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
