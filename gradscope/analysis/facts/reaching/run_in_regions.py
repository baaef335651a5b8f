"""Which statement of a ``with torch.no_grad():`` block runs what is to be trained, where the block is meant for others.

A teacher's forward belongs into the block, and the student's into which it slipped does not: the line to change is then
the student's, not the one that opened the block.
"""

from __future__ import annotations

import ast
from functools import cached_property

from gradscope.analysis.facts.derivatives.function_sources import Lines
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.tracking.flow import Step
from gradscope.analysis.facts.tracking.grad_regions import GradRegions, Region
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import innermost, parsed
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import BindingKind


class RunInRegions:
    """Looks into blocks; what each of them runs is looked at once."""

    def __init__(self, index: Index, events: Events) -> None:
        self._index = index
        self._events = events
        self._regions = GradRegions(index)
        self._others: dict[int, list[set[int]]] = {}

    def at(self, leaf: int, way: list[Step]) -> tuple[Lines, Region] | None:
        """The statement of a block by which a leaf's way to a root is cut, and the block's region.

        None where the block is not of several statements of which another runs parameters that this leaf's optimizer
        does not train, or where it is not known which one cut the way.
        """
        cut = next((step.op for step in way if step.loses), -1)
        region = self._regions.describe(cut) if cut >= 0 else None
        own = self._optimizers_of(leaf)
        if region is None or not region.is_written or not own:
            return None
        body = self._body_of(region)
        if len(body) < 2 or not any(own.isdisjoint(others) for others in self._trained_in(region)):
            return None
        file = self._index.statements[self._index.op_statement[region.op]].file
        for step in way:
            if self._regions.of(step.op) == region.op:
                for line in self._lines_of(step, file):
                    for statement in body:
                        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
                            function = self._index.op_place(region.op).function
                            return Lines(file, self._index.line(file, line), line, function), region
        return None

    def _optimizers_of(self, tensor: int) -> set[int]:
        return {event.subject for event in self._events.in_optimizers.get(tensor, ())}

    def _body_of(self, region: Region) -> list[ast.stmt]:
        """The statements of the ``with`` that opened a region; none where something else did."""
        index = self._index
        statement = index.statements[index.op_statement[region.op]]
        tree = parsed(index.recording.files[statement.file].text)
        block = innermost(tree, region.line, ast.With) if tree is not None else None
        is_it = isinstance(block, ast.With) and block.lineno == statement.line
        return block.body if isinstance(block, ast.With) and is_it else []

    def _trained_in(self, region: Region) -> list[set[int]]:
        """Of each parameter that calls of one run of a region take in: the optimizers that train it."""
        if region.op not in self._others:
            index, found = self._index, dict[int, set[int]]()
            flags = index.recording.tensors.column("flags")
            op = region.op + 1
            while op < index.op_count and self._regions.of(op) == region.op:
                for tensor in index.uses.of(op):
                    if flags[tensor] & PARAMETER and tensor not in found:
                        found[tensor] = self._optimizers_of(tensor)
                op += 1
            self._others[region.op] = list(found.values())
        return self._others[region.op]

    def _lines_of(self, step: Step, file: int) -> list[int]:
        """The lines of a file at which a step of a way was called, and where what it gave was stored."""
        recording = self._index.recording
        spans = [recording.ops.column("span")[step.op], *self._stored_at.get(step.gives, ())]
        return [recording.spans[span].line for span in spans if span >= 0 and recording.spans[span].file == file]

    @cached_property
    def _stored_at(self) -> dict[int, list[int]]:
        """For each tensor the spans of the statements that stored it under a name."""
        bindings, found = self._index.recording.bindings, dict[int, list[int]]()
        columns = (bindings.column(name) for name in ("tensor", "span", "kind"))
        for tensor, span, kind in zip(*columns, strict=True):
            if kind == BindingKind.STORE:
                found.setdefault(tensor, []).append(span)
        return found
