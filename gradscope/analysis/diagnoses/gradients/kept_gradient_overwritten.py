"""A custom Function whose backward keeps a gradient itself, and overwrites that of an earlier call."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.overwritten_grads import overwritten_grads
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that sets the gradient of a layer of which one pass came through several calls."""
    files = sources.index.recording.files
    for name, written in sources.functions.of_name.items():
        for found in overwritten_grads(written, files[written.file].text):
            leaf, nodes = _calls_of_one(sources, name)
            if len(nodes) < 2:
                continue
            yield sources.finding(
                f"Line {found.lines.line}: the backward of {written.name} sets {found.target} each time that it runs",
                why=f"one pass came through {len(nodes)} calls of it with {sources.names.of(leaf)}, so that the "
                "gradient of one call replaces that of the others",
                op=sources.passes.first_walked_at[nodes[0]],
                tensors=[leaf],
                causes=sources.causes_at("write", [found.lines]),
                evidence=[Evidence("nodes", node) for node in nodes[:8]],
                advice="Add to it where there is one, and clear it after the update.",
            )


def _calls_of_one(sources: Sources, name: str) -> tuple[int, list[int]]:
    """A parameter with which a Function was called several times, and the nodes of these calls that one pass walked.

    A number that all layers share tells nothing of the layer: only what has several elements does.
    """
    index, recording, walked = sources.index, sources.index.recording, sources.passes.first_walked_at
    names, variable = recording.nodes.column("name"), recording.nodes.column("variable")
    flags = recording.tensors.column("flags")
    calls: dict[tuple[int, int], list[int]] = {}
    for node, text in enumerate(names):
        if walked[node] < 0 or recording.text(text) != name:
            continue
        given = {variable[after] for after in index.edges.of(node) if after >= 0} - {NONE}
        for leaf in given:
            if flags[leaf] & PARAMETER and _has_several_elements(sources, leaf):
                calls.setdefault((walked[node], leaf), []).append(node)
    several = [(leaf, nodes) for (_, leaf), nodes in calls.items() if len(nodes) > 1]
    return several[-1] if several else (NONE, [])


def _has_several_elements(sources: Sources, tensor: int) -> bool:
    recording = sources.index.recording
    shape = recording.text(recording.layouts[recording.tensors.column("layout")[tensor]].shape)
    return shape not in ("()", "(1,)", "(0,)", "(1, 1)")


DIAGNOSIS = Diagnosis(
    code="kept-gradient-overwritten",
    title="a Function's backward overwrites the gradient that it keeps itself",
    severity="warning",
    explanation=Explanation(
        meaning="""The backward of a custom autograd.Function puts a gradient on an object that its ctx holds, by a
            plain assignment (ctx.store.grad = …, weight.main_grad = …). One backward pass came through several calls
            of the Function with the same parameter.""",
        reason="""Autograd adds up the gradients of all uses of a leaf in .grad. What backward keeps itself it has to
            add up itself: backward runs once for each call, and an assignment leaves the gradient of the last one.""",
        remedy="""store.grad = g if store.grad is None else store.grad + g, and set it to None after the update.""",
    ),
    example=Example(
        shows="""\
import torch


class Stored(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, bias, store):
        ctx.store = store
        ctx.save_for_backward(x)
        return x @ store.weight + bias

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        ctx.store.grad = x.t() @ grad
        return grad @ ctx.store.weight.t(), grad.sum(0), None


class Store:
    weight, grad = torch.rand(3, 3), torch.zeros(3, 3)


bias, store = torch.nn.Parameter(torch.zeros(3)), Store()
hidden = Stored.apply(torch.rand(2, 3), bias, store)
Stored.apply(hidden, bias, store).sum().backward()
store.weight -= 0.1 * store.grad
""",
        instead_of="ctx.store.grad = x.t() @ grad",
        silent="ctx.store.grad = ctx.store.grad + x.t() @ grad",
    ),
    find=_find,
)
