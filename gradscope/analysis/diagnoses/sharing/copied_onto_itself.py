"""Weights that are copied onto themselves where another model's were meant."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.onto_themselves import OntoItself
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls.given_twice import given_twice
from gradscope.frames.calls.walked_by_name import walked_by_name


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement; what gives one model for two is the line to change, where the text has it."""
    index = sources.index
    known = {one.op for one in sources.self_copies}  # two names that are one module
    # (what is put back was taken without a copy: see snapshot-shares-memory)
    told = {
        index.op_statement[one.read] for taken in sources.stale_snapshots.values() for one in taken if one.read >= 0
    }
    found: dict[tuple[str, int], tuple[OntoItself, Cause]] = {}
    for one in sources.mixed_with_themselves:
        is_told = one.op in known or index.op_statement[one.op] in told
        cause = None if is_told else _cause(sources, one)
        if cause is not None:
            before = found.get((cause.file, cause.line))
            both = one if before is None else _joined(before[0], one)
            found[cause.file, cause.line] = both, cause
    yield from (_finding(sources, one, cause) for one, cause in found.values())


def _joined(one: OntoItself, other: OntoItself) -> OntoItself:
    """Two statements of a loop: one mixes, another copies what is no number to be mixed."""
    tensors = tuple(dict.fromkeys((*one.tensors, *other.tensors)))
    return max(one, other, key=lambda each: each.times)._replace(tensors=tensors)


def _cause(sources: Sources, one: OntoItself) -> Cause | None:
    """The line to change; None where nothing shows that two models were meant."""
    index = sources.index
    statement = index.statements[index.op_statement[one.op]]
    given = None
    if not one.is_by_one_name and statement.file >= 0:
        text = index.recording.files[statement.file].text
        given = given_twice(text, statement.line) or walked_by_name(text, index.op_line(one.op))
    if given is not None:
        return sources.cause_of_line("write", statement.file, *given, "")
    if one.changes or one.is_of_states or (one.is_load and not one.is_by_one_name):
        return None
    return next(iter(sources.cause("write", one.op)), None)


def _finding(sources: Sources, one: OntoItself, cause: Cause) -> Finding:
    called = list(dict.fromkeys(sources.names.of(tensor) for tensor in one.tensors))
    names, is_one = sources.listed(called), len(called) == 1
    mixed = f"{names} {'is' if is_one else 'are'} mixed with"
    what = f"load_state_dict copies {names} onto" if one.is_load else mixed
    return sources.finding(
        f"Line {cause.line}: {what} {'itself' if is_one else 'themselves'} ({one.times:,} times)",
        why="what is written comes from nothing but what it is written to",
        op=one.op,
        tensors=one.tensors,
        causes=[cause],
        advice="Give it the model whose values are meant.",
    )


DIAGNOSIS = Diagnosis(
    code="copied-onto-itself",
    title="weights that are copied onto themselves",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement that runs again and again during the training loads a module from its own state, or mixes
            each of its parameters, or buffers, with itself. It never has an effect: where a target network is to follow
            another one, the target stays as it was.""",
        reason="""load_state_dict(), copy_() and lerp_() take whatever they are given. That both sides are one module is
            no error.""",
        remedy="""Name the other model on one side: target.load_state_dict(online.state_dict()).""",
    ),
    example=Example(
        shows="""\
import copy
import torch

online = torch.nn.Linear(3, 1)
target = copy.deepcopy(online)
optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    (online(torch.ones(2, 3)) - target(torch.ones(2, 3)).detach() - 1).sum().backward()
    optimizer.step()
    target.load_state_dict(target.state_dict())
""",
        instead_of="target.load_state_dict(target.state_dict())",
        silent="target.load_state_dict(online.state_dict())",
    ),
    find=_find,
)
