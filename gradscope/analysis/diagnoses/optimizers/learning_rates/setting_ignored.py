"""A setting of an optimizer under a name that it does not read: a misspelt key of a group, an attribute of its own."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, first_step_of, seen_optimizers
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.without_effect.settings_beside import (
    attributes_stored,
    is_read,
    keys_given,
    names_beside_groups,
)
from gradscope.recording.rows import EventKind

_ALIKE = 0.8
"""From which on two names are taken to be one, misspelt (of 1: the part of their letters that agree)."""


def _find(sources: Sources) -> Iterator[Finding]:
    optimizers = seen_optimizers(sources.index, sources.events)
    for one in optimizers:
        for group in one.groups:
            yield from _keys(sources, one, group)
    by_subject = {one.made.subject: one for one in optimizers}
    events = [event for event in sources.events.of(EventKind.LEARNING_RATE) if event.subject in by_subject]
    followed = {(one.subject, one.detail.get("name")) for one in events if one.detail.get("call") == "follows"}
    for event in events:
        if event.detail.get("call") == "beside" and (event.subject, event.detail["name"]) not in followed:
            yield from _attribute(sources, by_subject[event.subject], event)


def _texts(sources: Sources) -> list[tuple[int, str]]:
    return [(number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user]


def _keys(sources: Sources, one: Optimizer, group: Happened) -> Iterator[Finding]:
    """Keys of a group that are a setting's name in other words, where the setting itself was not given."""
    settings, given = group.detail.get("settings") or {}, group.detail.get("given") or []
    step = first_step_of(sources.index, group)
    for name, value in (group.detail.get("not_read") or {}).items():
        meant = [key for key in settings if key not in given and key != name and _is_meant(name, key)]
        texts = _texts(sources)
        if len(meant) != 1 or settings[meant[0]] == value or step < 0:
            continue
        if any(names_beside_groups(text, name) for _, text in texts):
            continue
        lines = [(file, line) for file, text in texts for line in keys_given(text, name)]
        is_known = len(lines) == 1
        line = sources.index.line(*lines[0]) if is_known else sources.index.span_line(group.span)
        yield _finding(
            sources,
            [sources.cause_of_line("set", *lines[0], lines[0][1], "")]
            if is_known
            else sources.cause_of_event("made", group),
            f"Line {line}: {one.name} does not read {name}, which a group is given there ({value:.3g})",
            f"its {meant[0]} is {_number(settings[meant[0]])}",
            step,
            [group],
            f"The setting is called {meant[0]}.",
        )


def _is_meant(name: str, setting: str) -> bool:
    """Whether a name is a setting's in other words: its first letters, or nearly the same letters."""
    short, long = sorted((name.lower(), setting.lower()), key=len)
    if short == "".join(part[:1] for part in long.split("_")) and len(short) > 1:
        return True
    return SequenceMatcher(None, short, long).ratio() >= _ALIKE and not long.endswith(f"_{short}")


def _attribute(sources: Sources, one: Optimizer, event: Happened) -> Iterator[Finding]:
    """An attribute of the optimizer that is named like a setting, where its groups keep what they were made with."""
    name, kept, value = event.detail["name"], event.detail["kept"], event.detail["value"]
    if kept != [(group.detail.get("settings") or {}).get(name) for group in one.groups]:
        return
    texts = _texts(sources)
    stored = [(file, at) for file, text in texts for at in attributes_stored(text, name)]
    owners = {at.owner for _, at in stored}
    lines = sources.listed([str(sources.index.line(file, at.line)) for file, at in stored])
    lines = f"Line{'s' * (len(stored) > 1)} {lines}"
    if len(owners) != 1 or any(is_read(text, stored[0][1].owner, name) for _, text in texts):
        return
    yield _finding(
        sources,
        [sources.cause_of_line("set", file, at.line, at.end_line, "") for file, at in stored],
        f"{lines}: {name} is set as an attribute of {one.name}, which no step reads ({_number(value)} at first)",
        f"its groups keep {name} {' and '.join(dict.fromkeys(map(_number, kept)))}",
        event.op,
        [event, one.made],
        f'Set it in the groups: for group in optimizer.param_groups: group["{name}"] = ….',
    )


def _number(value: object) -> str:
    return f"{value:.3g}" if type(value) is float else str(value)


def _finding(
    sources: Sources, causes: list[Cause], text: str, why: str, op: int, events: list[Happened], advice: str
) -> Finding:
    return sources.finding(
        text,
        why=why,
        op=min(op, sources.index.op_count - 1),
        tensors=sorted({tensor for event in events for tensor in event.tensors}),
        causes=causes,
        evidence=[Evidence("events", event.row) for event in events],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="setting-ignored",
    title="a setting of an optimizer under a name that it does not read",
    severity="warning",
    explanation=Explanation(
        meaning="""A group of an optimizer was given a number under a key that is another word for one of its settings
            (learning_rate for lr), or the program sets an attribute of the optimizer that is named like a setting
            (optimizer.lr). The setting itself stayed as it was.""",
        reason="""An optimizer of torch's keeps unknown keys of a group and lets any attribute be set, without a word. A
            step reads the settings of each group, under the names of the arguments of its class.""",
        remedy="""Give the group the key that the class has: {"params": …, "lr": 1e-5}. To change a setting later:
            for group in optimizer.param_groups: group["lr"] = rate.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
groups = [{"params": [layer.weight], "learning_rate": 0.001}, {"params": [layer.bias]}]
optimizer = torch.optim.SGD(groups, lr=0.1)
layer(torch.ones(2, 3)).sum().backward()
optimizer.step()
""",
        instead_of='groups = [{"params": [layer.weight], "learning_rate": 0.001}, {"params": [layer.bias]}]',
        silent='groups = [{"params": [layer.weight], "lr": 0.001}, {"params": [layer.bias]}]',
    ),
    find=_find,
)
