"""Two names that are one module: one was loaded from the other, and nothing was copied."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.self_copies import SelfCopy
from gradscope.analysis.report_model import Cause, Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each pair of names."""
    index = sources.index
    by_copy = {one for copied in sources.copied_as_two for one in copied.tensors}  # two modules with one set of tensors
    pairs = {
        frozenset((copied.destination, copied.source)): copied
        for copied in sources.self_copies
        if by_copy.isdisjoint(copied.tensors)
    }
    for copied in pairs.values():
        line = index.line(copied.file, copied.named_at) if copied.named_at else index.op_line(copied.op)
        causes = [_named(sources, copied)] if copied.named_at else sources.cause("used", copied.op)
        yield sources.finding(
            f"Line {line}: {copied.destination} and {copied.source} are one module",
            why=f"load_state_dict copied {len(copied.tensors)} tensors onto themselves, and "
            f"{index.call_name(copied.step)} changes both",
            op=copied.op,
            tensors=copied.tensors,
            causes=causes,
            evidence=[Evidence("ops", copied.step)],
            advice="copy.deepcopy makes a module of its own.",
        )


def _named(sources: Sources, copied: SelfCopy) -> Cause:
    """The line that gave the second name, as its text says."""
    return sources.cause_of_line("made", copied.file, copied.named_at, copied.named_at, "")


DIAGNOSIS = Diagnosis(
    code="loaded-from-itself",
    title="two names that are one module",
    severity="warning",
    explanation=Explanation(
        meaning="""load_state_dict() was given the values of the very module that it loads, under another name: each
            tensor was copied onto itself. An optimizer's step changes what both names hold.""",
        reason="""An assignment gives an object a second name; it makes no copy of a module. A target network, a
            teacher or an average of weights that is the trained module itself moves with each step.""",
        remedy="""Make the second one with copy.deepcopy(net), or build another module.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

policy = torch.nn.Linear(3, 1)
target = policy
optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
target.load_state_dict(policy.state_dict())
policy(torch.ones(2, 3)).sum().backward()
optimizer.step()
""",
        instead_of="target = policy",
        silent="target = copy.deepcopy(policy)",
    ),
    find=_find,
)
