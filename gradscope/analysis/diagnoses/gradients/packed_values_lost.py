"""A pack function of saved-tensor hooks after which tensors come back with other values than they were saved with."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.rounded_indices import rounded_indices
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.hook_source import HookSource
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each pack function, where it is no matter of one tensor in the place of another."""
    index, told = sources.index, set[int]()
    recording = index.recording
    for event in sources.events.of(EventKind.PACKED):
        place, lost = event.detail.get("place"), event.detail.get("lost")
        if not isinstance(place, int) or not 0 <= place < len(recording.spans) or place in told or not lost:
            continue
        if event.detail.get("mixed_up"):
            continue
        told.add(place)
        span, function = recording.spans[place], str(event.detail.get("function", ""))
        returned = HookSource(recording.files[span.file].text, span.line, function).returns[:1] or [(span.line,) * 2]
        lines = [(index.line(span.file, first), index.line(span.file, last)) for first, last in returned]
        causes = [sources.cause_of_line("saved", span.file, *one, function) for one in lines]
        name, bad = "a lambda" if function == "<lambda>" else function, event.detail.get("bad")
        off = event.detail.get("off") or 0.0
        far = f"{bad} had become infinite or NaN" if bad else f"they were off by up to {off:.0%} of their size"
        yield sources.finding(
            f"Line {lines[0][0]}: {name}, which packs saved tensors, does not keep their values: {lost} of the "
            f"{event.detail.get('compared')} that were compared came back with others",
            why=f"{far}, and backward computes gradients with what comes back",
            op=min(event.op, index.op_count - 1),
            tensors=[],
            causes=causes,
            evidence=[Evidence("events", event.row)],
            advice="Pack what can be unpacked: move it elsewhere, or keep a scale for each tensor beside fewer bits.",
        )

    if not told:
        yield from _of_indices(sources)


def _of_indices(sources: Sources) -> Iterator[Finding]:
    """One finding for a pack function that, by its text, casts whole numbers by which a gradient finds its rows.

    Their values were not compared: what is told is how many rows there are, and how many numbers the dtype keeps.
    """
    index, found = sources.index, rounded_indices(sources.index, sources.passes)
    if found is None:
        return
    cast, row_of = found.cast, {"EmbeddingBackward0": "row", "NllLossBackward0": "class"}[found.kind]
    line, end_line = index.line(found.file, cast.line), index.line(found.file, cast.end_line)
    name = "a lambda" if cast.function == "<lambda>" else cast.function
    yield sources.finding(
        f"Line {line}: {name}, which packs saved tensors, casts all that it is given to {cast.dtype}, integers too",
        why=f"{cast.dtype} keeps all of those up to {cast.exact} only; backward finds each {row_of} by a saved one, "
        f"and there are {found.rows:,}",
        op=found.op,
        tensors=[found.tensor],
        causes=[sources.cause_of_line("saved", found.file, line, end_line, cast.function)],
        evidence=[Evidence("nodes", found.node)],
        advice="Cast what is_floating_point() alone, and give the rest back as it is.",
    )


DIAGNOSIS = Diagnosis(
    code="packed-values-lost",
    title="saved tensors that a pack hook changes",
    severity="warning",
    explanation=Explanation(
        meaning="""What a pack function that is given to saved_tensors_hooks gave for a saved tensor was unpacked to
            other values: some of them were compared, and were off by three tenths of their size or more, or infinite.
            What float16, bfloat16, or eight or four bits with a scale lose is less. Or its text casts all that it is
            given to float16 or bfloat16, also the indices of an embedding, or the targets of a loss, of more rows or
            classes than that tells apart.""",
        reason="""Autograd computes gradients with what unpack returns, and does not compare it. Rounding, integers
            without a scale, a range that a dtype does not have, all change gradients, and nothing raises.""",
        remedy="""Return something from which unpack makes the same tensor (on another device, on disk), or divide by a
            scale before rounding and keep it: (scale, (tensor / scale).round().to(torch.int8)).""",
    ),
    example=Example(
        shows="""\
import torch

def pack(tensor):
    return tensor.to(torch.int8)
def unpack(packed):
    return packed.float()
w = torch.rand(64, requires_grad=True)
with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
    loss = (w * w).sum()
loss.backward()
""",
        instead_of="return tensor.to(torch.int8)",
        silent="return tensor.half()",
    ),
    find=_find,
)
