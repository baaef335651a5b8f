"""Lines that saved memory for a backward pass that never came."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import NOWHERE
from gradscope.analysis.sizes import size

WORTH_SAYING = 1 << 20
"""Bytes below which an unused graph is nobody's trouble."""

RUNS = 3
"""Runs of a line from which on it is said in a program that runs no backward pass at all."""


def _find(sources: Sources) -> Iterator[Finding]:
    index, passes = sources.index, sources.passes
    recording = index.recording
    has_passes = len(recording.backwards) > 0
    if not has_passes and recording.info.outcome.kind == "exception":
        return  # it may have ended before its first pass
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
    if not has_passes:
        own = {key: held for key, held in own.items() if sources.runs.of[key] >= RUNS}
    total = sum(own.values())
    if total >= WORTH_SAYING:
        lines = sorted(index.statements[key].line for key in own)
        shown = ", ".join(map(str, lines[:4])) + (" …" if len(lines) > 4 else "")
        worst = sorted(own, key=own.__getitem__, reverse=True)
        yield sources.finding(
            f"Line{'s' * (len(lines) > 1)} {shown}: saved {size(total)} for backward passes that never came; "
            "under torch.no_grad() nothing would be saved",
            op=index.last_op[worst[0]],
            tensors=[],
            causes=[cause for key in worst[:4] for cause in sources.cause("saved", index.last_op[key])],
        )


DIAGNOSIS = Diagnosis(
    code="saved-in-vain",
    title="memory saved for backward passes that never came",
    severity="warning",
    explanation=Explanation(
        meaning="""Operations saved a megabyte or more for backward at lines whose graph no backward pass ever
            walked: in a program that runs backward passes elsewhere, or in a loop of one that runs none.""",
        reason="""Whenever an input requires grad and grad mode is on, operations save what their backward would
            need. model.eval() does not change that: it is about dropout and batch norm, not about gradients.""",
        remedy="Run evaluation and sampling under torch.no_grad() or torch.inference_mode().",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(1000, 1000, requires_grad=True)
w.sum().backward()
validation = (w.exp() * 2).mean()
""",
        instead_of="validation = (w.exp() * 2).mean()",
        silent="with torch.no_grad():\n    validation = (w.exp() * 2).mean()",
    ),
    find=_find,
)
