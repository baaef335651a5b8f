"""What the source of a custom ``autograd.Function``'s backward says that it returns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind

Definition = ast.FunctionDef | ast.AsyncFunctionDef


class Lines(NamedTuple):
    """Lines of a file, in a function."""

    file: int
    line: int
    end_line: int
    function: str


class Backward:
    """The backward of one Function, as its source has it."""

    def __init__(self, name: str, file: int, function: str, definition: Definition, span: int) -> None:
        self.name = name
        self.file = file
        self.function = function
        self.definition = definition
        self.span = span

    @property
    def header(self) -> Lines:
        """Its ``def`` line."""
        line = self.definition.lineno
        return Lines(self.file, line, line, self.function)

    def lines_of(self, node: ast.stmt | ast.expr) -> Lines:
        """The lines of a part of it."""
        return Lines(self.file, node.lineno, node.end_lineno or node.lineno, self.function)

    @cached_property
    def returns(self) -> list[ast.Return]:
        """Its ``return`` statements, without those of functions within it."""
        return [one for one in _own(self.definition) if isinstance(one, ast.Return)]

    def gives_none(self, position: int, inputs: int) -> tuple[Lines, bool] | None:
        """Where it gives the input at a position no gradient, or None where by its source it gives one.

        Args:
            position: Which of the tensors that the Function was applied to.
            inputs: How many those were. What is no tensor has a gradient in the ``return`` too, so where there are
                more, the tensor is one of several.

        Returns:
            The lines, and whether a ``return`` says None there, literally. Else a value that may be None is returned.
        """
        if not self.returns:
            return self.header, False
        given = [(one, _elements(one.value, position, inputs)) for one in self.returns]
        literal = [one for one, elements in given if any(map(_is_none, elements))]
        if len(literal) == 1:
            return self.lines_of(literal[0]), True
        if not literal and all(self._is_computed(element) for _, elements in given for element in elements):
            return None
        return (self.lines_of(self.returns[0]) if len(self.returns) == 1 else self.header), False

    def _is_computed(self, element: ast.expr) -> bool:
        """Whether an element is a gradient for certain: arithmetic, or a name that only arithmetic is assigned to."""
        if isinstance(element, ast.BinOp | ast.UnaryOp):
            return True
        if not isinstance(element, ast.Name):
            return False
        arguments = [argument.arg for argument in self.definition.args.args[1:]]
        values = [
            statement.value
            for statement in _own(self.definition)
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            for name in ast.walk(target)
            if isinstance(name, ast.Name) and name.id == element.id
        ]
        return all(isinstance(value, ast.BinOp | ast.UnaryOp) for value in values) and bool(
            values or element.id in arguments
        )


class FunctionSources:
    """The backwards of the Functions that were seen, where they are the user's code."""

    def __init__(self, index: Index, events: Events) -> None:
        self._index = index
        self._events = events

    @cached_property
    def of_name(self) -> dict[str, Backward]:
        """By the name of the Function's nodes; a name that two classes have is left out."""
        found: dict[str, list[Backward]] = {}
        recording = self._index.recording
        trees: dict[int, ast.Module | None] = {}
        for event in self._events.of(EventKind.FUNCTION):
            name = event.detail.get("node")
            if event.span < 0 or not isinstance(name, str):
                continue
            span = recording.spans[event.span]
            if span.file not in trees:
                trees[span.file] = _parsed(recording.files[span.file].text)
            tree = trees[span.file]
            definition = None if tree is None else _definition_at(tree, span.line)
            if definition is not None:
                function = recording.text(span.function)
                found.setdefault(name, []).append(
                    Backward(name.removesuffix("Backward"), span.file, function, definition, event.span)
                )
        return {name: backwards[0] for name, backwards in found.items() if len(backwards) == 1}

    def of_node(self, node: int) -> Backward | None:
        """The backward of a node's Function."""
        recording = self._index.recording
        return self.of_name.get(recording.text(recording.nodes.column("name")[node]))


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):  # what a notebook or a file that changed may hold
        return None


def _definition_at(tree: ast.Module, line: int) -> Definition | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == line:
                return node
    return None


def _own(definition: Definition) -> Iterator[ast.AST]:
    """What a function's body is made of, without the bodies of functions and classes within it."""
    stack: list[ast.AST] = list(reversed(definition.body))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))


def _elements(value: ast.expr | None, position: int, inputs: int) -> list[ast.expr]:
    """What a ``return`` may give the input at a position."""
    if value is None:
        return [ast.Constant(None)]
    if not isinstance(value, ast.Tuple | ast.List):
        return [value]
    if any(isinstance(element, ast.Starred) for element in value.elts):
        return [element for element in value.elts if not isinstance(element, ast.Starred)] or [value]
    return value.elts[position : position + 1 + max(len(value.elts) - inputs, 0)] or [value]


def _is_none(element: ast.expr) -> bool:
    return isinstance(element, ast.Constant) and element.value is None
