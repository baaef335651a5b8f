"""Whether a statement keeps ``.grad`` as it is, and whether one compares a thing with itself by its text."""

from __future__ import annotations

import ast

from gradscope.frames.syntax_trees import innermost, parsed

_COLLECTS = ("list", "tuple", "dict", "append", "extend", "update", "appendleft")
_STATEMENTS = (ast.Assign, ast.Return, ast.Expr, ast.AugAssign)


def keeps_gradient(text: str, line: int) -> bool:
    """Whether a line gives ``.grad`` itself a name, or puts it into a list or dict: ``[p.grad for p in ps]``.

    ``total += p.grad`` adds its values, and keeps nothing of it; ``grads += [p.grad]`` does.
    """
    tree = parsed(text)
    statement = None if tree is None else innermost(tree, line, *_STATEMENTS)
    value = getattr(statement, "value", None)
    is_added = isinstance(statement, ast.AugAssign) and isinstance(value, ast.Attribute)
    return isinstance(value, ast.expr) and not is_added and _is_kept(value)


def stored_later(text: str, line: int) -> tuple[int, int] | None:
    """The one statement that stores where it stays what a line gives a name: ``g = p.grad``, ``state["old"] = g``.

    Returns:
        Its first and last line; None where the line gives no name, or that is stored nowhere, or at several places.
    """
    tree = parsed(text)
    named = None if tree is None else innermost(tree, line, ast.Assign)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(named, ast.Assign) or not _is_kept(named.value):
        return None
    names = {target.id for target in named.targets if isinstance(target, ast.Name)}
    found = [
        node
        for node in (ast.walk(function or tree) if tree is not None else ())
        if isinstance(node, ast.Assign | ast.Expr) and node is not named and _stores(node, names)
    ]
    return (found[0].lineno, found[0].end_lineno or found[0].lineno) if len(found) == 1 else None


def _stores(statement: ast.Assign | ast.Expr, names: set[str]) -> bool:
    """Whether a statement puts what has one of some names into an attribute, a list or a dict, as it is."""
    value = statement.value
    if isinstance(statement, ast.Assign):
        is_part = any(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
        return is_part and isinstance(value, ast.Name) and value.id in names
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return False
    return value.func.attr in _COLLECTS and any(isinstance(one, ast.Name) and one.id in names for one in value.args)


def _is_kept(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Attribute):
        return value.attr == "grad"
    if isinstance(value, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        return _is_kept(value.elt)
    if isinstance(value, ast.DictComp):
        return _is_kept(value.value)
    if isinstance(value, ast.List | ast.Tuple | ast.Set):
        return any(map(_is_kept, value.elts))
    if isinstance(value, ast.Dict):
        return any(map(_is_kept, value.values))
    if isinstance(value, ast.IfExp):
        return _is_kept(value.body) or _is_kept(value.orelse)
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return name in _COLLECTS and any(map(_is_kept, value.args))
    return False


def names_one_twice(text: str, line: int) -> bool:
    """Whether a statement gives one operation the same text twice: ``g * g``, ``torch.dot(g, g)``, ``g.dot(g)``."""
    tree = parsed(text)
    statement = None if tree is None else innermost(tree, line, ast.stmt)
    for node in ast.walk(statement) if statement is not None else ():
        operands: list[ast.expr] = []
        if isinstance(node, ast.BinOp):
            operands = [node.left, node.right]
        elif isinstance(node, ast.Call):
            operands = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
        written = [ast.unparse(one) for one in operands]
        if len(set(written)) < len(written):
            return True
    return False
