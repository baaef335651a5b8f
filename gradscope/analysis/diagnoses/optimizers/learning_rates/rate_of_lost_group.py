"""A learning rate that is written into a group that is the optimizer's no more, since a state was loaded."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.names.kept_group_dicts import kept_group_dicts
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer."""
    loaded: dict[int, Happened] = {}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        call = event.detail.get("call")
        if call == "regrouped" and event.span >= 0:
            loaded[event.subject] = event
        elif call == "stray" and event.subject in loaded and event.span >= 0:
            yield _finding(sources, loaded.pop(event.subject), event)


def _finding(sources: Sources, loaded: Happened, stray: Happened) -> Finding:
    index, rate, kept = sources.index, stray.detail.get("rate", 0.0), _where_kept(sources)
    load = index.span_line(loaded.span)
    if kept is None:
        symptom = (
            f"Line {load}: load_state_dict gives the optimizer other param_groups, and the learning rate is "
            "written into one that was kept from before"
        )
    else:
        cause, what = kept
        symptom = (
            f"Line {cause.line}: {what} is kept, and is not the optimizer's any more since line {load} loaded a state, "
            "for which load_state_dict makes the groups anew"
        )
    return sources.finding(
        symptom,
        why=f"the optimizer steps with {_listed(stray.detail.get('own', []))}, not with the {rate:.3g} in the old one",
        op=min(stray.op, index.op_count - 1),
        tensors=[],
        causes=[*([kept[0]] if kept else []), *sources.cause_of_event("set", loaded)],
        evidence=[Evidence("events", loaded.row), Evidence("events", stray.row)],
        advice="Keep the optimizer, and look its param_groups up whenever a rate is set.",
    )


def _listed(rates: list[float]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in dict.fromkeys(rates))


def _where_kept(sources: Sources) -> tuple[Cause, str] | None:
    """The one line of the program that keeps the groups, or one of them, and how it calls them."""
    files = [(number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user]
    found = [(number, line, what) for number, text in files for line, what in kept_group_dicts(text)]
    if len(found) != 1:
        return None
    number, line, what = found[0]
    return sources.cause_of_line("made", number, line, line, ""), what


DIAGNOSIS = Diagnosis(
    code="rate-of-lost-group",
    title="a learning rate that is written into a group that the optimizer has no more",
    severity="warning",
    explanation=Explanation(
        meaning="""The program keeps a dict of optimizer.param_groups (or the list), and writes the learning rate into
            it. A state was loaded into the optimizer meanwhile, whose steps go by the groups that it has since.""",
        reason="""load_state_dict makes new group dicts, and a new list of them. The old ones are changed by nobody, and
            read by nobody.""",
        remedy="""Keep the optimizer: for group in optimizer.param_groups: group["lr"] = rate.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
group = optimizer.param_groups[0]
saved = copy.deepcopy(optimizer.state_dict())
optimizer.load_state_dict(saved)
for step in range(4):
    group["lr"] = 0.1 / (step + 1)
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
""",
        instead_of='group["lr"] = 0.1 / (step + 1)',
        silent='optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)',
    ),
    find=_find,
)
