"""A write in place that shows in other named tensors of the program."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sharing.out_of_place import a_new_tensor
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.shared_writes import SharedWrite, is_named_there, shared_writes
from gradscope.analysis.facts.memory_writes.written_aside import WrittenAside, written_aside
from gradscope.analysis.report_model import Evidence, WriteEffect
from gradscope.recording import NONE
from gradscope.recording.flags import COLLECTIVE_OP, EXTERNAL

_OF_FULLY_SHARD = "torch._ops.fsdp."
"""Operators of torch's own that write into the memory of parameters which are spread over processes."""


_COMPUTES = frozenset(
    f"Tensor.{name}_" for name in ("mul", "div", "add", "sub", "pow", "neg", "exp", "square", "sqrt", "true_divide")
)
_TOLD_ELSEWHERE = frozenset(("raised", "silently_wrong", "would_be_silently_wrong"))
_CONJUGATES = frozenset(("Tensor.conj", "torch.conj"))


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all that a statement wrote."""
    index = sources.index
    effects: dict[tuple[int, str], set[WriteEffect]] = {}
    for write in sources.writes.judged:
        effects.setdefault((index.op_statement[write.op], index.func(write.op)), set()).add(write.effect.effect)
    aside = {
        statement: one
        for statement, one in written_aside(index, sources.sharing, sources.passes).items()
        if effects.get((statement, index.func(one.op)), set()).isdisjoint(_TOLD_ELSEWHERE)
    }
    yield from (_beside_its_graph(sources, one) for one in aside.values())
    for shared in shared_writes(index, sources.names, sources.sharing):
        if sources.gradients.unsharded.issuperset(shared.seen_by):
            continue  # (fully_shard gathers what it had spread)
        if index.func(shared.op).startswith(_OF_FULLY_SHARD):
            continue
        found = effects.get((shared.statement, index.func(shared.op)), set())
        if not shared.is_step and not found & {"raised", "silently_wrong"}:
            # Where no graph was open that needs the values, a write past autograd is what was meant; and where it is
            # not known whether autograd would notice, nothing is said of it.
            matters = shared.past_autograd and "would_be_silently_wrong" in found
            if not matters and shared.statement in aside:
                continue
            if not matters and index.recording.ops.column("kind")[shared.op] == COLLECTIVE_OP:
                continue  # (parameters that are sent or averaged through .data: that they change is what it is for)
            if not matters and index.recording.ops.column("inner")[shared.op] >= 0:
                continue  # (a library writes what it holds itself: an initialisation, a codebook, its own results)
            if not matters and is_named_there(index, sources.names, shared):
                continue
            conjugate = _conjugate(sources, shared)
            if conjugate >= 0 and not matters:
                yield _through_conjugate(sources, shared, conjugate)
                continue
            unseen = ", and autograd cannot notice (another version counter)" if matters else ""
            through, seen = (_listed(sources, tensors) for tensors in (shared.written, shared.seen_by))
            yield sources.finding(
                f"{_where(sources, shared)} through {through} also changed {seen}",
                why=f"they share memory{unseen}",
                op=shared.op,
                tensors=[shared.written[-1], *shared.seen_by],
                causes=sources.cause("write", shared.op),
                severity="warning" if matters else "note",
            )


def _beside_its_graph(sources: Sources, one: WrittenAside) -> Finding:
    """What a loss is computed from was changed by the way, for something else that its values were wanted for."""
    index, names = sources.index, sources.names
    written, whole = names.at(one.written, one.op), names.at(one.whole, one.used)
    through = f"through {written} " if written != whole else ""
    how = "it is what the function is given itself, written without a graph"
    if one.taken >= 0:
        how = f"{index.call_name(one.taken)} (line {index.op_line(one.taken)}) copies nothing"
    return sources.finding(
        f"Line {index.op_line(one.op)}: {index.call_name(one.op)} {through}also changed {whole} itself, which line "
        f"{index.op_line(one.used)} computes with for the backward of line {index.op_line(one.through)}",
        why=f"{how}, and no node of the graph stands for the write",
        op=one.op,
        tensors=[one.written, one.whole],
        causes=[*sources.cause("write", one.op), *(sources.cause("made", one.taken) if one.taken >= 0 else [])],
        evidence=[Evidence("ops", op) for op in (one.used, one.through)],
        advice=f"A copy (detach().clone()), or {a_new_tensor(index, one.op)}, leaves it as it was.",
        severity="warning",
    )


def _conjugate(sources: Sources, shared: SharedWrite) -> int:
    """The call that gave the conjugate which a statement computes with in place, again and again; NONE where none did.

    Each run takes the conjugate anew, of memory that was there before the first.
    """
    index, (written, *others) = sources.index, shared.written
    if others or index.func(shared.op) not in _COMPUTES:
        return NONE
    spans, flags = index.recording.ops.column("span"), index.recording.tensors.column("flags")
    made = NONE if flags[written] & EXTERNAL else index.recording.tensors.column("op")[written]
    if made < 0 or index.func(made) not in _CONJUGATES or not set(index.uses.of(made)) & set(shared.seen_by):
        return NONE
    storage = index.storage_at(written, shared.op)
    there_since = index.recording.storages.column("op")[storage] if storage >= 0 else shared.op
    is_again = spans.count(spans[shared.op]) > 1 < spans.count(spans[made])
    return made if is_again and there_since < spans.index(spans[made]) else NONE


def _through_conjugate(sources: Sources, shared: SharedWrite, made: int) -> Finding:
    seen = _listed(sources, shared.seen_by)
    return sources.finding(
        f"{_where(sources, shared)} through {_listed(sources, shared.written)} also changed {seen}, each time it ran",
        why="a conjugate is a view, on the memory of what it was taken of",
        op=shared.op,
        tensors=[shared.written[-1], *shared.seen_by],
        causes=[*sources.cause("write", shared.op), *sources.cause("made", made)],
        advice="Out of place (y = x.conj() * factor) it makes a tensor of its own.",
        severity="warning",
    )


def _where(sources: Sources, shared: SharedWrite) -> str:
    return f"Line {sources.index.place(shared.statement).line}: {sources.index.func(shared.op)}"


def _listed(sources: Sources, tensors: list[int]) -> str:
    return sources.listed([sources.names.of(tensor) for tensor in tensors])


DIAGNOSIS = Diagnosis(
    code="write-through-alias",
    title="a write in place that changed other tensors too",
    severity="note",
    explanation=Explanation(
        meaning="""An in-place operation wrote into memory on which other tensors of the program lie: their values
            changed as well. It is a warning where autograd needs the values and
            cannot notice, and where a result with a graph was written through detach() or .data for another use (a
            metric), and a loss was computed from what it had become.""",
        reason="""Views (slices, view, transpose, expand), detach(), .data, numpy() and the tensors in
            state_dict() share memory with the tensor that they were made from. No copy is made.""",
        remedy="""Where the values were to be kept, take a copy at the line that made the alias: clone(),
            copy.deepcopy(model.state_dict()). Where the write was meant to show in both, there is nothing to
            mend.""",
    ),
    example=Example(
        shows="""\
import torch

a = torch.ones(3)
b = a[1:]
b.add_(1)
""",
        instead_of="b = a[1:]",
        silent="b = a[1:].clone()",
    ),
    find=_find,
)
