"""The backward of a custom Function, as its source has it: gradients written in place, forgotten, or swapped."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.backward_faults import (
    computing,
    forgotten,
    incoming,
    own_factors,
    swapped,
    unpacked_wrongly,
    unused,
    write_to_argument,
    write_to_incoming,
)
from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward
from gradscope.analysis.facts.derivatives.gradients_put_in import gradient_put_in
from gradscope.analysis.facts.graphs.outputs_used import OutputsUsed
from gradscope.analysis.facts.leaf_gradients.shared_gradients import SharedGradients
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers


def _walked(sources: Sources, name: str) -> list[int]:
    """The nodes of a Function that a backward pass came through."""
    recording, walked = sources.index.recording, sources.passes.first_walked_at
    return [
        node
        for node, text in enumerate(recording.nodes.column("name"))
        if recording.text(text) == name and walked[node] >= 0
    ]


def _find_writing(sources: Sources) -> Iterator[Finding]:
    """Those whose write another branch of the graph gets to see."""
    index = sources.index
    for name, written in sources.functions.of_name.items():
        found = write_to_incoming(written)
        if found is None:
            continue
        statement, argument = found
        shared = SharedGradients(index, sources.passes)
        for node in _walked(sources, name):
            sharer = shared.sharer_of(node)
            if sharer is None:
                continue
            other = index.node_tensor[sharer.node]
            shown = sources.names.at(other, sharer.op) if other >= 0 else "its other input"
            line = written.lines_of(statement).line
            yield sources.finding(
                f"Line {line}: {written.name}'s backward writes {argument}, the gradient that it is given, in place",
                why=f"an addition gave the same gradient to {shown}, which gets what was written",
                op=sharer.op,
                tensors=[other] if other >= 0 else [],
                causes=sources.causes_at("write", [written.lines_of(statement)]),
                evidence=[Evidence("nodes", node), Evidence("nodes", sharer.node)],
                advice=f"Compute a new tensor from {argument}, or write into {argument}.clone().",
            )
            break


def _find_forgetting(sources: Sources) -> Iterator[Finding]:
    """Those that are given something else than ones, from nodes behind the loss."""
    for name, written in sources.functions.of_name.items():
        lost = forgotten(written)
        shared = SharedGradients(sources.index, sources.passes) if lost else None
        for one in lost:
            node = next(
                (
                    node
                    for node in _walked(sources, name)
                    if shared is not None
                    and not shared.is_given_ones(node)
                    and _is_asked_for(sources, node, one.position, one.elements)
                ),
                None,
            )
            if node is not None:
                yield _forgotten(sources, written, node, [written.lines_of(part) for part in one.statements])


def _find_unused(sources: Sources) -> Iterator[Finding]:
    """Those of several outputs, all of which lead to a loss, that never name the gradient of one of them."""
    outputs = OutputsUsed(sources.index, sources.passes)
    for name, written in sources.functions.of_name.items():
        never = unused(written)
        nodes = _walked(sources, name) if never and written.returns else []
        node = next((node for node in nodes if outputs.of(node) >= len(incoming(written))), None)
        if node is None:
            continue
        op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
        lines = [written.lines_of(statement) for statement in computing(written)]
        shown = numbers(one.line for one in lines)
        yield sources.finding(
            f"Line{'s' * (len(lines) > 1)} {shown}: {written.name}'s backward computes what it returns without "
            f"{never[0]}, the gradient of one of its outputs",
            why="every output is used for what backward started from, and what is computed from this one has no part "
            "in the gradient",
            op=min(op, sources.index.op_count - 1),
            tensors=[other] if other >= 0 else [],
            causes=sources.causes_at("returned", lines),
            evidence=[Evidence("nodes", node)],
            advice=f"Add what {never[0]} contributes, or mark that output with ctx.mark_non_differentiable.",
        )


def _find_ignoring(sources: Sources) -> Iterator[Finding]:
    yield from _find_forgetting(sources)
    yield from _find_unused(sources)
    yield from _find_putting_in(sources)


def _find_putting_in(sources: Sources) -> Iterator[Finding]:
    """Those that hand a loss on and put in a gradient beside it, where the loss is divided for passes that add up."""
    for name, written in sources.functions.of_name.items():
        nodes = _walked(sources, name)
        found = gradient_put_in(sources.index, sources.passes, sources.lives, written, nodes) if nodes else None
        if found is None:
            continue
        op, other = sources.index.recording.nodes.column("op")[found.node], sources.index.node_tensor[found.node]
        lines, argument = written.lines_of(found.said.statement), incoming(written)[0]
        yield sources.finding(
            f"Line {lines.line}: {written.name}'s backward gives {found.said.argument} a gradient that it computes "
            f"without {argument}, the gradient that it is given",
            why=f"{found.said.loss}, which it hands on, is divided or multiplied by a number before its passes, which "
            f"add up: what is put in for {found.said.argument} is not, and counts in full in each of them",
            op=min(op, sources.index.op_count - 1),
            tensors=[other] if other >= 0 else [],
            causes=sources.causes_at("returned", [lines]),
            evidence=[Evidence("nodes", found.node), Evidence("ops", found.scaled), Evidence("ops", found.passed)],
            advice=f"Multiply it by {argument}.",
        )


def _is_asked_for(sources: Sources, node: int, position: int, elements: int) -> bool:
    """Whether the input at a position required grad, where it is known which one that is."""
    edges = list(sources.index.edges.of(node))
    return len(edges) != elements or edges[position] >= 0


def _forgotten(sources: Sources, written: WrittenBackward, node: int, lines: list[Lines]) -> Finding:
    op = sources.index.recording.nodes.column("op")[node]
    other = sources.index.node_tensor[node]
    argument = incoming(written)[0] if incoming(written) else "the incoming gradient"
    return sources.finding(
        f"Line {lines[-1].line}: {written.name}'s backward returns a gradient that it computes without {argument}, the "
        "gradient that it is given",
        why="by the chain rule the one is a factor of the other, and here it is not 1",
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", lines),
        evidence=[Evidence("nodes", node)],
        advice=f"Multiply by {argument}.",
    )


def _find_swapped(sources: Sources) -> Iterator[Finding]:
    """Of a Function at most one, in which names or a plain product say so."""
    for name, written in sources.functions.of_name.items():
        nodes = _walked(sources, name)
        said = _swapped(written) if nodes else None
        if said is None:
            continue
        statement, text, why, advice = said
        op, other = sources.index.recording.nodes.column("op")[nodes[-1]], sources.index.node_tensor[nodes[-1]]
        yield sources.finding(
            f"Line {written.lines_of(statement).line}: {written.name}'s backward {text}",
            why=why,
            op=min(op, sources.index.op_count - 1),
            tensors=[other] if other >= 0 else [],
            causes=sources.causes_at("returned", [written.lines_of(statement)]),
            evidence=[Evidence("nodes", nodes[-1])],
            advice=advice,
        )


def _swapped(written: WrittenBackward) -> tuple[ast.stmt, str, str, str] | None:
    """The statement, what it does, why that is wrong, and what to do."""
    found = swapped(written)
    if found is not None:
        (first, second), (of_first, of_second) = found.names, found.arguments
        text = f"returns {first} for the argument {of_first}, and {second} for {of_second}"
        why = "gradients are returned in the order in which forward takes its arguments"
        return found.statement, text, why, f"Return {second} before {first}."
    unpacked = unpacked_wrongly(written)
    if unpacked is not None:
        unpacking, names, saved = unpacked
        text = f"takes out as {', '.join(names)} what forward saved as {', '.join(saved)}"
        return unpacking, text, "saved tensors come in the order in which they were saved", ""
    product = own_factors(written)
    if product is not None:
        statement, own, other = product
        text = f"multiplies by {own} itself for the gradient of {own}"
        why = f"forward returns {own} times {other}, whose derivative with respect to {own} is {other}"
        return statement, text, why, f"Multiply by {other}."
    return None


def _find_forward_writes(sources: Sources) -> Iterator[Finding]:
    """Forwards that write a tensor which calls elsewhere take afterwards, while it requires grad."""
    index = sources.index
    spans, columns = index.recording.spans, index.recording.ops.column("span")
    for name, written in sources.functions.of_name.items():
        found = write_to_argument(written)
        if found is None or written.forward is None or not _walked(sources, name):
            continue
        statement, argument = found
        inside = range(written.forward.lineno, (written.forward.end_lineno or written.forward.lineno) + 1)
        for op, tensor, *_ in all_writes(index):
            if op >= index.op_count or columns[op] < 0 or not index.requires_grad(tensor, op):
                continue
            place = spans[columns[op]]
            if place.file != written.file or not statement.lineno <= place.line <= (statement.end_lineno or 0):
                continue
            later = [
                use
                for use in index.users.of(tensor)
                if use > op and columns[use] >= 0 and spans[columns[use]].line not in inside
            ]
            if later:
                yield _forward_writes(sources, written, statement, argument, tensor, later[0])
                break


def _forward_writes(
    sources: Sources, written: WrittenBackward, statement: ast.stmt, argument: str, tensor: int, later: int
) -> Finding:
    shown, line = sources.names.at(tensor, later), written.lines_of(statement).line
    return sources.finding(
        f"Line {line}: {written.name}'s forward writes its argument {argument} in place, without ctx.mark_dirty",
        why=f"autograd goes on with {shown} as it was made, though its values are others",
        op=later,
        tensors=[tensor],
        causes=sources.causes_at("write", [written.lines_of(statement)]),
        evidence=[Evidence("ops", later)],
        advice=f"Compute a new tensor from {argument}, or call ctx.mark_dirty({argument}) and return it.",
    )


_FUNCTION = """\
import torch


class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        grad_a = {of_a}
        grad_b = grad * a
        return grad_a, grad_b


x, y = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
Product.apply(x, y).pow(2).sum().backward()
"""

DIAGNOSES = (
    Diagnosis(
        code="backward-writes-incoming",
        title="a Function's backward writes the gradient that it is given",
        severity="warning",
        explanation=Explanation(
            meaning="""The backward of a custom Function writes its argument in place: by an index, an operator like
                *=, or a method that ends in an underscore. Its result was added to another one, whose branch of the
                graph is given the very same tensor, after the write.""",
            reason="""The backward of an addition makes no copies: it hands one gradient on to both inputs. torch asks
                a backward not to modify its arguments, and does not check.""",
            remedy="""Compute a new tensor: grad * mask, grad.masked_fill(mask, 0), grad.clone() before an index.""",
        ),
        example=Example(
            shows="""\
import torch


class Shrink(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.abs() < 0.5)
        return x * (x.abs() >= 0.5)

    @staticmethod
    def backward(ctx, grad):
        (small,) = ctx.saved_tensors
        grad[small] = 0
        return grad


w = torch.linspace(-1, 1, 5, requires_grad=True)
skip = w * 2
(skip + Shrink.apply(w * 1)).pow(2).sum().backward()
""",
            instead_of="grad[small] = 0",
            silent="grad = grad.masked_fill(small, 0)",
        ),
        find=_find_writing,
    ),
    Diagnosis(
        code="backward-ignores-incoming",
        title="a Function's backward does not use the gradient that it is given",
        severity="warning",
        explanation=Explanation(
            meaning="""By its source the backward of a custom Function computes a gradient without its argument, and the
                Function was not the last step of the loss: what it is given is not 1. Or, of the gradients of several
                outputs that are all used, it never names one. Or forward hands a loss on as it is, backward puts in a
                gradient for another argument beside it, and the loss is divided behind it, in passes that add up.""",
            reason="""A backward is given the gradient of the loss with respect to its output, and returns that with
                respect to its inputs: by the chain rule the derivative of forward times what it is given. Without that
                factor the gradient is the same whatever the loss is.""",
            remedy="""Multiply by the argument: return grad_output * derivative.""",
        ),
        example=Example(
            shows=_FUNCTION.format(of_a="b * 1.0"),
            instead_of="grad_a = b * 1.0",
            silent="grad_a = grad * b",
        ),
        find=_find_ignoring,
    ),
    Diagnosis(
        code="backward-returns-swapped",
        title="a Function's backward returns two gradients in each other's place",
        severity="warning",
        explanation=Explanation(
            meaning="""The backward of a custom Function returns what it calls the gradient of one argument in the
                place of another argument, or takes saved tensors out under each other's names; so say the names in its
                source. Or it gives a factor of a plain product its own values in place of the other factor's.""",
            reason="""Gradients are matched to arguments of forward by their order alone. Where the shapes agree,
                nothing fails, and each input gets the other's gradient.""",
            remedy="""Return the gradients in the order of forward's arguments.""",
        ),
        example=Example(
            shows=_FUNCTION.format(of_a="grad * b").replace("return grad_a, grad_b", "return grad_b, grad_a"),
            instead_of="return grad_b, grad_a",
            silent="return grad_a, grad_b",
        ),
        find=_find_swapped,
    ),
    Diagnosis(
        code="forward-writes-argument",
        title="a Function's forward writes its argument behind autograd's back",
        severity="warning",
        explanation=Explanation(
            meaning="""The forward of a custom Function writes one of its arguments in place without ctx.mark_dirty. The
                tensor requires grad, and calls elsewhere took it afterwards.""",
            reason="""Within forward autograd is off: what it writes is not tracked. Outside, the tensor has new values
                and its old history, so that gradients of later uses are those of what it was before.""",
            remedy="""Compute a new tensor, or tell autograd with ctx.mark_dirty(x) and return x.""",
        ),
        example=Example(
            shows="""\
import torch


class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.clamp_(-1, 1)
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return grad


w = torch.linspace(-2, 2, 5, requires_grad=True)
h = w * 2
(Clip.apply(h) + h).sum().backward()
""",
            instead_of="x.clamp_(-1, 1)",
            silent="x = x.clamp(-1, 1)",
        ),
        find=_find_forward_writes,
    ),
)
