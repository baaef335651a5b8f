"""The last step of unpacked sequences, which is padding for all but the longest of them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.padded_last_steps import padded_last_steps
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in padded_last_steps(index, sources.passes):
        yield sources.finding(
            f"Line {index.op_line(found.op)}: {found.source} is the last step of what pad_packed_sequence gave (line "
            f"{index.op_line(found.unpacked)}): padding for each sequence that is shorter than the longest "
            f"({found.steps:,} steps in {found.sequences:,} sequences of up to {found.longest:,})",
            why="what is taken of these is zeros, and no gradient comes back to them",
            op=found.op,
            tensors=[found.tensor],
            causes=sources.cause("used", found.op),
            evidence=[Evidence("ops", found.unpacked)],
            advice="Take the last state that the recurrent layer returns, or index each sequence by its length - 1.",
        )


DIAGNOSIS = Diagnosis(
    code="last-step-is-padding",
    title="the last step of padded sequences of several lengths",
    severity="warning",
    explanation=Explanation(
        meaning="""What pad_packed_sequence gave was indexed with -1 along time, and the shapes tell that some sequences
            are shorter than the longest.""",
        reason="""Unpacking fills the steps behind the end of a sequence with zeros. The last step of the padded tensor
            is the end of the longest sequence alone; for the others it is zeros, whatever the weights.""",
        remedy="""The state that the layer returns beside its output is that at the end of each sequence: h[-1]. Or
            index by lengths: out[torch.arange(len(lengths)), lengths - 1].""",
    ),
    example=Example(
        shows="""\
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

layer, lengths = torch.nn.GRU(2, 3, batch_first=True), torch.tensor([5, 3, 2])
out, h = layer(pack_padded_sequence(torch.rand(3, 5, 2), lengths, batch_first=True))
out, _ = pad_packed_sequence(out, batch_first=True)
last = out[:, -1]
last.sum().backward()
""",
        instead_of="last = out[:, -1]",
        silent="last = h[-1]",
    ),
    find=_find,
)
