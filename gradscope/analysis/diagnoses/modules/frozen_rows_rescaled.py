"""A frozen table of vectors that its own look-ups rescale: max_norm does not ask whether the weight requires grad."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.modules.frozen_embeddings import with_max_norm
from gradscope.recording.flags import PARAMETER

LOOKUPS = 2
"""Look-ups from which on it is reported."""
_LOOKS_UP = ("F.embedding", "F.embedding_bag")
_GIVES = ("Tensor.copy_", "Tensor.data.__set__")
_NORMALIZES = ("F.normalize", "torch.renorm", "Tensor.renorm")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each table that was given its vectors, frozen, and never trained.

    Where another table is trained with a max_norm this one may be a copy of it, as a teacher has one: then the vectors
    are as long as they may be.
    """
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    written: dict[int, list[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and index.func(op) in _LOOKS_UP and tensor in index.uses.of(op):
            written.setdefault(tensor, []).append(op)
    if any(index.requires_grad(tensor, op) for tensor, ops in written.items() for op in ops):
        return
    for tensor, ops in written.items():
        is_kept = flags[tensor] & PARAMETER and tensor not in sources.lives.passes
        causes = _made(sources, tensor, ops[0]) if is_kept and index.times(ops) >= LOOKUPS else []
        if causes:
            yield sources.finding(
                f"Line {causes[0].line}: {sources.names.of(tensor)} is frozen, and max_norm has each look-up rescale "
                f"its longer rows in place ({index.times(ops):,} look-ups)",
                op=ops[-1],
                tensors=[tensor],
                causes=causes,
                evidence=[Evidence("ops", op) for op in ops[:LOOKUPS]],
                advice="Leave max_norm out where the vectors are to stay as they were loaded.",
            )


def _made(sources: Sources, tensor: int, before: int) -> list[Cause]:
    """The line that makes a table to which the program gave vectors, which it had not normalized itself; else none."""
    index, made = sources.index, sources.index.made_by(tensor)
    if made < 0:
        calls = [
            (file, lines)
            for file, one in enumerate(index.recording.files)
            for lines in (with_max_norm(one.text) if one.is_user else ())
        ]
        base = sources.sharing.base_of(tensor)
        if len(calls) != 1 or base < 0 or index.func(index.made_by(base)) in _NORMALIZES:
            return []
        file, (line, end_line) = calls[0]
        return [sources.cause_of_line("made", file, line, end_line, "")]
    givers = [op for op in index.users.of(tensor) if made < op < before and index.func(op) in _GIVES]
    taken = [one for op in givers for one in index.uses.of(op) if one != tensor]
    is_given = bool(givers) and not any(index.func(index.made_by(one)) in _NORMALIZES for one in taken)
    return sources.cause("made", made) if is_given else []


DIAGNOSIS = Diagnosis(
    code="frozen-rows-rescaled",
    title="frozen vectors that an embedding with max_norm rescales",
    severity="warning",
    explanation=Explanation(
        meaning="""An embedding was made with max_norm, was given vectors, and does not require grad. Each look-up wrote
            into its weight all the same.""",
        reason="""With max_norm the rows that are looked up and are longer are shrunk, in place, before they are read:
            in training and evaluation, whether the weight requires grad or not. Vectors that were loaded change, those
            of frequent items first.""",
        remedy="""Make the embedding without max_norm, or normalize a copy of the vectors before they are loaded.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

table, head = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 1)
with torch.no_grad():
    table.weight.copy_(torch.randn(5, 3) * 4)
table.weight.requires_grad_(False)
for step in range(3):
    head(table(torch.arange(4))).sum().backward()
""",
        instead_of="table, head = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 1)",
        silent="table, head = nn.Embedding(5, 3), nn.Linear(3, 1)",
    ),
    find=_find,
)
