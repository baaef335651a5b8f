"""Functions of a text whose results are kept: ``@lru_cache``, ``@cache``, ``self.hop = lru_cache(None)(self._hop)``.

What functools keeps results of is kept as well: it is what they are found by. A decorator of the program's own
(``@memoize``) is one where it keeps what its function returns.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from gradscope.frames.names.put_statements import Put, function_of, handed_to, puts_in
from gradscope.frames.syntax_trees import last_name, parsed

_FOR_CALLS = frozenset(("cache", "lru_cache"))
_DECORATORS = _FOR_CALLS | {"cached_property"}


class CachedFunction(NamedTuple):
    """A function whose results are kept, with the place that says so."""

    put: Put
    name: str
    """What its definition calls it."""
    line: int
    """The function's first line."""
    end_line: int
    given_to: frozenset[str]
    """What the text calls its results."""
    is_of_functools: bool = False
    """Whether functools keeps them: by all the arguments, as long as there is room."""

    def keeps(self, text: str, known: Collection[str]) -> bool:
        """Whether it gives or is given what is called by one of some names."""
        return not self.given_to.isdisjoint(known) or bool(handed_to(text, self.put, known, ()))


def caching_decorators(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """The decorators of functools that keep what a function returns."""
    return (one for one in function.decorator_list if _called(one) in _DECORATORS)


@lru_cache(maxsize=16)
def cached_functions(text: str) -> tuple[CachedFunction, ...]:
    """Those of a text that are given something."""
    tree = parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    wrapped = [(_wrapped(node), node) for node in nodes if isinstance(node, ast.Assign)]
    written = {node.name: put for node in nodes if isinstance(node, ast.FunctionDef) for put in _kept_by(node, text)}
    found = []
    for node in nodes:
        if not isinstance(node, ast.FunctionDef):
            continue
        places: list[tuple[ast.expr | ast.stmt, str]] = [
            (one, node.name) for one in node.decorator_list if _called(one) in _FOR_CALLS
        ]
        places += [(other, last_name(other.targets[0])) for name, other in wrapped if name == node.name]
        lines = node.lineno, node.end_lineno or node.lineno
        for put in (written[name] for one in node.decorator_list if (name := _called(one)) in written):
            found.append(CachedFunction(put, node.name, *lines, _results_of(nodes, node.name)))
        for place, name in places:
            _, parameters, collecting = function_of(node)
            end = place.end_lineno or place.lineno
            put = Put(place.lineno, end, f"the cache of {name}", parameters, (), name, parameters, collecting)
            found.append(CachedFunction(put, node.name, *lines, _results_of(nodes, name), is_of_functools=True))
    return tuple(found)


def _called(decorator: ast.expr) -> str:
    return last_name(decorator.func if isinstance(decorator, ast.Call) else decorator)


def _kept_by(decorator: ast.FunctionDef, text: str) -> list[Put]:
    """Where a decorator of the program's keeps what the function returns that it is given."""
    _, parameters, _ = function_of(decorator)
    inside = range(decorator.lineno, (decorator.end_lineno or decorator.lineno) + 1)
    return [put for put in puts_in(text) if put.line in inside and parameters and put.calls == parameters[:1]]


def _wrapped(statement: ast.Assign) -> str:
    """``_hop`` of ``hop = cache(self._hop)`` and of ``hop = lru_cache(maxsize=None)(self._hop)``; empty for none."""
    value = statement.value
    if isinstance(value, ast.Call) and len(value.args) == 1 and _called(value.func) in _FOR_CALLS:
        return last_name(value.args[0])
    return ""


def _results_of(nodes: list[ast.AST], function: str) -> frozenset[str]:
    """The names to which a text assigns what calls of a function give."""
    return frozenset(
        ast.unparse(target)
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) == function
        for target in node.targets
        if isinstance(target, ast.Name | ast.Attribute)
    )
