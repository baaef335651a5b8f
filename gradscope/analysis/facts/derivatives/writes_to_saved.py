"""What the backward of a Function writes into tensors that its forward had saved, and who had saved them as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.backward_faults import name_written, written_into
from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward
from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.syntax_trees import own_parts
from gradscope.recording.rows import EventKind, OpFlag

_SAVED = "saved_tensors"
_VIEWS = frozenset(
    (
        *("detach", "expand", "flatten", "narrow", "permute", "reshape", "select", "squeeze", "t", "transpose"),
        *("unsqueeze", "view", "view_as", "T", "mT"),
    )
)
"""Methods and attributes that give a tensor on the same memory, whose writes raise the same version counter."""


_DATA = "data"


class _Stands(NamedTuple):
    """What a name stands for: a saved tensor, by its place, or a view of it."""

    position: int
    is_seen: bool
    """Whether a write through the name raises the version counter."""


class WriteToSaved(NamedTuple):
    """A statement of a backward that writes what its forward had saved."""

    statement: ast.stmt
    name: str
    """The name by which it writes."""
    position: int
    """The place among the saved tensors."""
    is_seen: bool
    """Whether the version counter of what was saved shows it: a write through ``.data`` leaves that as it is."""


class SharedWithSaver(NamedTuple):
    """Memory that a node's backward wrote, and that another node needed, or the same one once more."""

    written: WrittenBackward
    lines: Lines
    storage: int
    writer: int
    """The node."""
    saved_row: int
    """What the node that needed it had saved."""
    wrote_in: int
    """The pass (an op) in which it was written."""


def writes_to_saved(written: WrittenBackward) -> list[WriteToSaved]:
    """Its statements that write saved tensors in place, by their own names, by other ones, or by views."""
    context = written.definition.args.args[0].arg if written.definition.args.args else ""
    stands_for: dict[str, _Stands] = {}
    found = []
    for statement in (part for part in own_parts(written.definition) if isinstance(part, ast.stmt)):
        for target in written_into(statement):
            base, is_seen = _base_of_views(target)
            if ast.unparse(base) == f"{context}.{_SAVED}" and (place := _place_taken(target)) is not None:
                found.append(WriteToSaved(statement, ast.unparse(base), place, is_seen))
            elif (name := name_written(base)) in stands_for:
                position, seen_so_far = stands_for[name]
                found.append(WriteToSaved(statement, name, position, is_seen and seen_so_far))
        if isinstance(statement, ast.Assign):
            known = [_bound(target, statement.value, context, stands_for) for target in statement.targets]
            for name in _names_bound(statement):
                stands_for.pop(name, None)
            for names in known:
                stands_for.update(names)
    return found


def _place_taken(target: ast.expr) -> int | None:
    """The place among the saved tensors of ``ctx.saved_tensors[1].view(-1)``."""
    for part in ast.walk(target):
        if isinstance(part, ast.Subscript) and ast.unparse(part.value).endswith(f".{_SAVED}"):
            place = part.slice.value if isinstance(part.slice, ast.Constant) else None
            return place if isinstance(place, int) and place >= 0 else None
    return None


def _names_bound(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _bound(target: ast.expr, value: ast.expr, context: str, stands_for: dict[str, _Stands]) -> dict[str, _Stands]:
    """The saved tensors that an assignment gives names to: by their places."""
    if isinstance(target, ast.Tuple | ast.List):
        is_all = ast.unparse(value) == f"{context}.{_SAVED}"
        if not is_all or any(isinstance(one, ast.Starred) for one in target.elts):
            return {}
        return {one.id: _Stands(place, True) for place, one in enumerate(target.elts) if isinstance(one, ast.Name)}
    if not isinstance(target, ast.Name):
        return {}
    if isinstance(value, ast.Subscript) and ast.unparse(value.value) == f"{context}.{_SAVED}":
        place = value.slice.value if isinstance(value.slice, ast.Constant) else None
        return {target.id: _Stands(place, True)} if isinstance(place, int) and place >= 0 else {}
    base, is_seen = _base_of_views(value)
    known = stands_for.get(name_written(base))
    return {target.id: _Stands(known.position, known.is_seen and is_seen)} if known is not None else {}


def _base_of_views(value: ast.expr) -> tuple[ast.expr, bool]:
    """What a chain of views is of, and whether a write through them raises its version counter."""
    is_seen = True
    while True:
        is_seen = is_seen and not (isinstance(value, ast.Attribute) and value.attr == _DATA)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _VIEWS:
            value = value.func.value
        elif isinstance(value, ast.Subscript) or (
            isinstance(value, ast.Attribute) and (value.attr in _VIEWS or value.attr == _DATA)
        ):
            value = value.value
        else:
            return value, is_seen


def _saving(written: WrittenBackward) -> Iterator[Lines]:
    """The calls of ``save_for_backward`` in its forward, or in setup_context."""
    for name in ("forward", "setup_context"):
        method = written.methods.get(name)
        for part in own_parts(method) if method is not None else ():
            called = part.func if isinstance(part, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "save_for_backward":
                yield written.lines_of(called)._replace(function=f"{written.name}.{name}")


class WrittenAgain(NamedTuple):
    """A Function whose backward writes what it had saved itself, and which a second pass came to."""

    written: WrittenBackward
    writes: list[Lines]
    saves: list[Lines]
    node: int
    wrote_in: int
    """The pass (an op) in which it wrote."""


class WritesOfBackwards:
    """The writes of the Functions of one recording, as far as calls were seen to run at their lines."""

    def __init__(self, index: Index, events: Events, passes: Passes, functions: dict[str, WrittenBackward]) -> None:
        self._index = index
        self._passes = passes
        self._functions = functions
        self._ran = events.of(EventKind.RECOMPUTED)
        self._wrote = [one for one in events.of(EventKind.INSIDE_PASS) if one.detail.get("did") == "wrote"]

    def needed_by(self, failed: int) -> SharedWithSaver | None:
        """The write into memory that a pass (an op) which failed needed as it had been; None where none is known."""
        recording, passes = self._index.recording, self._passes
        nodes = {node for root in self._index.root_nodes(failed) for node in passes.behind(root)}
        storages = recording.saved.column("storage")
        kept: dict[int, list[int]] = {}
        for node in nodes:
            for row in self._index.saved.of(node):
                kept.setdefault(storages[row], []).append(row)
        names = recording.nodes.column("name")
        for name, written in self._functions.items():
            places = list(self._places(written, is_seen=True))
            for node in (one for one, text in enumerate(names) if places and recording.text(text) == name):
                for lines, storage in (pair for place in places for pair in self._storages(node, place)):
                    found = self._needed(node, nodes, kept.get(storage, []), failed)
                    if found is not None:
                        return SharedWithSaver(written, lines, storage, node, *found)
        return None

    def needed_again(self, failed: int) -> WrittenAgain | None:
        """A node that a pass (an op) which failed came to once more; None where none is known.

        What a node had saved can no longer be read when its first pass has written it before the node was looked at,
        as no call had taken its output until then: the source alone tells what it is.
        """
        recording, passes = self._index.recording, self._passes
        names, attrs = recording.nodes.column("name"), recording.saved.column("attr")
        flags, made_at = recording.ops.column("flags"), recording.nodes.column("op")
        behind = {node for root in self._index.root_nodes(failed) for node in passes.behind(root)}
        for name, written in self._functions.items():
            writes = [one for one in writes_to_saved(written) if one.is_seen and self._ran_at(written, one)]
            saves = list(_saving(written)) if writes else []
            for node in (one for one in behind if saves and recording.text(names[one]) == name):
                is_hooked = bool(flags[min(made_at[node], self._index.op_count - 1)] & OpFlag.HOOKED)
                is_read = is_hooked or any(recording.text(attrs[row]) == _SAVED for row in self._index.saved.of(node))
                if 0 <= passes.first_walked_at[node] < failed and not is_read:
                    lines = [written.lines_of(one.statement) for one in writes]
                    return WrittenAgain(written, lines, saves, node, passes.first_walked_at[node])
        return None

    def _ran_at(self, written: WrittenBackward, one: WriteToSaved) -> bool:
        lines = written.lines_of(one.statement)
        return any(self._is_at(event, lines) for event in (*self._ran, *self._wrote))

    def unseen(self) -> Iterator[SharedWithSaver]:
        """Writes that no version counter shows into what a node had saved that the same pass came to afterwards.

        One for each line that writes. A node behind the writer waits for what that gives, and so runs after it.
        """
        recording, passes = self._index.recording, self._passes
        names, storages = recording.nodes.column("name"), recording.saved.column("storage")
        for name, written in self._functions.items():
            places = list(self._places(written, is_seen=False))
            nodes = [one for one, text in enumerate(names) if places and recording.text(text) == name]
            for place in places:
                found = (
                    SharedWithSaver(written, lines, storage, node, row, passes.first_walked_at[node])
                    for node in nodes
                    if passes.first_walked_at[node] >= 0
                    for lines, storage in self._storages(node, place)
                    for behind in passes.behind(node)[1:]
                    for row in self._index.saved.of(behind)
                    if storages[row] == storage
                )
                yield from islice(found, 1)

    def _places(self, written: WrittenBackward, *, is_seen: bool) -> Iterator[tuple[Lines, int, frozenset[int]]]:
        """Its lines that wrote, with the place among the saved tensors, or (-1) the storages of what was written.

        Args:
            written: The backward.
            is_seen: Whether a version counter shows the write.
        """
        for one in writes_to_saved(written):
            if one.is_seen == is_seen and self._ran_at(written, one):
                yield written.lines_of(one.statement), one.position, frozenset()
        if not is_seen:
            return
        whole = written.lines_of(written.definition)
        for event in self._wrote:
            if self._is_at(event, whole):
                span = self._index.recording.spans[event.span]
                line = self._index.line(span.file, span.line)
                storages = frozenset(self._index.storage_at(tensor, event.op) for tensor in event.tensors)
                yield Lines(span.file, line, span.end_line, written.function), -1, storages

    def _is_at(self, event: Happened, lines: Lines) -> bool:
        if event.span < 0:
            return False
        span = self._index.recording.spans[event.span]
        return span.file == lines.file and lines.line <= span.line <= lines.end_line

    def _storages(self, node: int, place: tuple[Lines, int, frozenset[int]]) -> Iterator[tuple[Lines, int]]:
        """Those of what a node had saved that one of its places wrote."""
        lines, position, storages = place
        recording = self._index.recording
        of_node = list(self._index.saved.of(node))
        attrs, on = recording.saved.column("attr"), recording.saved.column("storage")
        if position < 0:
            yield from ((lines, on[row]) for row in of_node if on[row] in storages)
            return
        saved = [row for row in of_node if recording.text(attrs[row]) == _SAVED]
        if position < len(saved):
            yield lines, on[saved[position]]

    def _needed(self, writer: int, nodes: set[int], rows: list[int], failed: int) -> tuple[int, int] | None:
        """One of the rows of what was kept that a node's write came before, and the pass in which it wrote.

        The engine takes nodes that are ready from the youngest to the oldest: an older one runs after the writer.
        """
        first, made_at = self._passes.first_walked_at[writer], self._index.recording.nodes.column("op")
        of_row = self._index.recording.saved.column("node")
        if first < 0 or first > failed:
            return None
        if first < failed:
            later = [row for row in rows if made_at[of_row[row]] < first]
        elif writer in nodes:
            later = [row for row in rows if of_row[row] != writer and of_row[row] < writer]
        else:
            return None
        return (later[-1], first) if later else None
