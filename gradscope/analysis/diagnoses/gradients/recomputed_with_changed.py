"""Gradients of a Function that computes anew in backward, with weights that a step had changed by then."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.recomputing_backwards import changed_since
from gradscope.analysis.report_model import Evidence


def recomputed_with_changed(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function and line that steps in between."""
    index = sources.index
    for found in changed_since(index, sources.passes, sources.functions, sources.lives):
        names = sources.listed([sources.names.at(leaf, found.step) for leaf in found.leaves])
        yield sources.finding(
            f"Line {found.lines.line}: the backward of {found.function} computes anew with the weights that "
            f"{found.called} has by then, and line {index.op_line(found.step)} ({index.func(found.step)}) had changed "
            f"{names} since its forward",
            why="the gradient is that of other weights than the loss was computed with, without an error",
            op=found.backward,
            tensors=found.leaves,
            causes=[*sources.causes_at("used", [found.lines]), *sources.cause("step", found.step)],
            evidence=[Evidence("nodes", found.node), Evidence("ops", found.step)],
            advice="Step after all backward passes of what was computed before; what ctx.save_for_backward keeps, "
            "autograd checks.",
        )
