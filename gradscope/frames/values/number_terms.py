"""Plain numbers that a sum adds to a tensor, and where they were taken out of a tensor: what the text says."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from types import EllipsisType

from gradscope.frames.syntax_trees import innermost, parsed

_CONVERSIONS = frozenset(("float", "int", "round", "abs", "max", "min", "sum"))
"""Functions of Python's that give numbers; of what float() or a function of ``math`` is given it is known that it was a
tensor where a call that takes values out of one was seen in its line."""
_AVERAGES = ("np.mean", "np.sum", "numpy.mean", "numpy.sum", "statistics.mean", "statistics.fmean")
_DEPTH = 8
"""Names and calls that are followed from one to the next."""

_Key = str | bytes | bool | int | float | complex | EllipsisType | None
Function = ast.FunctionDef | ast.AsyncFunctionDef
Stored = ast.Assign | ast.AugAssign


def taken_out_at(
    text: str, line: int, source: str, tensor: str, tensors: Collection[str] = ()
) -> tuple[str, int] | None:
    """The term of a sum that is computed from numbers taken out of tensors, and the line that takes them out.

    Args:
        text: Source of the file.
        line: Where the sum is.
        source: The sum itself: ``rec + weight * adv``, ``loss += weight * adv``.
        tensor: What of it made the tensor that is added to, if that is in the same statement: no term of numbers.
        tensors: Names that were seen to hold tensors there, if at times only: ``total``, which starts as 0.

    Returns:
        The term in words and the line; None where the text does not say for certain. A term has a name that is given
        ``.item()`` or ``float()`` of something by all assignments in the function, or has such a call. A name may be
        given what a function of the file returns, or what is under an attribute or a key.
    """
    tree, summed = parsed(text), parsed(source)
    if tree is None or summed is None or len(summed.body) != 1:
        return None
    scope = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) or tree
    made = parsed(tensor)
    inner = ast.unparse(made) if made is not None and tensor else ""
    is_of_many = isinstance(getattr(summed.body[0], "value", None), ast.Call)
    for term in _terms(summed.body[0]):
        if (inner and inner in ast.unparse(term)) or getattr(term, "id", "") in tensors:
            continue
        text = f"an item of {ast.unparse(term)}" if is_of_many else f"the term {ast.unparse(term)}"
        if any(_takes_out(node) for node in ast.walk(term)):
            return text, line
        for part in _parts(term):
            if at := _Text(tree, line).number(part, scope, line):
                return text, at
    return None


def is_decided_outside(text: str, line: int, source: str) -> bool:
    """Whether a call takes ``create_graph`` from an argument of the function around it, by name or within ``**``."""
    tree, called = parsed(text), parsed(source)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    call = called.body[0].value if called is not None and called.body and isinstance(called.body[0], ast.Expr) else None
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) or not isinstance(call, ast.Call):
        return False
    arguments = function.args
    known = [*arguments.args, *arguments.kwonlyargs, *([arguments.kwarg] if arguments.kwarg is not None else [])]
    names = {one.arg for one in known}
    return any(one.arg in (None, "create_graph") and getattr(one.value, "id", "") in names for one in call.keywords)


def _terms(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, (ast.Add, ast.Sub)):
        return [statement.value]
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "sum":
        return value.args[:1]
    is_sum = isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Add, ast.Sub))
    return [value.right, value.left] if isinstance(value, ast.BinOp) and is_sum else []


def _parts(term: ast.expr) -> Iterator[ast.expr]:
    """The operands of arithmetic."""
    if isinstance(term, ast.BinOp):
        yield from _parts(term.left)
        yield from _parts(term.right)
    elif isinstance(term, ast.UnaryOp):
        yield from _parts(term.operand)
    else:
        yield term


def _takes_out(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    called = node.func
    if isinstance(called, ast.Attribute):
        return called.attr in ("item", "tolist") and not node.args
    return isinstance(called, ast.Name) and called.id == "float"


def _converts(node: ast.AST) -> bool:
    """Whether it is a call of a function of Python's that gives a number."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CONVERSIONS


class _Text:
    """Follows names through the text of one file."""

    def __init__(self, tree: ast.Module, line: int) -> None:
        self._tree = tree
        own = innermost(tree, line, ast.Assign)
        self._own = 0 if own is None else own.lineno
        """Of ``loss = loss + bonus``, which gives a tensor: the number that it took in is not of this assignment."""

    def number(self, value: ast.expr, scope: ast.AST, line: int, depth: int = _DEPTH) -> int:
        """The line that took a number out of a tensor, of which a value is computed; 0 where that is not certain.

        Args:
            value: The value.
            scope: The function that it is in, or the module.
            line: Its line: of several assignments the last one up to it is the one.
            depth: How far to follow.
        """
        if not depth:
            return 0
        if isinstance(value, ast.Name):
            return self._of_all(_assigned(scope, value.id), scope, line, depth)
        if isinstance(value, ast.Attribute):
            return self._of_attribute(value, scope, depth)
        if isinstance(value, ast.Subscript):
            return self._of_item(value, scope, depth)
        if isinstance(value, (ast.BinOp, ast.UnaryOp)):
            return next((at for part in _parts(value) if (at := self.number(part, scope, line, depth - 1))), 0)
        if isinstance(value, (ast.ListComp, ast.GeneratorExp)):
            return self.number(value.elt, scope, line, depth - 1)
        if isinstance(value, ast.Call):
            if _takes_out(value):
                return value.lineno
            if isinstance(value.func, ast.Attribute) and getattr(value.func.value, "id", "") == "math":
                return next(
                    (at for one in value.args if (at := self.number(one, scope, line, depth - 1))), value.lineno
                )
            if _converts(value):
                return next((at for one in value.args if (at := self.number(one, scope, line, depth - 1))), 0)
            if ast.unparse(value.func) in _AVERAGES and value.args:
                return self.number(value.args[0], scope, line, depth - 1)
            if isinstance(value.func, ast.Attribute) and value.func.attr == "values" and not value.args:
                return self.number(value.func.value, scope, line, depth - 1)
            return self._returned(value, None, depth)
        if isinstance(value, (ast.Dict, ast.Tuple, ast.List)):
            items = value.values if isinstance(value, ast.Dict) else value.elts
            return next((at for one in items if (at := self.number(one, scope, line, depth - 1))), 0)
        return 0

    def _of_all(
        self, values: list[tuple[ast.expr | None, int | None, int]], scope: ast.AST, line: int, depth: int
    ) -> int:
        """Of what a name is given, the last up to a line, where all of it is numbers that were taken out."""
        found = 0
        for value, position, at in values:
            if at == self._own:
                continue
            given = _element(value, position) if value is not None and position is not None else value
            if isinstance(given, ast.Constant) or (isinstance(given, ast.List) and not given.elts):
                continue  # (what it begins with, also beside others: ``loss, bonus = 0.0, 0.0``)
            taken = 0
            if value is not None and position is None:
                taken = self.number(value, scope, at, depth - 1)
            elif isinstance(value, ast.Call):
                taken = self._returned(value, position, depth)
            elif isinstance(value, ast.Tuple) and position is not None and position < len(value.elts):
                taken = self.number(value.elts[position], scope, at, depth - 1)
            if not taken:
                return 0
            found = taken if at <= line or not found else found
        return found

    def _of_attribute(self, value: ast.Attribute, scope: ast.AST, depth: int) -> int:
        """Of an attribute of ``self``, where all that the class gives it are numbers that were taken out."""
        owner = next((one for one in ast.walk(self._tree) if isinstance(one, ast.ClassDef) and scope in one.body), None)
        if owner is None or not isinstance(value.value, ast.Name) or value.value.id != "self":
            return 0
        found = 0
        for method in (one for one in owner.body if isinstance(one, Function)):
            for node in ast.walk(method):
                if not isinstance(node, Stored) or isinstance(node.value, ast.Constant):
                    continue
                if any(isinstance(target, ast.Attribute) and target.attr == value.attr for target in _targets(node)):
                    found = self.number(node.value, method, node.lineno, depth - 1)
                    if not found:
                        return 0
        return found

    def _of_item(self, value: ast.Subscript, scope: ast.AST, depth: int) -> int:
        """Of what is under a key that the text has: in a dict that is written out, or stored there by itself."""
        if not isinstance(value.value, ast.Name) or not isinstance(value.slice, ast.Constant):
            return 0
        key, found = value.slice.value, 0
        for node in ast.walk(scope):
            if not isinstance(node, Stored):
                continue
            for target in _targets(node):
                item: ast.expr | None = None
                if isinstance(target, ast.Subscript) and ast.unparse(target) == ast.unparse(value):
                    item = node.value
                elif isinstance(target, ast.Name) and target.id == value.value.id:
                    item = _element(node.value, key)
                    if isinstance(node.value, ast.Call) and item is None:
                        found = self._returned(node.value, key, depth) or found
                if item is not None and not isinstance(item, ast.Constant):
                    found = self.number(item, scope, node.lineno, depth - 1)
                    if not found:
                        return 0
        return found

    def _returned(self, call: ast.Call, key: _Key, depth: int) -> int:
        """Of what a function of the file returns, or of one element of that, where each ``return`` is such a number."""
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        known = [one for one in ast.walk(self._tree) if isinstance(one, Function) and one.name == name]
        if len(known) != 1:
            return 0
        found = 0
        for statement in _own(known[0]):
            if isinstance(statement, ast.Return) and statement.value is not None:
                value: ast.expr | None = statement.value
                if key is not None and value is not None:
                    value = _element(value, key) or ast.Subscript(value, ast.Constant(key))
                found = self.number(value, known[0], statement.lineno, depth - 1) if value is not None else 0
                if not found:
                    return 0
        return found


def _element(value: ast.expr, key: _Key) -> ast.expr | None:
    """What a tuple or a dict that is written out has at a position or under a key."""
    if isinstance(value, (ast.Tuple, ast.List)) and type(key) is int and 0 <= key < len(value.elts):
        return value.elts[key]
    if isinstance(value, ast.Dict):
        for name, item in zip(value.keys, value.values, strict=True):
            if isinstance(name, ast.Constant) and name.value == key:
                return item
    return None


def _targets(statement: Stored) -> list[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The parts of a function without those of functions within it."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            yield from _own(node)


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _iterated(loop: ast.For | ast.comprehension, wanted: str) -> ast.expr | None:
    """What has the items that a loop gives a name: ``for loss, weight in zip(losses, weights)``; None for no loop's."""
    target, values = loop.target, loop.iter
    if getattr(target, "id", "") == wanted:
        return values
    name = values.func.id if isinstance(values, ast.Call) and isinstance(values.func, ast.Name) else ""
    names = [getattr(one, "id", "") for one in target.elts] if isinstance(target, ast.Tuple) else []
    if not isinstance(values, ast.Call) or wanted not in names:
        return None
    at = names.index(wanted) - (name == "enumerate")
    return values.args[at] if name in ("zip", "enumerate") and 0 <= at < len(values.args) else None


def _assigned(scope: ast.AST, wanted: str) -> list[tuple[ast.expr | None, int | None, int]]:
    """What a name is given: the value (None: not known), which element of it (None: all of it), and the line."""
    found: list[tuple[ast.expr | None, int | None, int]] = []
    for node in _own(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                named = target.elts if isinstance(target, ast.Tuple) else [target]
                positions = [position for position, one in enumerate(named) if getattr(one, "id", "") == wanted]
                found += ((node.value, one if named != [target] else None, node.lineno) for one in positions)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            if node.target.id == wanted:
                found.append((node.value, None, node.lineno))
        elif isinstance(node, (ast.For, ast.comprehension)) and (items := _iterated(node, wanted)) is not None:
            found.append((items, None, items.lineno))
        elif isinstance(node, (ast.For, ast.comprehension, ast.NamedExpr)):
            found += ((None, None, 0) for one in ast.walk(node.target) if getattr(one, "id", "") == wanted)
        elif isinstance(node, ast.arg) and node.arg == wanted:
            found.append((None, None, 0))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == f"{wanted}.append" and node.args:
            found.append((node.args[0], None, node.lineno))
        elif isinstance(node, ast.withitem):
            found += [(None, None, 0)] * (getattr(node.optional_vars, "id", "") == wanted)
    return found
