"""How often the statements of a file run, as far as its text tells: once, or as often as their neighbours.

A recording knows how often a call was made. A statement of which it knows no such call (``net(x)`` makes any number of
calls, a comprehension too) runs as often as the statements that stand before and after it in one block.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import blocks_of, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_JUMPS = (ast.Break, ast.Continue, ast.Return, ast.Raise, ast.Try, ast.Yield, ast.YieldFrom, ast.Await)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_ITERATING = frozenset(("sum", "max", "min", "sorted", "map", "filter", "list", "tuple", "set", "any", "all", "reduce"))
"""Functions without a frame of Python's that call for each item: ``sum(losses)`` adds as often as there are losses."""
_Position = tuple[int, int]


class Blocks(NamedTuple):
    """What the text of a file tells about the runs of its statements, by their first lines."""

    once: frozenset[int]
    """Statements outside of loops and functions: a file runs them once."""
    together: dict[int, list[int]]
    """For each statement those that run as often, itself included: nothing between them leads elsewhere."""
    headers: dict[int, list[int]]
    """For the header of each ``for`` loop the statements at the beginning of its body: what comes out of the loop's
    iterator is used there, however often the iterator is asked and whatever it does inside."""
    repeated: list[tuple[_Position, _Position]]
    """Parts (line and column where they begin and end) that one run of a statement runs any number of times."""
    iterating: list[tuple[_Position, _Position]]
    """Calls that make others, one for each item."""
    at_most: dict[int, int]
    """How often the statements in loops over a known number of items run at most: ``for lr in (0.1, 0.01)``."""
    calls: frozenset[tuple[_Position, _Position]]
    """Calls in the source: whatever function it is that one calls, it does so once a run."""
    choices: list[list[tuple[_Position, _Position]]]
    """Parts of which one run of a statement runs one, or none: ``a + 1 if n else a * 2``, what follows an ``and``."""
    between: dict[int, list[int]]
    """For each statement that a pass through a loop may leave out, those with which each pass begins: they run between
    any two runs of it."""

    def is_repeated(self, start: _Position, end: _Position) -> bool:
        """Whether a call may be made more than once a run; with columns of -1, whether any on its line may."""
        if start[1] < 0 or end[1] < 0:
            return any(first[0] <= start[0] <= last[0] for first, last in (*self.repeated, *self.iterating))
        return (start, end) in self.iterating or any(first <= start < last for first, last in self.repeated)

    def chosen(self, start: _Position) -> tuple[int, int] | None:
        """The choice, and which part of it, that a call stands in; None where each run of its statement comes to it."""
        for number, parts in enumerate(self.choices):
            for part, (first, last) in enumerate(parts):
                if first <= start < last:
                    return number, part
        return None


def parse_blocks(text: str) -> Blocks:
    """Read the blocks of a file; of one that cannot be parsed nothing is known."""
    blocks = Blocks(frozenset(), {}, {}, [], [], {}, frozenset(), [], {})
    tree = parsed(text)
    if tree is None:
        return blocks
    once: set[int] = set()
    todo: list[tuple[list[ast.stmt], bool]] = [(tree.body, True)]
    while todo:
        body, is_once = todo.pop()
        for group in _groups(body, todo, is_once):
            blocks.together.update(dict.fromkeys(group, group))
            once.update(group if is_once else ())
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.AsyncFor)):
            first = node.body[0].lineno
            blocks.headers[node.lineno] = blocks.together.get(first, [first])
        if isinstance(node, _LOOPS):
            begins = _begun_with(node.body, blocks.together)
            left_out = (line for line in _run_once_a_pass(node.body) if line not in begins)
            blocks.between.update(dict.fromkeys(left_out, begins))
        if isinstance(node, ast.Call) and _name_of(node.func) in _ITERATING:
            blocks.iterating.extend(_range(node))
    blocks.repeated.extend(_repeated_parts(tree))
    blocks.at_most.update(_counted_loops(tree.body, 1))
    calls = (part for node in ast.walk(tree) if isinstance(node, ast.Call) for part in _range(node))
    blocks.choices.extend(_choices(tree))
    return blocks._replace(once=frozenset(once), calls=frozenset(calls))


def _groups(body: list[ast.stmt], todo: list[tuple[list[ast.stmt], bool]], is_once: bool) -> Iterator[list[int]]:
    """First lines of the statements of a block that run equally often; the blocks inside are put down to be read."""
    group: list[int] = []
    waiting = list(reversed(body))
    while waiting:
        statement = waiting.pop()
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            group.append(statement.lineno)
            waiting.extend(reversed(statement.body))
            continue
        # A loop's header runs once more than it begins; of ``def f(x): return x`` the line is that of what it runs.
        if not isinstance(statement, _LOOPS) and not _is_on_one_line(statement):
            group.append(statement.lineno)
        is_loop, is_function = isinstance(statement, _LOOPS), isinstance(statement, _FUNCTIONS)
        inside = is_once and not is_loop and (not is_function or isinstance(statement, ast.ClassDef))
        todo.extend((inner, inside) for inner in blocks_of(statement))
        if _may_jump(statement):
            yield group
            group = []
    yield group


def _is_on_one_line(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.FunctionDef) and statement.body[0].lineno == statement.lineno


def _begun_with(body: list[ast.stmt], together: dict[int, list[int]]) -> list[int]:
    """First lines of the statements that each pass through a block begins with, those of a ``try`` among them."""
    begins = together.get(body[0].lineno, [])
    tried = next((one for one in body if isinstance(one, ast.Try) and one.lineno in begins), None)
    return [*begins, *_begun_with(tried.body, together)] if tried is not None else begins


def _run_once_a_pass(body: list[ast.stmt]) -> Iterator[int]:
    """First lines of the statements that one pass through a loop's body runs once, or not at all."""
    for statement in body:
        yield statement.lineno
        if not isinstance(statement, (*_LOOPS, *_FUNCTIONS)):
            for inner in blocks_of(statement):
                yield from _run_once_a_pass(inner)


def _may_jump(statement: ast.stmt) -> bool:
    """Whether what stands behind a statement may run less often than it."""
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, _JUMPS):
            return True
        if not isinstance(node, _FUNCTIONS):
            todo.extend(ast.iter_child_nodes(node))
    return False


def _repeated_parts(tree: ast.AST) -> Iterator[tuple[_Position, _Position]]:
    for node in ast.walk(tree):
        parts: list[ast.expr] = []
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            parts += [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            parts += [condition for generator in node.generators for condition in generator.ifs]
            parts += [generator.iter for generator in node.generators[1:]]
        elif isinstance(node, ast.Lambda):
            parts.append(node.body)
        for part in parts:
            yield from _range(part)


def _choices(tree: ast.AST) -> Iterator[list[tuple[_Position, _Position]]]:
    """Those around others first."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.IfExp):
            alternatives, last = [node.body], node.orelse
            while isinstance(last, ast.IfExp):
                alternatives.append(last.body)
                last = last.orelse
            yield [part for one in (*alternatives, last) for part in _range(one)]
        elif isinstance(node, ast.BoolOp):
            for value in node.values[1:]:
                yield list(_range(value))
        todo.extend(ast.iter_child_nodes(node))


def _counted_loops(body: list[ast.stmt], times: int) -> Iterator[tuple[int, int]]:
    """The statements of loops over a known number of items, outside of functions, and how often they run at most."""
    for statement in body:
        if times > 1:
            yield statement.lineno, times
        if isinstance(statement, (ast.For, ast.AsyncFor)):
            if items := _items_of(statement.iter):
                yield from _counted_loops(statement.body, times * items)
        elif not isinstance(statement, (ast.While, *_FUNCTIONS)):
            for inner in blocks_of(statement):
                yield from _counted_loops(inner, times)


def _items_of(loops_over: ast.expr) -> int:
    """How many items a loop goes through, where its source tells; else 0."""
    if isinstance(loops_over, (ast.Tuple, ast.List)):
        return 0 if any(isinstance(item, ast.Starred) for item in loops_over.elts) else len(loops_over.elts)
    if not isinstance(loops_over, ast.Call) or _name_of(loops_over.func) != "range" or loops_over.keywords:
        return 0
    numbers = [one.value for one in loops_over.args if isinstance(one, ast.Constant) and isinstance(one.value, int)]
    return len(range(*numbers)) if 0 < len(numbers) == len(loops_over.args) < 3 else 0


def _range(part: ast.expr) -> Iterator[tuple[_Position, _Position]]:
    if part.end_lineno is not None and part.end_col_offset is not None:
        yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def _name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr if function.attr == "reduce" else ""  # functools.reduce; but tensor.sum() is one call
    return function.id if isinstance(function, ast.Name) else ""
