"""An attribute that torch ignores was set in place of requires_grad."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.report_model import Evidence
from gradscope.frames.without_effect.ignored_attributes import (
    Ignored,
    defines_requires_grad,
    ignored_attributes,
    is_called,
)
from gradscope.frames.without_effect.misspelt_grads import set_in_place_of_grad
from gradscope.recording.flags import GRADIENT, PARAMETER
from gradscope.recording.rows import OpKind


def _find(sources: Sources) -> Iterator[Finding]:
    """Assignments that a file has, in code that ran, which left the parameters they were for as they were."""
    yield from _in_place_of_grad(sources)
    recording = sources.index.recording
    found = [
        (number, one)
        for number, file in enumerate(recording.files)
        if file.is_user
        for one in ignored_attributes(file.text)
    ]
    if not found or any(file.is_user and defines_requires_grad(file.text) for file in recording.files):
        return
    lives = sources.lives
    for file, one in found:
        if _has_run(sources, file, one) and not _sets_a_tensor(sources, file, one):
            yield from _finding(sources, lives, file, one)


def _in_place_of_grad(sources: Sources) -> Iterator[Finding]:
    """Gradients that are computed for an attribute at which no step looks."""
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    steps = index.of_kind(OpKind.STEP)
    for number, file in enumerate(index.recording.files if steps else ()):
        wrong = {line: rest for line, *rest in (set_in_place_of_grad(file.text) if file.is_user else ())}
        for statement, op in index.last_op.items() if wrong else ():
            where = index.statements[statement]
            gradients = [tensor for tensor in index.uses.of(op) if flags[tensor] & GRADIENT]
            if where.file == number and where.line in wrong and gradients:
                attribute, function = wrong[where.line]
                yield sources.finding(
                    f"Line {where.line}: {attribute} is an attribute that torch ignores; steps apply .grad, which "
                    "stays as it is",
                    op=op,
                    tensors=gradients,
                    causes=[sources.cause_of_line("set", number, where.line, where.end_line, function)],
                    evidence=[Evidence("ops", steps[-1])],
                    advice="It is called grad.",
                )


def _has_run(sources: Sources, file: int, one: Ignored) -> bool:
    """Whether a call in the same function was seen, or one further down at the top level.

    What sets an attribute of each parameter, or layer, makes no call that is seen: there it is enough that the text
    calls it (of layers: behind no condition, as the attribute is no word that is always wrong).
    """
    text = sources.index.recording.text
    if is_called(sources.index.recording.files[file].text, one.function, always=one.over != "parameters"):
        return True
    return any(
        where.file == file
        and (
            text(where.function).rpartition(".")[2] == one.function
            if one.function
            else text(where.function) == "<module>" and where.line > one.line
        )
        for where in sources.index.statements
    )


def _sets_a_tensor(sources: Sources, file: int, one: Ignored) -> bool:
    """Whether requires_grad of a tensor was seen to be set at the line: then it is none of a module's."""
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    return any(
        index.statements[statement].file == file and index.statements[statement].line == one.line
        for statement, op in index.last_op.items()
        if kinds[op] == OpKind.SET
    )


def _finding(sources: Sources, lives: GradientLives, file: int, one: Ignored) -> Iterator[Finding]:
    index, flags = sources.index, sources.index.recording.tensors.column("flags")
    end = index.op_count
    meant = [tensor for tensor in range(len(flags)) if flags[tensor] & PARAMETER and _is_meant(sources, one, tensor)]
    if one.value:
        left = [tensor for tensor in meant if not index.requires_grad(tensor, end)]
    else:
        left = [tensor for tensor in meant if tensor in lives.passes and index.requires_grad(tensor, end)]
    if not left or not end:
        return
    owner = "a module" if one.attribute == "requires_grad" else one.owner
    names = sources.listed([sources.names.of(tensor) for tensor in left])
    is_for_all = one.over or one.attribute != "requires_grad"
    what = "parameters still" if is_for_all else f"{names} still"
    state = "do not require grad" if one.value else "require grad and get gradients"
    finding = sources.finding(
        f"Line {sources.index.line(file, one.line)}: {one.attribute} = {one.value} on {owner} is an attribute that "
        f"torch ignores; {what} {state}",
        op=lives.passes[left[0]][-1] if left[0] in lives.passes else end - 1,
        tensors=left,
        causes=[sources.cause_of_line("set", file, one.line, one.end_line, one.function or "<module>")],
        advice=f"Call requires_grad_({one.value}) on the module."
        if one.attribute == "requires_grad"
        else "It is called requires_grad.",
    )
    yield finding


def _is_meant(sources: Sources, one: Ignored, tensor: int) -> bool:
    """Whether a parameter is one that the assignment was for, by its names; any where a loop goes over them."""
    if one.over:
        return True
    owner = one.owner.removeprefix("self.")
    if owner == "self":
        return False
    held = [sources.index.recording.text(row[0]) for row in sources.names_held.get(tensor, ())]
    paths = {name.replace("[", ".").replace("]", "") for name in (sources.names.of(tensor), *held)}
    if any(path.startswith(f"{owner}.") for path in paths):
        return True
    if owner != one.owner and any(f".{owner}." in path for path in paths):  # ``net.body.weight`` for ``self.body``
        return True
    return one.attribute != "requires_grad" and owner in paths


DIAGNOSIS = Diagnosis(
    code="attribute-ignored",
    title="an attribute that torch ignores was set in place of requires_grad",
    severity="warning",
    explanation=Explanation(
        meaning="""The program sets require_grad (or another misspelling) on a parameter, or requires_grad on a module,
            and the parameters that it is for are as they were. Or it puts gradients into grads, where no step
            looks.""",
        reason="""Python lets any attribute be set on a tensor or a module. torch reads requires_grad of tensors only;
            a module has no such attribute, it has the method requires_grad_().""",
        remedy="""module.requires_grad_(False), or p.requires_grad = False for each parameter.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
body.requires_grad = False
head(body(torch.ones(2, 3))).sum().backward()
""",
        instead_of="body.requires_grad = False",
        silent="body.requires_grad_(False)",
    ),
    find=_find,
)
