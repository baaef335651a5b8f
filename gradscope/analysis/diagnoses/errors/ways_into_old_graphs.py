"""What leads a backward pass into a graph that an earlier one had walked, and the lines that kept it."""

from __future__ import annotations

import re

from gradscope.analysis.diagnoses.errors.graphs_written import GraphsWritten
from gradscope.analysis.diagnoses.errors.kept_by_getters import kept_by_getter
from gradscope.analysis.diagnoses.handed_values import handed_by
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.caching_functions import caching_lines
from gradscope.analysis.facts.program.attribute_stores import stores_of_call, stores_under
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.report_model import Cause
from gradscope.frames.names.put_statements import last_part
from gradscope.frames.names.stored_names import assigned_names
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD


def ways_kept(sources: Sources, entries: list[int], used_up: int, op: int) -> list[tuple[str, list[Cause]]]:
    """What leads into the graph that was used up, by name, and the lines that kept it or, failing that, made it."""
    index, names = sources.index, sources.names
    made_by = index.recording.nodes.column("op")
    stored, others = [], []
    writes = GraphsWritten(index, sources.passes, op)
    for node in entries:
        tensor = index.node_tensor[node]
        name = names.of(tensor) or index.call_name(made_by[node])
        handed = _not_detached(sources, tensor, node, used_up, op) or _handed_and_kept(sources, tensor, node, used_up)
        if not handed and (memory := writes.memory_of(tensor)) is not None:
            stored.append((names.of(memory.tensor), [one for at in memory.ops for one in sources.cause("write", at)]))
            continue
        causes = (
            handed
            or _kept_on_object(sources, tensor, used_up)
            or kept_by_getter(sources, tensor, node, (used_up, op))
            or _kept_where_called(sources, tensor, node, used_up)
            or _stored(sources, tensor, used_up)
            or _kept_by_function(sources, tensor, op)
        )
        if causes:
            stored.append((name, causes))
        elif tensor >= 0 and names.is_named(tensor):
            stored.append((name, sources.cause("made", made_by[node])))
        else:
            others.append((name, sources.cause("made", made_by[node])))
    return stored or others


def _not_detached(sources: Sources, tensor: int, node: int, used_up: int, op: int) -> list[Cause]:
    """Where a tensor was handed on to an earlier pass that was for other parameters than those behind it.

    The earlier pass was followed by a step that wrote none of the parameters behind the tensor (a discriminator's,
    where the tensor is what the generator made): it had no need to go there.
    """
    index, recording = sources.index, sources.index.recording
    stepped = {written for at, written, *_ in writes_by_program(index) if used_up < at < op and is_step(index, at)}
    leaves = sources.passes.leaves_behind(node)
    if not stepped or tensor < 0 or stepped & leaves or index.op_statement[used_up] == index.op_statement[op]:
        return []
    stores = sources.stored(tensor, used_up)
    node_of, walked = recording.tensors.column("node"), sources.passes.first_walked_at
    causes = [
        cause._replace(columns=())  # (the statement read it, in one of its calls)
        for at, span in sources.loads.get(tensor, ())
        if at < used_up and any(walked[node_of[made]] == used_up for made in index.made.of(at) if node_of[made] >= 0)
        for cause in sources.cause_of_span("used", span)
    ]
    return [cause for cause in causes if stores and cause.function == stores[0].function]


def _kept_on_object(sources: Sources, tensor: int, used_up: int) -> list[Cause]:
    """The line that put a tensor on the object from which it was taken after the graph was used up."""
    index, text = sources.index, sources.index.recording.text
    rows = sources.names_held.get(tensor, ())
    after = {text(name) for name, at, _ in rows if at > used_up and not text(name).isidentifier()}
    files = {index.recording.spans[span].file for _, _, span in rows if span >= 0}
    values = frozenset(text(name) for name, at, _ in rows if at <= used_up)
    for name in sorted(after):
        if stored := sources.stored(tensor, used_up, under=name):
            return stored
        for file in sorted(files):
            if where := stores_under(index.recording.files[file].text, name, values):
                return [sources.cause_of_line("saved", file, *line) for line in where]
    return []


def _kept_where_called(sources: Sources, tensor: int, node: int, used_up: int) -> list[Cause]:
    """The statement that puts on an object what the function that made a tensor gives: ``self.kept = self.build()``."""
    index, text = sources.index, sources.index.recording.text
    made = index.recording.nodes.column("op")[node]
    if not 0 <= made < index.op_count or index.op_statement[made] < 0:
        return []
    place, file = index.op_place(made), index.statements[index.op_statement[made]].file
    stored = sources.stored(tensor, used_up)
    if place.function == "<module>" or any(cause.function != place.function for cause in stored):
        return []
    names = {text(name).partition("[")[0] for name, *_ in sources.names_held.get(tensor, ())}
    held = {last_part(name) for name in names}
    found = stores_of_call(index.recording.files[file].text, last_part(place.function)) if file >= 0 else []
    found = [one for one in found if one[2] in held] or found
    return [sources.cause_of_line("saved", file, *found[0][:2], "")] if len(found) == 1 else []


def _handed_and_kept(sources: Sources, tensor: int, node: int, used_up: int) -> list[Cause]:
    """Who handed a memory what it keeps, and the line that keeps it: ``memory.write(ids, state)``.

    It is one where no pass needed what was written: the state that a loss was computed from is cut where it is kept.
    """
    index = sources.index
    made = index.recording.nodes.column("op")[node]
    if not 0 <= made < index.op_count or sources.passes.used_up_at[node] >= 0 or index.op_statement[made] < 0:
        return []
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    values, todo, seen = list[int](), [made], {made}
    while todo:
        for one in index.uses.of(todo.pop()):
            at = made_at[one]
            if flags[one] & REQUIRES_GRAD and (index.is_leaf(one) or flags[one] & EXTERNAL):
                return []  # a layer of its own: what goes into that is not what is kept
            if at >= made or at in seen or not flags[one] & REQUIRES_GRAD:
                continue
            seen.add(at)
            if index.op_statement[at] == index.op_statement[made]:
                todo.append(at)
            else:
                values.append(one)
    handed = handed_by(sources, made, [one for one in values if one != tensor])
    kept = _kept_on_object(sources, tensor, used_up) or sources.cause("made", made)
    return [*handed, *kept] if handed else []


def _stored(sources: Sources, tensor: int, before: int) -> list[Cause]:
    """The statement that stored a tensor; where its function gave it to another, the one that stored it there."""
    alone, as_part = sources.stored(tensor, before), stored_as_part(sources, tensor, before)
    is_handed_on = bool(alone and as_part) and alone[-1].function != as_part[-1].function
    return as_part if is_handed_on or not alone else alone


def stored_as_part(sources: Sources, tensor: int, before: int) -> list[Cause]:
    """The statement that last stored, before an op, that of which a tensor is a part: ``state[0]``, ``state.cell``."""
    index, text = sources.index, sources.index.recording.text
    found: list[int] = []
    for name, op, span in sources.names_held.get(tensor, ()):
        whole, *part = re.split(r"[.\[]", text(name), maxsplit=1)
        if span >= 0 and op < before and part:
            row = index.recording.spans[span]
            known = assigned_names(index.recording.files[row.file].text)
            if any((line, whole) in known for line in range(row.stmt_line, row.stmt_end_line + 1)):
                found.append(span)
    return [cause._replace(columns=()) for cause in sources.cause_of_span("made", found[-1])] if found else []


def _kept_by_function(sources: Sources, tensor: int, op: int) -> list[Cause]:
    """The line at which a function that the using statement names keeps what it computes, as the source says."""
    index = sources.index
    users = index.users.of(tensor) if tensor >= 0 else ()
    for user in (user for user in reversed(users) if user < op):
        span = index.recording.ops.column("span")[user]
        if span < 0:
            continue
        place = index.recording.spans[span]
        text = index.recording.files[place.file].text
        lines = caching_lines(text, index.op_place(user).source)
        return [sources.cause_of_line("saved", place.file, *where) for where in lines]
    return []
