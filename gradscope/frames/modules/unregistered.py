"""Where a class keeps modules or parameters so that a module does not know them: what the text of a file tells."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_DISPLAYS = (ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.GeneratorExp)
_BUILTINS = ("list", "tuple", "dict", "set", "defaultdict", "deque", "OrderedDict")
_PUTS = ("append", "extend", "insert", "add", "appendleft")
_CACHED = ("cached_property", "lru_cache", "cache")
_DEPTH = 4
"""How many classes deep a module may be made within another that is kept so."""

HeldAs = Literal["list", "dict", "tensor", "result", "buffer", "class", "cached"]
"""In a ``list`` (or tuple, set) or a ``dict``; as a plain ``tensor`` with requires_grad; as the ``result`` of a call on
a parameter (``nn.Parameter(x).to(device)``), while the parameter itself is dropped; as a ``buffer``; as an attribute of
the ``class``, which all of its objects share; as a ``cached`` property, which is stored past ``__setattr__``."""


class Unregistered(NamedTuple):
    """A statement that keeps what is no part of the module."""

    line: int
    end_line: int
    held_as: HeldAs
    attribute: str
    """``self.layers``."""


def unregistered(text: str, line: int) -> Unregistered | None:
    """How what a line makes is kept on ``self`` or the class, where that is so that a module does not register it.

    Followed: a name of the same function that is stored on ``self`` later, ``append`` and its like, a class that the
    file makes, or a function that it calls, in one place only, and an argument that a class of the file stores. None
    where it is kept otherwise, or where the text does not say for certain.
    """
    tree = parsed(text)
    return None if tree is None else _of_class(tree, line) or _cached(tree, line) or _kept_at(tree, line, _DEPTH)


def _cached(tree: ast.Module, line: int) -> Unregistered | None:
    """The method of a class that makes it, where functools keeps what that returns: ``@cached_property``."""
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    owner = innermost(tree, line, ast.ClassDef)
    if not isinstance(function, _Function) or not isinstance(owner, ast.ClassDef) or function not in owner.body:
        return None
    returned = [node for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    for decorator in function.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        if last_name(named) in _CACHED and any(_is_what_it_returns(function, one, line) for one in returned):
            return Unregistered(
                decorator.lineno, decorator.end_lineno or decorator.lineno, "cached", f"{function.name}"
            )
    return None


def _is_what_it_returns(function: _Function, returned: ast.Return, line: int) -> bool:
    """Whether a return gives what a line makes: the call itself, or a name that the line gives it."""
    if returned.lineno <= line <= (returned.end_lineno or returned.lineno):
        return True
    statement = _statement(function, line)
    return isinstance(statement, ast.Assign) and any(
        ast.unparse(target) == ast.unparse(returned.value) for target in statement.targets if returned.value is not None
    )


def _of_class(tree: ast.Module, line: int) -> Unregistered | None:
    """The attribute of a class that a statement of its body makes: ``scale = nn.Parameter(…)`` outside of methods."""
    owner = innermost(tree, line, ast.ClassDef)
    if not isinstance(owner, ast.ClassDef):
        return None
    for statement in owner.body:
        last = statement.end_lineno or statement.lineno
        if isinstance(statement, ast.Assign) and statement.lineno <= line <= last:
            target = statement.targets[0]
            is_one = len(statement.targets) == 1 and isinstance(target, ast.Name)
            if is_one and not isinstance(statement.value, ast.Lambda):
                return Unregistered(statement.lineno, last, "class", f"{owner.name}.{last_name(target)}")
    return None


def _kept_at(tree: ast.Module, line: int, depth: int) -> Unregistered | None:
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(function, _Function) and function.args.args and function.args.args[0].arg == "self":
        statement = _statement(function, line)
        owner = innermost(tree, line, ast.ClassDef)
        found = None if statement is None else _of_statement(function, statement, owner)
        if found is not None or depth == 0:
            return found
        made = _made_once(tree, owner.name) if isinstance(owner, ast.ClassDef) and function.name == "__init__" else None
    else:
        found = _as_argument(tree, function or tree, line)
        if found is not None or depth == 0:
            return found
        made = _made_once(tree, function.name) if isinstance(function, _Function) else None
    return None if made is None else _kept_at(tree, made, depth - 1)


def _as_argument(tree: ast.Module, scope: ast.AST, line: int) -> Unregistered | None:
    """How a class of the file stores the list that a line makes, where it is an argument: ``Mixture([a, b])``."""
    for call in ast.walk(scope):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        for position, value in enumerate(call.args):
            made = _made_before(scope, value.id) if isinstance(value, ast.Name) else value
            if made is not None and made.lineno <= line <= (made.end_lineno or 0) and (held_as := _plain(made)):
                return _stored_argument(tree, call.func.id, position, held_as)
    return None


def _made_before(scope: ast.AST, name: str) -> ast.expr | None:
    """What a scope gives a name; None where it gives it more than one value."""
    stores = [node.value for node in _stores(scope) if ast.unparse(node.targets[0]) == name]
    return stores[0] if len(stores) == 1 else None


def _stored_argument(tree: ast.Module, owner: str, position: int, held_as: HeldAs) -> Unregistered | None:
    """The statement by which ``__init__`` of a class stores an argument on ``self`` as it is, its only use."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner]
    inits = [node for one in classes for node in one.body if isinstance(node, ast.FunctionDef)]
    init = next((node for node in inits if node.name == "__init__"), None)
    if len(classes) != 1 or init is None or position + 1 >= len(init.args.args):
        return None
    name = init.args.args[position + 1].arg
    kept = [node for node in _stores(init) if _copied(node.value) == name and _is_on_self(node.targets[0])]
    used = [node for node in ast.walk(init) if isinstance(node, ast.Name) and node.id == name]
    return _found(kept[0], held_as, kept[0].targets[0]) if len(kept) == len(used) == 1 else None


def _statement(function: _Function, line: int) -> ast.stmt | None:
    """The simple statement at a line."""
    return next(
        (
            node
            for node in ast.walk(function)
            if isinstance(node, ast.Assign | ast.Expr | ast.AugAssign)
            and node.lineno <= line <= (node.end_lineno or node.lineno)
        ),
        None,
    )


def _made_once(tree: ast.Module, name: str) -> int | None:
    """The line of the only call of a class in a file."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]
    return calls[0].lineno if len(calls) == 1 else None


def _of_statement(function: _Function, statement: ast.stmt, owner: ast.stmt | None) -> Unregistered | None:
    if isinstance(statement, ast.Expr):
        method = statement.value.func if isinstance(statement.value, ast.Call) else None
        if isinstance(statement.value, ast.Call) and (buffer := _buffer(statement.value)):
            return Unregistered(statement.lineno, statement.end_lineno or statement.lineno, "buffer", buffer)
        is_put = isinstance(method, ast.Attribute) and method.attr in _PUTS
        return _holder(function, method.value, owner) if isinstance(method, ast.Attribute) and is_put else None
    if isinstance(statement, ast.AugAssign):
        return _holder(function, statement.target, owner)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target, value = statement.targets[0], statement.value
    if isinstance(target, ast.Subscript):
        return _holder(function, target.value, owner)
    held_as = _plain(value) or _no_parameter(value)
    if held_as is None:
        return None
    if _is_on_self(target):
        return _found(statement, held_as, target)
    if held_as == "tensor":
        return _as_buffer(function, ast.unparse(target))
    return _holder(function, target) if held_as in ("list", "dict") else None


def _buffer(call: ast.Call) -> str:
    """The attribute that a call registers as a buffer, where the call makes what it registers; empty for others."""
    if ast.unparse(call.func) != "self.register_buffer" or len(call.args) < 2:
        return ""
    name, value = call.args[:2]
    is_trained = _no_parameter(value) == "tensor" or ast.unparse(value).startswith(("nn.Parameter(", "Parameter("))
    return f"self.{name.value!s}" if isinstance(name, ast.Constant) and is_trained else ""


def _as_buffer(function: _Function, name: str) -> Unregistered | None:
    """Where a function registers what a name holds as a buffer."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) != "self.register_buffer" or len(node.args) < 2:
            continue
        key, value = node.args[:2]
        if isinstance(key, ast.Constant) and isinstance(value, ast.Name) and value.id == name:
            return Unregistered(node.lineno, node.end_lineno or node.lineno, "buffer", f"self.{key.value!s}")
    return None


def _holder(function: _Function, holder: ast.expr, owner: ast.stmt | None = None) -> Unregistered | None:
    """Where a container that a function fills is kept on ``self``, if it is a plain one; by whatever method."""
    name, stores = ast.unparse(holder), list(_stores(function))
    made = [node for node in stores if ast.unparse(node.targets[0]) == name]
    if not made and owner is not None and _is_on_self(holder):
        made = [node for node in _stores(owner) if ast.unparse(node.targets[0]) == name]
    held_as = _plain(made[0].value) if len(made) == 1 else None
    if held_as is None:
        return None
    if _is_on_self(holder):
        return _found(made[0], held_as, holder)
    kept = [node for node in stores if name == _copied(node.value) and _is_on_self(node.targets[0])]
    others = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
    ]
    puts = sum(
        isinstance(node, ast.Attribute) and node.attr in _PUTS and ast.unparse(node.value) == name
        for node in ast.walk(function)
    )
    if len(kept) != 1 or len(others) != puts + 1:  # (it may be registered elsewhere: ``nn.Sequential(*layers)``)
        return None
    return _found(kept[0], held_as, kept[0].targets[0])


def _stores(function: ast.AST) -> Iterator[ast.Assign]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Assign) and len(node.targets) == 1)


def _found(statement: ast.Assign, held_as: HeldAs, target: ast.expr) -> Unregistered:
    return Unregistered(statement.lineno, statement.end_lineno or statement.lineno, held_as, ast.unparse(target))


def _is_on_self(target: ast.expr) -> bool:
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"


def _copied(value: ast.expr) -> str:
    """The name that a value is, or that ``list(name)`` copies."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in _BUILTINS and len(value.args) == 1:
        value = value.args[0]
    return value.id if isinstance(value, ast.Name) else ""


def _plain(value: ast.expr) -> HeldAs | None:
    """Whether a value is a list or a dict of Python's own."""
    if isinstance(value, ast.Dict | ast.DictComp):
        return "dict"
    if isinstance(value, _DISPLAYS):
        return "list"
    if isinstance(value, ast.Call) and ast.unparse(value.func).rpartition(".")[2] in _BUILTINS:
        return "dict" if "ict" in ast.unparse(value.func) else "list"
    return None


def _no_parameter(value: ast.expr) -> HeldAs | None:
    """Whether a value is a tensor with requires_grad that is no parameter, or a result of a call on a parameter."""
    if isinstance(value, ast.BinOp):
        sides = (side for side in (value.left, value.right) if isinstance(side, ast.Call))
        return "result" if any(_is_parameter(side) or _no_parameter(side) is not None for side in sides) else None
    if not isinstance(value, ast.Call):
        return None
    if isinstance(value.func, ast.Attribute) and isinstance(value.func.value, ast.Call):
        if _is_parameter(value.func.value):
            return None if value.func.attr.endswith("_") else "result"
        if value.func.attr == "requires_grad_":
            return "tensor"
        if _no_parameter(value.func.value) is not None:  # torch.randn(3, requires_grad=True).to(device)
            return "result"
    has_it = any(
        one.arg == "requires_grad" and isinstance(one.value, ast.Constant) and one.value.value is True
        for one in value.keywords
    )
    return "tensor" if has_it and not ast.unparse(value.func).endswith("Parameter") else None


def _is_parameter(call: ast.Call) -> bool:
    return ast.unparse(call.func).rpartition(".")[2] == "Parameter"


def is_in_module_method(text: str, line: int) -> bool:
    """Whether a line is in a class that has a ``forward``: what its methods make in each call is no part of it."""
    tree = parsed(text)
    owner = innermost(tree, line, ast.ClassDef) if tree is not None else None
    members = owner.body if isinstance(owner, ast.ClassDef) else []
    return any(isinstance(member, _Function) and member.name == "forward" for member in members)
