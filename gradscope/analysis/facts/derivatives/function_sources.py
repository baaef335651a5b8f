"""What the source of a custom ``autograd.Function``'s backward says that it returns."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.frames.syntax_trees import own_parts, parsed
from gradscope.recording.rows import EventKind

Definition = ast.FunctionDef | ast.AsyncFunctionDef

_MUTATORS = frozenset(("append", "add_", "copy_", "update", "extend"))


class Lines(NamedTuple):
    """Lines of a file, in a function."""

    file: int
    line: NamedLine
    end_line: int
    function: str


_SWITCH_ON = ("enable_grad", "set_grad_enabled", "checkpoint", "vjp", "vjp_fn", "functional_call")


class Kept(NamedTuple):
    """A tensor that a Function's ctx keeps, as the source of its backward takes it out."""

    attr: str
    """``saved_tensors``, or another attribute."""
    position: int = 0
    """Its place among the saved tensors."""


class ReturnedGrad(NamedTuple):
    """A ``return`` that gives an input its own ``.grad``."""

    lines: Lines
    position: int
    """Which argument of the Function's it is."""
    arguments: int
    """How many it takes."""


class Untracked(NamedTuple):
    """What a backward computes without a graph, and asks for gradients."""

    name: str
    computed: Lines
    asked: Lines


class WrittenBackward:
    """The backward of one Function, as its source has it."""

    def __init__(
        self,
        name: str,
        file: int,
        function: str,
        definition: Definition,
        methods: dict[str, Definition],
        called: str = "",
    ) -> None:
        self.name = name
        self.file = file
        self.function = function
        self.definition = definition
        self.forward = methods.get("forward")
        self.methods = methods
        self._called = called

    @property
    def header(self) -> Lines:
        """Its ``def`` line."""
        line = self.definition.lineno
        return Lines(self.file, NamedLine(line, self._called), line, self.function)

    @property
    def once_differentiable(self) -> Lines | None:
        """Where it is decorated so that what it returns has no graph."""
        for decorator in self.definition.decorator_list:
            if ast.unparse(decorator).rpartition(".")[2] == "once_differentiable":
                return self.lines_of(decorator)
        return None

    def lines_of(self, node: ast.stmt | ast.expr) -> Lines:
        """The lines of a part of it."""
        return Lines(self.file, NamedLine(node.lineno, self._called), node.end_lineno or node.lineno, self.function)

    @cached_property
    def returns(self) -> list[ast.Return]:
        """Its ``return`` statements, without those of functions within it."""
        return [one for one in own_parts(self.definition) if isinstance(one, ast.Return)]

    @cached_property
    def returned_by_forward(self) -> list[Lines]:
        """The lines of the ``return`` statements of its forward."""
        parts = own_parts(self.forward) if self.forward is not None else ()
        function = f"{self.name}.forward"
        return [
            self.lines_of(one)._replace(function=function)
            for one in parts
            if isinstance(one, ast.Return) and one.value is not None
        ]

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

    @cached_property
    def only_writes(self) -> bool:
        """Whether it gives no input a gradient, by all of its ``return`` statements, and keeps what it computes itself.

        An input that requires grad is a dummy then: for it the Function gets a node, and its backward runs.
        """
        given = [element for one in self.returns for element in _elements(one.value, 0, 0)]
        return bool(given) and all(map(_is_none, given)) and any(writes_to_held(self.definition))

    def computed_at(self, position: int) -> list[Lines]:
        """The last line that computes what it returns at a position, where its one ``return`` gives a name there."""
        if len(self.returns) != 1:
            return []
        value = self.returns[0].value
        elements = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
        element = elements[position] if position < len(elements) else None
        if not isinstance(element, ast.Name) or any(isinstance(one, ast.Starred) for one in elements):
            return []
        binding = [
            part
            for part in own_parts(self.definition)
            if isinstance(part, ast.Assign | ast.AugAssign)
            for target in (part.targets if isinstance(part, ast.Assign) else [part.target])
            if isinstance(target, ast.Name) and target.id == element.id
        ]
        return [self.lines_of(max(binding, key=lambda part: part.lineno))] if binding else []

    @cached_property
    def passes_within(self) -> list[ast.Call]:
        """Calls of ``backward`` in it that fill ``.grad`` of whatever leaves they come to."""
        return [
            one
            for one in own_parts(self.definition)
            if isinstance(one, ast.Call)
            and isinstance(one.func, ast.Attribute)
            and one.func.attr == "backward"
            and not any(keyword.arg == "inputs" for keyword in one.keywords)
            and not (one.args and isinstance(one.args[0], ast.Name) and one.args[0].id == self._context)
        ]

    @cached_property
    def untracked(self) -> Untracked | None:
        """What it computes itself and asks ``autograd.grad`` about, in no block that switches gradients on.

        Autograd runs a backward without them, unless a graph of its own is asked for.
        """
        parts = list(own_parts(self.definition))
        if any(isinstance(one, ast.Attribute) and one.attr in _SWITCH_ON for one in parts):
            return None
        for call in parts:
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("autograd.grad"):
                given = [*call.args[:1], *(one.value for one in call.keywords if one.arg == "outputs")]
                for statement in parts:
                    if isinstance(statement, ast.Assign) and given and isinstance(given[0], ast.Name):
                        names = [one.id for one in statement.targets if isinstance(one, ast.Name)]
                        if given[0].id in names and self._is_of_torch(statement.value):
                            return Untracked(given[0].id, self.lines_of(statement), self.lines_of(call))
        return None

    def _is_of_torch(self, value: ast.expr) -> bool:
        """Whether an expression is computed right here: the program's own functions may switch gradients on."""
        if isinstance(value, ast.BinOp):
            return True
        called = value.func if isinstance(value, ast.Call) else None
        return isinstance(called, ast.Attribute) and ast.unparse(called.value) in ("torch", "F", "torch.nn.functional")

    @property
    def _context(self) -> str:
        arguments = self.definition.args.args
        return arguments[0].arg if arguments else ""

    @cached_property
    def returned_grads(self) -> list[ReturnedGrad]:
        """Where it returns, for an argument, the ``.grad`` of that argument itself, which its ctx kept uncopied.

        Nothing where it sets or clears a ``.grad`` itself.
        """
        for part in own_parts(self.definition):
            if isinstance(part, ast.Attribute) and (
                (part.attr == "grad" and not isinstance(part.ctx, ast.Load)) or part.attr.startswith("zero_")
            ):
                return []
        found = []
        for statement in self.returns:
            value = statement.value
            elements = value.elts if isinstance(value, ast.Tuple | ast.List) else [value]
            for position, element in enumerate(elements):
                kept = self.kept(self._grad_of(element))
                if kept is not None and kept == self.kept_by_forward.get(position):
                    found.append(ReturnedGrad(self.lines_of(statement), position, len(elements)))
        return found

    @cached_property
    def kept_by_forward(self) -> dict[int, Kept]:
        """For each argument of ``forward`` that it keeps as it is, in one place: how."""
        if self.forward is None or len(self.forward.args.args) < 2:
            return {}
        context, *arguments = (argument.arg for argument in self.forward.args.args)
        parts = list(own_parts(self.forward))
        rebound = {one.id for one in parts if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load)}
        named: dict[str, list[Kept]] = {}
        for part in parts:
            if isinstance(part, ast.Call) and attribute_of(part.func, context) == "save_for_backward":
                for position, value in enumerate(part.args):
                    if isinstance(value, ast.Name):
                        named.setdefault(value.id, []).append(Kept("saved_tensors", position))
            if isinstance(part, ast.Assign) and len(part.targets) == 1 and isinstance(part.value, ast.Name):
                attr = attribute_of(part.targets[0], context)
                if attr:
                    named.setdefault(part.value.id, []).append(Kept(attr))
        return {
            position: named[argument][0]
            for position, argument in enumerate(arguments)
            if argument not in rebound and len(named.get(argument, ())) == 1
        }

    def _grad_of(self, element: ast.expr | None) -> ast.expr | None:
        """The expression of which an element is the ``.grad``, directly or by a name for it."""
        if isinstance(element, ast.Name):
            bound = self._bound(element.id)
            element = bound[1] if bound is not None and bound[0] is None else None
        return element.value if isinstance(element, ast.Attribute) and element.attr == "grad" else None

    def kept(self, value: ast.expr | None) -> Kept | None:
        """Which tensor of the ctx an expression is."""
        position: int | None = None
        if isinstance(value, ast.Name):
            bound = self._bound(value.id)
            if bound is None:
                return None
            position, value = bound
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant):
            if position is not None or not isinstance(value.slice.value, int):
                return None
            position, value = value.slice.value, value.value
        attr = attribute_of(value, self._context)
        if attr == "saved_tensors":
            return None if position is None else Kept(attr, position)
        return Kept(attr) if attr and position is None else None

    def _bound(self, name: str) -> tuple[int | None, ast.expr] | None:
        """What a name stands for where it is bound once: which element (None: all of it) of what."""
        parts = list(own_parts(self.definition))
        found = [
            one for one in parts if isinstance(one, ast.Name) and one.id == name and not isinstance(one.ctx, ast.Load)
        ]
        for one in parts if len(found) == 1 else ():
            if not isinstance(one, ast.Assign) or len(one.targets) != 1:
                continue
            target = one.targets[0]
            if target is found[0]:
                return None, one.value
            if isinstance(target, ast.Tuple | ast.List) and found[0] in target.elts:
                has_star = any(isinstance(element, ast.Starred) for element in target.elts)
                return None if has_star else (target.elts.index(found[0]), one.value)
        return None

    def _is_computed(self, element: ast.expr) -> bool:
        """Whether an element is a gradient for certain: arithmetic, or a name that only arithmetic is assigned to."""
        if isinstance(element, ast.BinOp | ast.UnaryOp):
            return True
        if not isinstance(element, ast.Name):
            return False
        arguments = [argument.arg for argument in self.definition.args.args[1:]]
        values = [
            statement.value
            for statement in own_parts(self.definition)
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
    def of_name(self) -> dict[str, WrittenBackward]:
        """By the name of the Function's nodes; a name that two classes have is left out."""
        found: dict[str, list[WrittenBackward]] = {}
        recording = self._index.recording
        trees: dict[int, ast.Module | None] = {}
        for event in self._events.of(EventKind.FUNCTION):
            name = event.detail.get("node")
            if event.span < 0 or not isinstance(name, str):
                continue
            span = recording.spans[event.span]
            if span.file not in trees:
                trees[span.file] = parsed(recording.files[span.file].text)
            tree = trees[span.file]
            definition = None if tree is None else _definition_at(tree, span.line)
            if tree is not None and definition is not None:
                function = recording.text(span.function)
                found.setdefault(name, []).append(
                    WrittenBackward(
                        name.removesuffix("Backward"),
                        span.file,
                        function,
                        definition,
                        _methods_beside(tree, definition),
                        self._index.line(span.file, span.line).of,
                    )
                )
        return {name: backwards[0] for name, backwards in found.items() if len(backwards) == 1}

    def of_node(self, node: int) -> WrittenBackward | None:
        """The backward of a node's Function."""
        recording = self._index.recording
        return self.of_name.get(recording.text(recording.nodes.column("name")[node]))


def _definition_at(tree: ast.Module, line: int) -> Definition | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == line:
                return node
    return None


def _methods_beside(tree: ast.Module, backward: Definition) -> dict[str, Definition]:
    """The methods of the class of a backward."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef) and backward in owner.body:
            methods = [node for node in owner.body if isinstance(node, ast.FunctionDef)]
            return {method.name: method for method in reversed(methods)}  # (of two of a name the first)
    return {}


def attribute_of(node: ast.AST | None, name: str) -> str:
    """The attribute that an expression ``name.attribute`` is of; empty for any other."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
        return node.attr
    return ""


def writes_to_held(backward: Definition) -> Iterator[ast.stmt]:
    """Statements that write into an object which the ctx holds: ``ctx.store.grad = …``, ``ctx.seen.append(…)``."""
    context = backward.args.args[0].arg
    held = {
        part.targets[0].id
        for part in own_parts(backward)
        if isinstance(part, ast.Assign)
        and isinstance(part.targets[0], ast.Name)
        and attribute_of(part.value, context) not in ("", "saved_tensors")
    }
    for part in own_parts(backward):
        targets: list[ast.expr] = []
        if isinstance(part, ast.Assign):
            targets = part.targets
        elif isinstance(part, ast.AugAssign):
            targets = [part.target]
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            function = part.value.func
            if isinstance(function, ast.Attribute) and function.attr in _MUTATORS:
                targets = [function]
        for target in targets:
            if isinstance(target, ast.Attribute | ast.Subscript) and _is_held(target.value, context, held):
                assert isinstance(part, ast.stmt)
                yield part


def _is_held(value: ast.expr, context: str, held: set[str]) -> bool:
    while not attribute_of(value, context) and isinstance(value, ast.Attribute | ast.Subscript):
        value = value.value
    return bool(attribute_of(value, context)) or (isinstance(value, ast.Name) and value.id in held)


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
