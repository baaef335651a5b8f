"""Where a file's text puts a deep copy in the place of what it copies, or beside it: what it copies, and the place.

``self.experts.append(copy.deepcopy(self.experts[-1]))``; ``self.old = self.net; self.net = copy.deepcopy(self.old)``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_PUTS = ("append", "insert", "add_module", "extend", "update")
_STEPS = 4
"""Names that stand for one another which are followed."""


def copied_beside_itself(text: str, line: int) -> str:
    """What the one ``copy.deepcopy`` of a line copies, as the text has it, and keeps where it took it; else empty."""
    tree = parsed(text)
    nodes = (node for node in (ast.walk(tree) if tree is not None else ()) if isinstance(node, ast.Call))
    calls = [node for node in nodes if _is_copy(node) and node.lineno == line]
    if tree is None or len(calls) != 1:
        return ""
    call = calls[0]
    function = innermost(tree, line, ast.FunctionDef) or tree
    pairs = list(_pairs(function))
    origins = {ast.unparse(one) for one in _meanings(call.args[0], pairs, line)}
    for place in _places(function, call, pairs):
        if place in origins or any(one.startswith(f"{place}[") for one in origins):
            return ast.unparse(call.args[0])
        if "[" in place and any(one.startswith(f"{place.rpartition('[')[0]}[") for one in origins):
            return ast.unparse(call.args[0])
    return ""


def _is_copy(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) == "deepcopy" and bool(node.args)


def _pairs(function: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is assigned, and its value, in the order of the lines."""
    for node in sorted(
        (one for one in ast.walk(function) if isinstance(one, ast.Assign)), key=lambda one: (one.lineno, one.col_offset)
    ):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield target, node.value


def _meanings(node: ast.expr, pairs: list[tuple[ast.expr, ast.expr]], line: int) -> Iterator[ast.expr]:
    """An expression, and what it was assigned before a line, and that, and so on."""
    yield node
    for _ in range(_STEPS):
        before = [
            value for target, value in pairs if target.lineno <= line and ast.unparse(target) == ast.unparse(node)
        ]
        if not before or _is_copy(before[-1]):
            return
        node = before[-1]
        yield node


def _places(function: ast.AST, call: ast.Call, pairs: list[tuple[ast.expr, ast.expr]]) -> Iterator[str]:
    """Where the copy is put: what is assigned it, and the lists to which it is handed, itself or by its name."""
    names = {ast.unparse(target) for target, value in pairs if value is call}
    yield from names
    for target, value in pairs:
        is_in_list = isinstance(value, ast.List | ast.BinOp) and any(part is call for part in ast.walk(value))
        if is_in_list or ast.unparse(value) in names:
            yield ast.unparse(target)
    for node in ast.walk(function):
        if isinstance(node, ast.AugAssign) and any(part is call for part in ast.walk(node.value)):
            yield ast.unparse(node.target)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
            given = (part for one in node.args for part in ast.walk(one))
            if any(part is call or (isinstance(part, ast.expr) and ast.unparse(part) in names) for part in given):
                yield ast.unparse(node.func.value)
