"""``Trying to backward through the graph a second time``: by which way a pass came into a graph that was used up."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Answer
from gradscope.analysis.wording import listed

_MESSAGE = "backward through the graph a second time"


def second_passes(sources: Sources) -> Iterator[Answer]:
    """Passes that came into a graph which an earlier pass had used up and freed."""
    index = sources.index
    errors = {error.op for error in index.recording.errors if _MESSAGE in index.recording.text(error.message)}
    last_of_line = {index.op_statement[op]: op for op in sorted(errors & set(sources.gradients.roots))}
    for op in last_of_line.values():
        for row in (row for row in index.recording.backwards if row.op == op and row.node >= 0):
            if entries := _entries(sources, op, row.node):
                text = _sentence(sources, op, row.root, entries)
                yield sources.answer("graph-used-twice", "problem", text, op, row.root)


def _entries(sources: Sources, op: int, root: int) -> dict[int, int]:
    """The used-up nodes that a pass comes to first, and for each the nearest node before it whose tensor has a name."""
    index, passes = sources.index, sources.passes
    starts, following, variable = passes.edge_starts, index.edges.values, index.recording.nodes.column("variable")
    found: dict[int, int] = {}
    seen, stack = {root}, [(root, root)]
    while stack:
        node, named = stack.pop()
        tensor = index.node_tensor[node]
        if tensor >= 0 and sources.names.is_named(tensor):
            named = node
        if 0 <= passes.used_up_at[node] < op:
            if variable[node] < 0:
                found[node] = named
            continue
        for after in following[starts[node] : starts[node + 1]]:
            if after >= 0 and after not in seen:
                seen.add(after)
                stack.append((after, named))
    return found


def _sentence(sources: Sources, op: int, root: int, entries: dict[int, int]) -> str:
    index, made_by = sources.index, sources.index.recording.nodes.column("op")
    line = index.op_line(op)
    through = dict.fromkeys(
        f"{sources.names.of(index.node_tensor[node])} (made at line {index.op_line(made_by[node])})"
        for node in entries.values()
        if index.node_tensor[node] not in (root, -1)
    )
    way = f" through {listed(list(through))}" if through else ""
    earlier = sorted({index.op_line(sources.passes.used_up_at[node]) for node in entries})
    passes = "its own earlier run" if earlier == [line] else f"the backward of line {listed(list(map(str, earlier)))}"
    return (
        f"Line {line}: backward failed, since {sources.names.of(root)} leads{way} into a graph that {passes} had used "
        "up and freed. Either cut it off with detach(), or add up the losses for one backward, or keep the graph with "
        "retain_graph=True."
    )
