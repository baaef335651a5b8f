"""The parts of the syntax tree at the lines that an answer names."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.edits.edit_model import EditSources
from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.report_model import Answer, Cause


class CauseNodes(NamedTuple):
    """A cause, and what stands in its place."""

    cause: Cause
    source: SourceText
    nodes: tuple[ast.expr, ...]
    """The call that it names; all expressions of its lines where it names none."""
    statement: ast.stmt
    """The innermost statement there."""

    @property
    def file(self) -> str:
        """The file, as the report names it."""
        return self.cause.file


def cause_nodes(answer: Answer, sources: EditSources, roles: Collection[str] = ()) -> Iterator[CauseNodes]:
    """The causes of an answer that lie in source that can be read, of some roles, or of all."""
    for cause in answer.causes:
        source = sources.of_cause(cause)
        if source is None or (roles and cause.role not in roles):
            continue
        nodes = source.at(cause.line, cause.end_line, cause.columns)
        statements = source.statements(cause.line)
        if nodes and len(cause.columns) == 2:
            yield CauseNodes(cause, source, tuple(nodes), source.statement(nodes[0]))
        elif statements:
            yield CauseNodes(cause, source, tuple(source.at(cause.line, cause.end_line, ())), statements[0])
        elif nodes:
            yield CauseNodes(cause, source, tuple(nodes), source.statement(nodes[0]))
        else:
            heads = [one for one in ast.walk(source.tree) if isinstance(one, ast.stmt) and one.lineno == cause.line]
            yield from (CauseNodes(cause, source, (), one) for one in heads[:1])


def method_call(node: ast.AST, *names: str) -> ast.Attribute | None:
    """The ``x.name`` of a call ``x.name(…)``; None where a node is no such call."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and (not names or node.func.attr in names):
        return node.func
    return None


def called_name(node: ast.AST) -> str:
    """The last name of what a call calls: ``detach`` of ``x.detach()``; empty for what is no call."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_same(source: SourceText, one: ast.expr, other: ast.expr) -> bool:
    """Whether two expressions are written alike."""
    return source.code(one) == source.code(other)


def inside(node: ast.AST) -> Iterator[ast.AST]:
    """A node and its parts, not those of functions and classes that are defined in it."""
    todo = [node]
    while todo:
        one = todo.pop()
        yield one
        if not isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)) or one is node:
            todo.extend(ast.iter_child_nodes(one))
