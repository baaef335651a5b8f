"""The text of a source file with its syntax tree: where a node stands, in characters, and what stands around it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate

from gradscope.frames.syntax_trees import as_written

Scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
Loops = (ast.For, ast.AsyncFor, ast.While)
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.JoinedStr)


class SourceText:
    """A text, and the tree of it."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.text = text
        self.tree = tree
        self.lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self.lines)]

    @classmethod
    def read(cls, text: str) -> SourceText | None:
        """A text, or None where it is no Python."""
        tree = as_written(text)
        return None if tree is None else cls(text, tree)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """For each node the one that it is part of."""
        return {part: node for node in ast.walk(self.tree) for part in ast.iter_child_nodes(node)}

    def offset(self, line: int, column: int) -> int:
        """The character at a line (from 1) and a column (from 0, in UTF-8 bytes, as the tree has them)."""
        text = self.lines[line - 1]
        return self._starts[line - 1] + (column if text.isascii() else len(text.encode()[:column].decode()))

    def line_start(self, line: int) -> int:
        """The first character of a line; of the one after the last, the end of the text."""
        return min(self._starts[line - 1], len(self.text))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The characters of a node: the first, and the one behind the last."""
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno or 0, node.end_col_offset or 0)

    def code(self, node: ast.expr | ast.stmt) -> str:
        """A node's text, as it is written."""
        start, end = self.span(node)
        return self.text[start:end]

    def operand(self, node: ast.expr) -> str:
        """An expression's text for a place where it is an operand or the object of a method."""
        code = self.code(node)
        return code if isinstance(node, _ATOMS) else f"({code})"

    def around(self, node: ast.AST) -> Iterator[ast.AST]:
        """What a node is part of, the innermost first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that a node is part of, or it itself."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def function(self, node: ast.AST) -> ast.AST:
        """The function that a node is part of, or the module."""
        return next((one for one in self.around(node) if isinstance(one, Scopes)), self.tree)

    def loop(self, node: ast.AST) -> ast.stmt | None:
        """The innermost loop around a node, in its function."""
        for one in self.around(node):
            if isinstance(one, Scopes):
                return None
            if isinstance(one, Loops):
                return one
        return None

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The statements of the block that a statement belongs to, itself included."""
        parent = self.parents[statement]
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and statement in block:
                return block
        return [statement]

    def statements(self, line: int) -> list[ast.stmt]:
        """The statements that begin or go on at a line and have no block of their own, the innermost first."""
        found = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt)
            and not hasattr(node, "body")
            and node.lineno <= line <= (node.end_lineno or 0)
        ]
        return sorted(found, key=lambda node: -node.lineno)

    def at(self, line: int, end_line: int, columns: tuple[int, ...]) -> list[ast.expr]:
        """The expressions in a place: those that stand just there; with no columns, all of its lines, in order."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.expr))
        if len(columns) == 2:
            wanted = (line, columns[0], end_line, columns[1])
            return [n for n in nodes if (n.lineno, n.col_offset, n.end_lineno, n.end_col_offset) == wanted]
        found = [node for node in nodes if line <= node.lineno and (node.end_lineno or 0) <= end_line]
        return sorted(found, key=lambda node: (node.lineno, node.col_offset))

    def indent(self, statement: ast.stmt) -> str:
        """The blanks before a statement."""
        line = self.lines[statement.lineno - 1]
        return line[: len(line) - len(line.lstrip())]

    @cached_property
    def indent_unit(self) -> str:
        """By what a block of this file is further in than what is around it."""
        for node in ast.walk(self.tree):
            body = getattr(node, "body", None)
            if isinstance(node, ast.stmt) and isinstance(body, list) and body[0].lineno > node.lineno:
                outer, inner = self.indent(node), self.indent(body[0])
                if inner.startswith(outer) and inner != outer:
                    return inner[len(outer) :]
        return "    "

    def has_own_lines(self, statement: ast.stmt) -> bool:
        """Whether nothing else stands on a statement's lines, but for a comment."""
        first = statement
        decorators = getattr(statement, "decorator_list", None)
        start = (
            min((decorator.lineno for decorator in decorators), default=first.lineno) if decorators else first.lineno
        )
        before = self.lines[start - 1].strip()[:1] == "@" if decorators else True
        head = self.text[self.line_start(first.lineno) : self.span(statement)[0]]
        tail = self.text[self.span(statement)[1] : self.line_start((statement.end_lineno or 0) + 1)]
        return before and not head.strip() and re.fullmatch(r"[ \t]*(#[^\n]*)?\n?", tail) is not None

    def whole_lines(self, statement: ast.stmt) -> tuple[int, int]:
        """The characters of a statement's lines, with the last one's end."""
        return self.line_start(statement.lineno), self.line_start((statement.end_lineno or 0) + 1)

    @cached_property
    def lines_in_strings(self) -> frozenset[int]:
        """Lines that begin inside a string: blanks put before them would be in the string."""
        found: set[int] = set()
        for node in ast.walk(self.tree):
            is_text = isinstance(node, ast.JoinedStr) or (
                isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
            )
            if is_text and isinstance(node, ast.expr):
                found.update(range(node.lineno + 1, (node.end_lineno or 0) + 1))
        return frozenset(found)

    def imported(self, module: str) -> str:
        """The name under which this file has a module at its top level: ``torch``, ``F``; empty where it has none."""
        parent, _, last = module.rpartition(".")
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                for name in node.names:
                    if name.name == module and (name.asname or not parent):
                        return name.asname or module
                    if name.name == module:
                        return module
            if isinstance(node, ast.ImportFrom) and node.module == parent and not node.level:
                for name in node.names:
                    if name.name == last:
                        return name.asname or last
        outer = self.imported(parent) if parent else ""
        return f"{outer}.{last}" if outer and module.startswith("torch.") else ""
