"""Calls of functional_call that leave out what they are given, as its keys are no names of the module."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind


def values_left_out(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes such a call."""
    said = set[int]()
    for event in sources.events.of(EventKind.LEFT_OUT_KEYS):
        if event.span >= 0 and event.span not in said:
            said.add(event.span)
            yield _finding(sources, event)


def _finding(sources: Sources, event: Happened) -> Finding:
    index, detail = sources.index, event.detail
    keys, names = (_texts(detail.get(one)) for one in ("keys", "names"))
    count, of = (int(detail.get(one) or 0) for one in ("count", "of"))
    made = _made_at(sources, event)
    what = f"{count} of the {of} values that it is given" if count < of else "all that it is given"
    by = f", as line {made[0].line} computes them" if made else ""
    key, name = (f" ({some[0]})" if some else "" for some in (keys, names))
    module = detail.get("module", "the module")
    return sources.finding(
        f"Line {index.span_line(event.span)}: functional_call runs {module} with parameters of its "
        f"own, and leaves out {what}{by}",
        why=f"their keys{key} are no names of it{name}, which it passes over without strict=True",
        op=event.op if event.op < index.op_count else index.op_count - 1,
        tensors=event.tensors[:1],
        causes=[*made, *sources.cause_of_event("used", event)],
        evidence=[Evidence("events", event.row)],
        advice="Give the values under the names of named_parameters(), and pass strict=True.",
    )


def _made_at(sources: Sources, event: Happened) -> list[Cause]:
    """The statement that computed what was left out, where it is one: it gives the keys as a rule."""
    index = sources.index
    ops = [index.made_by(one) for one in event.tensors]
    places = {index.op_statement[op] if 0 <= op < index.op_count else NONE for op in ops}
    is_one = len(places) == 1 and NONE not in places
    return sources.cause("made", ops[-1]) if is_one else []


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
