"""Snippets as one source, and what they use without importing it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from gradscope.errors import UsageError
from gradscope.targets.program import Program, Snippet

WELL_KNOWN = {
    "torch": "import torch",
    "nn": "from torch import nn",
    "F": "import torch.nn.functional as F",
    "optim": "from torch import optim",
    "np": "import numpy as np",
}
"""What a page means by a name that it uses and never defines."""


def as_source(line_count: int, snippets: Iterable[Snippet]) -> str:
    """The snippets alone, each on its line; everything else is blank.

    One that is no Python is a comment: what reads the source for names and statements is to see the others.
    """
    lines = [""] * line_count
    for snippet in snippets:
        code = snippet.code.rstrip("\n").split("\n")
        if parsed(snippet) is None:
            code = [f"# {line}" for line in code]
        lines[snippet.line - 1 : snippet.line - 1 + len(code)] = code
    return "\n".join(lines)


def missing_imports(snippets: Iterable[Snippet]) -> tuple[str, ...]:
    """The statements that import what snippets use and none of them defines, as far as it is well known."""
    used: dict[str, None] = {}
    defined = set(dir(builtins))
    for snippet in snippets:
        tree = parsed(snippet)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                used[node.id] = None
            else:
                defined |= names_bound(node)
    if "*" in defined:
        return ()
    return tuple(WELL_KNOWN[name] for name in used if name in WELL_KNOWN and name not in defined)


def with_imports(program: Program, wanted: Iterable[str]) -> Program:
    """A program before which some modules are imported: ``torch``, ``torch.nn as nn``.

    What was to be imported anyhow is not said any more where it was asked for.

    Raises:
        UsageError: One is no module's name.
    """
    statements = [f"import {one}" for one in wanted]
    for statement in statements:
        try:
            (tree,) = ast.parse(statement).body
        except (SyntaxError, ValueError) as error:
            name = statement.removeprefix("import ")
            raise UsageError(f"--import {name!r} is no module's name", "write it as: --import 'numpy as np'") from error
        if not isinstance(tree, ast.Import):
            raise UsageError(f"--import takes a module's name, not {statement!r}")
    added = tuple(one for one in program.imports if one not in statements)
    remarks = program.remarks if added or not program.imports else ()
    return program._replace(imports=(*statements, *added), remarks=remarks)


def names_bound(node: ast.AST) -> set[str]:
    """The names that a node binds by itself; ``*`` for those that an import brings without saying which."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store) else set()
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    return {node.arg} if isinstance(node, ast.arg) else set()


def parsed(snippet: Snippet) -> ast.Module | None:
    """A snippet's tree; None: it is no Python."""
    try:
        return ast.parse(snippet.source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
