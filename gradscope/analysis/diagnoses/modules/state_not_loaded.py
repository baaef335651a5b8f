"""A state of which nothing was loaded, as its keys are called otherwise, and strict=False keeps quiet about it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    seen: set[int] = set()
    for event in sources.events.of(EventKind.LOADED):
        keys, missing, unexpected = (event.detail.get(name) for name in ("keys", "missing", "unexpected"))
        if event.span in seen or type(keys) is not int or not isinstance(missing, list) or not missing:
            continue
        seen.add(event.span)
        if isinstance(unexpected, list) and unexpected:
            found = _finding(sources, event, keys, [str(key) for key in missing], [str(key) for key in unexpected])
            if found is not None:
                yield found


def _finding(sources: Sources, event: Happened, keys: int, missing: list[str], unexpected: list[str]) -> Finding | None:
    index = sources.index
    renamed = _renamed(missing, unexpected)
    if renamed is None and len(missing) < keys:
        return None
    there, here, count = renamed or (unexpected[0], missing[0], 0)
    line = index.span_line(event.span)
    number = f"{len(missing):,}" if len(missing) < keys else "none"
    what = f"{number} of its {keys:,} tensors"
    left = f"{what} got values" if number == "none" else f"{what} got no values"
    advice = ""
    if count:
        is_longer = len(there) > len(here)
        prefix = (there if is_longer else here).removesuffix(here if is_longer else there)
        advice = f"{'Take' if is_longer else 'Put'} {prefix!r} {'off' if is_longer else 'before'} the keys."
    return sources.finding(
        f"Line {line}: load_state_dict with strict=False went by without an error, and {left}",
        why=f"the state has {there!r}, where {event.detail.get('module', 'the module')} has {here!r}",
        op=min(event.op, index.op_count - 1),
        tensors=list(event.tensors)[:1],
        causes=sources.cause_of_event("used", event),
        evidence=[Evidence("events", event.row)],
        advice=advice,
    )


def _renamed(missing: list[str], unexpected: list[str]) -> tuple[str, str, int] | None:
    """A key of the state, the module's for it, and how many differ by the same beginning alone; None where none do."""
    for longer, shorter, is_state in ((unexpected, missing, True), (missing, unexpected, False)):
        names = set(shorter)
        for key in longer:
            beginning, _, _ = key.partition(".")
            rest = key[len(beginning) + 1 :]
            if rest in names:
                count = sum(f"{beginning}.{name}" in longer for name in names)
                return (key, rest, count) if is_state else (rest, key, count)
    return None


DIAGNOSIS = Diagnosis(
    code="state-not-loaded",
    title="a state whose keys are not those of the module that loads it",
    severity="warning",
    explanation=Explanation(
        meaning="""load_state_dict(…, strict=False) found keys of the state that the module does not have, and keys of
            the module that the state does not have: all of them, or such that differ by their beginning alone.""",
        reason="""A state is loaded by the names of its keys. With strict=False those that do not fit are passed over:
            the module keeps the values that it was made with. A state saved from DataParallel or a compiled module
            has a beginning more (module., _orig_mod.); a checkpoint often has the state under a key of its own.""",
        remedy="""Look at what load_state_dict returns. Take the beginning off the keys, or load
            checkpoint["model"]; leave strict as it is where everything is to be loaded.""",
    ),
    example=Example(
        shows="""\
import torch

trained, net = torch.nn.Sequential(torch.nn.Linear(3, 1)), torch.nn.Linear(3, 1)
state = trained.state_dict()
net.load_state_dict(state, strict=False)
print(net(torch.ones(2, 3)))
""",
        instead_of="state = trained.state_dict()",
        silent="state = trained[0].state_dict()",
    ),
    find=_find,
)
