"""Where custom Functions are applied, and leaves that the forward of one computes with though ``apply`` was not given
them: through a module that it was handed, an attribute, or a name from outside.

Autograd runs forward without a graph, and gives gradients only to the tensors among the arguments of ``apply``, as
backward returns them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines, attribute_of
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import bases_of, parsed
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import Field

_WITHOUT_GRAPH = frozenset(("detach", "detach_", "data", "tensor", "new_tensor", "as_tensor", "asarray", "deepcopy"))
"""Functions whose results have no graph."""


class ApplyCalls:
    """The calls of ``apply`` in the sources of a program, by the name of the Function's class."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def trees(self) -> list[ast.Module | None]:
        """The syntax trees of the program's files that may have to do with Functions."""
        files = self._index.recording.files
        named = [file.is_user and ("Function" in file.text or ".apply" in file.text) for file in files]
        return [parsed(file.text) if is_named else None for file, is_named in zip(files, named, strict=True)]

    def is_cut(self, op: int) -> bool:
        """Whether an op gives no graph whatever it is given, so that it does not tell whether that had one."""
        return not any(map(self._index.is_floating, self._index.tensors_made(op))) or any(
            part in _WITHOUT_GRAPH for part in self._index.func(op).split(".")
        )

    def at(self, name: str, op: int) -> Lines | None:
        """The call whose result an op took: in its statement, or the only one that there is, by no other name."""
        span = self._index.recording.ops.column("span")[op]
        if span < 0:
            return None
        row = self._index.recording.spans[span]
        calls, is_aliased = self._of(name)
        own = [
            one
            for one in calls
            if one.file == row.file and one.line <= row.stmt_end_line and row.stmt_line <= one.end_line
        ]
        found = own or ([] if is_aliased else calls)
        function = self._index.recording.text(row.function) if own else ""
        return found[0]._replace(function=function) if len(found) == 1 else None

    def _of(self, name: str) -> tuple[list[Lines], bool]:
        """The calls, and whether ``apply`` of the class is also taken without being called, for another name."""
        nodes = [(file, node) for file, tree in enumerate(self.trees) if tree is not None for node in ast.walk(tree)]
        calls = [
            Lines(file, self._index.line(file, node.lineno), node.end_lineno or node.lineno, "")
            for file, node in nodes
            if isinstance(node, ast.Call) and attribute_of(node.func, name) == "apply"
        ]
        return calls, sum(attribute_of(node, name) == "apply" for _, node in nodes) > len(calls)


class UsedInside(NamedTuple):
    """A leaf that a Function's forward computes with, and that ``apply`` was not given."""

    why: str
    """That no gradient comes to it, in words."""
    applied_at: Lines
    """The call of ``apply``, or the ``def`` line of forward where the call is not known."""
    returned_at: Lines | None
    """Where backward returns gradients, for those that ``apply`` was given; None where it does not run."""


class InsideFunctions:
    """Tells by which Function's forward a way went through without the graph."""

    def __init__(self, index: Index, flow: Flow, functions: FunctionSources) -> None:
        self._index = index
        self._flow = flow
        self._functions = functions
        self._calls = ApplyCalls(index)

    def on(self, way: list[Step], roots: list[int]) -> UsedInside | None:
        """The Function in whose forward a way from a leaf begins to be without a graph; None where that is not known.

        Args:
            way: The steps from the leaf to a root, none of which is a cut.
            roots: The nodes that the pass started from.
        """
        inside = [self._flow.is_inside_function(step.op) for step in way]
        if not any(inside):
            return None
        first = inside.index(True)
        past = next((at for at in range(first, len(way)) if not inside[at]), len(way))
        user = way[past].op if past < len(way) else NONE
        nodes = [*self._nodes(way[past - 1].gives), *(self._behind(user) if user >= 0 else roots)]
        names = self._index.recording.nodes.column("name")
        found = {names[node]: node for node in nodes if node >= 0 and names[node] in self._index.custom_functions}
        written = self._functions.of_node(*found.values()) if len(found) == 1 else None
        if not found and user >= 0:
            return self._without_node(way[first:past], user)
        if written is None or written.forward is None:
            return None
        returned = written.lines_of(written.returns[0]) if len(written.returns) == 1 else written.header
        calls = (self._calls.at(written.name, op) for op in self._took(way[past - 1].gives, user))
        applied = next((call for call in calls if call is not None), None)
        line = self._index.line(written.file, written.forward.lineno)
        uses = f"{written.name}.forward{'' if applied else f' (line {line})'} computes with it"
        given = f"apply{f' (line {applied.line})' if applied else ''} is not given it as an argument"
        returns = f"backward (line {returned.line}) returns gradients only for what apply is given"
        return UsedInside(
            f"{uses}, and {given}: forward makes no graph, and {returns}",
            applied or Lines(written.file, line, int(line), f"{written.name}.forward"),
            returned,
        )

    def _without_node(self, inside: list[Step], user: int) -> UsedInside | None:
        """The call of a Function that made no node, since nothing that it was given requires grad.

        Args:
            inside: The steps of its forward, and of the forwards right behind it.
            user: The op that took the result, while grad mode was on.
        """
        index = self._index
        if index.requires_grad(inside[-1].gives, user) or not index.recording.ops.column("flags")[user] & GRAD:
            return None
        classes = [one for tree in self._calls.trees if tree is not None for one in _functions(tree)]
        spans = {index.recording.ops.column("span")[step.op] for step in inside}
        lines = {index.recording.spans[span].line for span in spans if span >= 0}
        own = [one for one in classes if any(_covers(one, line) for line in lines)]
        called = [
            (one, self._calls.at(one.name, inside[0].op) or self._calls.at(one.name, user)) for one in own or classes
        ]
        found = [(one.name, call) for one, call in called if call is not None and not _marks_results(one)]
        if len(found) != 1 or self._calls.is_cut(user):
            return None
        ((name, call),) = found
        why = f"{name}.apply (line {call.line}) was given no tensor that requires grad, so it makes no graph"
        return UsedInside(f"{why} and its backward does not run", call, None)

    def _nodes(self, tensor: int) -> Iterator[int]:
        """The grad_fn that a tensor had first, and those that it got."""
        yield self._index.recording.tensors.column("node")[tensor]
        for _, node in self._given_nodes.get(tensor, ()):
            yield node

    def _behind(self, op: int) -> Iterator[int]:
        """The nodes to which those lead that an op made."""
        node_of = self._index.recording.tensors.column("node")
        for made in self._index.tensors_made(op):
            if node_of[made] >= 0:
                yield from self._index.edges.of(node_of[made])

    def _took(self, tensor: int, user: int) -> Iterator[int]:
        """What may stand at a call of ``apply``: the op that gave its result a node, then the one that took it."""
        for op, _ in self._given_nodes.get(tensor, ()):
            if op < self._index.op_count:
                yield op
        if user >= 0:
            yield user

    @cached_property
    def _given_nodes(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor that got a grad_fn after it had been made: the ops and the nodes."""
        changes = self._index.recording.changes
        found: dict[int, list[tuple[int, int]]] = {}
        columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
        for op, tensor, field, after in zip(*columns, strict=True):
            if field == Field.GRAD_FN and after >= 0:
                found.setdefault(tensor, []).append((op, after))
        return found


def _functions(tree: ast.Module) -> Iterator[ast.ClassDef]:
    """The classes of Functions that a file has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(
            base.rpartition(".")[2] == "Function" for base in bases_of(tree, node)
        ):
            yield node


def _covers(function: ast.ClassDef, line: int) -> bool:
    return function.lineno <= line <= (function.end_lineno or function.lineno)


def _marks_results(function: ast.ClassDef) -> bool:
    """Whether it says itself that its results have no gradient."""
    return any(isinstance(one, ast.Attribute) and one.attr == "mark_non_differentiable" for one in ast.walk(function))
