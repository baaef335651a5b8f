"""``Trying to backward through the graph a second time``: by which way a pass came into a graph that was used up."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed

_MESSAGE = "backward through the graph a second time"


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    errors = {error.op for error in index.recording.errors if _MESSAGE in index.recording.text(error.message)}
    last_of_line = {index.op_statement[op]: op for op in sorted(errors & set(sources.gradients.roots))}
    for op in last_of_line.values():
        for row in (row for row in index.recording.backwards if row.op == op and row.node >= 0):
            if entries := _entries(sources, op, row.node):
                yield _finding(sources, op, row.root, entries)


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


def _finding(sources: Sources, op: int, root: int, entries: dict[int, int]) -> Finding:
    index, made_by = sources.index, sources.index.recording.nodes.column("op")
    line = index.op_line(op)
    named = [node for node in entries.values() if index.node_tensor[node] not in (root, -1)]
    through = dict.fromkeys(
        f"{sources.names.of(index.node_tensor[node])} (made at line {index.op_line(made_by[node])})" for node in named
    )
    way = f" through {listed(list(through))}" if through else ""
    used_up = {sources.passes.used_up_at[node] for node in entries}
    earlier = sorted({index.op_line(one) for one in used_up})
    passes = "its own earlier run" if earlier == [line] else f"the backward of line {listed(list(map(str, earlier)))}"
    return sources.finding(
        f"Line {line}: backward failed, since {sources.names.of(root)} leads{way} into a graph that {passes} had used "
        "up and freed",
        op=op,
        tensors=[root],
        causes=[cause for node in named for cause in sources.cause("made", made_by[node])],
        evidence=[Evidence("nodes", node) for node in entries] + [Evidence("ops", one) for one in sorted(used_up)],
        advice="Either cut it off with detach(), or add up the losses for one backward, or keep the graph with "
        "retain_graph=True.",
    )


DIAGNOSIS = Diagnosis(
    code="graph-used-twice",
    title="a second backward through a graph that was freed",
    severity="problem",
    explanation=Explanation(
        meaning="""Backward raised "Trying to backward through the graph a second time": the loss leads, by the
            named tensors, into a part of the graph that an earlier pass had walked and freed.""",
        reason="""Backward frees what the nodes saved as it goes, so that memory is given back early. A value that
            is computed once and used in several losses, or a hidden state carried from one iteration to the next,
            leads a later pass into the old graph.""",
        remedy="""Compute the value anew in each iteration, or cut it off with detach() where no gradient is to
            flow further back (a hidden state), or add up the losses and call backward once. retain_graph=True
            keeps the graph, but only works as long as nothing writes into what was saved, an optimizer's step
            included.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
h = torch.zeros(3)
for step in range(2):
    h = torch.tanh(h + w)
    h.sum().backward()
""",
        instead_of="h = torch.tanh(h + w)",
        silent="h = torch.tanh(h.detach() + w)",
    ),
    find=_find,
)
