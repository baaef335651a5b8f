"""From a recording to the report: runs every analysis once, and hands them what they share."""

from __future__ import annotations

from collections.abc import Iterable

from gradscope.analysis.diagnoses.answers import find_answers
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.graphs.graph_trees import Graphs
from gradscope.analysis.facts.listed_cuts import list_cuts
from gradscope.analysis.facts.memory_use import MemoryUse, report_memory
from gradscope.analysis.facts.memory_writes.inplace_writes import InplaceWrites
from gradscope.analysis.facts.modes.grad_modes import list_modes
from gradscope.analysis.facts.modules.module_trees import ModuleTrees
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.statement_counts.inside_runs import PASSES, passes_inside
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.facts.storage_groups import Letters, StorageGroups
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.lines.inside_rows import with_inside_rows
from gradscope.analysis.lines.line_groups import LineGroups
from gradscope.analysis.lines.line_table import LineTable
from gradscope.analysis.observations import after_limit, left_out, list_errors, list_ops, list_watches, run_facts
from gradscope.analysis.report_model import BackwardPass, Cut, GradientNorms, LineRow, Report, Summary
from gradscope.analysis.selection.selected_answers import select_answers
from gradscope.analysis.view import RunView
from gradscope.recording import Recording
from gradscope.recording.rows import EventKind


def gather(recording: Recording) -> Sources:
    """The facts of a recording, which are computed when they are first asked for."""
    index = Index(recording)
    names = BestNames(index)
    cuts, passes, sharing = Cuts(index), Passes(index), StorageGroups(index, names)
    flow = Flow(index, sharing)
    gradients = Gradients(index, names, cuts, flow, passes)
    writes = InplaceWrites(index, names, sharing, passes)
    return Sources(index, names, cuts, flow, gradients, passes, writes, sharing, StatementRuns(index, names.slots))


def build(recording: Recording, view: RunView | None = None) -> Report:
    """Analyse a recording.

    Args:
        recording: What was observed of a run; complete or cut off.
        view: What was asked for; ``lines``, ``ops``, ``gradients`` and which answers are wanted change what is in the
            report, the rest how it is shown.

    Returns:
        The whole report. Costs some seconds a million ops, and imports no torch.
    """
    view, sources = view or RunView(), gather(recording)
    index, names, cuts, runs = sources.index, sources.names, sources.cuts, sources.runs
    sharing, passes, gradients, judged = sources.sharing, sources.passes, sources.gradients, sources.writes
    letters, use, libraries = Letters(), MemoryUse(index), sources.libraries
    trees = ModuleTrees(index, names, use)
    groups = LineGroups(index, names, use, cuts, libraries).collect()
    described = LineTable(index, names, cuts, libraries, sharing, use, runs, letters).describe(groups)
    lines = with_inside_rows(index, runs, described)
    writes = judged.describe(letters, libraries)
    alias_groups = sharing.describe(letters)
    backwards = gradients.passes()
    listed_cuts = list_cuts(index, names, cuts, libraries, runs, gradients.cuts_on_path)
    errors, calls_left_out = list_errors(index), left_out(index)
    answers, faults = find_answers(sources)
    is_in_snippets = EventKind.SNIPPET in recording.events.column("kind")
    outputs = sources.snippets.remarks() if is_in_snippets else ()
    selected = select_answers(answers, recording, view.selection)
    return Report(
        run=run_facts(recording),
        summary=_summary(index, gradients, backwards, listed_cuts, len(writes), len(alias_groups), len(faults)),
        answers=selected.given,
        lines=tuple(row for row in lines if _wanted(row, view)),
        ops=list_ops(index, names, use, view) if view.ops else (),
        alias_groups=alias_groups,
        graphs=Graphs(index, names, passes, gradients, None if view.all else trees).describe(),
        backwards=backwards,
        cuts=listed_cuts,
        inplace_writes=writes,
        modes=list_modes(index),
        memory=report_memory(index, use, runs),
        watches=list_watches(index, names),
        errors=(*errors, *sources.snippets.errors_elsewhere(errors)) if is_in_snippets else errors,
        faults=(*(fault.traceback for fault in recording.faults), *faults),
        left_out=calls_left_out,
        suppressed=selected.suppressed,
        remarks=(*recording.info.remarks, *outputs, *selected.remarks),
        modules=trees.rows() if len(recording.modules) else (),
        gradient_norms=_norms(index, names, sources) if view.gradients else (),
        after_limit=after_limit(index, sources.events, calls_left_out),
    )


def _norms(index: Index, names: BestNames, sources: Sources) -> tuple[GradientNorms, ...]:
    from gradscope.analysis.facts.leaf_gradients.gradient_norms import gradient_norms

    return gradient_norms(index, names, sources.events)


def _wanted(row: LineRow, view: RunView) -> bool:
    return view.lines is None or (row.line <= view.lines[1] and row.end_line >= view.lines[0])


def _summary(
    index: Index,
    gradients: Gradients,
    backwards: tuple[BackwardPass, ...],
    cuts: tuple[Cut, ...],
    writes: int,
    alias_groups: int,
    faults: int,
) -> Summary:
    recording = index.recording
    outcomes = gradients.leaves_reached
    exports = _places(cut for cut in cuts if cut.kind == "export")
    return Summary(
        ops=index.times(range(index.op_count)),
        lines=len({statement for statement in index.last_op if statement != NOWHERE}),
        tensors=index.times_made(range(len(recording.tensors))),
        nodes=index.times(recording.nodes.column("op")),
        backwards=sum(one.executions for one in backwards) + _passes_left_out(recording),
        leaves_with_gradient=index.times_made(leaf for leaf, is_reached in outcomes.items() if is_reached),
        leaves_without_gradient=index.times_made(leaf for leaf, is_reached in outcomes.items() if not is_reached),
        cuts=_places(cut for cut in cuts if cut.kind != "export" and not cut.by_library),
        exports=exports,
        inplace_writes=writes,
        alias_groups=alias_groups,
        errors=len(recording.errors),
        faults=sum(fault.count for fault in recording.faults) + faults,
        left_out=sum(recording.left_out.column("left_out")),
        alike=sum(recording.alike.column("times")),
        threads=max(1, len(set(recording.ops.column("thread")))),
        backwards_inside=passes_inside(index),
    )


def _places(cuts: Iterable[Cut]) -> int:
    """The lines with cuts, as the tables name them: one line may cut by several calls."""
    return len({(cut.place.file, cut.place.line) for cut in cuts})


def _passes_left_out(recording: Recording) -> int:
    """Backward passes that ``--max-ops`` left out: a recording knows no kind of these, only the function's name."""
    return sum(row.left_out for row in recording.left_out if recording.text(row.func) in PASSES)
