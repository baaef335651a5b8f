"""A gradient computed from changed values, of which autograd could not know."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.called_too_early import called_too_early, when_called
from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.recomputed_with_changed import recomputed_with_changed
from gradscope.analysis.diagnoses.gradients.result_written_by_numpy import result_written_by_numpy
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.writes_to_saved import WritesOfBackwards
from gradscope.analysis.facts.losses.written_after_saved import written_after_saved
from gradscope.analysis.facts.memory_writes.inplace_writes import JudgedWrite
from gradscope.analysis.facts.memory_writes.outside_writes import OutsideWrite
from gradscope.analysis.facts.memory_writes.written_by_numpy import array_given
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.names.shared_arrays import sharing_calls


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the tensors that a line wrote and another line had saved."""
    index, writes = sources.index, sources.writes
    alike: dict[tuple[int, bool, int, int], list[JudgedWrite]] = {}
    for write in writes.judged:
        if write.effect.effect == "silently_wrong":
            lines = index.op_line(writes.saved_at(write)), index.op_line(write.effect.backward_op)
            alike.setdefault((index.op_statement[write.op], write.is_replacement, *lines), []).append(write)
    for same in alike.values():
        first, saved_at = same[0], writes.saved_at(same[0])
        evidence = [Evidence("saved", write.effect.saved_row) for write in same]
        early = called_too_early(sources, first)
        so = "; " if early is not None else ""
        yield sources.finding(
            f"Line {index.op_place(first.op).line}: {_what_it_did(sources, same)}",
            why=f"the gradient of the backward at line {index.op_line(first.effect.backward_op)} was computed from the "
            f"changed values, without an error{so}{when_called(early)}",
            op=first.op,
            tensors=[write.tensor for write in same],
            causes=[
                *([early[1]] if early is not None else []),
                *sources.cause("write", first.op),
                *_saved(sources, first, saved_at),
            ],
            evidence=[*evidence, Evidence("ops", first.effect.backward_op)],
            advice=""
            if writes.kept_at(first) is None
            else "Write into a new tensor; ctx.save_for_backward makes autograd notice.",
        )
    yield from _changed_outside(sources)
    yield from result_written_by_numpy(sources)
    yield from _written_by_backwards(sources)
    yield from recomputed_with_changed(sources)
    yield from _written_by_forwards(sources)


def _written_by_forwards(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function whose forward writes what it has saved, and whose gradients are wrong by that."""
    index, walked = sources.index, sources.passes.first_walked_at
    names = index.recording.nodes.column("name")
    for name, written in sources.functions.of_name.items():
        nodes = (node for node, text in enumerate(names) if walked[node] >= 0 and index.recording.text(text) == name)
        found = written_after_saved(index, written, nodes)
        if found is None:
            continue
        lines = [
            written.lines_of(one)._replace(function=f"{written.name}.forward")
            for one in (found.write.statement, found.write.saved)
        ]
        first = found.wrong[0]
        at = ", ".join(f"{argument} = {value:.2f}" for argument, value in first.at.items())
        yield sources.finding(
            f"Line {lines[0].line}: {written.name}'s forward writes {found.write.name} in place, which line "
            f"{lines[1].line} has saved for backward: what is kept is what forward leaves there",
            why=f"backward's formula is right for the values before the write, and is given those after it: at {at} it "
            f"gives {first.given:.3g} for {first.argument}, where the derivative is {first.derivative:.3g}, without an "
            "error",
            op=found.op,
            tensors=[],
            causes=[*sources.causes_at("write", lines[:1]), *sources.causes_at("saved", lines[1:])],
            evidence=[Evidence("saved", found.saved_row), Evidence("ops", found.op)],
            advice="Compute a new tensor there.",
        )


def _written_by_backwards(sources: Sources) -> Iterator[Finding]:
    """One finding for each line of a backward that writes, through ``.data``, what one behind it had saved as well."""
    index = sources.index
    for one in WritesOfBackwards(index, sources.events, sources.passes, sources.functions.of_name).unseen():
        saved, node_op = index.recording.saved[one.saved_row], index.recording.nodes.column("op")
        kind = f"{index.recording.text(saved.attr)} of {index.recording.text(index.recording.nodes[saved.node].name)}"
        saved_at = node_op[saved.node]
        yield sources.finding(
            f"Line {one.lines.line}: the backward of {one.written.name} writes, past autograd's version counter, into "
            f"memory that line {index.op_line(saved_at)} had saved for backward ({kind})",
            why=f"the pass of line {index.op_line(one.wrote_in)} comes there afterwards, and computes with the changed "
            "values, without an error",
            op=one.wrote_in,
            tensors=[],
            causes=[*sources.causes_at("write", [one.lines]), *sources.cause("saved", saved_at)],
            evidence=[Evidence("saved", one.saved_row), Evidence("ops", one.wrote_in)],
            advice="A backward is given what was saved itself: compute new tensors there.",
        )


def _saved(sources: Sources, write: JudgedWrite, saved_at: int) -> list[Cause]:
    """Where what was written had been saved; a line of the Function's forward where its ctx has it as an attribute."""
    kept = sources.writes.kept_at(write)
    return sources.causes_at("saved", [kept]) if kept is not None else sources.cause("saved", saved_at)


def _changed_outside(sources: Sources) -> Iterator[Finding]:
    """One finding for a backward pass and the memory that numpy, or others, changed before it."""
    index, node_op = sources.index, sources.index.recording.nodes.column("op")
    alike: dict[tuple[int, int, int], list[OutsideWrite]] = {}
    for write in sources.outside_writes.found:
        lines = index.op_line(write.after), index.op_line(write.backward_op), index.op_line(_saved_at(sources, write))
        alike.setdefault(lines, []).append(write)
    for (after, backward, saved_at), same in alike.items():
        first = same[0]
        names = sources.listed(list(dict.fromkeys(sources.names.at(write.tensor, write.after) for write in same)))
        saved = index.recording.saved[first.saved_row]
        kind = f"{index.recording.text(saved.attr)} of {index.recording.text(index.recording.nodes[saved.node].name)}"
        storage = index.recording.saved[first.saved_row].storage
        given = array_given(index, storage, first.after, sources.sharing)
        shared = _shared_by(sources, first.tensor) if given < 0 else None
        where = f"Between line {after} and line {backward}: the memory of {names}"
        if given >= 0:
            where = f"Line {index.op_line(given)}: the memory of {names}, which {index.call_name(given)} gave uncopied,"
        if shared is not None:
            where = f"Line {shared[0].line}: the memory that {shared[1]} shares"
        yield sources.finding(
            f"{where} was changed outside torch's functions (numpy or others share it), after line {saved_at} had "
            f"saved it for backward ({kind})",
            why=f"the gradient of the backward at line {backward} was computed from the changed values, without an "
            "error",
            op=first.backward_op,
            tensors=[write.tensor for write in same],
            causes=[
                *sources.cause("made", given),
                *(shared[:1] if shared is not None else ()),
                *sources.cause("saved", node_op[saved.node]),
            ],
            evidence=[Evidence("saved", write.saved_row) for write in same],
            advice="copy() of the array is another memory."
            if given >= 0
            else "clone() of what is made from the array keeps the values."
            if shared is not None
            else "",
        )


def _shared_by(sources: Sources, tensor: int) -> tuple[Cause, str] | None:
    """The call that put a tensor on the memory of an array: seen, or the only one that the program's text has."""
    index = sources.index
    calls = [
        (number, call)
        for number, file in enumerate(index.recording.files)
        if file.is_user
        for call in sharing_calls(file.text)
    ]
    made = {(cause.file, cause.line) for cause in sources.made_at(tensor)}
    seen = [one for one in calls if (index.recording.files[one[0]].name, one[1].line) in made] if made else calls
    if len(seen) != 1:
        return None
    number, call = seen[0]
    cause = sources.cause_of_line("made", number, call.line, call.end_line, "")
    return cause, f"torch.{call.call}({call.of})"


def _saved_at(sources: Sources, write: OutsideWrite) -> int:
    node = sources.index.recording.saved.column("node")[write.saved_row]
    return sources.index.recording.nodes.column("op")[node]


def _what_it_did(sources: Sources, same: list[JudgedWrite]) -> str:
    """``AdamW.step through w changed memory that line 3 had saved for backward (…), past …``"""
    index, writes, first = sources.index, sources.writes, same[0]
    names = sources.listed(list(dict.fromkeys(sources.names.of(write.tensor) for write in same)))
    kinds = listed(list(dict.fromkeys(writes.saved_as(write) for write in same)))
    line = index.op_line(writes.saved_at(first))
    calls = listed(list(dict.fromkeys(index.func(write.op) for write in same)))
    kept = writes.kept_at(first)
    if kept is not None:
        attribute, _, node = writes.saved_as(first).partition(" of ")
        return (
            f"{calls} changed {names}, whose memory {node.removesuffix('Backward')} keeps as {attribute} (line "
            f"{kept.line}), a plain attribute, of which autograd checks no version"
        )
    if first.is_replacement:
        return (
            f"{calls} put {names} on other memory after line {line} had saved it for backward "
            f"({kinds}), which autograd's version counter does not show"
        )
    return (
        f"{calls} through {names} changed memory that line {line} had saved for backward ({kinds}), "
        "past autograd's version counter"
    )


DIAGNOSIS = Diagnosis(
    code="gradient-silently-wrong",
    title="a gradient computed from values that were changed behind autograd's back",
    severity="problem",
    explanation=Explanation(
        meaning="""Memory that an operation had saved for backward was written, and the version counter of what was
            saved did not show it; a later backward pass used the changed values, and nothing was raised.""",
        reason="""detach() and views share the version counter of their base, so a write through them is noticed.
            .data gives a tensor with a counter of its own on the same memory, as numpy() and from_dlpack() do: autograd
            compares the old counter, finds it unchanged, and computes with what lies there now. Nor is the counter
            raised by the step of an optimizer with fused=True (SGD, Adam, AdamW, Adagrad; the others and foreach
            raise it), by the running statistics of a batch norm in training, by observers for quantization
            (fused_moving_avg_obs_fake_quant), by GradScaler.unscale_ on the gradients, by storage methods
            (untyped_storage().copy_, fill_), by torch.distributed.all_reduce and broadcast, nor where a tensor is put
            on other memory: x.data = y, vector_to_parameters, module.to(dtype). Of a tensor that a custom Function
            keeps as an attribute (ctx.x = x) it compares none: save_for_backward does; nor of the weights of a
            module that backward calls again (ctx.layer(x)), which a step may have changed since forward. What a custom
            Function's forward writes after save_for_backward was called is saved as written. What numpy
            writes gradscope finds by the bytes, in blocks of up to 16 KiB that numpy() gave away or from_numpy() took
            in. So it does where an array that numpy() gave of a result is written, and read, before the loss is
            computed of that result: prediction and target are then one memory. What is written
            inside a scripted or compiled function it cannot see.""",
        remedy="""Write through detach() under torch.no_grad(), so that autograd can notice; or write into a
            clone(), or after backward. After an optimizer's step compute the loss anew before the next backward.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.ones(3, requires_grad=True)
y = x.sigmoid()
loss = y.sum()
y.data.zero_()
loss.backward()
""",
        instead_of="y.data.zero_()",
        silent="y.data.clone().zero_()",
    ),
    find=_find,
)
