"""Where a text gives what one name holds a second name, or puts it into a list, without a copy."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_PUTS = ("append", "appendleft", "add", "insert")
_PARAMETERS = ("parameters", "named_parameters", "buffers", "named_buffers", "items", "values")
_COPIES = ("clone", "deepcopy", "copy_", "numpy", "detach", "data", "state_dict")
_COLLECTS = ("list", "tuple", "dict", "OrderedDict")


class Given(NamedTuple):
    """A statement, or an expression, of the text."""

    line: int
    end_line: int
    name: str
    """The second name, or the list that something is put into."""
    of: str
    """What it was given to; empty where the text does not name it."""


def second_names(text: str, names: Collection[str], *, same_part: bool = True) -> list[Given]:
    """Assignments by which several of a tensor's names may have come to hold it.

    ``a = b``, ``a = c if … else b``, ``self.target = self.policy``, ``x.weight = y.weight``,
    ``best = copy.copy(model)``, ``backup = list(model.parameters())`` and a dict with one name under two keys.

    Args:
        text: Source of the file.
        names: All names under which the one tensor was seen.
        same_part: Also what gives an attribute of one object to the same one of another: ``a.weight = b.weight``.
    """
    tree = parsed(text)
    found = []
    for target, value in _assigned(tree) if tree is not None else ():
        name, taken = ast.unparse(target), _taken_whole(value)
        given = [of for of in taken if name != of and _is_second(name, of, names, same_part=same_part)]
        if given:
            found.append(Given(target.lineno, value.end_lineno or value.lineno, name, given[0]))
        elif not taken and _collects_parameters(value) and any(_is_item(one, name) for one in names):
            found.append(Given(target.lineno, value.end_lineno or value.lineno, name, ""))
    return found


def fields_given(text: str, names: Collection[str]) -> list[Given]:
    """Calls that make an object with what one name holds as a field, by which it was seen: ``Batch(x, logp=logp)``."""
    tree = parsed(text)
    return [
        Given(node.lineno, node.end_lineno or node.lineno, field, keyword.value.id)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Call) and last_name(node.func)[:1].isupper()
        for keyword in node.keywords
        if isinstance(keyword.value, ast.Name) and keyword.value.id in names
        for field in names
        if field.endswith(f".{keyword.arg}")
    ]


def keys_of_one(text: str, names: Collection[str]) -> list[Given]:
    """Dicts that give one name under two keys, by which keys a tensor was seen: ``{"x": t, "y": t}``."""
    tree = parsed(text)
    found = []
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Dict):
            held: dict[str, list[str]] = {}
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                    is_seen = any(one.endswith(f"[{key.value!r}]") for one in names)
                    held.setdefault(value.id, []).extend([repr(key.value)] * is_seen)
            for of, keys in held.items():
                if len(keys) > 1:
                    found.append(Given(node.lineno, node.end_lineno or node.lineno, " and ".join(keys[:2]), of))
    return found


def puts(text: str, names: Collection[str]) -> list[Given]:
    """Calls in loops and functions that put what one of some names holds into a list as it is."""
    tree = parsed(text)
    found = []
    for node in _repeated(tree) if tree is not None else ():
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in _PUTS:
            continue
        for value in node.args[-1:]:
            parts = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
            parts = value.values if isinstance(value, ast.Dict) else parts
            held = [ast.unparse(part) for part in parts if isinstance(part, ast.Name | ast.Attribute)]
            taken = next((one for one in held if one in names), "")
            if taken:
                found.append(Given(node.lineno, node.end_lineno or node.lineno, ast.unparse(node.func.value), taken))
    return found


def yields(text: str, names: Collection[str]) -> list[Given]:
    """Where a generator in a loop gives what one of some names holds as it is, alone or in a tuple or dict."""
    tree = parsed(text)
    found = []
    given = (node for node in _repeated(tree) if isinstance(node, ast.Yield)) if tree is not None else ()
    for node in given:
        value = node.value
        parts = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
        parts = value.values if isinstance(value, ast.Dict) else parts
        held = [ast.unparse(part) for part in parts if isinstance(part, ast.Name | ast.Attribute)]
        taken = next((one for one in held if one in names), "")
        if taken:
            found.append(Given(node.lineno, node.end_lineno or node.lineno, "", taken))
    return found


def repetitions(text: str, containers: Collection[str]) -> list[Given]:
    """Assignments of a list that is one thing several times: ``h = [torch.zeros(3)] * n``."""
    tree = parsed(text)
    found = []
    for target, value in _assigned(tree) if tree is not None else ():
        name = ast.unparse(target)
        listed = value.args[0] if isinstance(value, ast.Call) and value.args else value
        is_seen = name in containers or (
            name.startswith("self.") and any(_is_attribute(one, name) for one in containers)
        )
        if is_seen and isinstance(listed, ast.BinOp) and isinstance(listed.op, ast.Mult):
            sides = (side for side in (listed.left, listed.right) if isinstance(side, ast.List))
            if any(len(side.elts) == 1 for side in sides):
                found.append(Given(target.lineno, value.end_lineno or value.lineno, name, ""))
    return found


def _is_attribute(name: str, of_self: str) -> bool:
    """Whether a name ends in an attribute that a method calls by ``self``: ``server.controls``."""
    return name.endswith(of_self.removeprefix("self")) and "[" not in name


def keys_from_one(text: str, names: Collection[str]) -> list[Given]:
    """Dicts that ``dict.fromkeys`` gives one thing under all keys, by several of which a tensor was seen."""
    tree = parsed(text)
    found = []
    for target, value in _assigned(tree) if tree is not None else ():
        if not isinstance(value, ast.Call) or ast.unparse(value.func) != "dict.fromkeys" or len(value.args) != 2:
            continue
        name = ast.unparse(target)
        held = [one for one in names if one.endswith("]")]
        keys = sorted(
            one.rpartition("[")[2].removesuffix("]")
            for one in held
            if (container := one.rpartition("[")[0]) == name or _is_attribute(container, name)
        )
        if len(set(keys)) > 1:
            end = value.end_lineno or value.lineno
            found.append(Given(target.lineno, end, f"{keys[0]} and {keys[1]}", ast.unparse(value.args[1])))
    return found


def walked_together(text: str, line: int) -> list[str]:
    """What the loops around a line walk side by side: ``a`` and ``b`` of ``zip(a.parameters(), b.parameters())``."""
    tree = parsed(text)
    found: list[str] = []
    for node in ast.walk(tree) if tree is not None else ():
        if not isinstance(node, ast.For) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        if isinstance(node.iter, ast.Call) and ast.unparse(node.iter.func) == "zip":
            for walked in node.iter.args:
                called = walked.func if isinstance(walked, ast.Call) else None
                if isinstance(called, ast.Attribute) and called.attr in _PARAMETERS:
                    found.append(ast.unparse(called.value))
    return found


def function_around(text: str, line: int) -> tuple[int, int]:
    """First and last line of the innermost function around a line; of the file where there is none."""
    tree = parsed(text)
    found = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    return (1, len(text.split("\n"))) if found is None else (found.lineno, found.end_lineno or found.lineno)


def first_statement(text: str, line: int) -> tuple[int, int] | None:
    """First and last line of the first statement of the innermost function around a line; None outside of functions."""
    tree = parsed(text)
    found = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    body = found.body[1:] if ast.get_docstring(found) and len(found.body) > 1 else found.body
    return body[0].lineno, body[0].end_lineno or body[0].lineno


@lru_cache(maxsize=256)  # asked for every tensor that a loop writes
def default_arguments(text: str, line: int) -> tuple[str, int, int, int, int] | None:
    """The argument whose default is made at a line of a function's header.

    Returns:
        The argument, first and last line of the header, and of the body; None where the line is no such header.
    """
    tree = parsed(text)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            pairs = [*zip(positional[::-1], node.args.defaults[::-1], strict=False)]
            pairs += [
                (one, value) for one, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value
            ]
            for argument, value in pairs:
                if isinstance(value, ast.Call) and value.lineno <= line <= (value.end_lineno or value.lineno):
                    last = node.body[-1].end_lineno or node.body[-1].lineno
                    return argument.arg, value.lineno, value.end_lineno or value.lineno, node.body[0].lineno, last
    return None


def _assigned(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Every name or attribute that is assigned, with its value; of tuples each."""
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Assign)):
        yield from (pair for pair in assigned_pairs(node) if isinstance(pair[0], ast.Name | ast.Attribute))


def _taken_whole(value: ast.expr) -> list[str]:
    """The name that is given as it is, or by ``copy.copy``, which copies no tensor; none for other values.

    Of a choice (``a if … else b``, ``a or b``, ``kept.get("a", b)``) those that it may take.
    """
    if isinstance(value, ast.IfExp):
        return [*_taken_whole(value.body), *_taken_whole(value.orelse)]
    if isinstance(value, ast.BoolOp):
        return [of for one in value.values for of in _taken_whole(one)]
    if isinstance(value, ast.Call) and not value.keywords:
        called = ast.unparse(value.func)
        if len(value.args) == 1 and called in ("copy.copy", "copy"):
            return _taken_whole(value.args[0])
        if (called == "getattr" and len(value.args) == 3) or (last_name(value.func) == "get" and len(value.args) == 2):
            return _taken_whole(value.args[-1])
    return [ast.unparse(value)] if isinstance(value, ast.Name | ast.Attribute) or _is_first_item(value) else []


def _is_second(name: str, of: str, names: Collection[str], *, same_part: bool) -> bool:
    """Whether a name may have come to hold a tensor by being given what another one held."""
    if "." in name and "." in of and name.rpartition(".")[2] == of.rpartition(".")[2]:
        return same_part and _are_same_part(name, names)
    return _are_ends(name, of, names)


def _is_first_item(value: ast.expr) -> bool:
    """Whether a value is one item of a container, by a number: ``models[0]``."""
    if not isinstance(value, ast.Subscript) or not isinstance(value.value, ast.Name | ast.Attribute):
        return False
    index = value.slice.operand if isinstance(value.slice, ast.UnaryOp) else value.slice
    return isinstance(index, ast.Constant) and isinstance(index.value, int | str)


def _is_item(name: str, container: str) -> bool:
    """Whether a name is that of an item, which is the tensor itself and no module that has it."""
    return name.startswith(f"{container}[") and name.find("]", len(container)) == len(name) - 1


def _are_ends(name: str, of: str, names: Collection[str]) -> bool:
    """Whether both names lead to the tensor by the same further path: ``best`` and ``model`` of ``….weight``."""
    rests = {one[len(name) :] for one in names if one == name or one.startswith((f"{name}.", f"{name}["))}
    return any(of + rest in names for rest in rests)


def _are_same_part(name: str, names: Collection[str]) -> bool:
    """Whether an attribute is what the tensor is called: ``target.weight = policy.weight``."""
    return any(one.endswith(f".{name.rpartition('.')[2]}") for one in names)


def _collects_parameters(value: ast.expr) -> bool:
    """Whether a list or dict of parameters themselves is made: no copies of them, nor their values."""
    is_listed = isinstance(value, ast.ListComp | ast.DictComp) or (
        isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _COLLECTS
    )
    attributes = {node.attr for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    return is_listed and bool(attributes & {*_PARAMETERS}) and not attributes & {*_COPIES}


def _repeated(tree: ast.Module) -> Iterator[ast.AST]:
    """What stands in a loop or a function."""
    seen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.AsyncFunctionDef):
            for inner in ast.walk(node):
                if id(inner) not in seen:
                    seen.add(id(inner))
                    yield inner


def gives_back_what_it_takes(text: str, line: int) -> bool:
    """Whether the function around a line returns a value, and the line gives a name what is made of an argument alone.

    ``adv = x.detach()``, ``adv = x.data.requires_grad_()`` with an argument ``x``, under another name than that.
    """
    tree = parsed(text)
    function = innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef) if tree is not None else None
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    arguments = {one.arg for one in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)}
    if not any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(function)):
        return False
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and node.lineno <= line <= (node.end_lineno or node.lineno):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute | ast.Call):
                root = root.func if isinstance(root, ast.Call) else root.value
            is_other = all(isinstance(one, ast.Name) for one in node.targets)
            return isinstance(root, ast.Name) and root.id in arguments - {"self"} and is_other
    return False
