"""A function that writes in place what it is given, though its caller reads that beside what it gave back."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sharing.out_of_place import a_new_tensor
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.arguments_gone_on_with import arguments_gone_on_with
from gradscope.analysis.facts.memory_writes.perturbed_arguments import PerturbedArgument, perturbed_arguments
from gradscope.analysis.facts.memory_writes.written_arguments import WrittenArgument, written_arguments
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that writes."""
    index = sources.index
    by_statement: dict[int, WrittenArgument] = {}
    for written in written_arguments(index, sources.bindings_of):
        by_statement.setdefault(index.op_statement[written.written], written)
    for statement, written in by_statement.items():
        place = index.place(statement)
        yield sources.finding(
            f"Line {place.line}: {index.call_name(written.written)} writes in place what {place.function} is given, "
            f"and its caller then reads {written.name} beside the result, as if it were as before",
            why=f"what {place.function} was given and what the caller compares with it are one tensor, or the one "
            "has the changes of the other",
            op=written.written,
            tensors=[written.tensor],
            causes=sources.cause("write", written.written),
            evidence=[Evidence("spans", written.span)],
            advice=f"Compute {a_new_tensor(index, written.written)}, or hand the function x.clone().",
        )
    for later in arguments_gone_on_with(index, sources.passes, sources.bindings_of):
        if index.op_statement[later.written] not in by_statement:
            yield _of_later(sources, later)
    for moved in perturbed_arguments(index, sources.lives, sources.sharing):
        yield _of_attack(sources, moved)


def _of_later(sources: Sources, later: WrittenArgument) -> Finding:
    """What a caller goes on with after the function has given it back under another name, or into another call."""
    index = sources.index
    place, read = index.op_place(later.written), index.span_line(later.span)
    call = index.call_name(later.written)
    return sources.finding(
        f"Line {index.op_line(later.written)}: {call} writes in place what {place.function} is given, and its caller, "
        f"which uses the result, goes on with {later.name} at line {read}: it has the changes by then",
        op=later.written,
        tensors=[later.tensor],
        causes=[*sources.cause("write", later.written), *sources.cause_of_span("used", later.span)],
        evidence=[Evidence("spans", later.span)],
        advice=f"Compute {a_new_tensor(index, later.written)}, or hand the function {later.name}.clone().",
    )


def _of_attack(sources: Sources, moved: PerturbedArgument) -> Finding:
    """Data that an attack moved along its gradient, and that the next round begins from."""
    index = sources.index
    base = sources.sharing.base_of(moved.source)
    data = sources.names.at(base if base >= 0 else moved.source, moved.op)
    function = index.op_place(moved.op).function
    return sources.finding(
        f"Line {index.op_line(moved.op)}: {index.call_name(moved.op)} copies nothing, and line "
        f"{index.op_line(moved.written)} ({index.call_name(moved.written)}) moves the memory of {data}, which "
        f"{function} was given, along a gradient",
        why=f"the line found there what earlier runs had left ({moved.runs:,} times)",
        op=moved.op,
        tensors=[moved.source],
        causes=[*sources.cause("made", moved.op), *sources.cause("write", moved.written)],
        evidence=[Evidence("ops", moved.written)],
        advice="Begin from a copy: x.detach().clone().",
    )


DIAGNOSIS = Diagnosis(
    code="argument-written",
    title="a function that changes what its caller goes on to use",
    severity="warning",
    explanation=Explanation(
        meaning="""A function wrote in place into a tensor that it was given. Its caller gave the result another name,
            and a later call reads both: two views of one batch, or a result and what it is compared with. Or it used
            the result, and a term of the loss was computed later from what it had handed over. Or an attack
            moved the data that it was given along a gradient, through detach(), and was given it again.""",
        reason="""An argument is no copy: x += noise inside a function changes the caller's x. Two results of such a
            function are one tensor, and what was to stay as it was is changed with them.""",
        remedy="""Compute a new tensor in the function: x = x + noise instead of x += noise or x.add_(noise). Or hand
            it x.clone().""",
    ),
    example=Example(
        shows="""\
import torch

def jitter(x):
    x += torch.randn(3)
    return x
x = torch.ones(3)
a = jitter(x)
b = jitter(x)
print(torch.dist(a, b))
""",
        instead_of="x += torch.randn(3)",
        silent="x = x + torch.randn(3)",
    ),
    find=_find,
)
