"""A list that keeps one tensor several times, and nothing of what it held in between."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that puts the same tensor into a list again."""
    index = sources.index
    for kept in sources.kept_again:
        first, back = kept.puts[0], kept.given_back
        holder = next((one.name for one in kept.puts if one.name), "")
        name = back.value if back else first.of if first.of in kept.names else sources.names.of(kept.tensor)
        put_at = index.line(kept.file, first.line)
        line = put_at if back is None else index.line(kept.file, back.line)
        if back is not None:
            into = holder or "a list"
            what = f"{back.function} gives back {name} itself, and line {put_at} puts this one tensor into {into}"
        elif first.name:
            what = f"{first.name} keeps one tensor"
        else:
            what = f"the generator gives {name}, and {holder or 'a list'} keeps one tensor"
        taken = f"{index.call_name(kept.read)} took" if kept.read >= 0 else f"{holder or 'a list'} holds"
        yield sources.finding(
            f"Line {line}: {what} again and again, without a copy",
            why=f"{taken} {name} itself {kept.times} times, and {index.call_name(kept.written)} wrote it in between: "
            "all of them have its last values",
            op=kept.read if kept.read >= 0 else kept.written,
            tensors=[kept.tensor],
            causes=[
                *([] if back is None else [sources.cause_of_line("made", kept.file, back.line, back.end_line, "")]),
                *(sources.cause_of_line("made", kept.file, one.line, one.end_line, "") for one in kept.puts),
            ],
            evidence=[Evidence("ops", kept.written)],
            advice=f"{name}.clone() gives back the values of the moment."
            if back is not None
            else "clone() of what is put there keeps the values of the moment."
            if first.of
            else "A list comprehension makes one tensor for each item.",
        )


DIAGNOSIS = Diagnosis(
    code="kept-again",
    title="a list that holds one tensor several times",
    severity="warning",
    explanation=Explanation(
        meaning="""A list (a replay buffer, a history, the states of layers) holds the same tensor object several
            times. The tensor was written in place in between, so every item shows what was written last.""",
        reason="""append() keeps a reference, not the values, and [x] * n repeats the reference. buffer.copy_(),
            add_() and the like change the one tensor behind all of them.""",
        remedy="""Put a copy there: history.append(buffer.clone()). Instead of [torch.zeros(3)] * n write
            [torch.zeros(3) for _ in range(n)].""",
    ),
    example=Example(
        shows="""\
import torch

buffer = torch.empty(3)
history = []
for step in range(4):
    buffer.copy_(torch.ones(3) * step)
    history.append(buffer)
print(torch.stack(history))
""",
        instead_of="history.append(buffer)",
        silent="history.append(buffer.clone())",
    ),
    find=_find,
)
