"""Plain numbers that a sum adds to a tensor, and where they were taken out of a tensor: what the text says."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, parsed

_PLAIN = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Attribute, ast.Load)


def taken_out_at(text: str, line: int, source: str, tensor: str) -> tuple[str, int] | None:
    """The term of a sum that is computed from numbers taken out of tensors, and the line that takes them out.

    Args:
        text: Source of the file.
        line: Where the sum is.
        source: The sum itself: ``rec + weight * adv``, ``loss += weight * adv``.
        tensor: What of it made the tensor that is added to, if that is in the same statement: no term of numbers.

    Returns:
        The term's text and the line; None where the text does not say for certain. A term is numbers and names, one
        of them given ``.item()`` or ``float()`` of something by all assignments in the function, or has such a call.
    """
    tree, summed = parsed(text), parsed(source)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) or tree
    if function is None or summed is None or len(summed.body) != 1:
        return None
    made = parsed(tensor)
    inner = ast.unparse(made) if made is not None and tensor else ""
    for term in _terms(summed.body[0]):
        if inner and inner in ast.unparse(term):
            continue
        if any(_takes_out(node) for node in ast.walk(term)):
            return ast.unparse(term), line
        if not all(isinstance(node, _PLAIN) for node in ast.walk(term)):
            continue
        for node in ast.walk(term):
            if isinstance(node, ast.Name) and (at := _assigned_at(function, node.id, line)):
                return ast.unparse(term), at
    return None


def _terms(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, (ast.Add, ast.Sub)):
        return [statement.value]
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    is_sum = isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Add, ast.Sub))
    return [value.right, value.left] if isinstance(value, ast.BinOp) and is_sum else []


def _takes_out(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        return called.attr == "item" and not node.args
    return isinstance(called, ast.Name) and called.id == "float"


def _assigned_at(function: ast.AST, name: str, line: int) -> int:
    """The last line up to another that gives a name a number taken out of a tensor; 0 where it may be another value."""
    found = 0
    for target, value, at in _assignments(function):
        if target == name and not isinstance(value, ast.Constant):
            if not (isinstance(value, (ast.Call, ast.BinOp)) and any(_takes_out(node) for node in _outermost(value))):
                return 0
            found = max(found, at) if at <= line else found
    return found


def _outermost(value: ast.expr) -> Iterator[ast.AST]:
    """A value and, of arithmetic, its operands: what a call is given says nothing of what it gives."""
    yield value
    if isinstance(value, ast.BinOp):
        yield from _outermost(value.left)
        yield from _outermost(value.right)


def _assignments(function: ast.AST) -> Iterator[tuple[str, ast.expr | None, int]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                for one in ast.walk(target):
                    if isinstance(one, ast.Name):
                        yield one.id, node.value if one is target else None, node.lineno
        elif isinstance(node, (ast.AugAssign, ast.AnnAssign)) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value, node.lineno
        elif isinstance(node, (ast.For, ast.comprehension, ast.NamedExpr)):
            for one in ast.walk(node.target):
                if isinstance(one, ast.Name):
                    yield one.id, None, 0
        elif isinstance(node, ast.arg):
            yield node.arg, None, 0
