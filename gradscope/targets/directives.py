"""``# expect: EXPR`` and ``# watch: EXPR``: each is bound to the statement that it follows.

A comment behind code belongs to the statement on its line; one on a line of its own to the statement before it in its
block, which its indentation tells. At the head of a block (``with torch.no_grad():  # expect: …``) it is evaluated
before the block's first statement.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Literal, cast

from gradscope.errors import TargetError
from gradscope.targets.comments import Comment
from gradscope.targets.program import Directive

_DIRECTIVE = re.compile(r"#\s*(?P<kind>expect|watch):\s*(?P<expression>.*?)\s*")
_LEAVING = (ast.Return, ast.Raise, ast.Break, ast.Continue)


def find_directives(comments: list[Comment], tree: ast.Module, source: str, path: str) -> tuple[Directive, ...]:
    """The directives of a file, in order.

    Raises:
        TargetError: An expression is no Python, or nothing stands before it.
    """
    directives = []
    lines = source.split("\n")
    for comment in comments:
        found = _DIRECTIVE.fullmatch(comment.text)
        if found is None:
            continue
        kind, expression = cast('Literal["expect", "watch"]', found["kind"]), found["expression"]
        _check_expression(expression, kind, comment, path)
        place = _on_line(tree, comment.line) if not comment.own_line else _before(tree.body, comment, lines)
        if place is None:
            raise TargetError(
                f"{path}, line {comment.line}: no statement stands before this comment: # {kind}: {expression}",
                "put it behind the statement that it is about",
            )
        statement, before = place
        directives.append(
            Directive(
                kind,
                expression,
                comment.line,
                statement.lineno,
                statement.col_offset,
                before or isinstance(statement, _LEAVING),
                _class_around(statement, tree),
            )
        )
    return tuple(directives)


def statement_on_line(source: str, line: int) -> tuple[int, int, bool] | None:
    """Where a statement on a line is watched: line and column, and whether before it, as it leaves the frame.

    Of a compound statement's head that is the first statement of its block. None where no statement is on the line, or
    the source is run part by part.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    heads = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    if not any(node.lineno <= line <= (node.end_lineno or 0) for node in heads):
        return None
    place = _on_line(tree, line)
    if place is None:
        return None
    statement, before = place
    return statement.lineno, statement.col_offset, before or isinstance(statement, _LEAVING)


def _check_expression(expression: str, kind: str, comment: Comment, path: str) -> None:
    try:
        compile(expression, path, "eval", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TargetError(
            f"{path}, line {comment.line}: # {kind}: {expression or '(nothing)'} is no Python expression: {reason}"
        ) from error


def _on_line(tree: ast.Module, line: int) -> tuple[ast.stmt, bool] | None:
    """The statement that code on a line belongs to: of a decorator the whole; of a block's head the block's first."""
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    simple = [node for node in statements if not any(blocks_of(node)) and node.lineno <= line <= (node.end_lineno or 0)]
    if simple:
        return max(simple, key=_position), False
    following = [node for node in statements if node.lineno > line]
    for node in following:
        if any(item.lineno <= line for item in getattr(node, "decorator_list", ())):
            return node, False
    return (min(following, key=_position), True) if following else None


def _class_around(statement: ast.stmt, tree: ast.Module) -> str:
    classes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.body[0].lineno <= statement.lineno <= (node.end_lineno or 0)
    ]
    return max(classes, key=_position).name if classes else ""


def _before(body: list[ast.stmt], comment: Comment, lines: list[str]) -> tuple[ast.stmt, bool] | None:
    """The last statement before a comment line, in the block that its indentation tells."""
    earlier = [statement for statement in body if statement.lineno < comment.line]
    if not earlier:
        return None
    previous = earlier[-1]
    blocks = list(blocks_of(previous))
    inside = comment.line <= (previous.end_lineno or 0) or comment.column > previous.col_offset
    if not blocks or not inside:
        return previous, False
    opened = [block for block in blocks if block[0].lineno < comment.line]
    waiting = [block for block in blocks if block[0].lineno > comment.line]
    if not opened:
        return waiting[0][0], True
    last = opened[-1]
    between = lines[last[-1].end_lineno or 0 : comment.line - 1]
    if waiting and any(text.strip() and not text.lstrip().startswith("#") for text in between):
        return waiting[0][0], True  # behind an ``else:`` of its own, before the block's first statement
    return _before(last, comment, lines)


def blocks_of(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The blocks of statements within a compound statement, in source order."""
    for field in ("body", "handlers", "cases", "orelse", "finalbody"):
        for item in getattr(statement, field, ()):
            if isinstance(item, ast.stmt):
                yield getattr(statement, field)
                break
            yield item.body


def _position(statement: ast.stmt) -> tuple[int, int]:
    return statement.lineno, statement.col_offset
