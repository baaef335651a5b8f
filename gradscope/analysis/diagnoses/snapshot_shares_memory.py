"""A snapshot that was taken without a copy, changed with what it was taken from, and was read as if it had not."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.mixed_snapshots import mixed_snapshots
from gradscope.analysis.facts.stale_snapshots import StaleSnapshots
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all that a statement took."""
    index, names = sources.index, sources.names
    made_at = index.recording.tensors.column("op")
    for statement, snapshots in StaleSnapshots(index, names, sources.sharing).by_statement().items():
        last = {names.of(snapshot.tensor): snapshot for snapshot in snapshots}
        tensors = [snapshot.tensor for snapshot in last.values()]
        shown = max(snapshots, key=lambda snapshot: snapshot.read >= 0)
        read = f", and {index.call_name(shown.read)} read what it had become" if shown.read >= 0 else ""
        yield sources.finding(
            f"Line {index.place(statement).line}: {index.call_name(made_at[shown.tensor])} took "
            f"{sources.listed(list(last))} without a copy",
            why=f"this is the memory of {names.at(shown.source, made_at[shown.tensor])}, so "
            f"{index.call_name(shown.written)} changed it as well{read}",
            op=made_at[shown.tensor],
            tensors=tensors,
            causes=sources.cause("made", made_at[shown.tensor]),
            evidence=[Evidence("ops", op) for op in (shown.written, shown.read) if op >= 0],
            advice="A copy (detach().clone(), copy.deepcopy(model.state_dict())) keeps the values.",
        )
    for statement, mixed in mixed_snapshots(index, names, sources.sharing).items():
        of = {names.of(one.tensor): one for one in mixed}
        one = mixed[-1]
        yield sources.finding(
            f"Line {index.place(statement).line}: {sources.listed(list(of))} was put on the memory of "
            f"{sources.listed(list(dict.fromkeys(names.of(one.source) for one in mixed)))} without a copy",
            why=f"{index.call_name(one.written)} then mixes the one into the other, which is itself",
            op=one.taken,
            tensors=[each.tensor for each in of.values()],
            causes=sources.cause("made", one.taken),
            evidence=[Evidence("ops", one.written)],
            advice="clone() of what is taken, or copy_() into memory of its own, keeps the two apart.",
        )


DIAGNOSIS = Diagnosis(
    code="snapshot-shares-memory",
    title="a snapshot that changes with what it was taken from",
    severity="warning",
    explanation=Explanation(
        meaning="""Values were kept (a state_dict(), a list of .data, the detach() of a weight) without a copy. The
            memory was written afterwards, and what was kept was then compared, restored or read: it held the new
            values, not those of the time when it was taken.""",
        reason="""detach(), .data, numpy() and the tensors in state_dict() lie on the memory of the tensor that
            they were made from. An optimizer's step, load_state_dict() and every operation in place write there.""",
        remedy="""Take a copy where the values are kept: detach().clone(), copy.deepcopy(model.state_dict()). What
            is meant to follow the weights needs none; it is taken for that where it is read again and again.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
before = w.detach()
optimizer = torch.optim.SGD([w], lr=0.1)
w.sum().backward()
optimizer.step()
print((w - before).norm())
""",
        instead_of="before = w.detach()",
        silent="before = w.detach().clone()",
    ),
    find=_find,
)
