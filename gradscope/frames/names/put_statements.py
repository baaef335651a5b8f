"""Where a text puts something into a list, dict or set, and who hands it to the function that does.

``rows.append(x)``, ``kept[key] = x``, ``heappush(rows, x)``, ``rows += [x]``, ``rows = rows + [x]``,
``rows = [*rows, x]``,
``rows = [f(b) for b in batches]``, ``node = Node(x, node)``. What can hold no graph, as far as the text shows (numbers,
``x.detach()``, an empty list), is no such thing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.names.object_listings import lists_objects
from gradscope.frames.syntax_trees import dotted_name, innermost, parsed

_PUTS = ("append", "appendleft", "add", "insert", "extend", "extendleft", "put")
_PUT_FUNCTIONS = ("heappush", "heappushpop", "heapreplace", "insort", "insort_left", "insort_right")
"""Functions that put their second argument into their first."""
_GRAPHLESS = ("detach", "item", "numpy", "tolist", "data")
_NUMBERS = ("float", "int", "bool", "len", "str", "round", "range")
_CONTAINERS = ("list", "dict", "set", "deque", "defaultdict", "OrderedDict", "collections")
_TAKES_ALL = ("list", "tuple", "islice", "enumerate", "zip", "reversed", "filter", "iter", "tqdm", "chain")
"""Functions that give on what they are given, item by item."""
_ITEMS = ("items", "values")
_OF_HOOK = 3
"""Parameters of a forward hook: module, inputs, output."""
_CODE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_HELD_IN = re.compile(r"(\w+)\[")


class Put(NamedTuple):
    """A statement or call that puts something somewhere."""

    line: int
    end_line: int
    holder: str
    """What the text calls the list or dict: ``self.rows``."""
    names: tuple[str, ...]
    """The names, attributes and items of these (``out['loss']``) among what is put there as it is."""
    calls: tuple[str, ...]
    """The functions whose results are put there as they are, by the last part of their names."""
    function: str
    """The function around it; empty for none."""
    parameters: tuple[str, ...]
    """The parameters of that function, without the object of a method."""
    collecting: tuple[str, ...]
    """Those of them that take any number of arguments: ``rows`` of ``*rows``."""
    selected_from: str = ""
    """What a comprehension takes its items from that puts them there as they are: ``rows`` of ``[r for r in rows]``."""


class Handed(NamedTuple):
    """A call of the program's that hands something to a function of its own."""

    line: int
    end_line: int
    value: str
    """Text of what it hands."""


@lru_cache(maxsize=16)
def puts_in(text: str) -> tuple[Put, ...]:
    """All places of a text that put there what may have a graph."""
    tree = parsed(text)
    if tree is None:
        return ()
    found = []
    for node, code in _with_code(tree, None):
        for holder, values in _held(node):
            parts = [part for value in values for part in _parts(value) if not _has_no_graph(part)]
            if holder and parts:
                found.append(_put(node, holder, parts, code))
    return tuple(found)


@lru_cache(maxsize=64)
def given_out_by(text: str, name: str) -> frozenset[str]:
    """What a text calls the dict or list whose items a loop calls by a name: ``store`` of ``acts``.

    ``for key, acts in store.items()``, ``for acts in rows``.
    """
    tree = parsed(text)
    found = set[str]()
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.For | ast.comprehension):
            targets = {one.id for one in ast.walk(node.target) if isinstance(one, ast.Name)}
            source = node.iter
            if isinstance(source, ast.Call) and isinstance(source.func, ast.Attribute) and source.func.attr in _ITEMS:
                source = source.func.value
            if name in targets and isinstance(source, ast.Name | ast.Attribute):
                found.add(last_part(dotted_name(source)))
    return frozenset(found)


def is_given_what_returns(text: str, put: Put, function: str) -> bool:
    """Whether what is put there was given, in the function around, what another one returned: ``out = step(batch)``."""
    tree = parsed(text)
    for node, code in _with_code(tree, None) if tree is not None else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and function_of(code)[0] == put.function:
            names = {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
            if last_part(dotted_name(node.value.func)) == function and not names.isdisjoint(put.names):
                return True
    return False


def returned_by(text: str, function: str) -> set[str]:
    """The names of what functions of a name return as it is, by itself or as a part of a tuple, dict or object."""
    tree = parsed(text)
    return {
        dotted_name(part)
        for node, code in (_with_code(tree, None) if tree is not None else ())
        if isinstance(node, ast.Return) and node.value is not None and function_of(code)[0] == function
        for part in parts_with_graphs(node.value)
    }


def keeps_output_of_hook(put: Put) -> bool:
    """Whether a place keeps the whole output that a forward hook is given: its third parameter."""
    return len(put.parameters) == _OF_HOOK and put.names == (put.parameters[-1],) and not put.collecting


def added_at(text: str, line: int) -> Put | None:
    """The assignment of a function at a line, with the names that go into it, as what puts them where it assigns to.

    Likewise a call that writes what it is given into its object: ``self.state.index_copy_(0, ids, values)``.
    """
    tree = parsed(text)
    for node, code in _with_code(tree, None) if tree is not None else ():
        if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or 0):
            continue
        given, holder = _taken_in(node)
        if holder is not None:
            found = [one for value in given for one in _names_with_graphs(value) if isinstance(one, ast.Name)]
            return _put(node, ast.unparse(holder), [*found], code)
    return None


def _taken_in(statement: ast.stmt) -> tuple[list[ast.expr], ast.expr | None]:
    """What a statement takes in, and what it puts that into."""
    if isinstance(statement, ast.Assign):
        return [statement.value], statement.targets[0]
    if isinstance(statement, ast.AugAssign):
        return [statement.value], statement.target
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_"):
        return [*call.args, *(one.value for one in call.keywords)], call.func.value
    return [], None


def _names_with_graphs(value: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression, without those of parts that have no graph."""
    if isinstance(value, ast.expr) and _has_no_graph(value):
        return
    yield value
    for child in ast.iter_child_nodes(value):
        yield from _names_with_graphs(child)


def name_of_function_around(text: str, line: int) -> str:
    """The name of the innermost function around a line; empty for none."""
    tree = parsed(text)
    function = None if tree is None else innermost(tree, line, ast.FunctionDef, ast.AsyncFunctionDef)
    return getattr(function, "name", "")


def containers_of(name: str) -> list[str]:
    """The lists and dicts in the name of an item, the innermost first: ``seen`` of ``monitor.seen['0'][3]``."""
    return _HELD_IN.findall(name)[::-1]


def last_part(name: str) -> str:
    """``rows`` of ``self.rows``."""
    return name.rpartition(".")[2]


def handed_to(text: str, put: Put, names: Collection[str], lines: Collection[int]) -> list[Handed]:
    """Calls that hand the function around a place what it puts there.

    Args:
        text: Source of a file.
        put: The place.
        names: What the thing is called; a call hands it where an argument is one of these.
        lines: Lines that made it; a call hands it where one of them is the call's.
    """
    wanted = [put.parameters.index(name) for name in put.names if name in put.parameters]
    tree = parsed(text)
    if not wanted or tree is None:
        return []
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or last_part(dotted_name(node.func)) != put.function:
            continue
        end = node.end_lineno or node.lineno
        for value in arguments_for(node, put, wanted):
            parts = [*parts_with_graphs(value)]
            is_made_here = any(node.lineno <= line <= end for line in lines)
            if parts and (is_made_here or any(dotted_name(part) in names for part in parts)):
                found.append(Handed(node.lineno, end, ast.unparse(value)))
                break
    return found


def arguments_for(call: ast.Call, put: Put, wanted: list[int]) -> Iterator[ast.expr]:
    """What a call gives for some parameters; ``*rows`` and ``**values`` take all that no other parameter does."""
    names = [put.parameters[at] for at in wanted]
    plain = [name for name in put.parameters if name not in put.collecting]
    if any(name in put.collecting for name in names):
        yield from call.args[len(plain) :]
        yield from (one.value for one in call.keywords if one.arg not in plain)
    yield from (call.args[at] for at in wanted if at < len(call.args) and put.parameters[at] in plain)
    yield from (one.value for one in call.keywords if one.arg in names)


def _put(node: ast.AST, holder: str, parts: list[ast.expr], code: ast.AST | None) -> Put:
    items = (ast.unparse(part) for part in parts if _is_item(part))
    names = (*filter(None, (dotted_name(part) for part in parts)), *items)
    calls = tuple(last_part(dotted_name(part.func)) for part in parts if isinstance(part, ast.Call))
    line = getattr(node, "lineno", 0)
    end = getattr(node, "end_lineno", None) or line
    return Put(line, end, holder, names, calls, *function_of(code), _selected_from(getattr(node, "value", None)))


def _is_item(part: ast.expr) -> bool:
    """Whether it is an item of something by its own key or place: ``out["energy"]``."""
    return isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant) and dotted_name(part.value) != ""


def _selected_from(value: ast.AST | None) -> str:
    """The list or dict whose items, or parts of them, a comprehension gives as they are; empty for anything else."""
    if not isinstance(value, ast.ListComp | ast.DictComp):
        return ""
    given, found = value.elt if isinstance(value, ast.ListComp) else value.value, ""
    for loop in reversed(value.generators):
        while isinstance(given, ast.Subscript | ast.Attribute):
            given = given.value
        targets = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
        if isinstance(given, ast.Name) and given.id in targets:
            given = loop.iter
            if isinstance(given, ast.Call) and isinstance(given.func, ast.Attribute) and given.func.attr in _ITEMS:
                given = given.func.value
            found = dotted_name(given)
    return found


def function_of(code: ast.AST | None) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The name of a function, its parameters without the object of a method, and those that take any number."""
    if not isinstance(code, _CODE):
        return "", (), ()
    arguments = [one.arg for one in (*code.args.posonlyargs, *code.args.args, *code.args.kwonlyargs)]
    if arguments[:1] in (["self"], ["cls"]):
        del arguments[0]
    collecting = tuple(one.arg for one in (code.args.vararg, code.args.kwarg) if one is not None)
    return getattr(code, "name", "<lambda>"), (*arguments, *collecting), collecting


def _with_code(node: ast.AST, code: ast.AST | None) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """Every node with the function that it is in."""
    todo = [(node, code)]
    while todo:
        node, code = todo.pop()
        yield node, code
        inside = node if isinstance(node, _CODE) else code
        todo += [(child, inside) for child in ast.iter_child_nodes(node)]


def _held(node: ast.AST) -> Iterator[tuple[str, list[ast.expr]]]:
    """What a node puts something into, and what it puts there."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _PUTS:
        yield _container(node.func.value), node.args[-1:]
    elif isinstance(node, ast.Call) and last_part(dotted_name(node.func)) in _PUT_FUNCTIONS:
        yield _container(node.args[0]) if node.args else "", node.args[1:2]
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add | ast.BitOr):
        if isinstance(node.value, ast.List | ast.Tuple | ast.Dict | ast.Set):
            yield _container(node.target), [node.value]
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                if not _copies_into(target.slice, node.value):
                    yield _container(target), [node.value]
            elif isinstance(target, ast.Name | ast.Attribute):
                yield dotted_name(target), _joined(node.value, dotted_name(target))


def _copies_into(part: ast.expr, value: ast.expr) -> bool:
    """Whether ``rows[:] = value`` writes the values of what is assigned, and does not keep it."""
    lists = ast.List | ast.Tuple | ast.ListComp | ast.GeneratorExp
    is_whole = isinstance(part, ast.Slice) or (isinstance(part, ast.Constant) and part.value is ...)
    return is_whole and not isinstance(value, lists)


def _joined(value: ast.expr, target: str) -> list[ast.expr]:
    """What a list comes to hold anew that is assigned: by a comprehension, or as what it was with more behind it.

    Likewise an object that is made of the one that the name had before: ``node = Node(state, parent=node)``.
    """
    if lists_objects(value):
        return []
    if isinstance(value, ast.List | ast.Tuple):
        others = [one for one in value.elts if not (isinstance(one, ast.Starred) and dotted_name(one.value) == target)]
        return others if len(others) < len(value.elts) else []
    if isinstance(value, ast.ListComp):
        return [value.elt]
    if isinstance(value, ast.DictComp):
        return [value.value]
    if isinstance(value, ast.Call) and last_part(dotted_name(value.func))[:1].isupper():
        given = [*value.args, *(one.value for one in value.keywords)]
        others = [one for one in given if dotted_name(one) != target]
        return others if len(others) < len(given) else []
    if isinstance(value, ast.Call) and dotted_name(value.func) in ("list", "tuple"):
        return [given for given in _given_on(value) if isinstance(given, ast.Call | ast.GeneratorExp)]
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add) and dotted_name(value.left) == target:
        return [value.right] if isinstance(value.right, ast.List | ast.Tuple) else []
    return []


def _given_on(value: ast.expr) -> Iterator[ast.expr]:
    """What ``list(islice(steps(), 8))`` takes its items from."""
    if isinstance(value, ast.Call) and last_part(dotted_name(value.func)) in _TAKES_ALL:
        for one in value.args:
            yield from _given_on(one)
    else:
        yield value


def _container(value: ast.expr) -> str:
    """``x`` of ``x``, ``x[k]`` and ``x.setdefault(k, [])``."""
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in ("setdefault", "get")
    ):
        value = value.func.value
    while isinstance(value, ast.Subscript):
        value = value.value
    return dotted_name(value)


def parts_with_graphs(value: ast.expr) -> Iterator[ast.expr]:
    """What a value holds as it is, and what may have a graph as far as the text shows."""
    return (part for part in _parts(value) if not _has_no_graph(part))


def _parts(value: ast.expr) -> Iterator[ast.expr]:
    """What a value holds as it is: the items of a tuple, list or dict, and what an object is made from."""
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        for item in value.elts:
            yield from _parts(item)
    elif isinstance(value, ast.Dict):
        for item in value.values:
            yield from _parts(item)
    elif isinstance(value, ast.Call) and last_part(dotted_name(value.func))[:1].isupper():
        for item in (*value.args, *(one.value for one in value.keywords)):
            yield from _parts(item)
    elif isinstance(value, ast.Starred):
        yield from _parts(value.value)
    elif isinstance(value, ast.Lambda):
        for default in (*value.args.defaults, *(one for one in value.args.kw_defaults if one is not None)):
            yield from _parts(default)
    elif isinstance(value, ast.Call) and last_part(dotted_name(value.func)) == "partial":
        for item in (*value.args[1:], *(one.value for one in value.keywords)):
            yield from _parts(item)
    elif isinstance(value, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        yield from _parts(value.elt)
    elif isinstance(value, ast.IfExp):
        yield from _parts(value.body)
        yield from _parts(value.orelse)
    else:
        yield value


def _has_no_graph(value: ast.expr) -> bool:
    """Whether the text shows that a value is a number, or a tensor without a graph, or an empty container."""
    if isinstance(value, ast.Constant | ast.JoinedStr | ast.Compare):
        return True
    if isinstance(value, ast.Call) and dotted_name(value.func) in _NUMBERS:
        return True
    if isinstance(value, ast.Call) and dotted_name(value.func).partition(".")[0] in _CONTAINERS:
        return True
    while isinstance(value, ast.Call | ast.Attribute | ast.Subscript):
        if isinstance(value, ast.Attribute) and value.attr in _GRAPHLESS:
            return True
        value = value.func if isinstance(value, ast.Call) else value.value
    return False
