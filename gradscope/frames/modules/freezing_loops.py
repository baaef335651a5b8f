"""Loops of a text that are to switch requires_grad off, for parameters of a module's own or for those with some names.

Whether a loop froze anything is not asked here; only what it goes over, and where it shows that it was run: statements
that come after it in its block, or after the calls of the function that it stands in.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from gradscope.frames.modules.name_filters import constants_of, holds_for
from gradscope.frames.syntax_trees import dotted_name, last_name, parsed

_GIVES = ("parameters", "named_parameters")
_NAMED = ("named_parameters", "named_modules", "named_children")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENTERS = ("__init__", "__enter__")
_DEPTH = 3
_Lines = tuple[int, int]
_Node = ast.AST


class NameTest(NamedTuple):
    """A condition on names."""

    test: ast.expr
    variables: tuple[str, str]
    known: dict[str, Any]
    """What other names in it stand for."""
    given: tuple[int, ...]
    """Lines of the calls that give these."""
    of_parameters: bool
    """Whether the names are those of parameters, not of modules."""

    def holds_for(self, name: str) -> bool | None:
        """Whether it holds for a name; None where that is not known."""
        return holds_for(self.test, name, self.variables, self.known)


class FreezingLoop(NamedTuple):
    """One loop."""

    line: int
    end_line: int
    """Of what chooses: the call with ``recurse=False``, or the test of names."""
    choice: str
    """Its source."""
    names: NameTest | None
    """None where it goes over parameters of a module's own."""
    sets: _Lines
    """The statement that switches requires_grad off."""
    of: tuple[str, ...]
    """Whose parameters, as the text calls it: where the loop is in a function that is given it, what calls give."""
    after: tuple[_Lines, ...]
    """Stretches of lines of which each was run only when the loop had been."""


@lru_cache(maxsize=16)
def freezing_loops(text: str) -> tuple[FreezingLoop, ...]:
    """Those of a file, in the order of their lines."""
    if "requires_grad" not in text or ("recurse" not in text and not any(one in text for one in (*_NAMED, "._param"))):
        return ()
    tree = parsed(text)
    return tuple(_Loops(tree).found()) if tree is not None else ()


class _Loops:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._constants = constants_of(tree)

    def found(self) -> Iterator[FreezingLoop]:
        for node in ast.walk(self._tree):
            variable = _freezes(node)
            loops = list(self._loops_around(node)) if variable else []
            if isinstance(node, ast.stmt) and any(variable in _bound(loop.target) for loop in loops):
                own = next(filter(None, (self._own(loop.iter) for loop in loops)), None)
                names = self._names(node, loops) if own is None else None
                if own is not None and not self._is_chosen(node, loops[-1]):
                    yield self._loop(own[0], None, own[1], node, loops[-1])
                elif names is not None:
                    yield self._loop(names[0].test, names[0], names[1], node, loops[-1])

    def _loop(
        self, choice: ast.expr, names: NameTest | None, of: ast.expr, sets: ast.stmt, loop: ast.For
    ) -> FreezingLoop:
        return FreezingLoop(
            choice.lineno,
            choice.end_lineno or choice.lineno,
            ast.unparse(choice),
            names,
            (sets.lineno, sets.end_lineno or sets.lineno),
            tuple(self._owners(of)),
            tuple(self._after(loop, _DEPTH)),
        )

    def _loops_around(self, node: _Node) -> Iterator[ast.For]:
        """The loops around a statement in its function, the innermost first."""
        while (node := self._parents.get(node, self._tree)) is not self._tree and not isinstance(node, _FUNCTIONS):
            if isinstance(node, ast.For):
                yield node

    def _is_chosen(self, node: _Node, loop: _Node) -> bool:
        """Whether a condition stands between a statement and a loop around it."""
        while (node := self._parents[node]) is not loop:
            if not isinstance(node, ast.For):
                return True
        return False

    def _own(self, iterated: ast.expr, depth: int = 2) -> tuple[ast.expr, ast.expr] | None:
        """The part of what a loop goes over that gives parameters of a module's own alone, and the module."""
        for node in ast.walk(iterated):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, of = node.func.attr, node.func.value
                if name in _GIVES and _without_children(node):
                    return node, of
                if name in ("values", "items") and isinstance(of, ast.Attribute) and of.attr == "_parameters":
                    return node, of.value
        stored = dotted_name(iterated) if depth else ""
        values = [
            node.value
            for node in ast.walk(self._tree)
            if stored and isinstance(node, ast.Assign) and stored in map(dotted_name, node.targets)
        ]
        return self._own(values[0], depth - 1) if len(values) == 1 else None

    def _names(self, node: _Node, loops: list[ast.For]) -> tuple[NameTest, ast.expr] | None:
        """The one condition, on names, that a statement stands under, and the module whose names these are."""
        for loop in loops:
            called = loop.iter.func if isinstance(loop.iter, ast.Call) else None
            variables = _bound(loop.target)
            if not isinstance(called, ast.Attribute) or called.attr not in _NAMED or len(variables) != 2:
                continue
            tests = self._tests(node, loop)
            if len(tests) != 1 or any(isinstance(one, ast.Not | ast.NotEq | ast.NotIn) for one in ast.walk(tests[0])):
                return None
            known, lines = self._known(loop)
            if not _seeks(tests[0], variables[0], known):
                return None
            names = NameTest(tests[0], (variables[0], variables[1]), known, lines, called.attr == "named_parameters")
            return (names, called.value) if names.holds_for("") is not None else None
        return None

    def _tests(self, node: _Node, loop: _Node) -> list[ast.expr]:
        """The conditions between a statement and a loop around it; none where it is not in the body of each."""
        found: list[ast.expr] = []
        while (parent := self._parents[node]) is not loop:
            if isinstance(parent, ast.If) and node in parent.body:
                found.append(parent.test)
            elif not isinstance(parent, ast.For):
                return []
            node = parent
        return found

    def _known(self, node: _Node) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The constants of the file, and those that the one call of the function around a node gives for arguments."""
        function = self._function_around(node)
        if function is None:
            return self._constants, ()
        arguments = [one.arg for one in function.args.args]
        known = {name: value for name, value in self._constants.items() if name not in arguments}
        calls = list(self._calls_of(function))
        if len(calls) != 1:
            return known, ()
        arguments = arguments[1:] if arguments[:1] == ["self"] else arguments
        given: list[tuple[str | None, ast.expr]] = [*zip(arguments, calls[0].args, strict=False)]
        given += [(one.arg, one.value) for one in calls[0].keywords]
        lines = set[int]()
        for name, value in given:
            try:
                literal = ast.literal_eval(value)
            except (ValueError, TypeError, SyntaxError):
                continue
            if name is not None:
                known[name] = list(literal) if isinstance(literal, tuple | set) else literal
                lines.add(value.lineno)
        return known, tuple(sorted(lines))

    def _owners(self, of: ast.expr) -> Iterator[str]:
        """What the text calls a module: itself, or what calls give the function that has it as an argument."""
        function, root = self._function_around(of), of
        while isinstance(root, ast.Attribute):
            root = root.value
        name = dotted_name(root)
        if function is None or name == "self" or not name:
            yield dotted_name(of)
            return
        made = {one.id for node in ast.walk(function) if isinstance(node, ast.Assign) for one in _stored(node)}
        for call in self._calls_of(function) if name not in made else ():
            yield from filter(None, map(dotted_name, (*call.args, *(one.value for one in call.keywords))))

    def _function_around(self, node: _Node) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        while (node := self._parents.get(node, self._tree)) is not self._tree:
            if isinstance(node, _FUNCTIONS):
                return node
        return None

    def _calls_of(self, function: _Node) -> Iterator[ast.Call]:
        """The calls of a function, or of the class whose ``__init__`` or ``__enter__`` it is."""
        name = getattr(function, "name", "")
        owner = self._parents.get(function)
        if name in _ENTERS:
            name = owner.name if isinstance(owner, ast.ClassDef) else ""
        for node in ast.walk(self._tree):
            if name and isinstance(node, ast.Call) and last_name(node.func) == name:
                yield node

    def _after(self, node: _Node, depth: int) -> Iterator[_Lines]:
        parent = self._parents.get(node, self._tree)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and node in block:
                at = block.index(node)
                yield from ((one.lineno, one.end_lineno or one.lineno) for one in block[at + 1 :])
                leaves = any(isinstance(part, ast.Return | ast.Raise) for one in block[:at] for part in ast.walk(one))
                if isinstance(parent, _FUNCTIONS) and name == "body" and depth and not leaves:
                    for call in self._calls_of(parent):
                        yield from self._after_call(call, depth - 1)

    def _after_call(self, call: ast.Call, depth: int) -> Iterator[_Lines]:
        """What is run only when a call has been: the body of a ``with`` of it, and what follows its statement."""
        node: _Node = call
        while not isinstance(node, ast.stmt):
            if isinstance(node, ast.IfExp | ast.BoolOp | ast.Lambda | ast.comprehension | ast.GeneratorExp):
                return
            node = self._parents[node]
        if isinstance(node, ast.With):
            yield from ((one.lineno, one.end_lineno or one.lineno) for one in node.body)
        if isinstance(node, ast.With | ast.Expr | ast.Assign | ast.Return):
            yield from self._after(node, depth)


def _freezes(node: _Node) -> str:
    """The variable whose requires_grad a statement switches off; empty for others."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        is_it = node.targets[0].attr == "requires_grad" and _is_false(node.value)
        return dotted_name(node.targets[0].value) if is_it else ""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "requires_grad_":
        return dotted_name(call.func.value) if call.args and _is_false(call.args[0]) else ""
    return ""


def _seeks(test: ast.expr, name: str, known: dict[str, Any]) -> bool:
    """Whether a test looks for texts in names, and depends on nothing else: on no switch, and no empty list."""
    parts = test.values if isinstance(test, ast.BoolOp) else [test]
    if any(not any(isinstance(one, ast.Name) and one.id == name for one in ast.walk(part)) for part in parts):
        return False
    values = [one.value for one in ast.walk(test) if isinstance(one, ast.Constant)]
    values += [known[one.id] for one in ast.walk(test) if isinstance(one, ast.Name) and one.id in known]
    return any(bool(value) and isinstance(value, str | list | tuple) for value in values)


def _is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _without_children(call: ast.Call) -> bool:
    return any(one.arg == "recurse" and _is_false(one.value) for one in call.keywords)


def _stored(node: ast.Assign) -> Iterator[ast.Name]:
    yield from (one for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name))


def _bound(target: ast.expr) -> list[str]:
    return [one.id for one in ast.walk(target) if isinstance(one, ast.Name)]
