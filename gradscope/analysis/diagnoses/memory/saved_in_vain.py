"""Lines that saved memory for a backward pass that never came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.memory.graph_kept_after_pass import results_kept
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.made_of_gradients import made_of_gradients
from gradscope.analysis.facts.losses.samples_in_losses import draws_from_distribution
from gradscope.analysis.facts.modes.training_modes import ModeCall, TrainingModes
from gradscope.analysis.facts.passes.passes_inside import runs_passes
from gradscope.analysis.index import NOWHERE
from gradscope.analysis.report_model import Cause
from gradscope.analysis.sizes import size
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.calls.reached_functions import function_named, reached_functions
from gradscope.frames.names.given_names import function_around
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW
from gradscope.recording.rows import OpKind

WORTH_SAYING = 1 << 20
"""Bytes below which an unused graph is nobody's trouble."""

RUNS = 3
"""Runs of a line from which on it is said in a program that runs no backward pass at all."""


def _find(sources: Sources) -> Iterator[Finding]:
    index, recording = sources.index, sources.index.recording
    if not len(recording.backwards) and recording.info.outcome.kind not in ("ok", "exit"):
        return  # it may have ended before its first pass
    node_op = recording.nodes.column("op")
    used_ops = {
        node_op[node]
        for node, op in enumerate(sources.passes.first_walked_at)
        if op >= 0 and node_op[node] < index.op_count
    }
    kinds = recording.ops.column("kind")
    used_lines = {index.op_statement[op] for op in used_ops}
    used_passes = {index.op_statement[op] for op in used_ops if kinds[op] == OpKind.GRAD}
    modes = TrainingModes(sources.events)
    of_gradients = made_of_gradients(index, sources.passes)
    kept = _made_from_kept(sources) | (of_gradients.statements if of_gradients is not None else set())
    meant, detached = _detached(sources)
    kept |= meant
    by_line: dict[int, int] = {}
    of_passes: dict[int, int] = {}
    only_there: dict[tuple[int, int], int] = {}
    in_evaluation: dict[int, tuple[ModeCall, int, int]] = {}
    for op, held in _unused(sources):
        statement = index.op_statement[op]
        call = modes.in_force(op)
        if kinds[op] == OpKind.GRAD:
            # (what a Function's forward runs its backward may run again, with a use for the graph)
            is_in_function = sources.cuts.regions.is_tracked_inside_others(op)
            if statement not in used_passes and statement not in kept and not is_in_function:
                of_passes[statement] = of_passes.get(statement, 0) + held
        elif statement not in used_lines and statement not in kept:
            by_line[statement] = by_line.get(statement, 0) + held
            if call is not None and not call.training:
                key = call.event.span, statement
                only_there[key] = only_there.get(key, 0) + held
        elif call is not None and not call.training:
            in_evaluation[call.op] = call, in_evaluation.get(call.op, (call, 0, 0))[1] + held, op
    evaluations = list(_of_evaluations(sources, list(in_evaluation.values()), only_there))
    yield from evaluations
    said = {cause.line for one in evaluations for cause in one.causes}
    for (span, statement), held in only_there.items():
        if span >= 0 and index.span_line(span) in said:
            by_line[statement] -= held  # (the evaluation that this is a part of is said to be the cause)
    for statement in detached.intersection(by_line):
        by_line[statement] //= sources.runs.of[statement] or 1
    yield from _of_lines(sources, {statement: held for statement, held in by_line.items() if held})
    if recording.info.outcome.kind in ("ok", "exit"):
        yield from _of_passes(sources, of_passes)


def _made_from_kept(sources: Sources) -> set[int]:
    """Statements that work with results which a line keeps with used-up graphs: that line is said to be the cause."""
    index = sources.index
    used_up, columns = sources.passes.used_up_at, index.recording.tensors.column("node")
    return {
        index.op_statement[op]
        for tensor in results_kept(sources)
        for op in index.users.of(tensor)
        if 0 <= used_up[columns[tensor]] < op
    }


def _detached(sources: Sources) -> tuple[set[int], set[int]]:
    """Statements that compute what is detached: those that are not counted, and the others.

    Not counted is what straight-through estimates take away again, ``w + (rounded(w) - w).detach()``, and what a
    function computes with no module for its next lines to cut off, ``mean = mean.detach()``. Of the others, as a target
    by a network in the same function, or what is gone with the call that detaches it, ``sample(weights).detach()``, the
    memory of one run counts: it is let go at the cut.
    """
    index, tensors = sources.index, sources.index.recording.tensors
    nodes, died = tensors.column("node"), tensors.column("died")
    node_op, flags = index.recording.nodes.column("op"), index.recording.ops.column("flags")
    meant, others = set[int](), set[int]()
    for op in index.calls_of_methods("Tensor.detach"):
        difference = next(iter(index.uses.of(op)), -1)
        made = index.made_by(difference) if difference >= 0 else -1
        if made < 0:
            continue
        is_sum = any(index.method(user) == "Tensor.add" for one in index.made.of(op) for user in index.users.of(one))
        is_estimate = index.method(made) == "Tensor.sub" and is_sum
        here = index.statements[index.op_statement[op]]
        for node in sources.passes.behind(nodes[difference]) if nodes[difference] >= 0 else ():
            if 0 <= (at := node_op[node]) < index.op_count:
                where = index.statements[index.op_statement[at]]
                is_beside = (where.file, where.function) == (here.file, here.function)
                if is_estimate or (is_beside and where.line < here.line and not flags[at] & BELOW):
                    meant.add(index.op_statement[at])
                elif is_beside or 0 <= died[difference] <= op + 1:
                    others.add(index.op_statement[at])
    return meant, others


def _unused(sources: Sources) -> Iterator[tuple[int, int]]:
    """Ops whose nodes saved memory and were never walked, with the bytes; each block of memory counts once.

    Not those behind a ``torch.no_grad()`` that nothing entered: that statement is said to be the cause. Nor what a
    distribution computes of its own to draw from it (its probabilities, of logits): nobody writes a region for that.
    """
    index, recording, walked = sources.index, sources.index.recording, sources.passes.first_walked_at
    node_op, storage_bytes = recording.nodes.column("op"), recording.storages.column("nbytes")
    counted = bytearray(len(recording.storages))
    for node, storage in zip(recording.saved.column("node"), recording.saved.column("storage"), strict=True):
        if storage >= 0 and walked[node] < 0 and not counted[storage] and node_op[node] < index.op_count:
            counted[storage] = 1
            if node_op[node] in sources.tracked_behind or draws_from_distribution(index.func(node_op[node])):
                continue
            yield node_op[node], storage_bytes[storage] * index.weights[node_op[node]]


def _of_lines(sources: Sources, unused: dict[int, int]) -> Iterator[Finding]:
    """Lines that no pass ever came to."""
    index = sources.index
    cut_off = _cut_off(sources, unused)
    own = {key: held for key, held in unused.items() if key != NOWHERE and key not in cut_off}
    if not len(index.recording.backwards):
        own = {key: held for key, held in own.items() if sources.runs.of[key] >= RUNS}
    total = sum(own.values())
    if total >= WORTH_SAYING:
        lines = [index.statements[key].line for key in own]
        shown = numbers(lines, at_most=4)
        worst = sorted(own, key=own.__getitem__, reverse=True)
        yield sources.finding(
            f"Line{'s' * (len(lines) > 1)} {shown}: saved {size(total)} for backward passes that never came; "
            "under torch.no_grad() nothing would be saved",
            op=index.last_op[worst[0]],
            tensors=[],
            causes=[cause for key in worst[:4] for cause in sources.cause("saved", index.last_op[key])],
        )


def _cut_off(sources: Sources, statements: Iterable[int]) -> set[int]:
    """Statements whose graph leads to what an optimizer is to train and to which no pass gave a gradient.

    What cuts their graph off from the loss is the mistake, which has an answer of its own: gradients are wanted here.
    """
    index, given, trained = sources.index, sources.events.in_optimizers, sources.lives.passes
    if not len(index.recording.backwards) or all(leaf in trained for leaf in given):
        return set()
    nodes, found = index.recording.nodes.column("op"), set[int]()
    first, last = dict[int, int](), dict[int, int]()
    for node, op in enumerate(nodes):
        if op < index.op_count:
            last[index.op_statement[op]] = node
            first.setdefault(index.op_statement[op], node)
    for statement in statements:
        # (the first step of an inner loop starts from what is to be trained, the last one from what that gave)
        ends = {one.get(statement, NONE) for one in (first, last)}
        held = {leaf for end in ends for leaf in sources.passes.leaves_behind(end) if leaf in given}
        if held and not any(leaf in trained for leaf in held):
            found.add(statement)
    return found


def _of_passes(sources: Sources, unused: dict[int, int]) -> Iterator[Finding]:
    """Lines that ask for gradients with a graph; under ``no_grad`` they would give none at all."""
    index = sources.index
    large = {statement: held for statement, held in unused.items() if held >= WORTH_SAYING}
    cut_off = _cut_off(sources, large)
    for statement, held in large.items():
        op = index.last_op[statement]
        if statement != NOWHERE and statement not in cut_off:
            yield sources.finding(
                f"Line {index.op_line(op)}: create_graph=True saved {size(held)} for second derivatives, and no "
                "backward pass came to them",
                op=op,
                tensors=[],
                causes=sources.cause("backward", op),
                advice="Leave create_graph out where no second derivative is wanted.",
            )


def _of_evaluations(
    sources: Sources, unused: list[tuple[ModeCall, int, int]], only_there: dict[tuple[int, int], int]
) -> Iterator[Finding]:
    """Lines that training runs as well, in evaluation: one finding for each line that calls ``eval()``.

    What is saved there by lines that training does not run counts with it.
    """
    recording = sources.index.recording
    by_span: dict[int, list[tuple[ModeCall, int, int]]] = {}
    for found in unused:
        by_span.setdefault(found[0].event.span, []).append(found)
    for span, calls in by_span.items():
        total, last_op = sum(held for _, held, _ in calls), calls[-1][2]
        if span < 0 or total < WORTH_SAYING:
            continue
        row = recording.spans[span]
        if any(runs_passes(sources.index, row.file, row.line, range(call.op, last)) for call, _, last in calls):
            continue  # its passes need gradients: what no pass needed is not told apart
        total += sum(held for (one, _), held in only_there.items() if one == span)
        whole, here = _function(sources, span, last_op), sources.cause_of_event("set", calls[-1][0].event)
        saves = f"saved {size(total)} for backward passes that never came"
        yield sources.finding(
            f"Line {whole[0].line}: {whole[0].function} {saves}"
            if whole
            else f"Line {sources.index.line(row.file, row.line)}: what ran after this eval() {saves}",
            why="eval() leaves gradients on; under torch.no_grad() nothing would be saved",
            op=calls[-1][0].op,
            tensors=[],
            causes=[*whole, *here],
            advice="Put @torch.no_grad() on it." if whole else "",
        )


def _function(sources: Sources, span: int, op: int) -> list[Cause]:
    """The function that calls ``eval()``, where what ran after that ran within it."""
    index = sources.index
    row, statement = index.recording.spans[span], index.statements[index.statement_of_span[span]]
    text = index.recording.files[row.file].text
    first, last = function_around(text, row.line)
    function, ran_in = index.recording.text(statement.function), function_named(index.op_place(op).function)
    if not (1 < first <= row.line and row.stmt_end_line < last) or ran_in not in reached_functions(text, row.line):
        return []
    return [sources.cause_of_line("made", row.file, first, first, function)]


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
