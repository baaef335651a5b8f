"""Logits that a ReLU cuts off at zero before the loss that takes them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.losses_of_probabilities import losses_of_rectified
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in losses_of_rectified(index, sources.passes):
        line, causes = index.op_line(found.gives), sources.cause("used", found.gives)
        if found.made_at is not None:
            line = index.line(*found.made_at)
            causes = [sources.cause_of_line("made", *found.made_at, found.made_at[1], "")]
        is_binary = index.func(found.loss) == "F.binary_cross_entropy_with_logits"
        less = "no probability is below 0.5" if is_binary else "no class can have less than 0"
        yield sources.finding(
            f"Line {line}: {index.call_name(found.loss)} takes logits, and is given what this ReLU cuts off at 0",
            why=f"{less}, and where all of a sample's are cut off no gradient comes back",
            op=found.loss,
            tensors=list(index.uses.of(found.loss))[:1],
            causes=causes,
            evidence=[Evidence("ops", found.gives)],
            advice="Give it what the last layer gives, without an activation.",
        )


DIAGNOSIS = Diagnosis(
    code="logits-cut-off",
    title="logits that a ReLU cuts off at zero",
    severity="warning",
    explanation=Explanation(
        meaning="""cross_entropy or binary_cross_entropy_with_logits was given the result of a ReLU as it is: the
            activation follows the last layer too.""",
        reason="""A logit is any number: one below zero says that a class is unlikely. Cut off at zero, all unlikely
            classes are alike, a sigmoid of it is at least 0.5, and an output that is below zero for all samples gets no
            gradient any more.""",
        remedy="""No activation after the last layer: return self.fc2(x).""",
    ),
    example=Example(
        shows="""\
import torch
import torch.nn.functional as F

first, last = torch.nn.Linear(3, 8), torch.nn.Linear(8, 2)
hidden = F.relu(first(torch.ones(4, 3)))
scores = F.relu(last(hidden))
F.cross_entropy(scores, torch.tensor([0, 1, 0, 1])).backward()
""",
        instead_of="scores = F.relu(last(hidden))",
        silent="scores = last(hidden)",
    ),
    find=_find,
)
