"""A gradient of several columns at once that is taken for the derivatives of one each."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.summed_columns import SummedColumns, summed_columns
from gradscope.analysis.facts.losses.broadcast_gradients import BroadcastGradient, broadcast_gradients
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.names.given_names import function_around
from gradscope.frames.names.stored_names import assigned_names


def _find(sources: Sources) -> Iterator[Finding]:
    for found in summed_columns(sources.index, sources.passes):
        yield _finding(sources, found)
    for stretched in broadcast_gradients(sources.index):
        yield _of_stretched(sources, stretched)


def _finding(sources: Sources, found: SummedColumns) -> Finding:
    index, names = sources.index, sources.names
    sliced = list(dict.fromkeys(index.op_line(op) for op in found.sliced))
    own = [] if found.is_of_one_too else sources.cause("backward", found.grad)
    taken = [cause for op in found.sliced for cause in sources.cause("used", op)]
    root, given = names.at(found.root, found.grad), _name(sources, found)
    return sources.finding(
        f"Line {index.op_line(found.grad)}: autograd.grad of {root} with ones gives the gradient of the sum of its "
        f"{found.columns} columns, and line{'s' * (len(sliced) > 1)} {numbers(sliced)} "
        f"take{'s' * (len(sliced) == 1)} the columns of {given} apart",
        why=f"each is a derivative of all {found.columns} columns added up, not that of one of them",
        op=found.grad,
        tensors=[found.given, found.root],
        causes=[*own, *_kept(sources, found, given), *taken],
        evidence=[Evidence("ops", op) for op in found.sliced],
        advice="Ask for the gradient of each column by itself: grad(out[:, 0].sum(), x).",
    )


def _of_stretched(sources: Sources, found: BroadcastGradient) -> Finding:
    index, names, last = sources.index, sources.names, found.combined[-1]
    own = [] if found.is_of_one_too else sources.cause("backward", found.grad)
    given, other = names.at(found.given, found.combined[0]), names.at(found.other, last)
    several = names.at(found.columns_of, found.grad)
    lines = list(dict.fromkeys(index.op_line(op) for op in found.combined))
    if len(found.combined) > 1:
        symptom = f"Line{'s' * (len(lines) > 1)} {numbers(lines)}: {given} is set against two columns of {several}"
    else:
        symptom = (
            f"Line {lines[0]}: {index.call_name(last)} sets {given}, one column, against each of the {found.columns} "
            f"columns of {other}"
        )
    return sources.finding(
        symptom,
        why=f"it is the gradient of the sum of the {found.columns} columns of {several}, by autograd.grad at "
        f"line {index.op_line(found.grad)}, not the derivative of each",
        op=found.grad,
        tensors=[found.given, found.columns_of],
        causes=[*own, *(cause for op in found.combined for cause in sources.cause("used", op))],
        evidence=[*(Evidence("ops", op) for op in found.combined), Evidence("tensors", found.other)],
        advice="Ask for the gradient of each column by itself, and put them side by side: "
        "torch.cat([grad(out[..., i].sum(), x, create_graph=True)[0] for i in …], -1).",
    )


def _name(sources: Sources, found: SummedColumns) -> str:
    """What the source calls the gradient where a column is taken; else what it was seen under."""
    source, subscript, rest = sources.index.span_source(found.sliced[0], exact=True).partition("[")
    is_slice = source.replace(".", "").isidentifier() and subscript and rest.endswith("]")
    return source if is_slice else sources.names.at(found.given, found.sliced[0])


def _kept(sources: Sources, found: SummedColumns, name: str) -> list[Cause]:
    """Where the function that takes the columns gave the gradient its name: it may have called the one that asks."""
    index = sources.index
    statement = index.statements[index.op_statement[found.sliced[0]]]
    text = index.recording.files[statement.file].text
    first, _ = function_around(text, statement.line)
    lines = [line for line, stored in assigned_names(text) if stored == name and first <= line < statement.line]
    function = index.recording.text(statement.function)
    return [sources.cause_of_line("used", statement.file, line, line, function) for line in sorted(lines)[-1:]]


DIAGNOSIS = Diagnosis(
    code="gradient-of-summed-columns",
    title="a gradient of several columns at once, taken for that of each",
    severity="warning",
    explanation=Explanation(
        meaning="""autograd.grad was called for a result with several columns, with ones for all of them. The program
            takes columns of that result by themselves, and takes columns of the gradient too; or the gradient has one
            column, and is added to or taken from as many as the result has, or each of several of them.""",
        reason="""grad_outputs=ones_like(out) adds up all elements of out: what comes out is the gradient of that sum.
            Rows do not mix where each is made from its own row of the input; columns do. grad[:, 0] is then
            du/dx + dv/dx for out = (u, v).""",
        remedy="""Ask for the gradient of each column by itself, grad(out[:, 0].sum(), x, create_graph=True), or for
            the Jacobian: torch.func.jacrev under vmap.""",
    ),
    example=Example(
        shows="""\
import torch

net, at = torch.nn.Linear(2, 2), torch.rand(5, 2, requires_grad=True)
flow = net(at)
u, v = flow[:, 0], flow[:, 1]
slopes = torch.autograd.grad(flow, at, torch.ones_like(flow))[0]
divergence = slopes[:, 0] + slopes[:, 1]
""",
        instead_of="slopes = torch.autograd.grad(flow, at, torch.ones_like(flow))[0]",
        silent="slopes = torch.autograd.grad(flow[:, :1], at, torch.ones_like(flow[:, :1]))[0]",
    ),
    find=_find,
)
