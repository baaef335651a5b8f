"""A forward hook that keeps tensors for a backward hook, in calls after which no backward pass comes."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory.kept_without_backward import kept_without_backward
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.sizes import size


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that puts them there."""
    index = sources.index
    for kept in kept_without_backward(index):
        put, count = kept.put, index.kept_with(kept.tensors)
        yield sources.finding(
            f"Line {index.line(kept.file, put.line)}: {put.function} puts {count:,} tensors ({size(kept.nbytes)}) of "
            f"calls without grad mode into {put.store}, and they stay",
            why=f"only {put.taken_by} takes anything out of it, a backward hook, and no backward pass comes of them",
            op=kept.op,
            tensors=kept.tensors[-1:],
            causes=[sources.cause_of_line("saved", kept.file, put.line, put.end_line, put.function)],
            evidence=[Evidence("tensors", one) for one in kept.tensors],
            advice="Put nothing there where torch.is_grad_enabled() is False.",
        )


DIAGNOSIS = Diagnosis(
    code="kept-for-no-backward",
    title="a forward hook that keeps tensors for a backward pass that does not come",
    severity="warning",
    explanation=Explanation(
        meaning="""A function that runs in forward puts tensors into a list, and only a backward hook takes them out.
            What calls under no_grad put there was still there at the end, while that of training had gone.""",
        reason="""Forward hooks run in every call of a module; backward hooks only where a backward pass goes through.
            An evaluation under no_grad is never walked back, so that its tensors pile up, on top of those that the next
            pass of training looks for.""",
        remedy="""if torch.is_grad_enabled(): module.activations.append(inputs[0].detach()); or evaluate in eval() and
            return from the hook where not module.training.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(64, 1)
layer.seen = []
def capture(module, inputs, output):
    if output is not None:
        module.seen.append(inputs[0].detach())
def gradients(module, grad_input, grad_output):
    module.norms = module.seen.pop().norm(dim=1) * grad_output[0].norm(dim=1)
layer.register_forward_hook(capture)
layer.register_full_backward_hook(gradients)
for epoch in range(3):
    for step in range(2):
        layer(torch.randn(8, 64)).sum().backward()
    with torch.no_grad():
        for step in range(2):
            layer(torch.randn(8, 64))
""",
        instead_of="if output is not None:",
        silent="if torch.is_grad_enabled():",
    ),
    find=_find,
)
