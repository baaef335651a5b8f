"""requires_grad was to be set where it cannot be: on integers, or changed on a result."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause, Severity
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_INTEGERS = re.compile(r"[Oo]nly Tensors of floating point")
_OF_RESULT = "you can only change requires_grad flags of leaf variables"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    raised = sources.raised("nly Tensors of floating point", _OF_RESULT)
    last = {index.op_statement[op]: (op, message, severity) for op, message, severity in raised}
    for op, message, severity in last.values():
        if _OF_RESULT in message:
            yield _of_result(sources, op, severity)
        else:
            tensor = next(iter(index.uses.of(op)), NONE)
            yield _of_integers(sources, op, tensor, index.op_line(op), [], severity)
    if not last and _INTEGERS.search(index.recording.info.outcome.message):
        yield from _where_it_ended(sources)


def _of_integers(
    sources: Sources, op: int, tensor: int, line: int, at: list[Cause], severity: Severity | None
) -> Finding:
    made = sources.made_at(tensor) if tensor >= 0 else []
    name = f"{sources.names.at(tensor, op)} ({sources.made(tensor)})" if tensor >= 0 else "a tensor"
    return sources.finding(
        f"Line {line}: {name} cannot require grad, since its elements are no floating point numbers",
        op=op,
        tensors=[tensor] if tensor >= 0 else [],
        causes=[*made, *(at or sources.cause("set", op))],
        advice="Make it of floats (1.0, dtype=torch.float32) where it is to be trained; leave requires_grad out for "
        "indices and labels.",
        severity=severity,
    )


def _where_it_ended(sources: Sources) -> Iterator[Finding]:
    """``nn.Parameter(index)`` is no call of a torch function: where the error ended the program, its line is known."""
    index, outcome = sources.index, sources.index.recording.info.outcome
    if outcome.file < 0 or outcome.line <= 0 or not index.op_count:
        return
    at = sources.cause_of_line("set", outcome.file, outcome.line, outcome.line, "")
    tensors, last = index.recording.tensors, index.op_count - 1
    words = set(re.findall(r"\w+", at.source))
    flags, layouts = tensors.column("flags"), tensors.column("layout")
    given = [
        tensor
        for tensor in index.tensors_made(last)
        if not flags[tensor] & EXTERNAL
        and _is_integer(index.recording.text(index.recording.layouts[layouts[tensor]].dtype))
        and (sources.names.of(tensor) in words or index.op_line(last) == outcome.line)
    ]
    yield _of_integers(sources, last, given[0] if given else NONE, at.line, [at], None)


def _is_integer(dtype: str) -> bool:
    return dtype.startswith(("int", "uint", "bool"))


def _of_result(sources: Sources, op: int, severity: Severity | None) -> Finding:
    index, tensor = sources.index, sources.index.uses.of(op)[0]
    return sources.finding(
        f"Line {index.op_line(op)}: requires_grad of {sources.names.at(tensor, op)} cannot be changed, since it is a "
        f"result ({sources.made(tensor)}) and no leaf",
        op=op,
        tensors=[tensor],
        causes=[*sources.cause("set", op), *sources.made_at(tensor)],
        advice="For a tensor without its history use detach(); to freeze what it was made from, set it on those.",
        severity=severity,
    )


DIAGNOSIS = Diagnosis(
    code="cannot-require-grad",
    title="requires_grad was set where torch does not let it be",
    severity="problem",
    explanation=Explanation(
        meaning="""Setting requires_grad raised: the tensor holds integers or truth values, or it is a result of an
            operation and requires_grad was to be switched off on it.""",
        reason="""A derivative needs numbers that can change a little: torch.tensor([1, 2]) and torch.arange(3) hold
            integers. And whether a result requires grad is not set but follows from what it was made from.""",
        remedy="""Write floats (torch.tensor([1.0, 2.0])) for what is trained. For a result without history use
            detach(); to freeze a part of a model, set requires_grad on its parameters.""",
    ),
    example=Example(
        shows="""\
import torch

start = torch.tensor([1, 2, 3], requires_grad=True)
""",
        instead_of="start = torch.tensor([1, 2, 3], requires_grad=True)",
        silent="start = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)",
    ),
    find=_find,
)
