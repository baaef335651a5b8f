"""Gradients that a Function puts in beside a loss that it hands on, and that a division of that loss does not come to.

``forward`` returns a loss as it is given, and ``backward`` gives another argument a gradient which it computes without
what comes in: that of a penalty, say. It has the right size where the loss is what the pass starts from. Where the loss
is divided behind it, for several passes to be added, what is put in stays whole in each of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import incoming, names_made_from, written_into
from gradscope.analysis.facts.derivatives.function_sources import Definition, WrittenBackward
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts, parsed

_AS_GIVEN = frozenset(("clone", "detach", "contiguous", "view_as"))
_EMPTY = frozenset(("zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty"))
_LIBRARIES = frozenset(("torch", "F", "nn", "math", "len", "int", "float", "range", "max", "min", "sum"))
_HOLDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.With, ast.Try, ast.While)
_HIDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Match, ast.Try, ast.If, ast.IfExp)
_SCALED = frozenset(("DivBackward0", "MulBackward0"))
_PASSED = _SCALED | {"AddBackward0", "SubBackward0", "ViewBackward0", "SqueezeBackward0", "CloneBackward0"}
_FOLLOWED = 50


class PutInByReturn(NamedTuple):
    """What the source of a Function says."""

    statement: ast.Return
    argument: str
    """The one that is given the gradient."""
    loss: str
    """The one that forward returns."""


class GradientPutIn(NamedTuple):
    """One Function of a run."""

    said: PutInByReturn
    node: int
    scaled: int
    """The op that divides or multiplies what it returned."""
    passed: int
    """The pass, which added to the gradients of others."""


def gradient_put_in(
    index: Index, passes: Passes, lives: GradientLives, written: WrittenBackward, nodes: list[int]
) -> GradientPutIn | None:
    """What is undivided; None where nothing is known to be.

    Args:
        index: The run.
        passes: Which nodes they walked.
        lives: Which passes were added to others.
        written: The Function.
        nodes: Its nodes that a pass walked.
    """
    text = index.recording.files[written.file].text
    said = put_in_by_return(written, text) if nodes else None
    if said is None or _is_scaled_by_hand(text, written.name):
        return None
    for node in nodes:
        output, passed = index.node_tensor[node], passes.first_walked_at[node]
        if output < 0 or shape_of(index, output) != ():
            continue
        scaled = _scaled_behind(index, passes, output)
        leaves = passes.leaves_behind(node) if scaled >= 0 else set()
        if any(lives.was_added(leaf, passed) for leaf in leaves):
            return GradientPutIn(said, node, scaled, passed)
    return None


def put_in_by_return(written: WrittenBackward, text: str) -> PutInByReturn | None:
    """The gradient that a backward computes without what comes in, beside that which it hands on."""
    forward, given = written.forward, incoming(written)
    if forward is None or len(given) != 1 or len(written.returns) != 1 or forward.args.vararg is not None:
        return None
    if any(isinstance(part, _HIDING) for part in own_parts(written.definition)):
        return None
    arguments = [one.arg for one in (*forward.args.posonlyargs, *forward.args.args)]
    (statement,) = written.returns
    elements = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
    loss = _returned_as_given(forward)
    # (where forward has no ctx, setup_context has it)
    arguments = arguments[-len(elements) :] if len(arguments) in (len(elements), len(elements) + 1) else []
    if not elements or loss not in arguments or any(isinstance(one, ast.Starred) for one in elements):
        return None
    depends = names_made_from(written.definition, given[0])
    if depends.isdisjoint(_names(elements[arguments.index(loss)])):
        return None
    for argument, element in zip(arguments, elements, strict=True):
        # (what forward writes into the loss, its derivative is known to depend on)
        is_used = not names_made_from(forward, argument).isdisjoint(_returned(forward))
        if not is_used and depends.isdisjoint(_names(element)) and _is_put_in(written.definition, element, text):
            return PutInByReturn(statement, argument, loss)
    return None


def _returned_as_given(forward: Definition) -> str:
    """The one name that forward returns, or a copy of it; empty where it returns anything else."""
    returned = [part.value for part in own_parts(forward) if isinstance(part, ast.Return)]
    value = returned[0] if len(returned) == 1 else None
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _AS_GIVEN:
        value = value.func.value
    name = value.id if isinstance(value, ast.Name) else ""
    is_changed = any(
        name in _names(target)
        for part in own_parts(forward)
        if isinstance(part, ast.stmt)
        for target in (*written_into(part), *(part.targets if isinstance(part, ast.Assign) else ()))
    )
    return "" if is_changed else name


def _returned(forward: Definition) -> set[str]:
    parts = [part.value for part in own_parts(forward) if isinstance(part, ast.Return) and part.value is not None]
    return {name for value in parts for name in _names(value)}


def _is_put_in(backward: Definition, element: ast.expr, text: str) -> bool:
    """Whether an element is values of some kind, which no class or module has a factor for: no None, and no zeros."""
    if isinstance(element, ast.Constant):
        return False
    parts = [part for part in own_parts(backward) if isinstance(part, ast.stmt)]
    bound = {name for part in parts for name in _names_stored(part)} | {one.arg for one in backward.args.args}
    names = names_made_of(backward, _names(element))
    values = [part.value for part in parts if isinstance(part, ast.Assign) and names & set(_names_stored(part))]
    foreign = (
        {name for value in (*values, element) for name in _names(value)} - bound - _LIBRARIES - set(_numbers_of(text))
    )
    if foreign:
        return False
    if not isinstance(element, ast.Name):
        return not _is_empty(element)
    own = [one.value for one in parts if isinstance(one, ast.Assign) and element.id in _names_stored(one)]
    is_filled = any(element.id in _names(target) for part in parts for target in written_into(part))
    return is_filled or any(not _is_empty(one) for one in own)


def _numbers_of(text: str) -> Iterator[str]:
    """The names that a file gives a number which stands there, and nothing else: no quotient by a number of passes."""
    tree, known = parsed(text), dict[str, list[bool]]()
    for part in ast.walk(tree) if tree is not None else ():
        if isinstance(part, ast.stmt):
            is_number = isinstance(part, ast.Assign) and isinstance(part.value, ast.Constant)
            for name in _names_stored(part) if not isinstance(part, _HOLDING) else ():
                known.setdefault(name, []).append(is_number)
    yield from (name for name, are in known.items() if are == [True])


def names_made_of(definition: Definition, names: set[str]) -> set[str]:
    """The names of a function that some of its names were computed from, and those themselves."""
    parts = [part for part in own_parts(definition) if isinstance(part, ast.stmt)]
    while True:
        found = set(names)
        for part in parts:
            targets = {name for target in written_into(part) for name in _names(target)} | set(_names_stored(part))
            if targets & found and not isinstance(part, ast.Return):
                found |= _names(part)
        if found == names:
            return found
        names = found


def _is_empty(value: ast.expr) -> bool:
    called = value.func if isinstance(value, ast.Call) else None
    is_none = isinstance(value, ast.Constant) and value.value is None
    return is_none or (isinstance(called, ast.Attribute) and called.attr in _EMPTY)


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _names_stored(part: ast.stmt) -> Iterator[str]:
    for one in ast.walk(part):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            yield one.id


def _is_scaled_by_hand(text: str, function: str) -> bool:
    """Whether what a Function is applied to is divided where it is: by as much as the loss, it may be."""
    tree = parsed(text)
    for call in ast.walk(tree) if tree is not None else ():
        if isinstance(call, ast.Call) and ast.unparse(call.func) in (f"{function}.apply", f"cls.{function}.apply"):
            given = [*call.args, *(one.value for one in call.keywords)]
            if any(
                isinstance(one, ast.BinOp) and isinstance(one.op, ast.Div) for part in given for one in ast.walk(part)
            ):
                return True
    return False


def _scaled_behind(index: Index, passes: Passes, output: int) -> int:
    """An op that scales a loss by what needs no gradient, on the one way from it to what a pass began at.

    NONE (-1) where there is none, or there is anything else on the way.
    """
    node_of, recording = index.recording.tensors.column("node"), index.recording
    names, scaled = recording.nodes.column("name"), -1
    for _ in range(_FOLLOWED):
        above = [
            (op, made, node_of[made])
            for op in index.users.of(output)
            for made in index.tensors_made(op)
            if node_of[made] >= 0 and passes.first_walked_at[node_of[made]] >= 0
        ]
        if not above:
            return scaled
        op, made, node = above[0]
        name = recording.text(names[node])
        if len(above) > 1 or name not in _PASSED or shape_of(index, made) != ():
            return -1
        if name in _SCALED:
            if sum(edge >= 0 for edge in index.edges.of(node)) != 1:
                return -1
            scaled = op
        output = made
    return -1
