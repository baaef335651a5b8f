"""Backwards of Functions in which the gradient of each round of a loop takes the place of that of the round before.

What is used in every step of a forward gets a gradient from every step, and backward has to add these up.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.function_sources import FunctionSources, WrittenBackward
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.overwritten_rounds import OverwrittenRound, overwritten_rounds, read_in_loops
from gradscope.frames.syntax_trees import innermost, parsed
from gradscope.recording.rows import EventKind


class LastRound(NamedTuple):
    """One name of a backward, or of a function that it calls."""

    written: WrittenBackward
    span: int
    """Of the call that makes what the name is given."""
    found: OverwrittenRound
    rounds: int
    """How often that ran inside backward passes."""
    runs: int
    """How often the backward did."""
    node: int


def last_rounds(index: Index, events: Events, functions: FunctionSources, passes: Passes) -> Iterator[LastRound]:
    """Those whose loop ran more rounds than its backward ran."""
    recording = index.recording
    of_backward = {f"{written.name}.backward": (name, written) for name, written in functions.of_name.items()}
    seen = set[tuple[int, int, str]]()
    for event in events.of(EventKind.RECOMPUTED):
        name, written = of_backward.get(str(event.detail.get("within")), ("", None))
        if written is None or event.span < 0:
            continue
        nodes = [node for node in _nodes(index, name) if passes.first_walked_at[node] >= 0]
        span = recording.spans[event.span]
        definition = _function_at(recording.files[span.file].text, span.line)
        runs = index.times(recording.nodes.column("op")[node] for node in nodes)
        if definition is None or not nodes or event.subject <= runs:
            continue
        for found in overwritten_rounds(definition):
            key = span.file, found.statement.lineno, found.name
            is_there = span.line in found.made_at and key not in seen
            if is_there and (found.call is not None or _is_shared_by_rounds(written, definition, found)):
                seen.add(key)
                yield LastRound(written, event.span, found, event.subject, runs, nodes[-1])


def _nodes(index: Index, name: str) -> list[int]:
    text, names = index.recording.text, index.recording.nodes.column("name")
    own = {one for one in index.custom_functions if text(one) == name}
    return [node for node, one in enumerate(names) if one in own]


def _function_at(text: str, line: int) -> ast.FunctionDef | None:
    tree = parsed(text)
    found = innermost(tree, line, ast.FunctionDef) if tree is not None else None
    return found if isinstance(found, ast.FunctionDef) else None


def _is_shared_by_rounds(written: WrittenBackward, definition: ast.FunctionDef, found: OverwrittenRound) -> bool:
    """Whether what a backward returns under a name is for an argument that each round of its forward's loop reads.

    That of what only the first round was given, the state at the beginning, is the gradient of the last round alone.
    """
    forward = written.forward
    if definition is not written.definition or forward is None or not isinstance(found.used, ast.Return):
        return False
    value, arguments = found.used.value, [one.arg for one in forward.args.args][1:]
    elements = value.elts if isinstance(value, ast.Tuple) else [value]
    if forward.args.vararg is not None or len(elements) != len(arguments) or len(written.returns) != 1:
        return False
    bound = Counter(one.id for one in ast.walk(forward) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    return any(
        isinstance(element, ast.Name) and element.id == found.name and argument in read_in_loops(forward)
        for element, argument in zip(elements, arguments, strict=True)
        if not bound[argument]
    )
