"""``element 0 of tensors does not require grad``: where the graph was cut."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed


def _find(sources: Sources) -> Iterator[Finding]:
    index, names = sources.index, sources.names
    for op in sources.gradients.untracked_roots:
        root = sources.gradients.roots[op][0]
        cuts = sources.gradients.cuts_behind(op)
        where = listed(list(dict.fromkeys(map(sources.cuts.where, cuts))))
        untracked = f"nothing that it was made from requires grad; it was {sources.made(root)}"
        yield sources.finding(
            f"Line {index.op_line(op)}: backward failed, since {names.at(root, op)} does not require grad",
            why=f"the graph was cut at {where}" if cuts else untracked,
            op=cuts[0] if cuts else op,
            tensors=[root],
            causes=sources.cut_causes(cuts) or sources.made_at(root),
            evidence=[Evidence("ops", one) for one in (op, *cuts)],
        )


DIAGNOSIS = Diagnosis(
    code="backward-no-grad",
    title="backward() on a tensor that does not require grad",
    severity="problem",
    explanation=Explanation(
        meaning="""backward() (or autograd.grad) was called on a tensor that autograd does not track. torch raises
            "element 0 of tensors does not require grad and does not have a grad_fn".""",
        reason="""A result requires grad only if grad mode was on and one of its inputs required grad. Between the
            parameters and the loss something broke that chain: detach(), .data, a no_grad block, .item() or
            numpy, torch.tensor() around a tensor, a comparison, argmax or integer cast. Setting requires_grad on
            the loss silences the error and trains nothing.""",
        remedy="""Change the line that cut the graph: compute with the tensor itself, not with its detached or
            plain value. If nothing before the loss requires grad, set requires_grad=True on the leaves that you
            want to train.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
prediction = (w * 2).detach()
loss = prediction.sum()
loss.backward()
""",
        instead_of="prediction = (w * 2).detach()",
        silent="prediction = w * 2",
    ),
    find=_find,
)
