"""One gradient tensor that two parameters have, where each was to have its own."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.gradients_of_two import GradientOfTwo, gradients_of_two
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import OpKind


def two_with_one_gradient(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that gives it to them."""
    for found in gradients_of_two(sources.index):
        yield _finding(sources, found)


def _finding(sources: Sources, found: GradientOfTwo) -> Finding:
    index, write = sources.index, found.writes[-1]
    made = index.made_by(found.gradient)
    is_asked = 0 <= made < index.op_count and index.recording.ops.column("kind")[made] == OpKind.GRAD
    names = sources.listed([sources.names.at(one, found.given) for one in found.parameters])
    asked = f", and line {index.op_line(made)} ({index.call_name(made)}) gave one for {names}" if is_asked else ""
    each = "once for each of them" if len(found.parameters) > 2 else "once for each of the two"
    return sources.finding(
        f"Line {index.op_line(write)}: {index.call_name(write)} writes the gradient of {names} in place {each}, and it "
        "is one tensor",
        why=f"line {index.op_line(found.given)} puts it into .grad without a copy{asked}",
        op=write,
        tensors=found.parameters,
        causes=[
            *sources.cause("set", found.given),
            *(sources.cause("made", made) if is_asked else ()),
            *sources.cause("write", write),
        ],
        evidence=[Evidence("ops", one) for one in (found.given, *found.writes)],
        advice="Give each a tensor of its own: p.grad = g.clone().",
    )
