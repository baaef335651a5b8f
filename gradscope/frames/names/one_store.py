"""Whether two expressions read one list or dict, where the text shows that: it was made once for both."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.names.list_defaults import list_default
from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_PASSES_ON = frozenset(("detach", "clone", "float", "double", "to", "data", "get", "values"))
"""What gives an item of a list or dict, or what is made of the item alone."""
_MAKERS = frozenset(("list", "dict", "deque", "defaultdict", "OrderedDict"))
_DEPTH = 8


class OneStore(NamedTuple):
    """A list or dict that two names, or the attributes of two objects, have in common."""

    lines: tuple[tuple[int, int], ...]
    """First and last line of what makes it one, the one to change first."""
    default: str
    """The argument whose default it is; empty where it is none."""
    function: str


def two_sides(source: str) -> tuple[ast.expr, ast.expr] | None:
    """The two things that a call or a difference takes; None where these are not two texts."""
    try:
        node = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return None
    if isinstance(node, ast.BinOp):
        pair = [node.left, node.right]
    elif isinstance(node, ast.Call) and not any(isinstance(one, ast.Starred) for one in node.args):
        named = [one.value for one in node.keywords if one.arg in ("input", "target")]
        pair = [*node.args[:2], *named][:2]
    else:
        return None
    if len(pair) < 2 or ast.unparse(_item(pair[0])) == ast.unparse(_item(pair[1])):
        return None
    return pair[0], pair[1]


def one_store(text: str, line: int, sides: tuple[ast.expr, ast.expr]) -> OneStore | None:
    """What makes the lists or dicts one that two expressions at a line take an item of; None where that is not shown.

    Args:
        text: Source of the file.
        line: Where the expressions stand.
        sides: The two.
    """
    tree = parsed(text)
    if tree is None:
        return None
    one, other = (_store(tree, line, side) for side in sides)
    if not last_name(one) or not last_name(other) or ast.unparse(one) == ast.unparse(other):
        return None
    if last_name(one) == last_name(other):
        return _of_class(tree, last_name(one))
    return _of_names(text, tree, last_name(one), last_name(other))


def _item(side: ast.expr) -> ast.expr:
    """An expression without what only passes a tensor on: ``a`` of ``a.detach()``."""
    for _ in range(_DEPTH):
        if isinstance(side, ast.Call) and isinstance(side.func, ast.Attribute) and side.func.attr in _PASSES_ON:
            side = side.func.value
        elif isinstance(side, ast.Attribute) and side.attr == "data":
            side = side.value
        else:
            break
    return side


def _store(tree: ast.Module, line: int, side: ast.expr) -> ast.expr:
    """The list or dict of which an expression takes an item, by a loop over several side by side as well."""
    for _ in range(_DEPTH):
        if isinstance(side, ast.Subscript):
            side = side.value
        elif isinstance(side, ast.Call) and isinstance(side.func, ast.Attribute) and side.func.attr in _PASSES_ON:
            side = side.func.value
        elif isinstance(side, ast.Name) and (iterated := _iterated(tree, line, side.id)) is not None:
            side = iterated
        else:
            break
    return side


def _iterated(tree: ast.Module, line: int, name: str) -> ast.expr | None:
    """Of what a name is the item where ``zip`` walks several things at a line."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.For, *_COMPREHENSIONS)) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        loops = [node] if isinstance(node, ast.For) else node.generators
        for loop in loops:
            walked = loop.iter
            if isinstance(loop.target, ast.Tuple) and isinstance(walked, ast.Call) and last_name(walked.func) == "zip":
                for target, value in zip(loop.target.elts, walked.args, strict=False):
                    if isinstance(target, ast.Name) and target.id == name:
                        return value
    return None


def _of_names(text: str, tree: ast.Module, one: str, other: str) -> OneStore | None:
    """What makes two names one list or dict, each of which the text gives a value once."""
    given = {name: list(_given(tree, name)) for name in (one, other)}
    if any(len(statements) != 1 for statements in given.values()):
        return None
    (first, value), (second, other_value) = (given[name][0] for name in (one, other))
    lines = tuple(sorted({(at.lineno, at.end_lineno or at.lineno) for at in (first, second)}))
    if first is second and (value is other_value or _is_repeated(first.value)):
        is_made = _is_made(value) or _is_repeated(first.value)
        return OneStore(lines, "", "") if is_made else None
    if isinstance(value, ast.Call) and isinstance(other_value, ast.Call):
        return _of_calls(text, tree, (value, other_value), lines)
    is_one = last_name(value) != "" and ast.unparse(value) == ast.unparse(other_value)
    return OneStore(lines[::-1], "", "") if is_one else None


def _of_calls(
    text: str, tree: ast.Module, calls: tuple[ast.Call, ast.Call], lines: tuple[tuple[int, int], ...]
) -> OneStore | None:
    """What makes the results of two calls one: the default of an argument, a list of the file's, or what both give."""
    names = {last_name(call.func) for call in calls}
    found = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and node.name in names]
    if len(names) != 1 or len(found) != 1:
        return None
    function = found[0]
    own = [node for node in _own(function) if isinstance(node, ast.Return)]
    returned = {node.value.id if isinstance(node.value, ast.Name) else "" for node in own}
    name = returned.pop() if len(returned) == 1 else ""
    stored = [node.id for node in _own(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    if not name or name in stored:
        return None
    default = list_default(text, function.lineno, name)
    if default is not None:
        return OneStore(((default.line, default.end_line), *lines), name, function.name)
    positional = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    if name in positional:
        position = positional.index(name) - (positional[0] in ("self", "cls"))
        taken = [_argument(call, name, position) for call in calls]
        texts = {ast.unparse(one) for one in taken if one is not None and last_name(one)}
        return OneStore(lines[::-1], "", "") if len(texts) == 1 and None not in taken else None
    made = [at for at in _made_at(tree.body, name) if at is not None]
    return OneStore((made[0], *lines), "", function.name) if len(made) == 1 else None


def _of_class(tree: ast.Module, attribute: str) -> OneStore | None:
    """What makes an attribute of several objects one: the body of their class, or the default of an argument."""
    stores = [
        (node, value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target, value in assigned_pairs(node)
        if isinstance(target, ast.Attribute) and target.attr == attribute
    ]
    if not stores:
        made = [
            at for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for at in _made_at(node.body, attribute)
        ]
        return OneStore((made[0],), "", "") if len(made) == 1 else None
    node, value = stores[0]
    owner = innermost(tree, node.lineno, ast.ClassDef)
    function = innermost(tree, node.lineno, *_FUNCTIONS)
    if len(stores) > 1 or not isinstance(value, ast.Name) or not isinstance(owner, ast.ClassDef):
        return None
    if not isinstance(function, ast.FunctionDef) or function not in owner.body or function.name != "__init__":
        return None
    default = _default(function, value.id)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == owner.name]
    arguments = [one.arg for one in function.args.args][1:]
    position = arguments.index(value.id) if value.id in arguments else len(arguments)
    if default is None or any(_may_give(call, value.id, position) for call in calls):
        return None
    return OneStore(((default.lineno, default.end_lineno or default.lineno),), value.id, owner.name)


def _default(function: ast.FunctionDef, name: str) -> ast.expr | None:
    """The list or dict that is the default of an argument."""
    arguments = function.args
    positional = zip(arguments.args[::-1], arguments.defaults[::-1], strict=False)
    pairs = [*positional, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return next((value for one, value in pairs if one.arg == name and value is not None and _is_made(value)), None)


def _made_at(body: list[ast.stmt], name: str) -> list[tuple[int, int]]:
    """The lines of a block that give a name a new list or dict."""
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in body
        if isinstance(node, ast.Assign)
        for target, value in assigned_pairs(node)
        if isinstance(target, ast.Name) and target.id == name and _is_made(value)
    ]


def _given(tree: ast.Module, name: str) -> Iterator[tuple[ast.Assign, ast.expr]]:
    """The assignments to a name, or to an attribute so called, with the value of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target, value in assigned_pairs(node):
                targets = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
                yield from ((node, value) for one in targets if last_name(one) == name)


def _argument(call: ast.Call, name: str, position: int) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    is_plain = not any(isinstance(one, ast.Starred) for one in call.args)
    return call.args[position] if is_plain and position < len(call.args) else None


def _may_give(call: ast.Call, name: str, position: int) -> bool:
    is_open = any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords)
    return is_open or _argument(call, name, position) is not None


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The parts of a function, without those of functions within it."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
            stack.extend(ast.iter_child_nodes(node))


def _is_made(value: ast.expr) -> bool:
    is_call = isinstance(value, ast.Call) and last_name(value.func) in _MAKERS
    return isinstance(value, ast.List | ast.Dict) or is_call


def _is_repeated(value: ast.expr) -> bool:
    """Whether a value is one list or dict several times: ``[{}] * 2``."""
    sides = (value.left, value.right) if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Mult) else ()
    return any(
        isinstance(side, ast.List | ast.Tuple) and len(side.elts) == 1 and _is_made(side.elts[0]) for side in sides
    )
