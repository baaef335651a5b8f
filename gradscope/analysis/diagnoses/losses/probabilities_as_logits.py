"""A loss that takes logits and is given probabilities."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.losses_of_probabilities import LAYERS, LossOfProbabilities, losses_of_probabilities
from gradscope.analysis.report_model import Evidence

_WITHOUT = "Give it what goes into this {given}."
_LOGARITHM = "Use log_softmax, or give cross_entropy the logits."


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in losses_of_probabilities(index, sources.passes):
        if index.func(found.gives).rpartition(".")[2] in LAYERS:
            yield _of_logits(sources, found)
            continue
        given, loss = index.call_name(found.gives), index.call_name(found.loss)
        loss = loss.removeprefix("distributions.").removesuffix(".__init__")
        last = given.rpartition(".")[2]
        causes = [] if found.made_at is not None and found.is_inside else sources.cause("used", found.gives)
        line = index.op_line(found.gives)
        if found.made_at is not None:
            line = index.line(*found.made_at)
            causes = [sources.cause_of_line("made", *found.made_at, found.made_at[1], ""), *causes]
        yield sources.finding(
            f"Line {line}: {loss} takes {found.takes}, and is given the probabilities of this {last}",
            why="it takes the softmax of them itself" if index.func(found.loss) == "F.cross_entropy" else "",
            op=found.loss,
            tensors=list(index.uses.of(found.loss))[:1],
            causes=causes,
            evidence=[Evidence("ops", found.gives)],
            advice=_advice(index.func(found.loss), last, found.takes),
        )


def _advice(taking: str, given: str, takes: str) -> str:
    if taking.startswith("distributions."):
        return "Give it them as probs=, or the logits as they are."
    return _WITHOUT.format(given=given) if takes == "logits" else _LOGARITHM


def _of_logits(sources: Sources, found: LossOfProbabilities) -> Finding:
    """A loss that takes logarithms of probabilities, and is given what a layer gave."""
    index = sources.index
    loss, line = index.call_name(found.loss), index.op_line(found.gives)
    there = "" if line == index.op_line(found.loss) else f" of line {line}"
    is_nll = index.func(found.loss) == "F.nll_loss"
    return sources.finding(
        f"Line {index.op_line(found.loss)}: {loss} takes {found.takes}, and is given the result of "
        f"{index.call_name(found.gives)}{there} as it is",
        why="without log_softmax it falls without end as these numbers grow" if is_nll else "",
        op=found.loss,
        tensors=list(index.uses.of(found.loss))[:1],
        causes=[*sources.cause("used", found.loss), *sources.cause("made", found.gives)],
        evidence=[Evidence("ops", found.gives)],
        advice="Use cross_entropy, or apply log_softmax first." if is_nll else "Apply log_softmax first.",
    )


DIAGNOSIS = Diagnosis(
    code="probabilities-as-logits",
    title="a loss that takes logits is given probabilities",
    severity="warning",
    explanation=Explanation(
        meaning="""cross_entropy or binary_cross_entropy_with_logits, a Categorical(logits=...) or a second softmax
            (sigmoid) was given the result of a softmax or a sigmoid; or nll_loss or kl_div, which take logarithms, the
            result of a softmax or of a layer.""",
        reason="""Such a loss applies softmax (or sigmoid) itself. Of probabilities, which lie between 0 and 1, it
            gives a nearly even distribution whatever the model says: the loss stays far from zero, gradients small.""",
        remedy="""Let the model return logits, and take softmax or sigmoid only where probabilities are shown. For
            nll_loss and kl_div: log_softmax.""",
    ),
    example=Example(
        shows="""\
import torch
import torch.nn.functional as F

layer = torch.nn.Linear(3, 4)
scores = layer(torch.ones(2, 3))
scores = torch.softmax(scores, dim=1)
F.cross_entropy(scores, torch.tensor([0, 1])).backward()
""",
        instead_of="scores = torch.softmax(scores, dim=1)",
        silent="scores = torch.log_softmax(scores, dim=1)",
    ),
    find=_find,
)
