"""The line that makes results an entry of what is kept: a log of each round, which the program's trainer collects.

``log = {"loss": loss}`` in one function, ``logs.append(log)`` in another: what is called so at the end
(``logs[3]['loss']``) has the key, and one entry of it in the text takes in what the results were called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from gradscope.analysis.facts.memory.keepers import Keeper
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.names.entries import LogEntry, entries_of, reads_of
from gradscope.frames.names.put_statements import last_part
from gradscope.frames.names.stored_names import assigned_names
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_KEY = re.compile(r"\[\d+\](?:\['\w+'\]|\.\w+){0,2}(?:\['(?P<item>\w+)'\]|\.(?P<attribute>\w+))$")
"""What of an item of a list something is: the end of ``logs[3]['loss']`` or of ``logs[3].loss``."""


class EntryKept(NamedTuple):
    """An entry, in a file."""

    file: int
    entry: LogEntry
    key: str


def entry_kept(
    index: Index,
    passes: Passes,
    tensors: Sequence[int],
    names: dict[int, list[tuple[int, int, int]]],
    kept: Keeper,
) -> EntryKept | None:
    """The one entry by which results got into what a line keeps; None where that takes them itself, or none is known.

    None too where a pass starts from what is taken out under the key: there it is the keeping that is to do without.

    Args:
        index: The recording.
        passes: The graph.
        tensors: Results of one call.
        names: For each tensor the names under which it was seen, with op and span.
        kept: The line.
    """
    text = index.recording.text
    seen = [(text(name), span) for tensor in tensors for name, _, span in names.get(tensor, ())]
    keys = Counter(_key(name, last_part(kept.put.holder)) for name, _ in seen)
    del keys[""]
    own = {name for name, _ in seen if "[" not in name}
    if len(keys) != 1 or not own.isdisjoint(kept.put.names):
        return None
    (key,) = keys
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    ops = [made_at[one] for one in tensors if not flags[one] & EXTERNAL and made_at[one] < index.op_count]
    places = {index.op_statement[op] for op in ops}
    places |= {index.statement_of_span[span] for _, span in seen if span >= 0}
    functions = {(index.statements[one].file, last_part(text(index.statements[one].function))) for one in places}
    lines: dict[int, set[int]] = {}
    for op in ops:
        lines.setdefault(index.statements[index.op_statement[op]].file, set()).add(index.op_line(op))
    for number, there in lines.items():
        source = index.recording.files[number].text if number >= 0 else ""
        own |= {name for line, name in assigned_names(source) if line in there}
    found = [
        EntryKept(number, entry, key)
        for number, file in enumerate(index.recording.files)
        if file.is_user
        for entry in entries_of(file.text, key, own, lines.get(number, ()))
        if (number, entry.function or "<module>") in functions
        and not (number == kept.file and kept.put.line <= entry.line <= kept.put.end_line)
    ]
    return found[0] if len(found) == 1 and not _is_needed(index, passes, tensors, key) else None


def _is_needed(index: Index, passes: Passes, tensors: Sequence[int], key: str) -> bool:
    """Whether something takes results out under their key and goes on with their graphs, as a backward pass does."""
    nodes, kinds = index.recording.tensors.column("node"), index.recording.ops.column("kind")
    reads = {number: reads_of(file.text, key) for number, file in enumerate(index.recording.files) if file.is_user}
    if any(one.goes_on for several in reads.values() for one in several):
        return True
    for op in {op for tensor in tensors for op in index.users.of(tensor)}:
        file, line = index.statements[index.op_statement[op]].file, index.op_line(op)
        if any(one.line <= line <= one.end_line for one in reads.get(file, ())):
            made = [nodes[one] for one in index.tensors_made(op) if nodes[one] >= 0]
            if kinds[op] in (OpKind.BACKWARD, OpKind.GRAD) or any(passes.first_walked_at[one] >= 0 for one in made):
                return True
    return False


def _key(name: str, holder: str) -> str:
    """The key of a name that is an item of a list; empty for others."""
    found = _KEY.search(name)
    is_of_holder = found is not None and last_part(name[: found.start()]) == holder
    return (found["item"] or found["attribute"] or "") if found is not None and is_of_holder else ""
