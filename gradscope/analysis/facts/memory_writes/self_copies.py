"""Modules with two names of which one was loaded from the other, though both are one module.

The memory shows that source and destination are one: what the program calls the two, and where it gave the second name,
is read from its text.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE

_LOADS, _GIVES = "load_state_dict", "state_dict"


class SelfCopy(NamedTuple):
    """A ``load_state_dict`` that copied a module's tensors onto themselves."""

    op: int
    """The last such call of its statement."""
    tensors: tuple[int, ...]
    destination: str
    """What the program calls the module that was loaded."""
    source: str
    """What it calls the module that the values came from."""
    step: int
    """An optimizer's step that changed them."""
    named_at: int
    """The line where one of the names was given to what another name held; 0 where the text does not show it."""
    file: int


def self_copies(index: Index, sharing: StorageGroups) -> list[SelfCopy]:
    """One for each statement that loads a module from itself under another name.

    Not for one that goes on to load others: what hands one state to all of a list may come by the one that it is from.
    """
    steps = {tensor: op for op, tensor, _, _ in all_writes(index) if op < index.op_count and is_step(index, op)}
    found: dict[int, SelfCopy] = {}
    for op in index.calls_of(lambda name: name.endswith(f".{_LOADS}")):
        statement = index.op_statement[op]
        if statement == NOWHERE:
            continue
        given, tensors = _copied_onto_itself(index, sharing, op)
        if not tensors:
            found.pop(statement, None)
            continue
        destination, source = _owner(index, op, _LOADS), _owner(index, given, _GIVES)
        step = max((steps[tensor] for tensor in tensors if tensor in steps), default=NONE)
        if step >= 0 and _are_two(destination, source):
            file = index.statements[statement].file
            names = _Names(index.recording.files[file].text)
            named_at = names.given_to_another(destination, source)
            if not named_at and not _are_in_one_function(index, op, given):
                continue  # what one function calls net may be the model of another one
            found[statement] = SelfCopy(op, tensors, destination, source, step, named_at, file)
    return list(found.values())


class SelfLoad(NamedTuple):
    """One call of ``load_state_dict`` that copied a module's tensors onto themselves."""

    op: int
    tensors: tuple[int, ...]
    is_by_one_name: bool
    """The program calls what it loads and what it loads that from the same."""


def loads_of_themselves(index: Index, sharing: StorageGroups) -> dict[int, list[SelfLoad]]:
    """For each statement that takes a module's state and loads it into that module, in all of its runs: the calls."""
    found, others = dict[int, list[SelfLoad]](), {NOWHERE}
    for op in index.calls_of(lambda name: name.endswith(f".{_LOADS}")):
        statement = index.op_statement[op]
        given, tensors = _copied_onto_itself(index, sharing, op)
        if not tensors or index.op_statement[given] != statement:
            others.add(statement)
            continue
        name = _owner(index, op, _LOADS)
        is_one = bool(name) and name == _owner(index, given, _GIVES)
        found.setdefault(statement, []).append(SelfLoad(op, tensors, is_one))
    return {statement: calls for statement, calls in found.items() if statement not in others}


def _copied_onto_itself(index: Index, sharing: StorageGroups, op: int) -> tuple[int, tuple[int, ...]]:
    """The call of ``state_dict`` that gave all of an op's values, and the tensors on whose memory they are."""
    taken = index.uses.of(op)
    made_at = index.recording.tensors.column("op")
    given = {tensor for tensor in taken if index.func(made_at[tensor]).endswith(f".{_GIVES}")}
    bases = [sharing.base_of(tensor) for tensor in given]
    calls = {made_at[tensor] for tensor in given}
    if len(calls) != 1 or set(bases) != set(taken) - given:
        return NONE, ()
    return calls.pop(), tuple(sorted(bases))


def _owner(index: Index, op: int, method: str) -> str:
    """What the source calls the object whose method an op is; empty where it does not say."""
    try:
        call = ast.parse(index.span_source(op, exact=True), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != method:
        return ""
    return ast.unparse(call.func.value) if isinstance(call.func.value, ast.Name | ast.Attribute) else ""


def _are_in_one_function(index: Index, one: int, other: int) -> bool:
    statements = [index.statements[index.op_statement[op]] for op in (one, other)]
    return len({(statement.file, statement.function) for statement in statements}) == 1


def _are_two(one: str, other: str) -> bool:
    """Whether two names are meant for two modules: ``encoder`` and ``model.encoder`` are not."""
    return bool(one and other) and one.rpartition(".")[2] != other.rpartition(".")[2]


class _Names:
    """Where the text of a file gives names to what other names hold."""

    def __init__(self, text: str) -> None:
        tree = parsed(text) or ast.Module(body=[], type_ignores=[])
        self._given = list(_assignments(tree))
        self._calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]

    def given_to_another(self, destination: str, source: str) -> int:
        """The line that made two names of one module; 0 where none, or more than one, may be it.

        It is the assignment of the one that was to be a copy; where it takes an argument of the function's, and the
        other name takes another argument, the call that passed the same for both.
        """
        copies, originals = self._values(destination), self._values(source)
        if len(copies) == 1 and len(originals) == 1:
            (line, value), (_, other) = copies[0], originals[0]
            is_one = value in (other, source) or value.rpartition(".")[2] == source.rpartition(".")[2]
            if is_one:
                return line
            return self._passed_twice() if value and other and value != other else 0
        if len(copies) == 1 and copies[0][1]:
            return copies[0][0]
        # A copy that was one at first, and that a later line gave the other's object: ``self.target = self.policy``.
        pairs = ((copies, source), (originals, destination))
        lines = {line for given, other in pairs for line, value in given if value == other}
        return lines.pop() if len(lines) == 1 else 0

    def _values(self, name: str) -> list[tuple[int, str]]:
        last = name.rpartition(".")[2]
        return [(line, value) for line, target, value in self._given if target.rpartition(".")[2] == last]

    def _passed_twice(self) -> int:
        """The one call that passes one name for two arguments; 0 where there is none, or are several."""
        lines = []
        for call in self._calls:
            arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
            names = [ast.unparse(one) for one in arguments if isinstance(one, ast.Name | ast.Attribute)]
            if len(set(names)) < len(names):
                lines.append(call.lineno)
        return lines[0] if len(lines) == 1 else 0


def _assignments(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Every assignment to a name or attribute: line, target, and the name that is its value (empty for others)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for one, value in pairs:
                    if isinstance(one, ast.Name | ast.Attribute):
                        is_name = isinstance(value, ast.Name | ast.Attribute)
                        # ``a = b = build()``: both hold what the one call gave.
                        is_shared = len(node.targets) > 1
                        held = ast.unparse(value) if is_name or is_shared else ""
                        yield one.lineno, ast.unparse(one), held
