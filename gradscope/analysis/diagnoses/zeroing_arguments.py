"""Arguments for which a call has a derivative of zero, as sentences name them: ``mode='nearest'`` of a sampling."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls.argument_values import Argument, Written, place_of_value

_TENSOR = "Tensor."

_ARGUMENTS = {
    one.function: one
    for one in (
        Argument("grid_sample", "mode", 2, ("nearest",)),
        Argument("norm", "p", 1, (0,)),
        Argument("vector_norm", "ord", 1, (0,)),
        Argument("dist", "p", 2, (0,)),
        Argument("cdist", "p", 2, (0,)),
        Argument("pairwise_distance", "p", 2, (0,)),
        Argument("pdist", "p", 1, (0,)),
        Argument("pow", "exponent", 1, (0,)),
        Argument("div", "rounding_mode", -1, ("floor", "trunc")),
    )
}

_INPUTS = {"grid_sample": "its grid"}
"""By which of its inputs the derivative is zero, where it is not by all of them."""

_ADVICE = {
    "grid_sample": "Sample with mode='bilinear'.",
    "pow": "",
    **dict.fromkeys(
        ("norm", "vector_norm", "dist", "cdist", "pairwise_distance", "pdist"),
        "With 0 it counts what is not zero: p=1 is the norm that has a derivative and makes values small.",
    ),
}


class ZeroingArgument(NamedTuple):
    """What makes the derivative of one call zero."""

    said: str
    """``mode='nearest'``; ``this mode`` where it is not known which of several values it is."""
    by: str
    """By which input, as it follows ``the derivative of F.grid_sample``; empty: by all."""
    causes: list[Cause]
    """The line at which the value is written, where that is known."""
    advice: str | None
    """None: what is said of calls that are zero everywhere."""


def zeroing_argument(sources: Sources, op: int) -> ZeroingArgument | None:
    """The argument of a call whose derivative was found to be zero for it; None for functions that are not known."""
    index = sources.index
    name = index.call_name(op)
    last = name.rpartition(".")[2].strip("_")
    argument = _ARGUMENTS.get(last)
    if argument is None:
        return None
    is_method = name.startswith(_TENSOR) and argument.position > 0
    asked = argument._replace(position=argument.position - 1) if is_method else argument
    written = _written(sources, op, asked)
    values = asked.values if written is None else (written.value,)
    said = f"{asked.name}={values[0]!r}" if len(values) == 1 else f"this {asked.name}"
    causes = [] if written is None else [sources.cause_of_line("set", written.file, written.line, written.line, "")]
    by = f" by {_INPUTS[last]}" if last in _INPUTS else ""
    return ZeroingArgument(said, by, causes, _ADVICE.get(last))


def _written(sources: Sources, op: int, argument: Argument) -> Written | None:
    recording = sources.index.recording
    span = recording.ops.column("span")[op]
    if span < 0:
        return None
    row, texts = recording.spans[span], [file.text if file.is_user else "" for file in recording.files]
    return place_of_value(texts, row.file, row.line, argument)
