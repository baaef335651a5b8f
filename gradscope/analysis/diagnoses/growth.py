"""Memory that grows: tensors that every run of a loop leaves behind, and graphs that no backward pass ever used."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Answer
from gradscope.analysis.sizes import size
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

RUNS = 8
"""Runs of a statement from which on a pattern is called one."""
WORTH_SAYING = 1 << 20
"""Bytes below which an unused graph is nobody's trouble."""


def carried_graphs(index: Index, names: BestNames, passes: Passes) -> Iterator[Answer]:
    """Names that carry their graph from one backward pass to the next: a sum of losses, a hidden state.

    The nodes of leaves do not count: they stay as long as the leaves, whatever is made of them.
    """
    kinds = index.recording.ops.column("kind")
    backward_ops = [op for op, kind in enumerate(kinds) if kind == OpKind.BACKWARD]
    if len(backward_ops) < RUNS:
        return
    made_by, variable = index.recording.nodes.column("op"), index.recording.nodes.column("variable")
    for statement, tensor in _carried(index, names).items():
        nodes = [node for node in passes.behind(index.node_after(tensor)) if variable[node] < 0]
        oldest = min((made_by[node] for node in nodes), default=index.op_count)
        newest = made_by[nodes[0]] if nodes else 0
        crossed = bisect_left(backward_ops, newest) - bisect_left(backward_ops, oldest)
        if crossed >= RUNS:
            name, place = names.of(tensor), index.place(statement)
            text = (
                f"Line {place.line}: {name} carries its graph from one backward pass to the next "
                f"({len(nodes):,} nodes, over {crossed:,} passes). {name}.detach() lets go of it, or .item() where "
                "only the number is wanted."
            )
            yield Answer("graph-carried-along", "warning", text, place, name)


def _carried(index: Index, names: BestNames) -> dict[int, int]:
    """For each statement that took in what it had made itself in an earlier run: the last named result of it."""
    tensors, statements = index.recording.tensors, index.op_statement
    made_at, flags = tensors.column("op"), tensors.column("flags")
    wanted = REQUIRES_GRAD
    found: dict[int, list[int]] = {}
    for op, taken in zip(index.uses.keys, index.uses.values, strict=True):
        made = made_at[taken]
        if flags[taken] & wanted and made < op and statements[made] == statements[op] and names.best[taken] >= 0:
            found.setdefault(statements[op], []).append(taken)
    last: dict[int, int] = {}
    for statement, carried in found.items():
        if statement != NOWHERE and len(carried) >= RUNS - 1:
            last[statement] = carried[-1]
    return last


def kept_alive(index: Index, names: BestNames, passes: Passes) -> Iterator[Answer]:
    """Statements of a loop whose memory a graph still keeps when the run ends: the sum of losses, mostly."""
    recording = index.recording
    saved = _saved_by_unused_nodes(index, passes)
    made: dict[int, int] = {}
    kept: dict[int, int] = {}
    nbytes: dict[int, int] = {}
    columns = (recording.storages.column(name) for name in ("op", "died", "nbytes", "external"))
    for storage, (op, died, held, external) in enumerate(zip(*columns, strict=True)):
        if external or op >= index.op_count or not saved[storage]:
            continue
        statement = index.op_statement[op]
        made[statement] = made.get(statement, 0) + 1
        if died == NONE:
            kept[statement] = kept.get(statement, 0) + 1
            nbytes[statement] = nbytes.get(statement, 0) + held
    leaking = [key for key, count in kept.items() if key != NOWHERE and count >= RUNS and count * 2 > made[key]]
    if not leaking:
        return
    total, lines = sum(nbytes[key] for key in leaking), sorted(index.statements[key].line for key in leaking)
    holder = _deepest_accumulator(index, names)
    blocks = sum(kept[key] for key in leaking)
    because = f": the graph of {holder[0]} (line {holder[1]}) keeps them" if holder else ""
    shown = ", ".join(map(str, lines[:4])) + (" …" if len(lines) > 4 else "")
    text = (
        f"Line{'s' * (len(lines) > 1)} {shown}: every run leaves memory behind; {blocks} blocks ({size(total)}) "
        f"saved for backward are still there at the end{because}."
    )
    worst = max(leaking, key=nbytes.__getitem__)
    yield Answer("memory-kept-by-graph", "warning", text, index.place(worst), holder[0] if holder else "")


def _saved_by_unused_nodes(index: Index, passes: Passes) -> bytearray:
    """1 for each storage that nodes had saved which no pass used up, and that the program does not hold itself.

    A parameter, or a leaf that a name holds at the end (a batch in a list), is there whatever the graph keeps.
    """
    recording, used_up_at = index.recording, passes.used_up_at
    saved = bytearray(len(recording.storages))
    for node, storage in zip(recording.saved.column("node"), recording.saved.column("storage"), strict=True):
        if storage >= 0 and used_up_at[node] < 0:
            saved[storage] = 1
    bindings = recording.bindings
    held = bytearray(len(recording.tensors))
    for tensor, span in zip(bindings.column("tensor"), bindings.column("span"), strict=True):
        if span == NONE:  # found at the end of the run
            held[tensor] = 1
    columns = (recording.tensors.column(name) for name in ("storage", "flags", "died"))
    for tensor, (storage, flags, died) in enumerate(zip(*columns, strict=True)):
        if storage >= 0 and flags & LEAF and died == NONE and (flags & PARAMETER or held[tensor]):
            saved[storage] = 0
    return saved


def _deepest_accumulator(index: Index, names: BestNames) -> tuple[str, int] | None:
    """The name of the last tensor alive that a statement of a loop made from its own earlier value."""
    tensors = index.recording.tensors
    died, node, made_at = tensors.column("died"), tensors.column("node"), tensors.column("op")
    for tensor in range(len(tensors) - 1, -1, -1):
        if died[tensor] != NONE or node[tensor] < 0 or not names.is_named(tensor) or made_at[tensor] >= index.op_count:
            continue
        name = names.best[tensor]
        taken = index.uses.of(made_at[tensor])
        if any(names.best[use] == name and use != tensor for use in taken):
            return names.of(tensor), index.op_line(made_at[tensor])
    return None


def never_used(index: Index, passes: Passes) -> Iterator[Answer]:
    """Lines that saved memory for a backward pass that never came, in a program that runs backward passes."""
    recording = index.recording
    if not len(recording.backwards):
        return
    node_op, storage_bytes = recording.nodes.column("op"), recording.storages.column("nbytes")
    unused: dict[int, int] = {}
    used_lines = {
        index.op_statement[node_op[node]]
        for node, op in enumerate(passes.first_walked_at)
        if op >= 0 and node_op[node] < index.op_count
    }
    counted = bytearray(len(recording.storages))
    for node, storage in zip(recording.saved.column("node"), recording.saved.column("storage"), strict=True):
        if storage < 0 or passes.first_walked_at[node] >= 0 or counted[storage] or node_op[node] >= index.op_count:
            continue
        counted[storage] = 1
        statement = index.op_statement[node_op[node]]
        unused[statement] = unused.get(statement, 0) + storage_bytes[storage]
    own = {key: held for key, held in unused.items() if key != NOWHERE and key not in used_lines}
    total = sum(own.values())
    if total >= WORTH_SAYING:
        lines = sorted(index.statements[key].line for key in own)
        shown = ", ".join(map(str, lines[:4])) + (" …" if len(lines) > 4 else "")
        text = (
            f"Line{'s' * (len(lines) > 1)} {shown}: saved {size(total)} for backward passes that never came; "
            "under torch.no_grad() nothing would be saved."
        )
        yield Answer("saved-in-vain", "warning", text, index.place(max(own, key=own.__getitem__)), "")
