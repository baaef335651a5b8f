"""The default of an argument, which all calls share: what one of them writes or keeps there, the others find."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.self_compared import SelfCompared, self_compared
from gradscope.analysis.facts.modules.shared_defaults import shared_defaults
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.report_model import Evidence
from gradscope.frames.names.given_names import default_arguments
from gradscope.frames.names.one_store import OneStore


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each default that was written in the body of its function, more than once, or by steps."""
    index = sources.index
    recording, made_at = index.recording, index.recording.tensors.column("op")
    written: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        written.setdefault(tensor, []).append(op)
    for tensor, ops in written.items():
        made = index.statements[index.op_statement[made_at[tensor]]] if made_at[tensor] < index.op_count else None
        if made is None or made.file < 0 or len(ops) < 2:
            continue
        default = default_arguments(recording.files[made.file].text, index.op_line(made_at[tensor]))
        if default is None:
            continue
        name, line, end_line, first, last = default
        inside = [op for op in ops if index.statements[index.op_statement[op]].file == made.file]
        inside = [op for op in inside if first <= index.op_line(op) <= last]
        if len(inside) > 1:
            yield sources.finding(
                f"Line {index.line(made.file, line)}: the default of {name} is one tensor for all calls",
                why=f"{index.call_name(inside[-1])} writes it in place, so a call finds what the one before left",
                op=made_at[tensor],
                tensors=[tensor],
                causes=[sources.cause_of_line("made", made.file, line, end_line, "")],
                evidence=[Evidence("ops", op) for op in inside[-1:]],
                advice="Make it in the body, where the argument is None.",
            )
    for shared in shared_defaults(index, sources.lives, sources.names_held):
        step, module = sources.lives.steps[shared.tensors[0]][-1], shared.default
        line = index.line(shared.file, module.line)
        are = "all objects that are made without it have the same parameters"
        if shared.owners is not None:
            are = f"{shared.owners[0]} and {shared.owners[1]} are the same parameters"
        yield sources.finding(
            f"Line {line}: {module.name} is one module, made once: {are}",
            why=f"each {index.call_name(step)} changes {'both' if shared.owners is not None else 'them for all'}",
            op=step,
            tensors=shared.tensors,
            causes=[sources.cause_of_line("made", shared.file, module.line, module.end_line, "")],
            evidence=[Evidence("ops", step)],
            advice="Let the default be None, and make a module for each in __init__.",
        )
    for compared in self_compared(index, sources.passes):
        if compared.has_graph and compared.store is not None and compared.store.default:
            yield _of_one_store(sources, compared, compared.store)


def _of_one_store(sources: Sources, compared: SelfCompared, store: OneStore) -> Finding:
    """A list or dict for all calls, in which what belongs to one takes the place of what belongs to another."""
    index, (one, other) = sources.index, compared.texts
    causes = [sources.cause_of_line("made", compared.file, line, end_line, "") for line, end_line in store.lines]
    return sources.finding(
        f"Line {index.op_line(compared.op)}: {index.call_name(compared.op)} compares {one} with {other}, which are one "
        f"tensor in each of {compared.runs:,} runs, so that it gives zero and no gradient",
        why=f"the default of {store.default} is one object for all calls of {store.function}, made once at "
        f"line {causes[0].line}",
        op=compared.op,
        tensors=[compared.tensor],
        causes=[*causes, *sources.cause("used", compared.op)],
        advice="Let the default be None, and make the object in the body.",
    )


DIAGNOSIS = Diagnosis(
    code="default-argument-written",
    title="a tensor or module as the default of an argument, written by all calls",
    severity="warning",
    explanation=Explanation(
        meaning="""A tensor that was made in the header of a function, as the default of an argument, was written in
            place by the function's body, more than once. Or a module that was made there, or in the body of a class,
            is held by several models, and an optimizer steps it. Or a list or dict that is a default was filled by
            several calls, and a term of a loss compares what it takes from there with itself.""",
        reason="""Python evaluates defaults once, when the def is run. All calls that do not give the argument get
            the same tensor, with what earlier calls wrote there, or the same module: a target network moves with the
            network that it is the target for.""",
        remedy="""Let the default be None, and make the tensor, or the module, in the body: total = torch.zeros(3) if
            total is None.""",
    ),
    example=Example(
        shows="""\
import torch


def scores(rows, total=torch.zeros(3)):
    for row in rows:
        total += row
    return total / len(rows)


print(scores(torch.ones(2, 3)), scores(torch.ones(4, 3)))
""",
        instead_of="total += row",
        silent="total = total + row",
    ),
    find=_find,
)
