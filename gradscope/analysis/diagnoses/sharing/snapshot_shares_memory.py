"""A snapshot that was taken without a copy, changed with what it was taken from, and was read as if it had not."""

from __future__ import annotations

from collections.abc import Container, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.memory.graph_kept_after_pass import line_that_keeps, lines_that_keep
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.kept_moments import kept_moments
from gradscope.analysis.facts.memory.kept_of_arrays import kept_of_arrays
from gradscope.analysis.facts.memory_writes.live_items import LiveItem, live_items
from gradscope.analysis.facts.memory_writes.mixed_snapshots import mixed_snapshots
from gradscope.analysis.facts.memory_writes.parts_put_back import PUTS_PART
from gradscope.analysis.facts.memory_writes.stale_snapshots import StaleSnapshot
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import NamedLine, numbers
from gradscope.analysis.wording import listed
from gradscope.frames.names.arrays_given_away import GivenAway
from gradscope.frames.names.given_names import function_around, second_names
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all that a statement took."""
    index, names = sources.index, sources.names
    made_at = index.recording.tensors.column("op")
    told = sources.stale_snapshots
    for statement, snapshots in told.items():
        if all(_is_of_a_copy(sources, snapshot) for snapshot in snapshots):
            continue
        last = {names.of(snapshot.tensor): snapshot for snapshot in snapshots}
        tensors = [snapshot.tensor for snapshot in last.values()]
        shown = max(snapshots, key=lambda snapshot: snapshot.read >= 0)
        taken_of = list(dict.fromkeys(names.at(one.source, made_at[one.tensor]) for one in last.values()))
        read = f", and {index.call_name(shown.read)} read what it had become" if shown.read >= 0 else ""
        if _is_put_back(index.method(shown.read)):
            read = ", and putting it back changes nothing"
        yield sources.finding(
            f"Line {index.place(statement).line}: {index.call_name(made_at[shown.tensor])} took "
            f"{sources.listed(list(last))} without a copy",
            why=f"this is the memory of {sources.listed(taken_of)}, so {index.call_name(shown.written)} changed it as "
            f"well{read}",
            op=made_at[shown.tensor],
            tensors=tensors,
            causes=[*sources.cause("made", made_at[shown.tensor]), *_kept_beside(sources, tensors)],
            evidence=[Evidence("ops", op) for op in (shown.written, shown.read) if op >= 0],
            advice="A copy (detach().clone(), copy.deepcopy(model.state_dict())) keeps the values.",
        )
    yield from _of_several_moments(sources, told)
    yield from _of_arrays(sources)
    yield from (_kept_itself(sources, one) for one in live_items(index, sources.names_held))
    for statement, mixed in mixed_snapshots(index, names, sources.sharing).items():
        if statement in told:
            continue
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


def _is_put_back(method: str) -> bool:
    """Whether what was taken, or a part of it, replaced what was in its memory."""
    return method == "Tensor.data.__set__" or method in PUTS_PART


def _is_of_a_copy(sources: Sources, snapshot: StaleSnapshot) -> bool:
    """Whether others than the steps of the copy's own training wrote it: the copy is said to share its parameters."""
    begun = sources.index.recording.tensors.column("op")[snapshot.tensor]
    is_step = sources.index.recording.ops.column("kind")[snapshot.written] == OpKind.STEP
    return any(
        (copied.copies[0].op <= begun and not is_step) or copied.is_of_a_round(begun, snapshot.written)
        for copied in sources.copied_as_two
        if snapshot.source in copied.tensors
    )


def _kept_beside(sources: Sources, tensors: list[int]) -> list[Cause]:
    """The assignment by which the function that took tensors keeps them under a second name: ``self.last = now``."""
    index = sources.index
    taken = index.statements[index.op_statement[index.recording.tensors.column("op")[tensors[0]]]]
    text = index.recording.files[taken.file].text
    names = {index.recording.text(name) for one in tensors for name, _, _ in sources.names_held.get(one, ())}
    function = function_around(text, taken.line)
    return [
        sources.cause_of_line("made", taken.file, given.line, given.end_line, index.recording.text(taken.function))
        for given in second_names(text, names, same_part=False)
        if given.line > taken.line and function_around(text, given.line) == function and function[0] > 1
    ]


def _of_several_moments(sources: Sources, told: Container[int]) -> Iterator[Finding]:
    """One finding for each call whose arrays or tensors were kept, all with the last values."""
    index = sources.index
    for kept in kept_moments(index, sources.sharing, sources.events):
        op = kept.ops[-1]
        if index.op_statement[op] in told:
            continue
        is_array = kept.event >= 0
        yield sources.finding(
            f"Line {index.op_line(op)}: {len(kept.ops)} {'arrays' if is_array else 'tensors'} that "
            f"{index.call_name(op)} gave without a copy are kept",
            why=f"all of them are the memory of {sources.names.at(kept.source, op)}, and "
            f"{index.call_name(kept.written)} wrote it in between, so that each has its last values",
            op=op,
            tensors=[kept.source],
            causes=sources.cause("made", op),
            evidence=[*(Evidence("events", kept.event) for _ in range(is_array)), Evidence("ops", kept.written)],
            advice=f"{'copy' if is_array else 'clone'}() keeps the values of the moment.",
        )


def _of_arrays(sources: Sources) -> Iterator[Finding]:
    """One finding for each array of which several tensors were made and kept."""
    index = sources.index
    for kept in kept_of_arrays(index, sources.events, sources.names_held):
        last = kept.tensors[-1]
        if kept.shared_by is not None:
            file, call = kept.shared_by
            line, causes = (
                index.line(file, call.line),
                [sources.cause_of_line("made", file, call.line, call.end_line, "")],
            )
            how = f"that {call.call} gave without a copy are kept"
            why = "all of them are the memory of one array, so that each has the values that were last written to it"
        elif kept.kept_by is None:
            line, causes = index.op_line(kept.op), sources.cause("made", kept.op)
            how = f"that {index.call_name(kept.op)} gave without a copy are kept"
            why = "all of them are the memory of one array, which was changed in between: each has its last values"
        else:
            line, causes = line_that_keeps(sources, kept.kept_by), lines_that_keep(sources, kept.kept_by)
            # (those that torch has seen: what no call took is in the holder as well)
            how = f"of those that {kept.kept_by.put.holder} keeps are the memory of one array"
            why = "no copy was made, so that each has the values that were last written to it"
        file, given = kept.given(index)
        if given:
            why = f"no copy was made, and {_how_given(index, file, given)}: each has the values that were written last"
            causes = [*(sources.cause_of_line("made", file, one.line, one.end_line, "") for one in given), *causes]
        yield sources.finding(
            f"Line {line}: {len(kept.tensors)} tensors {how}",
            why=why,
            op=index.recording.tensors.column("op")[last],
            tensors=[last],
            causes=causes,
            evidence=[Evidence("events", kept.event)] if kept.event >= 0 else [],
            advice="A copy() of the array where it is given away keeps the values of the moment."
            if given
            else "torch.tensor(array), or clone(), keeps the values of the moment.",
        )


def _kept_itself(sources: Sources, one: LiveItem) -> Finding:
    """What a dict holds itself, beside copies."""
    index, item = sources.index, one.item
    put_back = index.line(one.file, one.put_back)
    where = f"{item.function} keeps" if item.function else "the dict keeps"
    line, times = index.line(one.file, item.line), f"{one.times:,} time{'s' * (one.times > 1)}"
    return sources.finding(
        f"Line {line}: {where} {item.value} itself under {item.key!r}, beside copies of others",
        why=f"line {index.op_line(one.written)} ({index.call_name(one.written)}) wrote it in place {times} since, and "
        f"line {put_back} puts back what it had become",
        op=one.written,
        tensors=[one.tensor],
        causes=[
            sources.cause_of_line("made", one.file, item.line, item.end_line, item.function),
            *sources.cause("write", one.written),
        ],
        evidence=[Evidence("ops", one.written)],
        advice=f"{item.value}.clone() keeps the value of the moment.",
    )


def _how_given(index: Index, file: int, given: list[GivenAway]) -> str:
    """Where functions of the program's give away one array, and where they write it."""
    lines = {index.line(file, one.line) for one in given}
    written = {index.line(file, line) for one in given for line in one.written}
    array = listed(list(dict.fromkeys(one.array for one in given)))
    gives, writes = "gives" if len(lines) == 1 else "give", "writes" if len(written) == 1 else "write"
    return f"{_lines(lines)} {gives} away {array} itself, of which {_lines(written)} {writes} the items"


def _lines(lines: set[NamedLine]) -> str:
    return f"line{'s' * (len(lines) > 1)} {numbers(lines)}"


DIAGNOSIS = Diagnosis(
    code="snapshot-shares-memory",
    title="a snapshot that changes with what it was taken from",
    severity="warning",
    explanation=Explanation(
        meaning="""Values were kept (a state_dict(), a list of .data, the detach() of a weight) without a copy. The
            memory was written afterwards, and what was kept was then compared, restored or read: it held the new
            values, not those of the time when it was taken. Or a dict keeps an attribute itself beside copies of
            others, and it was put back from there when it had been written in place.""",
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
