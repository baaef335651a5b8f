"""Weights of samples that are multiplied with the mean of their losses: no sample weighs more than another."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.weighted_means import FactorOfMean, WeightedMean, factors_of_means, weighted_means
from gradscope.analysis.report_model import Cause, Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in weighted_means(index, sources.passes):
        line, product = index.op_line(found.averaged), index.op_line(found.product)
        weights = sources.names.at(found.weights, found.product)
        name = index.func(found.averaged)
        is_loss = name.startswith("F.")
        there = "that line" if line == product else f"line {product}"
        yield sources.finding(
            f"Line {line}: {index.call_name(found.averaged)} makes one number of the "
            f"{'losses' if is_loss else 'results'} of all samples",
            why=f"{there} multiplies it by {weights}, of the shape {found.size}, and what comes of that is made one "
            "number again: each sample has the same part in the loss, whatever its weight is",
            op=found.product,
            tensors=[found.weights],
            causes=_averages(sources, found),
            evidence=[Evidence("ops", found.averaged), Evidence("ops", found.reduced)],
            advice="Keep one loss for each sample (reduction='none'), and take the mean after the product."
            if is_loss
            else "Take the mean after the product.",
        )
    for factor in factors_of_means(index, sources.passes):
        yield _of_factor(sources, factor)


def _of_factor(sources: Sources, found: FactorOfMean) -> Finding:
    index = sources.index
    line, raised = index.op_line(found.averaged), index.op_line(found.raised)
    where = "it" if line == raised else f"line {raised}"
    return sources.finding(
        f"Line {line}: {index.call_name(found.averaged)} makes one number of the losses of all samples",
        why=f"{where} takes exp of that for a probability, which it is for the loss of one sample only, and line "
        f"{index.op_line(found.product)} weighs with what comes of it: one factor for all samples",
        op=found.product,
        tensors=index.tensors_made(found.averaged),
        causes=[*_averages(sources, found), *sources.cause("used", found.raised)],
        evidence=[Evidence("ops", found.averaged), Evidence("ops", found.raised)],
        advice="Keep one loss for each sample (reduction='none'), and take the mean after the product.",
    )


def _averages(sources: Sources, found: WeightedMean | FactorOfMean) -> list[Cause]:
    """The call that averages, and the line that makes the module that does."""
    causes = sources.cause("made", found.averaged)
    if found.made_at is None:
        return causes
    file, line = found.made_at
    return [*causes, sources.cause_of_line("made", file, line, line, "")]


DIAGNOSIS = Diagnosis(
    code="weighted-after-mean",
    title="weights of samples applied to the mean of their losses",
    severity="warning",
    explanation=Explanation(
        meaning="""The losses of all samples were made one number (a mean or a sum). That number was multiplied by a
            tensor with a weight for each of these samples, or a mask, and the product was made one number again. Or it
            was multiplied by a factor that is computed from exp of that number, as a focal loss does.""",
        reason="""mean(s * w) is s * mean(w) where s is one number: the weights change how large the loss is, and the
            gradient of each sample by the same factor. Losses of torch take the mean unless reduction='none'.""",
        remedy="""loss = F.cross_entropy(logits, targets, reduction='none'), then (loss * weights).mean(), or
            (loss * mask).sum() / mask.sum().""",
    ),
    example=Example(
        shows="""\
import torch
import torch.nn.functional as F

layer = torch.nn.Linear(3, 2)
inputs, targets, weights = torch.rand(8, 3), torch.randint(0, 2, (8,)), torch.rand(8)
losses = F.cross_entropy(layer(inputs), targets)
(losses * weights).mean().backward()
""",
        instead_of="losses = F.cross_entropy(layer(inputs), targets)",
        silent="losses = F.cross_entropy(layer(inputs), targets, reduction='none')",
    ),
    find=_find,
)
