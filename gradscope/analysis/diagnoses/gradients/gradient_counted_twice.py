"""A custom Function whose backward fills a leaf's ``.grad`` itself and returns the gradient as well.

By a backward pass of its own, or by a statement that adds to ``.grad``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.added_grads import AddedGrad, added_grads
from gradscope.analysis.facts.derivatives.function_sources import Lines, ReturnedGrad, WrittenBackward
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


def _find_added(sources: Sources) -> Iterator[Finding]:
    """Where backward itself adds to ``.grad`` of a leaf what it then returns for it."""
    recording, passes = sources.index.recording, sources.passes
    known = {name: added_grads(one) for name, one in sources.functions.of_name.items()}
    doubling = {name: several for name, several in known.items() if several}
    if not doubling:
        return
    given = {(row.op, row.tensor): row.outcome for row in recording.gradients if row.outcome in _GIVEN}
    found: dict[AddedGrad, dict[int, tuple[int, int]]] = {}
    for node, name in enumerate(recording.nodes.column("name")):
        op = passes.last_walked_at[node]
        for added in doubling.get(recording.text(name), ()):
            leaf = _leaf_at(sources, node, added.returned)
            outcome = given.get((op, leaf))
            if outcome == GradOutcome.ACCUMULATED or (outcome is not None and not added.finds_one):
                found.setdefault(added, {})[leaf] = (op, node)
    said: set[tuple[str, Lines]] = set()
    for added, leaves in found.items():
        where = (added.lines.function.rpartition(".")[0], added.returned.lines)
        if where not in said:
            said.add(where)
            yield _finding_added(sources, added, leaves)


def _finding_added(sources: Sources, added: AddedGrad, leaves: dict[int, tuple[int, int]]) -> Finding:
    op = max(op for op, _ in leaves.values())
    shown = sources.listed([sources.names.at(leaf, op) for leaf in leaves])
    function = added.lines.function.rpartition(".")[0]
    lines = (added.lines, added.returned.lines)
    return sources.finding(
        f"Line {added.lines.line}: the backward of {function} adds the gradient of {shown} to .grad itself and returns "
        f"it at line {added.returned.lines.line} as well",
        why="autograd adds what it returns once more",
        op=op,
        tensors=list(leaves),
        causes=sources.causes_at("returned", lines),
        evidence=[Evidence("nodes", node) for _, node in leaves.values()],
        advice="Return it and leave .grad as it is.",
    )


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
            tensor that it had saved; or it adds a gradient to .grad of such a tensor and returns the same gradient for
            it. By what was recorded, that tensor is the leaf itself, not a copy of it.""",
        reason="""The pass within, or the addition, puts the gradient into .grad of the leaf. What the Function returns
            for it is then added to the same .grad by the pass around it: the gradient is doubled.""",
        remedy="""Call torch.autograd.grad within backward, which leaves .grad as it is, and return what it gives.
            Or compute with weight.detach().requires_grad_() and return the .grad of that copy. Where backward adds to
            .grad itself, it is to return None for that argument.""",
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
    find=lambda sources: chain(_find(sources), _find_added(sources)),
)
