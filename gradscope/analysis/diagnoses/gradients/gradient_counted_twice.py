"""A custom Function whose backward fills a leaf's ``.grad`` by a pass of its own and returns that ``.grad`` as well."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.function_sources import Lines, ReturnedGrad, WrittenBackward
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.recording import NONE
from gradscope.recording.rows import GradOutcome

_GIVEN = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)


def _find(sources: Sources) -> Iterator[Finding]:
    recording, passes = sources.index.recording, sources.passes
    doubling = {
        name: one for name, one in sources.functions.of_name.items() if one.passes_within and one.returned_grads
    }
    if not doubling:
        return
    given = {(row.op, row.tensor) for row in recording.gradients if row.outcome in _GIVEN}
    last: dict[tuple[str, int], tuple[int, int, Lines]] = {}
    for node, name in enumerate(recording.nodes.column("name")):
        source = doubling.get(recording.text(name))
        op = NONE if source is None else passes.last_walked_at[node]
        for returned in source.returned_grads if source is not None else ():
            leaf = _leaf_at(sources, node, returned)
            if (op, leaf) in given:
                last[recording.text(name), leaf] = (op, node, returned.lines)
    alike: dict[tuple[int, str], list[tuple[int, int, Lines]]] = {}
    for (function, leaf), (op, node, lines) in last.items():
        alike.setdefault((op, function), []).append((leaf, node, lines))
    for (op, function), found in alike.items():
        yield _finding(sources, op, doubling[function], found)


def _leaf_at(sources: Sources, node: int, returned: ReturnedGrad) -> int:
    """The leaf that a Function was given as an argument, or NONE.

    A node has edges for arguments that are tensors alone. Where there were others the argument is one of several, and
    it is known if one leaf alone is among them.
    """
    variable, following = sources.index.recording.nodes.column("variable"), sources.index.edges.values
    start, end = sources.passes.edge_starts[node], sources.passes.edge_starts[node + 1]
    others = returned.arguments - (end - start)
    if others < 0:
        return NONE
    first = max(start, start + returned.position - others)
    behind = [variable[after] for after in following[first : min(end, start + returned.position + 1)] if after >= 0]
    leaves = [leaf for leaf in behind if leaf >= 0]
    return leaves[0] if len(leaves) == 1 else NONE


def _finding(sources: Sources, op: int, source: WrittenBackward, found: list[tuple[int, int, Lines]]) -> Finding:
    leaves = [leaf for leaf, *_ in found]
    within = [source.lines_of(call) for call in source.passes_within]
    lines = numbers(one.line for one in within)
    shown = sources.listed([sources.names.at(leaf, op) for leaf in leaves])
    return sources.finding(
        f"Line {sources.index.op_line(op)}: backward counted the gradient of {shown} twice",
        why=f"{source.name}'s backward returns .grad of the leaf itself at line {found[0][2].line}, which the backward "
        f"within it had added there already at line {lines}",
        op=op,
        tensors=leaves,
        causes=sources.causes_at("backward", within),
        evidence=[Evidence("nodes", node) for _, node, _ in found],
        advice="torch.autograd.grad returns gradients and leaves .grad as it is.",
    )


DIAGNOSIS = Diagnosis(
    code="gradient-counted-twice",
    title="a Function's backward filled .grad and returned it too",
    severity="problem",
    explanation=Explanation(
        meaning="""The backward of a custom Function runs a backward pass of its own, and then returns .grad of a
            tensor that it had saved. By what was recorded, that tensor is the leaf itself, not a copy of it.""",
        reason="""The pass within adds the gradient to .grad of the leaf. What the Function returns for it is then
            added to the same .grad by the pass around it: the gradient is doubled, and in the next pass what had
            gathered there is added once more.""",
        remedy="""Call torch.autograd.grad within backward, which leaves .grad as it is, and return what it gives.
            Or compute with weight.detach().requires_grad_() and return the .grad of that copy.""",
    ),
    example=Example(
        shows="""\
import torch

class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w):
        ctx.save_for_backward(w)
        return w * w

    @staticmethod
    def backward(ctx, grad):
        (w,) = ctx.saved_tensors
        with torch.enable_grad():
            out = w * w
        torch.autograd.backward(out, grad)
        return w.grad

w = torch.ones(3, requires_grad=True)
Product.apply(w).sum().backward()
""",
        instead_of="torch.autograd.backward(out, grad)",
        silent="(of_w,) = torch.autograd.grad(out, w, grad)\nreturn of_w",
    ),
    find=_find,
)
