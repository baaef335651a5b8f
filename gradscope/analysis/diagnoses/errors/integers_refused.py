"""Arithmetic of floats that torch refused since a tensor holds whole numbers: a counter in a state that is averaged."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Severity
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_KINDS = r"(?:[Ll]ong|U?[Ii]nt|[Ss]hort|[Cc]har|[Bb]yte)"
_WRITES = (
    re.compile(rf"result type (?:Float|Double|Half|BFloat16) can't be cast to the desired output type {_KINDS}"),
    re.compile(r"argument alpha must not be a floating point number"),
    re.compile(rf"\"lerp\w*\" not implemented for '{_KINDS}"),
    re.compile(rf"expected dtype {_KINDS}[\w ]* for `\w+` but got dtype (?:float|double)"),
    re.compile(rf"\"(?:normal|check_uniform|uniform)\w*\" not implemented for '{_KINDS}"),
)
_TAKES = (
    re.compile(rf"could not infer output dtype\. .* Got: {_KINDS}"),
    re.compile(r"std and var only support floating point"),
)
"""Of statistics, which write nothing."""
_FIRST_WORDS = (
    "be cast to the desired output type",
    "argument alpha must not be",
    "not implemented for '",
    "but got dtype",
    "could not infer output dtype",
    "std and var only support",
)
_INTEGERS = ("int", "uint")
_STEPS = 12
"""Calls from what was refused back to the state that it is from."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that raised, the last of each."""
    index = sources.index
    last: dict[int, tuple[int, int, bool, Severity | None]] = {}
    for op, message, severity in sources.raised(*_FIRST_WORDS):
        is_write = any(known.search(message) for known in _WRITES)
        integers = next((one for one in index.uses.of(op) if _is_integer(index, one)), NONE)
        if integers >= 0 and (is_write or any(known.search(message) for known in _TAKES)):
            last[index.op_statement[op]] = op, integers, is_write, severity
    for op, integers, is_write, severity in last.values():
        yield _finding(sources, op, integers, is_write, severity)


def _finding(sources: Sources, op: int, integers: int, is_write: bool, severity: Severity | None) -> Finding:
    index = sources.index
    layout = index.recording.layouts[index.recording.tensors.column("layout")[integers]]
    does = "was to write" if is_write and index.func(op).rstrip("_") != index.func(op) else "was given"
    entry, origin = _entry(sources, integers)
    why, advice = "", "Make it of floats where it is made (dtype=torch.float32, float()), or compute a new tensor."
    at_call, made = sources.cause("write", op), sources.made_at(origin)
    causes = [*made, *at_call]
    if entry:
        why = f"it comes from {entry}, an entry of whole numbers in the state of a module"
        advice = "Average only what is_floating_point() says is one, and copy the other entries as they are."
        causes = [*at_call, *(cause for cause in sources.made_at(integers) if cause not in at_call)]
    return sources.finding(
        f"Line {index.op_line(op)}: {index.call_name(op)} was refused, since {sources.names.at(integers, op)}, which "
        f"it {does}, holds whole numbers ({index.recording.text(layout.dtype)}), and the result would be floats",
        why=why,
        op=op,
        tensors=[integers],
        causes=causes,
        advice=advice,
        severity=severity,
    )


def _entry(sources: Sources, tensor: int) -> tuple[str, int]:
    """What a program calls the buffer that whole numbers come from, empty where they are none's; and where they began.

    Followed is the first tensor of each call that holds whole numbers, too: ``state[key] * 0``, a copy, a stack.
    """
    index = sources.index
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    for _ in range(_STEPS):
        op = made_at[tensor]
        if index.func(op).endswith(".state_dict"):
            return sources.names.of(max(sources.sharing.base_of(tensor), NONE)), tensor
        if _is_buffer(sources, tensor):
            return sources.names.of(tensor), tensor
        before = next((one for one in index.uses.of(op) if one < tensor and _is_integer(index, one)), NONE)
        if flags[tensor] & EXTERNAL and index.func(op) != "Tensor.__deepcopy__":
            break
        if before < 0:
            break
        tensor = before
    return "", tensor


def _is_buffer(sources: Sources, tensor: int) -> bool:
    """Whether the initialisation of a module of torch's made a tensor."""
    func = sources.index.func(sources.index.recording.tensors.column("op")[tensor])
    return func.startswith("nn.") and func.endswith(".__init__")


def _is_integer(index: Index, tensor: int) -> bool:
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    return index.recording.text(layout.dtype).startswith(_INTEGERS)


DIAGNOSIS = Diagnosis(
    code="integers-refused",
    title="torch refused arithmetic of floats on whole numbers",
    severity="problem",
    explanation=Explanation(
        meaning="""A call raised since a tensor holds whole numbers: it was to be written in place with a result that
            is none (+=, mul_, lerp_), or its mean was asked for. Often it is one entry of a state_dict() that is
            averaged: BatchNorm counts its batches in num_batches_tracked, which is int64.""",
        reason="""What is written in place keeps its dtype, and torch does not round floats to whole numbers without
            being asked. A state holds buffers beside the parameters, and not all of them are floats.""",
        remedy="""Of states, average what is floating point (value.is_floating_point()) and copy the rest. Elsewhere
            make the tensor of floats, or compute a new one: x = x * 0.5 instead of x *= 0.5.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
average = copy.deepcopy(model.state_dict())
for name, value in model.state_dict().items():
    average[name] += 0.5 * value
""",
        instead_of="average[name] += 0.5 * value",
        silent="if value.is_floating_point():\n    average[name] += 0.5 * value",
    ),
    find=_find,
)
