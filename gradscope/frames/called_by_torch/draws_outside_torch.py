"""Random numbers of NumPy and of Python that a text draws where what it does with them runs a second time.

``scale = rng.uniform(0.9, 1.1)``, ``if random.random() < self.rate: return x``. Their state is not put back by what
puts back that of torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_MAKERS = frozenset(("default_rng", "RandomState", "Generator", "Random", "SystemRandom"))
_NO_DRAWS = frozenset(("seed", "getstate", "setstate", "get_state", "set_state", "spawn"))
_PUTS_BACK = re.compile(r"\b(set_state|setstate|bit_generator)\b")
_Function = ast.FunctionDef | ast.AsyncFunctionDef


class OutsideDraw(NamedTuple):
    """A statement that draws."""

    line: int
    end_line: int
    function: str
    call: str
    """What the text calls: ``rng.uniform``."""


def draws_outside_torch(text: str, lines: Collection[int], ran: Collection[int]) -> list[OutsideDraw]:
    """The statements that draw what other statements of their function compute with, or branch on.

    None of a function that seeds, or that makes its generator itself.

    Args:
        text: Source of a file.
        lines: First lines of the statements that ran a second time.
        ran: First lines of those that ran at all: of branches one that was taken.
    """
    tree = parsed(text)
    if tree is None or _PUTS_BACK.search(text):
        return []
    sources = _RandomSources(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, _Function)]
    helpers = {node.name: draw for node in functions if (draw := sources.returned(node)) is not None}
    found = (draw for node in functions for draw in _DrawsOfFunction(node, sources, helpers).used_at(lines, ran))
    return list(dict.fromkeys(found))


class _RandomSources:
    """What a file calls NumPy's and Python's modules, their functions, and generators that outlive a call."""

    def __init__(self, tree: ast.Module) -> None:
        self._modules, self._functions, self._generators = set[str](), set[str](), set[str]()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for one in node.names:
                    name = one.asname or one.name
                    self._modules |= {name} if one.name in ("random", "numpy.random") else set()
                    self._modules |= {f"{name}.random"} if one.name == "numpy" else set()
            elif isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random"):
                self._functions |= {one.asname or one.name for one in node.names} - _MAKERS - _NO_DRAWS
            elif isinstance(node, ast.ImportFrom) and node.module == "numpy":
                self._modules |= {one.asname or one.name for one in node.names if one.name == "random"}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and _makes_generator(node.value):
                self._generators |= {dotted_name(target) for target in node.targets} - {""}

    def call_in(self, node: ast.AST, function: _Function) -> ast.Call | None:
        """The first call that draws; of a generator that the function made itself none."""
        own = {name for part in _own(function) if isinstance(part, ast.Assign) and _makes_generator(part.value)
               for name in map(dotted_name, part.targets)}  # fmt: skip
        for part in ast.walk(node):
            if not isinstance(part, ast.Call) or last_name(part.func) in _MAKERS | _NO_DRAWS:
                continue
            owner = dotted_name(part.func.value) if isinstance(part.func, ast.Attribute) else ""
            is_generator = owner in self._generators and owner not in own
            if owner in self._modules or is_generator or (not owner and dotted_name(part.func) in self._functions):
                return part
        return None

    def returned(self, function: _Function) -> OutsideDraw | None:
        """The ``return`` of a function that gives what it draws, where it is all that the function does."""
        body = function.body[1:] if ast.get_docstring(function) else function.body
        if len(body) != 1 or not isinstance(body[0], ast.Return) or function.decorator_list:
            return None
        call = self.call_in(body[0], function)
        return None if call is None else _draw(body[0], function, call)


class _DrawsOfFunction:
    def __init__(self, function: _Function, sources: _RandomSources, helpers: dict[str, OutsideDraw]) -> None:
        self._function = function
        self._sources = sources
        self._helpers = helpers
        self._parts = [part for part in _own(function) if isinstance(part, ast.stmt)]

    def used_at(self, lines: Collection[int], ran: Collection[int]) -> Iterator[OutsideDraw]:
        again = [part for part in self._parts if part.lineno in lines]
        if not again or "seed(" in ast.unparse(self._function):
            return
        drawn: dict[str, OutsideDraw] = {}
        for part in self._parts:
            if isinstance(part, ast.Assign | ast.AugAssign | ast.Return):
                draw = self._drawn(part, part.value, drawn)
                if draw is None:
                    continue
                if part in again:
                    yield draw
                targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
                drawn |= {target.id: draw for target in targets if isinstance(target, ast.Name)}
            elif (
                isinstance(part, ast.If)
                and self._decides(part, ran)
                and any(one.lineno >= part.lineno for one in again)
            ):
                draw = self._drawn(part, part.test, drawn)
                if draw is not None:
                    yield draw

    def _drawn(self, statement: ast.stmt, value: ast.AST | None, drawn: dict[str, OutsideDraw]) -> OutsideDraw | None:
        """What an expression draws itself, or where a name was drawn that it reads."""
        if value is None:
            return None
        call = self._sources.call_in(value, self._function)
        if call is not None:
            return _draw(statement, self._function, call)
        for part in ast.walk(value):
            if isinstance(part, ast.Call) and last_name(part.func) in self._helpers:
                return self._helpers[last_name(part.func)]
            if isinstance(part, ast.Name) and part.id in drawn:
                return drawn[part.id]
        return None

    def _decides(self, branch: ast.If, ran: Collection[int]) -> bool:
        """Whether every run comes to a branch, some took it, and what the function gives depends on it.

        (A rate of zero decides nothing. Of a branch that calls nothing of torch's it is not known whether one took it.)
        """
        taken = any(isinstance(part, ast.stmt) and part.lineno in ran for one in branch.body for part in ast.walk(one))
        if branch not in self._function.body or not taken:
            return False
        parts = [part for one in (*branch.body, *branch.orelse) for part in ast.walk(one)]
        bound = {one.id for one in parts if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        later = (part for one in self._function.body if one.lineno > branch.lineno for part in ast.walk(one))
        is_read = any(isinstance(one, ast.Name) and one.id in bound and isinstance(one.ctx, ast.Load) for one in later)
        return is_read or any(isinstance(part, ast.Return) for part in parts)


def _makes_generator(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and last_name(value.func) in _MAKERS and "torch" not in ast.unparse(value.func)


def _draw(statement: ast.stmt, function: _Function, call: ast.Call) -> OutsideDraw:
    end = statement.test.end_lineno if isinstance(statement, ast.If) else statement.end_lineno
    return OutsideDraw(statement.lineno, end or statement.lineno, function.name, ast.unparse(call.func))


def _own(function: _Function) -> Iterator[ast.AST]:
    """The parts of a function in order, without those of functions and classes within it."""
    todo: list[ast.AST] = list(reversed(function.body))
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            todo += reversed(list(ast.iter_child_nodes(node)))
