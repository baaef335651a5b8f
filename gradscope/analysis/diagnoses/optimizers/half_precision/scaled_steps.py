"""Gradients that autograd.grad gave for a scaled loss, in steps and penalties of the program's own."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.scaled_derivatives import scaled_derivatives
from gradscope.analysis.report_model import Evidence


def steps_with_scaled_derivatives(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that uses them as they are."""
    index, made_at = sources.index, sources.index.recording.tensors.column("op")
    for found in scaled_derivatives(index, sources.events, sources.passes):
        what = (
            f"changes {sources.names.at(found.of, found.used)} by"
            if found.of >= 0
            else f"takes the length ({index.call_name(found.used)}) of"
        )
        scaled = made_at[found.scaled]
        lines = list(dict.fromkeys((index.op_line(found.asked), index.op_line(scaled))))
        where = f"at line {lines[0]}" + "".join(f", scaled at line {line}" for line in lines[1:])
        yield sources.finding(
            f"Line {index.op_line(found.used)} {what} gradients that are still multiplied by the loss scale",
            why=f"autograd.grad gave them for a loss that a GradScaler had scaled ({where}), and it divides only "
            "what is in .grad",
            op=found.used,
            tensors=[found.of] if found.of >= 0 else [found.scaled],
            causes=[
                *sources.cause("used", found.used),
                *sources.cause("made", found.asked),
                *sources.cause("made", scaled),
            ],
            evidence=[Evidence("ops", found.asked), Evidence("ops", scaled)],
            advice="Divide them by scaler.get_scale(), or do not scale this loss.",
        )
