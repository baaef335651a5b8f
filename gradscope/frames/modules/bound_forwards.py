"""Where a text gives an object a function that goes on with the module that it was made for, copied or not.

``module.forward = new_forward`` (a closure over the module), ``self.act = lambda x: x * self.gain``,
``self.attn.forward = timed(self.attn.forward)``, ``self.run = timed(self.attend)``,
``layer.register_forward_hook(lambda m, i, o: o * self.gain)``: ``copy.deepcopy`` copies a function by reference. What
it copies with its object (a method, ``functools.partial``) is none of these.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache

from gradscope.frames.syntax_trees import last_name, parsed

_REGISTERS = re.compile(r"register_\w*hook")
_COPIED_WITH_OBJECT = ("partial", "MethodType", "__get__", "deepcopy")


@lru_cache(maxsize=16)
def bound_forwards(text: str) -> tuple[tuple[int, int], ...]:
    """First and last line of each such statement, in order."""
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    over_self = {one.name for one in nodes if isinstance(one, ast.FunctionDef) and _goes_on_with_self(one)}
    return tuple(
        sorted(
            (node.lineno, node.end_lineno or node.lineno)
            for node in nodes
            if (isinstance(node, ast.Assign) and any(_is_bound(one, node.value, over_self) for one in node.targets))
            or (isinstance(node, ast.Expr) and (_hooks(node.value, over_self) or _sets_forward(node.value)))
        )
    )


def _is_bound(target: ast.expr, value: ast.expr, over_self: set[str]) -> bool:
    if not isinstance(target, ast.Attribute):
        return False
    if target.attr == "forward":
        return _is_function(value)
    if isinstance(value, ast.Call):
        return any(_is_of_self(one) for one in (*value.args, *(one.value for one in value.keywords)))
    return _closes_over_self(value, over_self)


def _is_function(value: ast.expr) -> bool:
    """Whether what is given to ``forward`` may be a function: one by its name, or what a call makes of another."""
    if isinstance(value, ast.Call):
        return last_name(value.func) not in _COPIED_WITH_OBJECT and bool(value.args or value.keywords)
    return isinstance(value, ast.Name | ast.Lambda)


def _sets_forward(value: ast.expr) -> bool:
    """``setattr(module, "forward", function)``."""
    if not isinstance(value, ast.Call) or last_name(value.func) != "setattr" or len(value.args) != 3:
        return False
    name = value.args[1]
    return isinstance(name, ast.Constant) and name.value == "forward" and _is_function(value.args[2])


def _hooks(value: ast.expr, over_self: set[str]) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and bool(_REGISTERS.fullmatch(value.func.attr))
        and any(_closes_over_self(one, over_self) for one in value.args)
    )


def _closes_over_self(value: ast.expr, over_self: set[str]) -> bool:
    if isinstance(value, ast.Lambda):
        return _goes_on_with_self(value)
    return isinstance(value, ast.Name) and value.id in over_self


def _goes_on_with_self(function: ast.FunctionDef | ast.Lambda) -> bool:
    """Whether it reads a ``self`` that it is not given."""
    given = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    reads = any(isinstance(one, ast.Name) and one.id == "self" for one in ast.walk(function))
    return reads and not any(one.arg == "self" for one in given)


def _is_of_self(value: ast.expr) -> bool:
    """Whether it may be a method, ``self.attend``, or the module itself."""
    named = value.value if isinstance(value, ast.Attribute) else value
    return isinstance(named, ast.Name) and named.id == "self"
