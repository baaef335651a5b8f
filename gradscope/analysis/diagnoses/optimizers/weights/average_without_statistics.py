"""Weights that go on while the statistics of their batch norms stay as they were: those of copies, or in copies."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.averages_without_statistics import StaleStatistics, stale_statistics
from gradscope.analysis.facts.memory_writes.own_buffers_left import OwnBufferLeft, own_buffers_left
from gradscope.analysis.facts.memory_writes.statistics_in_copies import InCopies, statistics_in_copies
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.syntax_trees import innermost, parsed

_ASKED = re.compile(r"\.(named_)?parameters\(")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the norms of one statement that writes them."""
    by_statement: dict[int, list[StaleStatistics]] = {}
    for one in stale_statistics(sources.index, sources.lives):
        by_statement.setdefault(sources.index.op_statement[one.ops[-1]], []).append(one)
    for found in by_statement.values():
        yield _finding(sources, found)
    own: dict[int, list[OwnBufferLeft]] = {}
    for buffer in own_buffers_left(sources.index, sources.lives):
        own.setdefault(sources.index.op_statement[buffer.ops[-1]], []).append(buffer)
    for buffers in own.values():
        yield _of_own(sources, buffers)
    in_copies: dict[int, list[InCopies]] = {}
    for norm in statistics_in_copies(sources.index, sources.lives):
        in_copies.setdefault(sources.index.op_statement[norm.copies[-1]], []).append(norm)
    for norms in in_copies.values():
        yield _of_copies(sources, norms)


def _finding(sources: Sources, found: list[StaleStatistics]) -> Finding:
    index, op = sources.index, found[0].ops[-1]
    weights = [one.weight for one in found]
    names = sources.listed([sources.names.at(one.weight, one.used[-1]) for one in found])
    trained = sources.listed([sources.names.of(one.source) for one in found])
    times, is_or_are = index.times(found[0].used), "is" if len(found) == 1 else "are"
    given = _given_by(sources, op)
    lines = {cause.line for cause in given} or {index.op_line(op)}
    return sources.finding(
        f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}: {names} of a copy {is_or_are} written from {trained} "
        "step after step, and nothing updates the running statistics of the same batch norms: in evaluation mode they "
        f"normalise with what was there before the first run ({times:,} {'time' if times == 1 else 'times'}), while "
        "those of the trained model went on",
        why="parameters() gives no buffers",
        op=op,
        tensors=weights,
        causes=[*given, *(_loop_around(sources, op) if not given else ()), *sources.cause("write", op)],
        evidence=[Evidence("ops", one) for one in (found[0].ops[0], found[0].used[-1])],
        advice="Copy the buffers as well: for a, b in zip(average.buffers(), model.buffers()): a.copy_(b).",
    )


def _of_own(sources: Sources, found: list[OwnBufferLeft]) -> Finding:
    """Buffers of the program's own, of which a copy has others than the model."""
    index, last = sources.index, max(found, key=lambda one: one.used[-1])
    op = last.ops[-1]
    given = _given_by(sources, op)
    lines = {cause.line for cause in given} or {index.op_line(op)}
    buffers = sources.listed(list(dict.fromkeys(sources.names.of(one.source) for one in found)))
    several, times = len({one.source for one in found}) > 1, index.times(last.used)
    return sources.finding(
        f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}: the weights of a copy are written from "
        f"{sources.names.of(last.followed)} and others step after step, and nothing writes its "
        f"own{' buffers' if several else ' buffer'} in all that time: line {index.op_line(last.used[-1])} takes what "
        f"was there before ({times:,} {'time' if times == 1 else 'times'}) in place of {buffers}, which "
        "went on changing",
        why="parameters() gives no buffers",
        op=op,
        tensors=[one.buffer for one in found],
        causes=[*given, *(_loop_around(sources, op) if not given else ()), *sources.cause("write", op)],
        evidence=[Evidence("ops", one) for one in (last.ops[0], last.wrote, last.used[-1])],
        advice="Copy the buffers as well: for a, b in zip(average.buffers(), model.buffers()): a.copy_(b).",
    )


def _of_copies(sources: Sources, found: list[InCopies]) -> Finding:
    """Batch norms whose statistics went into copies that one statement makes of their buffers."""
    index, op = sources.index, found[0].copies[-1]
    names = sources.listed([sources.names.of(one.mean) for one in found])
    times, several = index.times(found[0].used), len(found) > 1
    lines = sorted({index.op_line(one) for one in found[0].writes} - {0})
    at = f" (line{'s' * (len(lines) > 1)} {numbers(lines)})" if lines else ""
    return sources.finding(
        f"Line {index.op_line(op)}: {index.call_name(op)} copies {names}, and what the batch norm{'s' * several} "
        f"learned{at} went into the copies: in "
        f"evaluation mode {'they normalise' if several else 'it normalises'} with what was there before the first run "
        f"({times:,} {'time' if times == 1 else 'times'}), with weights that were trained since",
        op=op,
        tensors=[one.weight for one in found],
        causes=sources.cause("write", op),
        evidence=[Evidence("ops", one) for one in (found[0].writes[0], found[0].used[-1])],
        advice="Hand over the buffers themselves, or copy them back after the run.",
    )


def _loop_around(sources: Sources, op: int) -> list[Cause]:
    """The header of the loop over ``parameters()`` that writes: there the buffers are left out."""
    recording = sources.index.recording
    span = recording.ops.column("span")[op]
    row = recording.spans[span] if span >= 0 else None
    loops = loops_around(recording.files[row.file].text, row.line) if row is not None and row.file >= 0 else []
    if row is None or not loops or not _ASKED.search(recording.source(row.file, loops[-1][0], loops[-1][0])):
        return []
    return [sources.cause_of_line("made", row.file, loops[-1][0], loops[-1][0], recording.text(row.function))]


def _given_by(sources: Sources, op: int) -> list[Cause]:
    """The calls that give ``parameters()`` to the function that writes the weights, where it does not ask for them.

    ``polyak_update(net.parameters(), target.parameters())``: there the buffers are left out.
    """
    recording = sources.index.recording
    span = recording.ops.column("span")[op]
    row = recording.spans[span] if span >= 0 else None
    if row is None or row.file < 0:
        return []
    name = recording.text(row.function).rpartition(".")[2]
    text = recording.files[row.file].text
    tree = parsed(text)
    around = innermost(tree, row.line, ast.FunctionDef) if tree is not None else None
    if around is None or _ASKED.search(recording.source(row.file, around.lineno, around.end_lineno)):
        return []
    calls = [
        call for call in calls_of(text, name) if _ASKED.search(recording.source(row.file, call.line, call.end_line))
    ]
    return [sources.cause_of_line("made", row.file, call.line, call.end_line, call.function) for call in calls]


DIAGNOSIS = Diagnosis(
    code="average-without-statistics",
    title="averaged or trained weights with the batch norm statistics of the start",
    severity="warning",
    explanation=Explanation(
        meaning="""The weights of a copy of a model (an average, a teacher, a target network) were written from the
            trained weights again and again. The running mean and variance of its batch norms were never written in
            all that time, and the copy normalised with them in evaluation mode, while the trained model's own batch
            norms learned theirs. So it is with statistics that a model keeps in buffers of its own. Or a trained model
            ran on copies of its buffers (torch.func.functional_call): its own were never written, and it normalised
            with them in evaluation mode.""",
        reason="""Running statistics are buffers: parameters() does not give them, and a copy in evaluation mode does
            not learn its own. It computes with new weights and with a mean and a variance that belong to none of
            them (0 and 1, where it was made at the start).""",
        remedy="""Copy the buffers too, average state_dict() instead of parameters(), or use
            torch.optim.swa_utils.AveragedModel, which does it. torch.optim.swa_utils.update_bn learns them anew.""",
    ),
    example=Example(
        shows="""\
import copy
import torch
from torch import nn

model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
average = copy.deepcopy(model).eval()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    x = torch.randn(8, 3)
    model(x).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for a, p in zip(average.parameters(), model.parameters()):
            a.lerp_(p, 0.1)
        average(x)
""",
        instead_of="average = copy.deepcopy(model).eval()",
        silent="average = copy.deepcopy(model)",
    ),
    find=_find,
)
