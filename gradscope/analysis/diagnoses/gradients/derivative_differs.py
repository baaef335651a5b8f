"""A Function whose backward has another derivative than its forward, as their formulas stand in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.backward_faults import forgotten, own_factors, swapped, unpacked_wrongly
from gradscope.analysis.facts.derivatives.compared_derivatives import ComparedGradient, gradients_apart
from gradscope.analysis.facts.derivatives.drawn_factors import DRAWS, drawing_functions, drawn_factors
from gradscope.analysis.facts.derivatives.factors_left_out import FactorLeftOut, factor_left_out, places_of
from gradscope.analysis.facts.derivatives.function_sources import Lines, WrittenBackward
from gradscope.analysis.facts.derivatives.vjps_of_ones import VjpOfOnes, vjp_of_ones
from gradscope.analysis.facts.losses.clamped_formulas import OtherMask, other_mask
from gradscope.analysis.facts.losses.complex_formulas import without_conjugate
from gradscope.analysis.facts.losses.scalar_formulas import WrongDerivative, wrong_derivatives
from gradscope.analysis.facts.losses.wrong_axes import WrongAxis, wrong_axis
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.syntax_trees import parsed
from gradscope.recording.rows import EventKind

_PRODUCTS = ("Tensor.mul", "Tensor.div", "Tensor.mul_", "Tensor.div_")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each Function that a backward pass came through, and of which nothing plainer is to be said."""
    recording, walked = sources.index.recording, sources.passes.first_walked_at
    last: dict[str, int] = {}
    nodes: dict[str, list[int]] = {}
    for node, name in enumerate(recording.nodes.column("name")):
        if walked[node] >= 0 and recording.text(name) in sources.functions.of_name:
            last[recording.text(name)] = node
            nodes.setdefault(recording.text(name), []).append(node)
    for function, node in last.items():
        written = sources.functions.of_name[function]
        if drawn := _drawn_anew(sources, written):
            yield _of_other_numbers(sources, written, node, drawn)
            continue
        if (of_ones := vjp_of_ones(sources.index, sources.passes, written, nodes[function])) is not None:
            yield _weighted_too_late(sources, written, of_ones)
            continue
        if len(written.returns) != 1 or _is_told(written):
            continue
        if (axis := wrong_axis(sources.index, written, node)) is not None:
            yield _along_the_columns(sources, written, node, axis)
            continue
        if _is_complex(sources, written):
            if lacking := list(without_conjugate(written)):
                yield _without_conjugate(sources, written, node, lacking)
        elif found := list(wrong_derivatives(written)):
            yield _finding(sources, written, node, found)
        elif (mask := other_mask(written)) is not None:
            yield _masked_by_another(sources, written, node, mask)
        else:
            left_out = factor_left_out(written, recording.files[written.file].text)
            if left_out is not None and _is_number(sources, written, left_out):
                yield _without_factor(sources, written, node, left_out)
            elif apart := gradients_apart(sources.events, written, function):
                yield _apart(sources, written, node, apart)


def _apart(sources: Sources, written: WrittenBackward, node: int, apart: list[ComparedGradient]) -> Finding:
    said = [
        f"{_times(one.least, one.most)} what autograd gives for {one.argument} by the calls that forward made"
        for one in apart
    ]
    return _of_lines(
        sources,
        written,
        node,
        list(dict.fromkeys(lines for one in apart for lines in one.lines)),
        f"gives another gradient than that of its forward for {listed([one.argument for one in apart])}",
        why=f"in this run it was {' and '.join(said)}",
        advice="torch.autograd.gradcheck shows it for inputs of float64.",
    )


def _times(least: float, most: float) -> str:
    low, high = f"{least:.3g}", f"{most:.3g}"
    return f"{low} times" if low == high else f"between {low} and {high} times"


def _weighted_too_late(sources: Sources, written: WrittenBackward, found: VjpOfOnes) -> Finding:
    index, product = sources.index, found.written
    op, other = index.recording.nodes.column("op")[found.node], index.node_tensor[found.node]
    lines = [written.lines_of(one) for one in (product.asked, product.product)]
    lines = lines[:1] if lines[0].line == lines[1].line else lines
    asks = "of the sum of its outputs" if product.of_sum else f"with ones in place of {product.incoming}"
    where = index.op_line(found.mixes) if found.mixes >= 0 else index.line(written.file, found.line)
    return sources.finding(
        f"Line {lines[0].line}: {written.name}'s backward asks for the gradient {asks}, and multiplies it by "
        f"{product.incoming} afterwards",
        why=f"that is right element by element, and {found.call} in line {where} mixes the elements of forward's "
        f"input: the derivatives of all its outputs are added before {product.incoming}, which is not the same for "
        "all, weights each",
        op=min(op, index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", lines),
        evidence=[Evidence("nodes", found.node), *([Evidence("ops", found.mixes)] if found.mixes >= 0 else [])],
        advice=f"Ask for it with {product.incoming}, and return that as it is.",
    )


def _masked_by_another(sources: Sources, written: WrittenBackward, node: int, found: OtherMask) -> Finding:
    forward, lines = f"{written.name}.forward", dict[Lines, None]()
    for one in found.compared:
        of_backward = written.definition.lineno <= one.lineno <= (written.definition.end_lineno or 0)
        lines[written.lines_of(one) if of_backward else written.lines_of(one)._replace(function=forward)] = None
    asked = listed(list(dict.fromkeys(ast.unparse(one) for one in found.compared)))
    at = ", ".join(f"{name} = {value:.2f}" for name, value in found.at.items())
    does = (
        "lets a gradient through where forward gives the bound"
        if found.lets_through
        else ("gives no gradient where forward does not clamp")
    )
    return _of_lines(
        sources,
        written,
        node,
        list(lines),
        f"masks the gradient for {listed(list(found.arguments))} by {asked}, and what forward clamps is "
        f"{ast.unparse(found.is_clamped)}",
        why=f"at {at} it {does}",
        advice="Compare the value that is clamped with the bounds.",
    )


def _of_lines(
    sources: Sources, written: WrittenBackward, node: int, lines: list[Lines], does: str, *, why: str, advice: str
) -> Finding:
    """What is said of some lines of a backward, whose node is one that ran."""
    op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
    where = numbers(one.line for one in lines)
    return sources.finding(
        f"Line{'s' * (' and ' in where)} {where}: {written.name}'s backward {does}",
        why=why,
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", lines),
        evidence=[Evidence("nodes", node)],
        advice=advice,
    )


def _is_complex(sources: Sources, written: WrittenBackward) -> bool:
    """Whether all that the calls of forward took and made was complex."""
    index, recording, forward = sources.index, sources.index.recording, written.forward
    if forward is None:
        return False
    body, layouts = range(forward.lineno, (forward.end_lineno or 0) + 1), recording.tensors.column("layout")
    statements = {
        number
        for number, one in enumerate(index.statements)
        if one.file == written.file and one.line in body and one.end_line in body
    }
    ops = [op for op, statement in enumerate(index.op_statement) if statement in statements]
    tensors = {tensor for op in ops for tensor in (*index.uses.of(op), *index.made.of(op))}
    kinds = {recording.text(recording.layouts[layouts[one]].dtype) for one in tensors}
    return bool(kinds) and all(kind.startswith("complex") for kind in kinds)


def _without_conjugate(sources: Sources, written: WrittenBackward, node: int, found: list[tuple[int, str]]) -> Finding:
    computed = [lines for position, _ in found for lines in written.computed_at(position)]
    lines = computed or [written.lines_of(one) for one in written.returns]
    return _of_lines(
        sources,
        written,
        node,
        lines,
        f"lacks a conjugate in what it gives {listed([name for _, name in found])}: its values are complex",
        why="the gradient of a factor of a product is what comes in times the conjugate of the other factor",
        advice="Multiply by conj() of what forward saved.",
    )


def _along_the_columns(sources: Sources, written: WrittenBackward, node: int, found: WrongAxis) -> Finding:
    size = found.size
    return _of_lines(
        sources,
        written,
        node,
        [found.lines],
        f"multiplies {found.saved} ({size} by {size}) by {found.incoming} ({size}), which goes along the columns, and "
        "forward gives one number for each row",
        why=f"{size} rows and as many columns let torch broadcast it: each row gets the gradients of all the others",
        advice=f"Multiply by {found.incoming}[:, None].",
    )


def _drawn_anew(sources: Sources, written: WrittenBackward) -> list[Lines]:
    """Where backward drew a random factor of what comes in, as forward does of what it is given."""
    recording, within = sources.index.recording, f"{written.name}.backward"
    drawn = {
        recording.spans[event.span].line
        for event in sources.events.of(EventKind.RECOMPUTED)
        if event.detail.get("within") == within
        and str(event.detail.get("function")).rpartition(".")[2] in DRAWS
        and event.span >= 0
        and recording.spans[event.span].file == written.file
    }
    tree = parsed(recording.files[written.file].text) if drawn and written.forward is not None else None
    if tree is None or written.forward is None:
        return []
    helpers = drawing_functions(tree)
    statements = drawn_factors(written.definition, helpers) if drawn_factors(written.forward, helpers) else []
    body = range(written.definition.lineno, (written.definition.end_lineno or 0) + 1)
    by_helper = any(line not in body for line in drawn)
    lines = [written.lines_of(one) for one in statements]
    return [one for one in lines if by_helper or any(one.line <= line <= one.end_line for line in drawn)]


def _of_other_numbers(sources: Sources, written: WrittenBackward, node: int, drawn: list[Lines]) -> Finding:
    op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
    where = numbers(one.line for one in drawn)
    return sources.finding(
        f"Line{'s' * (' and ' in where)} {where}: {written.name}'s backward draws a random factor anew: its gradient "
        "belongs to other numbers than those that its forward multiplied by",
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("made", drawn),
        evidence=[Evidence("nodes", node)],
        advice="Keep what forward drew, by ctx.save_for_backward, and use that.",
    )


def _is_number(sources: Sources, written: WrittenBackward, found: FactorLeftOut) -> bool:
    """Whether forward multiplied by a plain number, as it ran: by a call that took one tensor.

    What it multiplied with each other are the arguments whose gradients lack the number, and no mask.
    """
    index, lines = sources.index, range(found.multiplied.lineno, (found.multiplied.end_lineno or 0) + 1)
    spans, taken = index.recording.ops.column("span"), dict[tuple[int, str], int]()
    for op, statement in enumerate(index.op_statement):
        where = index.statements[statement]
        if where.file == written.file and where.line in lines and index.method(op) in _PRODUCTS:
            taken[spans[op], index.method(op)] = len(index.uses.of(op))
    of_two = sum(count > 1 for count in taken.values())
    return 1 in taken.values() and of_two < len(found.positions)


def _without_factor(sources: Sources, written: WrittenBackward, node: int, found: FactorLeftOut) -> Finding:
    lines = list(places_of(written, found))
    op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
    does = "divides by" if found.divides else "multiplies by"
    kept = f"ctx.{found.attribute}"
    return sources.finding(
        f"Line {lines[0].line}: {written.name}'s backward leaves out {found.factor}, which its forward {does}",
        why=f"forward keeps {kept} for the backward, which never reads it",
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", lines),
        evidence=[Evidence("nodes", node)],
        advice=f"{'Divide' if found.divides else 'Multiply'} the gradient by it.",
    )


def _is_told(written: WrittenBackward) -> bool:
    faults = (forgotten(written), swapped(written), unpacked_wrongly(written), own_factors(written))
    return any(faults)


def _finding(sources: Sources, written: WrittenBackward, node: int, found: list[WrongDerivative]) -> Finding:
    computed = [lines for one in found for lines in written.computed_at(one.position)]
    returned = [written.lines_of(one) for one in written.returns]
    lines = computed or returned
    op, other = sources.index.recording.nodes.column("op")[node], sources.index.node_tensor[node]
    where = numbers(one.line for one in lines)
    said = [
        f"at {', '.join(f'{name} = {value:.2f}' for name, value in one.at.items())} it gives {one.given:.3g} for "
        f"{one.argument}, and forward's formula has the derivative {one.derivative:.3g}"
        for one in found
    ]
    return sources.finding(
        f"Line{'s' * (' and ' in where)} {where}: {written.name}'s backward gives another derivative than that of its "
        f"forward for {listed([one.argument for one in found])}",
        why="; ".join(said),
        op=min(op, sources.index.op_count - 1),
        tensors=[other] if other >= 0 else [],
        causes=sources.causes_at("returned", [*computed, *returned]),
        evidence=[Evidence("nodes", node)],
        advice="torch.autograd.gradcheck shows it for inputs of float64.",
    )


DIAGNOSIS = Diagnosis(
    code="backward-differs-from-forward",
    title="a Function's backward has another derivative than its forward",
    severity="warning",
    explanation=Explanation(
        meaning="""Forward and backward of a custom Function are formulas of single elements in its source. Evaluated
            at a few numbers, the gradient that backward gives is not the derivative of forward. The program itself
            was not run again. Or forward multiplies by random numbers (a mask), and backward drew others; or it takes
            complex values, and backward lacks the conjugate of a factor. Or forward multiplies by a number that it
            keeps in ctx, and backward never reads that. Or it gives one number for each row of a square matrix, and
            backward multiplies the matrix by their gradients along its columns. Or backward asks for the gradient of
            the sum of all outputs (a vector-Jacobian product with ones) and multiplies that by what comes in, where
            forward mixes the elements of its input. Or forward clamps one value, and backward compares another one
            with the same bounds to tell where the gradient passes. Or the run compared them: the calls that forward
            made were made again on copies of small tensors, once, and autograd's gradient of these is another one.""",
        reason="""autograd takes what a backward returns as it is. A factor that is missing, a sign, the product rule
            with its factors in each other's place have the right shape, and training goes on with wrong
            gradients.""",
        remedy="""Mend the formula, and check it: torch.autograd.gradcheck(Function.apply, inputs of float64). Nothing
            is reported where backward passes on what it is given and nothing was kept for it, where it clips, masks or
            rescales, where forward has steps or branches, detaches what it computed, or takes an argument for the way
            back alone: such a backward is meant to differ.""",
    ),
    example=Example(
        shows="""\
import torch


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad * (s + x * (1 - s))


w = torch.linspace(-1, 1, 5, requires_grad=True)
Swish.apply(w).pow(2).sum().backward()
""",
        instead_of="return grad * (s + x * (1 - s))",
        silent="return grad * (s + x * s * (1 - s))",
    ),
    find=_find,
)
