"""A term of an energy that the derivative by an input leaves out: it was computed from the input without a graph."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.number_added import number_added
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.lost_terms import LostTerms
from gradscope.analysis.facts.losses.features_left_out import features_left_out
from gradscope.analysis.facts.losses.terms_left_out import LeftOutTerm, terms_left_out
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE


def terms_that_derivatives_leave_out(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that cuts one off."""
    index, said = sources.index, set[int]()
    lost = LostTerms(index, sources.flow, sources.cuts)

    def taken_out(at: int) -> int:
        number = number_added(sources, lost, at)
        return NONE if number is None else number.export

    trained = sources.events.in_optimizers
    known = (index, sources.flow, sources.cuts, sources.passes, sources.lives, trained, taken_out)
    for finding_of, several in ((_finding, terms_left_out(*known)), (_of_feature, features_left_out(*known))):
        for found in several:
            statement = index.op_statement[sources.cuts.line_to_change(found.cut)]
            if statement not in said:
                said.add(statement)
                yield finding_of(sources, found)


def _finding(sources: Sources, found: LeftOutTerm) -> Finding:
    index, cut = sources.index, sources.cuts.line_to_change(found.cut)
    kind, region = sources.cuts.kind(found.cut), sources.cuts.regions.describe(found.cut)
    by_call = index.call_name(found.cut) if kind == "export" else sources.cuts.cause(found.cut)
    what = region.mode if region is not None and kind in ("no_grad", "inference_mode") else by_call
    by, root = (_name(sources, tensor, found.asked) for tensor in (found.by, found.root))
    return sources.finding(
        f"Line {index.op_line(cut)}: {what} cuts a term of {root} off {by}, from which it is computed",
        why=f"the derivative by {by} leaves this term out",
        op=found.asked,
        tensors=[found.by] if found.term < 0 else [found.term, found.by],
        causes=sources.cause("cut", cut),
        evidence=[Evidence("ops", found.cut), Evidence("ops", found.at)],
        advice="Compute it with a graph.",
    )


def _of_feature(sources: Sources, found: LeftOutTerm) -> Finding:
    """A value that goes into the sum beside others that have a way to the input."""
    index, cut = sources.index, sources.cuts.line_to_change(found.cut)
    region = sources.cuts.regions.describe(found.cut)
    value, by = sources.names.at(found.term, found.at), _name(sources, found.by, found.asked)
    mode = "no_grad" if region is None else region.mode
    return sources.finding(
        f"Line {index.op_line(cut)}: {mode} cuts {value} off {by}, from which it is computed beside indices",
        why=f"line {index.op_line(found.at)} computes with it, and the derivative by {by} (line "
        f"{index.op_line(found.asked)}) leaves this way out",
        op=found.asked,
        tensors=[found.term, found.by],
        causes=sources.cause("cut", cut),
        evidence=[Evidence("ops", found.cut), Evidence("ops", found.at)],
        advice="Indices need no graph; compute the values with one.",
    )


def _name(sources: Sources, tensor: int, op: int) -> str:
    """What a tensor is called, without the line at which it got the name."""
    return sources.names.held_at(tensor, op) or sources.names.of(tensor)
