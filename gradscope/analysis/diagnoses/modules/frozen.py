"""Parameters that did not require grad in backward passes, though they had before."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.gradients import PassGroup
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for all passes with the same parameters."""
    index = sources.index
    alike: dict[tuple[int, ...], list[int]] = {}
    for group in sources.gradients.groups:
        used = _used_for(sources, group)
        frozen = tuple(one for one in group.frozen if one in used and not _is_meant(sources, one))
        if frozen:
            alike.setdefault(frozen, []).append(group.last_op)
    for together, ops in alike.items():
        lines = {index.op_line(op) for op in ops}
        where = f"Line{'s' * (len(lines) > 1)} {numbers(lines)}"
        names = [sources.names.at(tensor, ops[-1]) for tensor in together]
        received = "it received no gradient" if len(names) == 1 else "they received no gradient"
        set_off = _set_off(sources, together, ops[-1])
        yield sources.finding(
            f"{where}: {sources.listed(names)} did not require grad in the backward pass, and {received}",
            op=ops[-1],
            tensors=together,
            causes=[cause for row in set_off for cause in sources.cause("set", index.recording.changes[row].op)],
            evidence=[Evidence("changes", row) for row in set_off],
        )


def _is_meant(sources: Sources, tensor: int) -> bool:
    """Whether a library froze a parameter, or the program writes it from trained ones: an average of theirs."""
    return sources.is_a_librarys_own(tensor) or sources.left_out.is_kept_by_writes(tensor)


def _used_for(sources: Sources, group: PassGroup) -> Collection[int]:
    """What the last pass of a line started from was computed from: a pass of other networks says nothing of these."""
    roots = sources.gradients.roots.get(group.last_op, [])
    return sources.flow.origins_of_all(roots, group.last_op) if group.frozen and roots else group.frozen


def _set_off(sources: Sources, tensors: tuple[int, ...], before: int) -> list[int]:
    """The changes that switched requires_grad off last before a pass."""
    changes = sources.index.recording.changes
    found = []
    for tensor in tensors:
        rows = [row for row in sources.index.changed_ops.get(tensor, ()) if changes[row].op < before]
        if rows and not changes[rows[-1]].after:
            found.append(rows[-1])
    return found


DIAGNOSIS = Diagnosis(
    code="frozen",
    title="parameters that were frozen when backward ran",
    severity="note",
    explanation=Explanation(
        meaning="Parameters that required grad at first did not when a backward pass ran; they got no gradient.",
        reason="""requires_grad_(False) on a leaf (or a module, for all of its parameters) takes it out of every
            graph that is built from then on. Gradients still flow through the operations on it to what comes
            before.""",
        remedy="""Nothing, where freezing is meant. To train them again: requires_grad_(True) before the forward
            pass.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
model[0].requires_grad_(False)
model(torch.ones(2, 4)).sum().backward()
""",
        instead_of="model[0].requires_grad_(False)",
        silent="model[0].requires_grad_(True)",
    ),
    find=_find,
)
