"""A ``backward`` that is written on a module: autograd does not know of it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.places_of_modules import places_of_modules
from gradscope.frames.modules.module_backwards import ModuleBackward, module_backwards


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each class that is made use of, where a backward pass ran."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        for one in module_backwards(file.text) if file.is_user else ():
            if places_of_modules(index, one.name):
                yield _finding(sources, number, one)


def _finding(sources: Sources, file: int, one: ModuleBackward) -> Finding:
    line = sources.index.line(file, one.line)
    return sources.finding(
        f"Line {line}: {one.name}.backward is never called",
        why=f"{one.name} is a module, and autograd calls the backward of a torch.autograd.Function alone: the gradient "
        "is that of what forward computes",
        op=max(sources.gradients.roots),
        tensors=[],
        causes=[sources.cause_of_line("made", file, one.line, one.end_line, f"{one.name}.backward")],
        advice=f"Make it a torch.autograd.Function with static methods, and return its apply in {one.name}.forward.",
    )


DIAGNOSIS = Diagnosis(
    code="backward-of-module",
    title="a backward that is written on a module, and that autograd never calls",
    severity="warning",
    explanation=Explanation(
        meaning="""A class of modules has a method backward that takes a gradient, as the backward of a custom Function
            does. A module of it was made, backward passes ran, and no line of the file calls the method.""",
        reason="""Autograd follows what forward computed. Only a torch.autograd.Function has a backward of its own in
            the graph; a method of a module that has that name is a method like any other. Nothing fails: a layer that
            was to reverse or scale the gradient passes it on as it is.""",
        remedy="""class Reversal(torch.autograd.Function) with static forward(ctx, x) and backward(ctx, grad), and in
            the module's forward: return Reversal.apply(x). A hook on the tensor does as well:
            x.register_hook(lambda grad: -grad).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn


class Reversal(nn.Module):
    def forward(self, x):
        return x * 1

    def backward(self, grad_output):
        return -grad_output


w = torch.ones(3, requires_grad=True)
Reversal()(w).sum().backward()
""",
        instead_of="def backward(self, grad_output):",
        silent="def reversed_gradient(self, grad_output):",
    ),
    find=_find,
)
