"""Names that a file gives to iterators, and where it goes through them again: what the text alone tells for certain."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_CHAINS = frozenset(("itertools.chain", "itertools.chain.from_iterable"))
_BUILTINS = frozenset(("filter", "map", "iter", "zip"))
_METHODS = frozenset(("parameters", "named_parameters"))
_PASSED_THROUGH = frozenset(("list", "tuple", "set", "enumerate", "zip", "reversed", "sorted"))
_TAKES_ALL = frozenset(("sum", "list", "tuple", "set", "sorted", "max", "min", "len"))
_GO_THROUGH = ("clip_grad_norm_", "clip_grad_value_")


class Again(NamedTuple):
    """A statement that goes through an iterator which another had used up."""

    name: str
    made: tuple[int, int]
    """First and last line of the statement that gave the iterator its name."""
    line: int
    end_line: int
    """The statement's own, without the body of a loop."""
    body: tuple[int, int]
    """First and last line of what is done with each item."""
    is_loop: bool
    """Whether it is a loop; else it is a call that clips what it is given."""
    beside: tuple[tuple[int, int], ...]
    """First and last lines of the other statements of its block."""


def iterated_again(text: str, line: int) -> list[Again]:
    """Where a file goes through an iterator that a call at a line was given.

    Only of names that are bound once in the whole file, to what is an iterator by its making: a generator expression, a
    chain of ``itertools``, ``filter``, ``map``, ``zip``, ``iter``, the ``parameters()`` of a module, or what a function
    of the file that gives nothing else returns; and of names bound once to such a name.
    """
    tree = parsed(text)
    if tree is None:
        return []
    bound, made = names_bound(tree), iterators_of(tree)
    found: list[Again] = []
    for user in (node for node in ast.walk(tree) if isinstance(node, ast.stmt) and _spans(node, line)):
        given = {ast.unparse(node) for node in _arguments(user)}
        for name in (name for name in given if name in made and bound[name] == 1):
            for called in (name, *_second_names(tree, name, bound)):
                found.extend(_again(tree, name, called, made[name], user))
    return list(dict.fromkeys(found))


def iterator_given(text: str, line: int) -> tuple[str, int, int] | None:
    """The iterator that a call at a line is given: its name, first and last line of the statement that makes it.

    Known as in :func:`iterated_again`; None where the call is given none, or two.
    """
    tree = parsed(text)
    if tree is None:
        return None
    bound, made = names_bound(tree), iterators_of(tree)
    given = {
        ast.unparse(node)
        for user in ast.walk(tree)
        if isinstance(user, ast.stmt) and _spans(user, line)
        for node in _arguments(user)
    }
    names = [name for name in given if name in made and bound[name] == 1]
    if len(names) != 1:
        return None
    statement = made[names[0]]
    return names[0], statement.lineno, statement.end_lineno or statement.lineno


class Once(NamedTuple):
    """A function that goes through an iterator which stays the same, and that a loop calls: it has its items once."""

    name: str
    made: tuple[int, int]
    line: int
    end_line: int
    """The statement that goes through it."""


class OnceInLoop(NamedTuple):
    """What each round of a loop does for the items of an iterator that was made before the loop."""

    once: Once
    region: tuple[int, int, int, int]
    """First line and column, last line and column of what goes through it (as in spans: 0-based, the last behind)."""
    loop: tuple[int, int]
    """First and last line of the loop."""


@lru_cache(maxsize=16)
def gone_through_in_loops(text: str) -> tuple[OnceInLoop, ...]:
    """Where each round of a loop goes through an iterator that was made before the loop."""
    tree = parsed(text)
    if tree is None:
        return ()
    bound, made = names_bound(tree), iterators_of(tree)
    found = list[OnceInLoop]()
    for loop in (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)):
        inside = set(ast.walk(loop))
        for name, making in made.items():
            if bound[name] != 1 or making in inside:
                continue
            for statement in loop.body:
                through = _going_through(statement, name)
                if through is not None:
                    once = Once(name, _lines(making), *_lines(statement))
                    region = through.lineno, through.col_offset, _lines(through)[1], through.end_col_offset or 0
                    found.append(OnceInLoop(once, region, _lines(loop)))
    return tuple(found)


def _going_through(statement: ast.stmt, name: str) -> ast.stmt | ast.expr | None:
    """What of a statement goes through all of an iterator: itself, or a part of an expression."""
    if _goes_through(statement, name) is not None:
        return statement
    nodes = ast.walk(statement) if not hasattr(statement, "body") else [statement]
    return next((one for one in nodes if isinstance(one, ast.stmt | ast.expr) and _takes_all(one, name)), None)


def _lines(node: ast.stmt | ast.expr) -> tuple[int, int]:
    return node.lineno, node.end_lineno or node.lineno


@lru_cache(maxsize=16)
def gone_through_once(text: str) -> tuple[Once, ...]:
    """Where functions of a file that its loops call go through an iterator that another function, or none, has made."""
    tree = parsed(text)
    if tree is None:
        return ()
    bound, found = names_bound(tree), list[Once]()
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    named = Counter(function.name for function in functions)
    for name, made in iterators_of(tree).items():
        for function in functions if bound[name] == 1 else ():
            if made in ast.walk(function) or named[function.name] > 1 or not _is_called_in_loop(tree, function.name):
                continue
            for statement in function.body:
                nodes = ast.walk(statement) if not hasattr(statement, "body") else [statement]
                if any(_takes_all(node, name) for node in nodes):
                    ends = (one.end_lineno or one.lineno for one in (made, statement))
                    found.append(Once(name, (made.lineno, next(ends)), statement.lineno, next(ends)))
    return tuple(found)


def _is_called_in_loop(tree: ast.Module, name: str) -> bool:
    """Whether a loop calls what is called so in each of its rounds, or wherever there is an object to call it of."""
    return any(
        _is_called(statement, name)
        for loop in ast.walk(tree)
        if isinstance(loop, ast.For | ast.While)
        for statement in loop.body
    )


def _is_called(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.If | ast.IfExp) and not any(
        isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr == name
        and ast.unparse(one.func.value) in (ast.unparse(node.test), ast.unparse(node.test).removesuffix(" is not None"))
        for one in ast.walk(node)
    ):
        return _is_called(node.test, name)
    if isinstance(node, ast.Call) and last_name(node.func) == name:
        return True
    return any(_is_called(child, name) for child in ast.iter_child_nodes(node))


class TakenBefore(NamedTuple):
    """An iterator that a call is given after another statement of its block took items out of it."""

    name: str
    made: tuple[int, int]
    taken: tuple[int, int]
    """First and last lines of the statements that make it and that take from it."""
    is_all: bool
    """Whether that takes all: a loop, ``sum(p.numel() for p in params)``; else the first: ``next(params)``."""


def taken_before(text: str, line: int) -> TakenBefore | None:
    """What was taken before out of the iterator that a call at a line is given; None where nothing was."""
    given, tree = iterator_given(text, line), parsed(text)
    if given is None or tree is None:
        return None
    name, first, last = given
    for block in _blocks(tree):
        if not any(_spans(statement, line) for statement in block):
            continue
        for statement in block:
            if not last < statement.lineno < line:
                continue
            nodes = list(ast.walk(statement)) if not hasattr(statement, "body") else [statement]
            is_all = any(_takes_all(node, name) for node in nodes)
            if is_all or any(_takes_first(node, name) for node in nodes):
                taken = statement.lineno, statement.end_lineno or statement.lineno
                return TakenBefore(name, (first, last), taken, is_all)
    return None


def _takes_first(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and last_name(node.func) == "next"
        and [ast.unparse(one) for one in node.args] == [name]
    )


def _takes_all(node: ast.AST, name: str) -> bool:
    """Whether a node goes through all of an iterator, each time that it runs."""
    if isinstance(node, ast.For):
        return name in _sources(node.iter) and not any(isinstance(one, ast.Break) for one in ast.walk(node))
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp):
        return name in _sources(node.generators[0].iter)
    if not isinstance(node, ast.Call) or ast.unparse(node.func) not in _TAKES_ALL or len(node.args) != 1:
        return False
    value = node.args[0]
    of_it = value.generators[0].iter if isinstance(value, ast.GeneratorExp) else value
    return name in _sources(of_it)


def names_bound(tree: ast.Module) -> Counter[str]:
    """How often each name or attribute is bound, in any scope."""
    bound: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and not isinstance(node.ctx, ast.Load):
            bound[ast.unparse(node)] += 1
        elif isinstance(node, ast.arg):
            bound[node.arg] += 1
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound[node.name] += 1
        elif isinstance(node, ast.alias):
            bound[(node.asname or node.name).split(".")[0]] += 1
    return bound


def iterators_of(tree: ast.Module) -> dict[str, ast.stmt]:
    """Names that a statement binds to an iterator."""
    bound, imported = names_bound(tree), _imported(tree)
    giving = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and bound[node.name] == 1 and _gives_iterator(node, bound, imported)
    }
    return {
        ast.unparse(node.targets[0]): node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], (ast.Name, ast.Attribute))
        and (_is_iterator(node.value, bound, imported) or _called(node.value) in giving)
    }


def is_iterator_in(tree: ast.Module, value: ast.expr) -> bool:
    """Whether an expression of a file is an iterator by its making, or a name that is bound once, to one."""
    bound = names_bound(tree)
    if isinstance(value, ast.Name | ast.Attribute):
        name = ast.unparse(value)
        return bound[name] == 1 and name in iterators_of(tree)
    return _is_iterator(value, bound, _imported(tree))


def goes_through(value: ast.expr, name: str) -> bool:
    """Whether a loop over a value goes through what a name stands for."""
    return name in _sources(value)


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update((one.asname or one.name, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.update((one.asname or one.name, f"{node.module}.{one.name}") for one in node.names)
    return names


def _gives_iterator(function: ast.FunctionDef, bound: Counter[str], imported: dict[str, str]) -> bool:
    """Whether a call of a function gives an iterator: it yields, or returns what is one by its making, and no other."""
    own, todo = list[ast.AST](), list[ast.AST](function.body)
    while todo:
        node = todo.pop()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            own.append(node)
            todo += ast.iter_child_nodes(node)
    if function.decorator_list:
        return False
    if any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own):
        return True
    returned = [node.value for node in own if isinstance(node, ast.Return)]
    return bool(returned) and all(one is not None and _is_iterator(one, bound, imported) for one in returned)


def _called(value: ast.expr) -> str:
    """The name of the function or method that a call calls; none of what else is called."""
    if not isinstance(value, ast.Call):
        return ""
    if isinstance(value.func, ast.Attribute):
        return value.func.attr if isinstance(value.func.value, ast.Name) else ""
    return value.func.id if isinstance(value.func, ast.Name) else ""


def _is_iterator(value: ast.expr, bound: Counter[str], imported: dict[str, str]) -> bool:
    if isinstance(value, ast.GeneratorExp):
        return True
    if not isinstance(value, ast.Call):
        return False
    first, _, rest = ast.unparse(value.func).partition(".")
    called = imported.get(first, first) + (f".{rest}" if rest else "")
    if called in _CHAINS:
        return True
    if called in _BUILTINS:
        return not bound[called]
    is_method = isinstance(value.func, ast.Attribute) and value.func.attr in _METHODS
    return is_method and not bound[called.rpartition(".")[2]]


def _spans(node: ast.stmt, line: int) -> bool:
    """Whether a simple statement is at a line."""
    return not hasattr(node, "body") and node.lineno <= line <= (node.end_lineno or node.lineno)


def _arguments(statement: ast.stmt) -> Iterator[ast.expr]:
    """What calls of a statement are given as it is, or as the parameters of a group."""
    for call in (node for node in ast.walk(statement) if isinstance(node, ast.Call)):
        for given in (*call.args, *(keyword.value for keyword in call.keywords)):
            yield given
            groups = given.elts if isinstance(given, ast.List) else [given]
            for group in groups:
                if isinstance(group, ast.Dict):
                    yield from group.values


def _second_names(tree: ast.Module, name: str, bound: Counter[str]) -> list[str]:
    """Names that are bound once, to what a name stands for: ``params_to_clip = lora_layers``."""
    return [
        target
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == name
        for target in map(ast.unparse, node.targets)
        if bound[target] == 1
    ]


def _again(tree: ast.Module, name: str, called: str, made: ast.stmt, user: ast.stmt) -> Iterator[Again]:
    for block in _blocks(tree):
        for node in block:
            if node in (made, user):
                continue
            through = _goes_through(node, called)
            if through is not None:
                beside = tuple((one.lineno, one.end_lineno or one.lineno) for one in block if one is not node)
                made_at = made.lineno, made.end_lineno or made.lineno
                yield Again(name, made_at, node.lineno, *through, isinstance(node, ast.For), beside)


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield [one for one in block if isinstance(one, ast.stmt)]


def _goes_through(node: ast.stmt, name: str) -> tuple[int, tuple[int, int]] | None:
    """The last line of the statement's own, and the lines of what is done with each item; None where it does not."""
    if isinstance(node, ast.For) and name in _sources(node.iter):
        last = node.body[-1]
        return node.iter.end_lineno or node.lineno, (node.body[0].lineno, last.end_lineno or last.lineno)
    for call in ast.walk(node) if not hasattr(node, "body") else ():
        is_one = isinstance(call, ast.Call) and ast.unparse(call.func).endswith(_GO_THROUGH)
        if isinstance(call, ast.Call) and is_one and call.args and name in _sources(call.args[0]):
            end = node.end_lineno or node.lineno
            return end, (node.lineno, end)
    return None


def _sources(value: ast.expr) -> list[str]:
    """What a loop over a value goes through: itself, or what ``enumerate`` or ``list`` was given."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in _PASSED_THROUGH:
        return [ast.unparse(one) for one in value.args]
    return [ast.unparse(value)]
