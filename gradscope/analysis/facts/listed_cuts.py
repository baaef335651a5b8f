"""Cuts of the graph, as a report lists them."""

from __future__ import annotations

from collections import Counter

from gradscope.analysis.facts.library_calls import LibraryCalls
from gradscope.analysis.facts.modules.statements_of_hooks import statements_of_hooks
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.facts.tracking.cuts import CutKey, Cuts
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Cut
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW


def list_cuts(
    index: Index,
    names: BestNames,
    cuts: Cuts,
    libraries: LibraryCalls,
    runs: StatementRuns,
    on_path: frozenset[int],
) -> tuple[Cut, ...]:
    """Cuts as a report shows them.

    Args:
        index: The recording.
        names: Names of tensors.
        cuts: What to list.
        libraries: What libraries did for themselves.
        runs: How often statements ran: one run may cut at many calls (the layers of a model).
        on_path: Ops that were found to lie between a leaf and a root that it did not reach.
    """
    spans = index.statement_of_span
    inner = index.recording.ops.column("inner")
    groups = cuts.grouped_with_some(on_path)
    ran = _runs_with_cuts(index, cuts, runs)
    at_fault = {(index.op_statement[op], index.recording.ops.column("func")[op]) for op in on_path}
    return tuple(
        Cut(
            place=index.place(group.statement),
            inner=index.place(spans[inner[group.last_op]]) if inner[group.last_op] >= 0 else None,
            kind=group.kind,
            op=index.recording.text(group.func),
            executions=min(ran.get(group.key) or group.count, group.count, max(1, runs.of[group.statement])),
            input=names.at(cuts.input_of(group.last_op), group.last_op),
            output=names.at(cuts.output_of(group.last_op), group.last_op),
            on_path=(group.statement, group.func) in at_fault,
            by_library=libraries.is_own_cut(group.last_op),
        )
        for group in groups
    )


def _runs_with_cuts(index: Index, cuts: Cuts, runs: StatementRuns) -> dict[CutKey, int]:
    """For each group of cuts how many runs of its statement had some, as far as is seen: one run may have many.

    A run's ops follow each other, but for those of what it calls, and of hooks on the modules that it calls; it cuts
    off one tensor (a layer's weight) once, and what stands in it once, and calls torch itself, does so once.
    """
    ops = index.recording.ops
    spans, flags = ops.column("span"), ops.column("flags")
    calls = dict[CutKey, Counter[int]]()
    at, last = index.op_statement, dict[CutKey, int]()
    hooks = statements_of_hooks(index)
    stretches, of_input = Counter[CutKey](), Counter[tuple[CutKey, int]]()
    for op in cuts.all:
        key = cuts.key_of(op)
        before = last.get(key, NONE)
        if before < 0 or any(at[one] != key[0] and at[one] not in hooks for one in range(before + 1, op)):
            stretches[key] += index.weights[op]
        last[key] = op
        of_input[key, cuts.input_of(op)] += index.weights[op]
        if not flags[op] & BELOW:
            calls.setdefault(key, Counter())[spans[op]] += index.weights[op]
    for (key, _), count in of_input.items():
        stretches[key] = max(stretches[key], count)
    for key, of_span in calls.items():
        once = [count for span, count in of_span.items() if not runs.is_repeated(span)]
        stretches[key] = max([stretches[key], *once])
    return stretches
