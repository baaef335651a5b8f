"""Parameters that were frozen by the name of a copy that ``copy.copy`` had made: they are the module's own.

Who freezes a copy wants the module itself to be trained, and gave it to an optimizer with what is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.frames.names.copy_calls import shallow_copy_at
from gradscope.frames.syntax_trees import innermost, parsed
from gradscope.recording.rows import EventKind


class FrozenByCopy(NamedTuple):
    """What one statement froze."""

    span: int
    """Of the call that copied."""
    op: int
    """The last that froze one."""
    of: str
    """What was copied, as the source has it."""
    name: str
    """What the copy is called."""
    tensors: tuple[int, ...]


def frozen_by_copy(index: Index, events: Events) -> Iterator[FrozenByCopy]:
    """One for each copy that was frozen for good."""
    changes = index.recording.changes
    frozen_at = {
        tensor: last.op
        for tensor, rows in index.changed_ops.items()
        if not (last := changes[rows[-1]]).after and last.before and last.op < index.op_count
    }
    tensors: dict[int, tuple[int, ...]] = {}
    for event in events.of(EventKind.SHALLOW_COPY):
        own = tensors.setdefault(event.subject, event.tensors)
        row = index.recording.spans[event.span] if event.span >= 0 else None
        source = shallow_copy_at(index.recording.files[row.file].text, row.line) if row is not None else None
        if source is None:
            continue
        for name in source.names:
            frozen = tuple(
                one
                for one in own
                if frozen_at.get(one, -1) >= event.op and _is_named(index, events, frozen_at[one], name)
            )
            if frozen:
                yield FrozenByCopy(event.span, max(frozen_at[one] for one in frozen), source.of, name, frozen)


def _is_named(index: Index, events: Events, op: int, name: str) -> bool:
    """Whether the statement of an op, the loop around it, or a call on the way there has a name."""
    recording, statement = index.recording, index.statements[index.op_statement[op]]
    if statement.file < 0:
        return False
    tree = parsed(recording.files[statement.file].text)
    loop = innermost(tree, statement.line, ast.For) if tree is not None else None
    sources = [recording.source(statement.file, statement.line, statement.end_line)]
    if isinstance(loop, ast.For):
        sources.append(ast.unparse(loop.iter))
    own = recording.ops.column("span")[op]
    for event in events.of(EventKind.FROZEN):
        way = event.detail.get("through")
        if event.span == own and isinstance(way, list):
            spans = [recording.spans[one] for one in way if type(one) is int and 0 <= one < len(recording.spans)]
            sources += [recording.source(span.file, span.line, span.end_line) for span in spans]
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?=[.,)])", one) for one in sources)
