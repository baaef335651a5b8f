"""The line that called a model."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause


def run_of_model(sources: Sources, op: int, by: int, until: int) -> list[Cause]:
    """The line that called the model in which an op ran, as far as the caller has one; else the op's own.

    Args:
        sources: What rules ask.
        op: An op in the model.
        by: An op of the caller's.
        until: The last op that is looked at for what the caller made of the result.
    """
    index = sources.index
    caller = index.function_of(by)
    for other in range(op, min(until, index.op_count - 1) + 1):
        taken = [one for one in index.uses.of(other) if op <= index.made_by(one) < other]
        if taken and index.function_of(other) == caller:
            stored = sources.stored(taken[0], other)
            inside = [cause for cause in stored if cause.function == index.op_place(other).function]
            return inside or sources.cause("used", other)
    return sources.cause("used", op)
