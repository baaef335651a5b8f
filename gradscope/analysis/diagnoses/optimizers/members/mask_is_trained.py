"""A mask of zeros and ones that an optimizer changes, as it is a parameter."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.trained_masks import TrainedMask, trained_masks
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes such parameters."""
    index, trained = sources.index, sources.events.in_optimizers
    masks = [leaf for leaf in trained if "mask" in sources.names.of(leaf).rpartition(".")[2].lower()]
    found: dict[tuple[int, int], list[TrainedMask]] = {}
    for one in trained_masks(index, trained, masks):
        made = index.made_by(one.leaf)
        found.setdefault((index.op_statement[made] if made >= 0 else -1, index.op_statement[one.used]), []).append(one)
    yield from (_finding(sources, several) for several in found.values())


def _finding(sources: Sources, masks: list[TrainedMask]) -> Finding:
    index, leaves = sources.index, [one.leaf for one in masks]
    names = sources.listed([sources.names.of(leaf) for leaf in leaves])
    optimizer = sources.events.in_optimizers[leaves[0]][0]
    causes = sources.cause("made", index.made_by(leaves[0])) or sources.cause_of_event("made", optimizer)
    held = index.span_line(optimizer.span)
    by = f"the optimizer of line {held}" if held else "an optimizer"
    are = "are parameters that require grad" if len(leaves) > 1 else "is a parameter that requires grad"
    return sources.finding(
        f"Line {causes[0].line if causes else index.op_line(masks[0].used)}: {names} {are}, though the program gave "
        "zeros and ones",
        why=f"{by} steps {'them' if len(leaves) > 1 else 'it'} like a weight, and what was masked comes back "
        f"(line {index.op_line(masks[-1].used)} multiplies with what a step left)",
        op=masks[-1].used,
        tensors=leaves,
        causes=[*causes, *sources.cause_of_event("made", optimizer), *sources.cause("used", masks[-1].used)],
        evidence=[Evidence("ops", one.step) for one in masks],
        advice="Keep a mask as a buffer (register_buffer), or make the parameter with requires_grad=False.",
    )


DIAGNOSIS = Diagnosis(
    code="mask-is-trained",
    title="a mask of zeros and ones that an optimizer changes",
    severity="warning",
    explanation=Explanation(
        meaning="""A parameter was given zeros and ones that a comparison made, as a mask is, and weights are multiplied
            with it. It requires grad, an optimizer holds it, and a step changed it before it was used again.""",
        reason="""nn.Parameter requires grad unless it is told not to, and model.parameters() lists it. The gradient of
            w * mask goes to the mask too: after one step no element of it is 0 or 1 any more.""",
        remedy="""self.register_buffer("mask", …): a buffer is saved with the model, moves with it, and is not trained.
            Or nn.Parameter(…, requires_grad=False).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

weight = nn.Parameter(torch.randn(4, 3))
mask = nn.Parameter((weight.detach().abs() > 0.5).float())
optimizer = torch.optim.SGD([weight, mask], lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    nn.functional.linear(torch.ones(2, 3), weight * mask).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="mask = nn.Parameter((weight.detach().abs() > 0.5).float())",
        silent="mask = nn.Parameter((weight.detach().abs() > 0.5).float(), requires_grad=False)",
    ),
    find=_find,
)
