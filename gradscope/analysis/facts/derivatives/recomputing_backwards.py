"""Backwards that compute anew what forward computed, with weights that were changed in between.

A ctx that holds a module has the module's weights as they are when backward runs. What ``save_for_backward`` keeps
autograd compares with what it was; of an attribute it compares nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, Lines, WrittenBackward, attribute_of
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts
from gradscope.recording import NONE


class ChangedSince(NamedTuple):
    """The calls of one Function whose weights one line changed before backward ran."""

    function: str
    lines: Lines
    """Where backward computes anew."""
    called: str
    """What it calls: ``ctx.layer``."""
    step: int
    """The last step of an optimizer in between."""
    backward: int
    node: int
    leaves: list[int]


def changed_since(index: Index, passes: Passes, functions: FunctionSources, lives: GradientLives) -> list[ChangedSince]:
    """One for each Function and line that steps."""
    again = {name: (one, at) for name, one in functions.of_name.items() if (at := computes_anew(one)) is not None}
    found: dict[tuple[str, int], ChangedSince] = {}
    names, made_at = index.recording.nodes.column("name"), index.recording.nodes.column("op")
    inside = _GivenInside(index, passes, lives)
    for node, text in enumerate(names) if again else ():
        name, backward = index.recording.text(text), passes.last_walked_at[node]
        if name not in again or backward < 0:
            continue
        written, (lines, called) = again[name]
        leaves = inside.of(backward) if written.passes_within else _leaves(index, node)
        changed = {
            leaf: steps[-1]
            for leaf in leaves
            if (steps := ops_between(lives.steps.get(leaf, []), made_at[node], backward))
        }
        if changed:
            step = max(changed.values())
            function = name.removesuffix("Backward")
            found[name, index.op_statement[step]] = ChangedSince(
                function, lines, called, step, backward, node, sorted(changed)
            )
    return list(found.values())


class _GivenInside:
    """Leaves that a pass gave gradients though its graph does not lead to them: a pass within a backward did."""

    def __init__(self, index: Index, passes: Passes, lives: GradientLives) -> None:
        self._index = index
        self._passes = passes
        self._lives = lives
        self._known: dict[int, list[int]] = {}

    def of(self, backward: int) -> list[int]:
        """Those of one pass."""
        if backward not in self._known:
            behind = self._passes.leaves_behind(*self._index.root_nodes(backward))
            given = {leaf for leaf, ops in self._lives.passes.items() if backward in ops}
            self._known[backward] = sorted(given - behind)
        return self._known[backward]


def _leaves(index: Index, node: int) -> Iterator[int]:
    """The leaves that a Function was given, and of which its node keeps nothing that autograd checks."""
    variable, storages = index.recording.nodes.column("variable"), index.recording.saved.column("storage")
    attributes = index.recording.saved.column("attr")
    checked = {
        storages[row] for row in index.saved.of(node) if index.recording.text(attributes[row]) == "saved_tensors"
    }
    for after in index.edges.of(node):
        leaf = variable[after] if after >= 0 else NONE
        if leaf >= 0 and index.storage_at(leaf, index.op_count) not in checked:
            yield leaf


def computes_anew(written: WrittenBackward) -> tuple[Lines, str] | None:
    """Where a backward calls, with gradients on, what its ctx has as an attribute, and differentiates that."""
    definition = written.definition
    context = definition.args.args[0].arg if definition.args.args else ""
    parts = list(own_parts(definition))
    differentiates = any(
        isinstance(one, ast.Call)
        and isinstance(one.func, ast.Attribute)
        and one.func.attr in ("grad", "backward", "vjp")
        for one in parts
    )
    held = {
        target.id: ast.unparse(part.value)
        for part in parts
        if isinstance(part, ast.Assign) and attribute_of(part.value, context) not in ("", "saved_tensors")
        for target in part.targets
        if isinstance(target, ast.Name)
    }
    source = ast.unparse(definition)
    for block in parts if differentiates else ():
        if not isinstance(block, ast.With) or not any(_switches_on(item.context_expr) for item in block.items):
            continue
        for node in (one for statement in block.body for one in ast.walk(statement)):
            called, name = _held_by(node.func, context, held) if isinstance(node, ast.Call) else ("", "")
            # (of what is asked for no gradient of its weights, others are behind it than those of the Function)
            if isinstance(node, ast.Call) and called and (written.passes_within or f"{name}.parameters()" in source):
                return written.lines_of(node), called
    return None


def _switches_on(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).endswith(("enable_grad", "set_grad_enabled"))


def _held_by(function: ast.expr, context: str, held: dict[str, str]) -> tuple[str, str]:
    """What of the ctx a call calls, itself or a method of it: ``ctx.layer`` of ``ctx.layer.compute(x)``; and its name.

    The name is what backward calls it, which may be one that it gave it.
    """
    outer = function.value if isinstance(function, ast.Attribute) else function
    for value in (function, outer):
        if attribute_of(value, context) not in ("", "saved_tensors", "save_for_backward", "needs_input_grad"):
            return ast.unparse(value), ast.unparse(value)
        if isinstance(value, ast.Name) and value.id in held:
            return held[value.id], value.id
    return "", ""
