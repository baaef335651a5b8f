"""Where a text changes state that is no tensor, and where it computes with it, in functions that run a second time.

``self.temperature = max(0.1, self.temperature * 0.9)``, ``self.calls += 1``; ``x / self.temperature``.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.frames.called_by_torch.decided_by_values import decides_otherwise
from gradscope.frames.syntax_trees import assigned_names, dotted_name, last_name, parsed

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_PUTS = ("append", "appendleft", "add", "extend", "insert")
_CHOICES = 2
_SIMPLE = (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)


class StateLines(NamedTuple):
    """A statement."""

    line: int
    end_line: int
    function: str


class StateOfReruns:
    """Looks at one name in a text.

    Args:
        text: Source of a file.
        owner: The class of the object whose attribute it is; empty for a name of the file's own.
        name: ``temperature``.
        again: First lines of the statements that ran a second time.
        ran: First lines of those that ran in forward passes.
        values: What it was when a function ran at first, and when it ran again, each time that these differed.
    """

    def __init__(
        self,
        text: str,
        owner: str,
        name: str,
        again: set[int],
        ran: set[int],
        values: Collection[tuple[int, int]] = (),
    ) -> None:
        tree = parsed(text) if name in text else None
        self._name = name
        self._kind: type[ast.Name | ast.Attribute] = ast.Attribute if owner else ast.Name
        self._again, self._forward, self._values = again, ran, values
        self._others_own = _attributes_of_others(tree, owner) if tree is not None else set[int]()
        functions = [node for node in (ast.walk(tree) if tree is not None else ()) if isinstance(node, _Function)]
        self._ran = [one for one in functions if any(part.lineno in again for part in _statements(one))]
        self._others = [one for one in functions if one not in self._ran and one.name != "__init__"]
        self._top = tree
        self._givers = {
            one.name
            for one in self._others
            if any(isinstance(part, ast.Return) and self._reads(part, set()) for part in _statements(one))
        }
        """Functions that give what they compute of it: ``self.rate()``, or a property."""

    def changes(self) -> list[StateLines]:
        """The statements that change it from what it was: of functions that ran again, if there are such."""
        own = [_lines(part, one.name) for one in self._ran for part in self._updates(one)]
        return own or [_lines(part, one.name) for one in self._others for part in self._updates(one)]

    def assignments_elsewhere(self) -> list[StateLines]:
        """All statements by which functions that did not run again give it a value, or the file itself."""
        parts = [(part, one.name) for one in self._others for part in _statements(one)]
        top = list(ast.walk(self._top)) if self._top is not None else []
        inside = {id(part) for one in top if isinstance(one, _Function) for part in ast.walk(one)}
        parts += [(part, "<module>") for part in top if isinstance(part, ast.stmt) and id(part) not in inside]
        return [_lines(part, name) for part, name in parts if self._stores(part)]

    def puts(self) -> list[StateLines]:
        """The statements that put something into it, or add to it: ``self.losses.append(loss)``."""
        found: list[StateLines] = []
        for ran in (self._ran, self._others):
            found = found or [
                _lines(part, one.name)
                for one in ran
                for part in _statements(one)
                if self._is_put(part) or (isinstance(part, _SIMPLE) and part in self._updates(one))
            ]
        return found

    def is_computed_with(self, *, before_changes: bool = False) -> bool:
        """Whether a statement that ran again computes with it, or it decided on one that ran in one of the runs only.

        Args:
            before_changes: Only such as stand before a statement of the same function that changes it.
        """
        for one in self._ran:
            last = max((part.lineno for part in self._updates(one)), default=0)
            for part in (*self._computing(one), *self._deciding(one)):
                if not before_changes or part.lineno < last:
                    return True
        return False

    def is_read(self) -> bool:
        """Whether a function that ran again reads it at all, other than to change it."""
        return any(
            self._is_it(node, ast.Load)
            for one in self._ran
            for part in _statements(one)
            if not self._is_update(part)
            for child in _heads(part)
            for node in ast.walk(child)
        )

    def _computing(self, function: _Function) -> Iterator[ast.stmt]:
        names = set[str]()
        for part in _statements(function):
            if isinstance(part, ast.If) and self._chooses(part):
                names |= {name for block in (*part.body, *part.orelse) for name in assigned_names(block)}
            if not isinstance(part, ast.Assign | ast.AugAssign | ast.Return) or part.value is None:
                continue
            is_chosen = any(map(self._chooses, ast.walk(part.value)))
            if self._is_update(part) or not (is_chosen or self._reads(part.value, names)):
                continue
            if part.lineno in self._again:
                yield part
            if isinstance(part, ast.Assign):
                names |= {target.id for target in part.targets if isinstance(target, ast.Name)}

    def _deciding(self, function: _Function) -> Iterator[ast.stmt]:
        """Conditions that read it, and of whose branches a statement ran in the one run and not in the other."""
        last = max(self._again)
        for part in _statements(function):
            if not isinstance(part, ast.If) or not any(self._is_it(node, ast.Load) for node in ast.walk(part.test)):
                continue
            lines = {one.lineno for block in (*part.body, *part.orelse) for one in ast.walk(block)
                     if isinstance(one, ast.Assign | ast.AugAssign | ast.Return)}  # fmt: skip
            is_left_out = last > (part.end_lineno or part.lineno) and lines & self._forward - self._again
            if lines & self._again - self._forward or is_left_out:
                yield part

    def _reads(self, node: ast.AST, names: Collection[str]) -> bool:
        """Whether a value is computed with it, or with some names; what only a condition reads does not count."""
        if isinstance(node, ast.Compare | ast.JoinedStr | ast.Lambda):
            return False
        if isinstance(node, ast.IfExp):
            return self._reads(node.body, names) or self._reads(node.orelse, names)
        if self._is_it(node, ast.Load) or (isinstance(node, ast.Name) and node.id in names):
            return True
        if isinstance(node, ast.Attribute) and node.attr in getattr(self, "_givers", ()):
            return True
        return any(self._reads(child, names) for child in ast.iter_child_nodes(node))

    def _chooses(self, node: ast.AST) -> bool:
        """Whether a choice came out otherwise, more than once: at first only, something may be made to be kept."""
        if not isinstance(node, ast.IfExp | ast.If):
            return False
        differ = [
            pair for pair in self._values if decides_otherwise(node.test, lambda one: self._is_it(one, ast.Load), *pair)
        ]
        return len(differ) >= _CHOICES

    def _is_it(self, node: ast.AST, context: type[ast.expr_context]) -> bool:
        is_named = isinstance(node, self._kind) and last_name(node) == self._name and id(node) not in self._others_own
        return is_named and isinstance(getattr(node, "ctx", None), context)

    def _stores(self, part: ast.stmt) -> bool:
        if not isinstance(part, ast.Assign | ast.AugAssign):
            return False
        targets = part.targets if isinstance(part, ast.Assign) else [part.target]
        return any(self._is_it(node, ast.Store) for target in targets for node in ast.walk(target))

    def _is_update(self, part: ast.stmt) -> bool:
        if not isinstance(part, ast.Assign | ast.AugAssign) or not self._stores(part):
            return False
        return isinstance(part, ast.AugAssign) or any(self._is_it(node, ast.Load) for node in ast.walk(part.value))

    def _updates(self, function: _Function) -> list[ast.stmt]:
        return [part for part in _statements(function) if self._is_update(part)]

    def _is_put(self, part: ast.stmt) -> bool:
        call = part.value if isinstance(part, ast.Expr) else None
        func = call.func if isinstance(call, ast.Call) else None
        return isinstance(func, ast.Attribute) and func.attr in _PUTS and self._is_it(func.value, ast.Load)


def _attributes_of_others(tree: ast.Module, owner: str) -> set[int]:
    """``self.temperature`` in classes that have nothing to do with one that the file has (by ``id``)."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {owner, *(last_name(base) for one in classes if one.name == owner for base in one.bases)}
    others = [one for one in classes if one.name not in own] if any(one.name == owner for one in classes) else []
    return {
        id(node)
        for one in others
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute) and dotted_name(node.value) == "self"
    }


def _statements(function: _Function) -> Iterator[ast.stmt]:
    """The statements of a function in order, without those of functions and classes within it."""
    todo: list[ast.AST] = list(reversed(function.body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.stmt):
            yield node
        todo += reversed([one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.expr)])


def _heads(part: ast.stmt) -> list[ast.AST]:
    """The parts of a statement that are no statements: of ``if`` its condition."""
    return [one for one in ast.iter_child_nodes(part) if not isinstance(one, ast.stmt)]


def _lines(part: ast.stmt, function: str) -> StateLines:
    return StateLines(part.lineno, part.end_lineno or part.lineno, function)
