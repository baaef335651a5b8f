"""A schedule by hand that sets the learning rate of one group, where the others were to have the same."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.frames.names.rates_of_groups import rates_of_one_group
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer of whose groups some never changed, though all began with one rate."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    uneven: dict[int, Happened] = {}
    scheduled: set[int] = set()
    for event in sources.events.of(EventKind.LEARNING_RATE):
        call = event.detail.get("call")
        if call == "uneven":
            uneven[event.subject] = event
        elif call == "even":
            uneven.pop(event.subject, None)
        elif call == "made":
            scheduled.add(event.subject)
    places = _places(sources)
    for subject, event in uneven.items():
        optimizer, stays = optimizers.get(subject), event.detail.get("stays")
        if optimizer is None or subject in scheduled or not isinstance(stays, list) or len(places) != 1:
            continue
        file, line, number = places[0]
        rates = {(group.detail.get("settings") or {}).get("lr") for group in optimizer.groups}
        if len(rates) == 1 and number not in stays:
            yield _finding(sources, optimizer, event, (file, line), stays)


def _places(sources: Sources) -> list[tuple[int, int, int]]:
    files = [(number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user]
    return [(number, line, group) for number, text in files for line, group in rates_of_one_group(text)]


def _finding(
    sources: Sources, optimizer: Optimizer, event: Happened, place: tuple[int, int], stays: list[int]
) -> Finding:
    index, (file, line) = sources.index, place
    count = len(optimizer.groups)
    tensors = [one for at in stays if at < count for one in optimizer.groups[at].tensors]
    names = sources.listed([sources.names.of(one) for one in tensors])
    return sources.finding(
        f"Line {index.line(file, line)}: of the {count} groups of {optimizer.name} one gets the learning rate that is "
        "set here",
        why=f"all were made with the same rate, and that of {names} never changes",
        op=min(event.op, index.op_count - 1),
        tensors=tensors,
        causes=[sources.cause_of_line("set", file, line, line, "")],
        evidence=[Evidence("events", event.row), Evidence("events", optimizer.made.row)],
        advice="Set it in a loop: for group in optimizer.param_groups.",
    )


DIAGNOSIS = Diagnosis(
    code="rate-of-one-group",
    title="a schedule by hand that sets the learning rate of one group of several",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer has several groups, all made with the same learning rate. The program sets the rate of
            one of them by its number, again and again, and never that of another.""",
        reason="""Each group has a rate of its own. Groups that were made for another reason (no weight decay for biases
            and norms) are forgotten easily: they go on with the rate that they began with.""",
        remedy="""for group in optimizer.param_groups: group["lr"] = rate. Where a group is to keep its rate, nothing is
            wrong.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}]
optimizer = torch.optim.SGD(groups, lr=0.1)
for step in range(8):
    rate = 0.1 / (step + 1)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()
""",
        instead_of='optimizer.param_groups[0]["lr"] = rate',
        silent='for group in optimizer.param_groups: group["lr"] = rate',
    ),
    find=_find,
)
