"""A pack function of saved-tensor hooks that puts a saved tensor where another one still waits to be taken out."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import CauseRole, Evidence
from gradscope.frames.called_by_torch.pack_writes import pack_write
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    index, told = sources.index, set[int]()
    recording = index.recording
    for event in sources.events.of(EventKind.PACKED):
        place, mixed_up = event.detail.get("place"), event.detail.get("mixed_up")
        if not isinstance(place, int) or not 0 <= place < len(recording.spans) or place in told or not mixed_up:
            continue
        told.add(place)
        span, function = recording.spans[place], str(event.detail.get("function", ""))
        write = pack_write(recording.files[span.file].text, span.line, function)
        roles: tuple[CauseRole, CauseRole] = ("write", "made")
        lines = [write.puts] if write.key is None else [write.puts, write.key]
        causes = [
            sources.cause_of_line(role, span.file, index.line(span.file, first), index.line(span.file, last), function)
            for role, (first, last) in zip(roles, lines, strict=False)
        ]
        name = "a lambda" if function == "<lambda>" else function
        yield sources.finding(
            f"Line {causes[0].line}: {name}, which packs saved tensors, puts one where another one still waits for "
            "backward",
            why=f"what came back for {mixed_up} of {event.detail.get('packed')} was another one's, and their gradients "
            "are computed with that",
            op=min(event.op, index.op_count - 1),
            tensors=[],
            causes=causes,
            evidence=[Evidence("events", event.row)],
            advice="Give each saved tensor a place of its own until it is unpacked.",
        )


DIAGNOSIS = Diagnosis(
    code="packed-mixed-up",
    title="saved tensors that are mixed up by a pack hook",
    severity="warning",
    explanation=Explanation(
        meaning="""A pack function that is given to saved_tensors_hooks put saved tensors into one buffer, or under one
            key, before the first of them was unpacked: for several of them the same values came back.""",
        reason="""A tensor is saved by every operation that needs it for backward, and unpacked in the reverse order.
            Shape, dtype, data_ptr or id do not tell saved tensors apart: several have the same shape, and an address
            or id is used again once a tensor is gone. Behind hooks autograd does not see that memory was written.""",
        remedy="""A buffer or key of its own for each saved tensor: a counter in the key, or no store at all, as pack
            may return the packed tensor itself.""",
    ),
    example=Example(
        shows="""\
import torch

buffer = torch.empty(3)
def pack(tensor):
    return buffer.copy_(tensor.detach())
def unpack(packed):
    return packed
w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
    loss = w.sin().exp().sum()
loss.backward()
""",
        instead_of="return buffer.copy_(tensor.detach())",
        silent="return tensor.detach().clone()",
    ),
    find=_find,
)
