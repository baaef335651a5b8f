"""Results that numpy() gave without a copy, and that were changed with the array before a loss was computed of them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.written_by_numpy import WrittenByNumpy, written_by_numpy
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers


def result_written_by_numpy(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that takes such an array."""
    index, alike = sources.index, dict[int, list[WrittenByNumpy]]()
    for found in written_by_numpy(index, sources.passes, sources.sharing, sources.events, sources.outside_writes):
        alike.setdefault(index.op_statement[found.given], []).append(found)
    for same in alike.values():
        last = same[-1]
        file = index.statements[index.op_statement[last.given]].file
        lines = [index.line(file, line) for line in last.array.written]
        name, passes = sources.names.at(last.tensor, last.used), {one.through for one in same}
        looks = [look for look in sources.looks if look.op in passes and look.norms]
        zero = [look for look in looks if not any(look.norms.values())]
        so = f"; all gradients of that pass are exactly zero, {len(zero):,} of {len(looks):,} times looked at"
        yield sources.finding(
            f"Line {index.op_line(last.given)}: {index.call_name(last.given)} copies nothing, so that line"
            f"{'s' * (len(lines) > 1)} {numbers(lines)} changed {name} itself, with which line "
            f"{index.op_line(last.used)} computes for the backward of line {index.op_line(last.through)}",
            why=f"{last.array.name} and {name} are one memory, and autograd does not see what numpy writes"
            f"{so if zero else ''}",
            op=last.given,
            tensors=[last.tensor],
            causes=[
                *sources.cause("made", last.given),
                *(sources.cause_of_line("write", file, line, line, "") for line in last.array.written),
            ],
            evidence=[Evidence("ops", last.given), Evidence("events", last.row)],
            advice="copy() of the array is another memory.",
        )
