"""The line of a program that hands a value to the function whose statement takes it in."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls.handing_calls import GivenValue, handing_calls
from gradscope.frames.names.put_statements import added_at, last_part


def handed_by(sources: Sources, op: int, values: list[int]) -> list[Cause]:
    """The one call that hands some values to the function of an op; empty where it is not clear which.

    Args:
        sources: What was recorded.
        op: A call of the statement that takes the values in, which assigns what it makes of them.
        values: What ops of other statements made.
    """
    index = sources.index
    statement = index.statements[index.op_statement[op]]
    text = index.recording.files[statement.file].text
    put = added_at(text, index.op_line(op))
    if put is None or not put.function or not values:
        return []
    made_at = index.recording.tensors.column("op")
    functions = {last_part(index.op_place(made_at[one]).function) for one in values}
    names = {(sources.names.of(one), function) for one in values for function in functions}
    for one in values:
        for name, _, span in sources.names_held.get(one, ()):
            here = {last_part(index.recording.text(index.recording.spans[span].function))} if span >= 0 else functions
            names |= {(index.recording.text(name), function) for function in here}
    lines = frozenset(index.op_line(made_at[one]) for one in values)
    given = GivenValue(frozenset(names), lines, frozenset(functions - {"<module>"}))
    calls = handing_calls(text, put, given)
    if len(calls) != 1:
        return []
    return [sources.cause_of_line("used", statement.file, calls[0].line, calls[0].end_line, "")]
