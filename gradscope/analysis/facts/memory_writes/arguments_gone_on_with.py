"""Results that a function computed with in place and gave back, while its caller goes on with what it had handed over.

``shape = distance(centred(cloud), other)`` and then ``cloud.mean(1)``, with a ``centred`` that subtracts in place: by
then the mean is 0. Told is what a later loss is made of; bounds that are set or places that are filled may be meant for
all who read them, and data that is prepared so may be, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradscope.analysis.facts.memory_writes.written_arguments import WrittenArgument
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.calls.gone_on_with import gone_on_with
from gradscope.recording.rows import BindingKind, OpKind

_COMPUTES = frozenset(f"Tensor.{name}_" for name in ("add", "sub", "mul", "div", "true_divide", "pow"))


def arguments_gone_on_with(
    index: Index, passes: Passes, bindings_of: dict[int, list[int]]
) -> Iterator[WrittenArgument]:
    """One for each statement that writes."""
    kinds, values = index.recording.ops.column("kind"), ValuesTaken(index)
    written: dict[int, dict[int, int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        is_own = kinds[op] == OpKind.CALL and index.op_statement[op] != NOWHERE and index.method(op) in _COMPUTES
        if is_own and index.requires_grad(tensor, op) and not index.is_leaf(tensor):
            written.setdefault(tensor, {})[index.op_statement[op]] = op
    told: set[int] = set()
    for tensor, by_statement in written.items():
        for statement, op in by_statement.items():
            if statement not in told and "<" not in index.op_place(op).function.rpartition(".")[2]:
                found = _read_after(index, passes, values, tensor, op, bindings_of.get(tensor, ()))
                if found is not None:
                    told.add(statement)
                    yield found


def _read_after(
    index: Index, passes: Passes, values: ValuesTaken, tensor: int, written: int, rows: Sequence[int]
) -> WrittenArgument | None:
    """The first statement of a caller that computes with it afterwards for a loss."""
    recording, nodes = index.recording, index.recording.tensors.column("node")
    names: dict[int, set[str]] = {}
    for row in (recording.bindings[one] for one in rows):
        if row.kind == BindingKind.LOAD and row.span >= 0:
            names.setdefault(index.statement_of_span[row.span], set()).add(recording.text(row.name))
    where = index.statements[index.op_statement[written]]
    definition, function = recording.files[where.file].text, recording.text(where.function)
    for user in index.users.of(tensor):
        statement = index.op_statement[user]
        if user <= written or statement not in names or tensor not in values.of(user):
            continue
        there = index.statements[statement]
        made = (nodes[one] for one in index.tensors_made(user))
        if (there.file, there.function) == (where.file, where.function) or not any(
            node >= 0 and passes.last_walked_at[node] > user for node in made
        ):
            continue
        text = recording.files[there.file].text
        name = gone_on_with(text, there.line, function, frozenset(names[statement]), definition)
        if name:
            return WrittenArgument(tensor, written, recording.ops.column("span")[user], name)
    return None
