"""A sample drawn without a graph, whose values go into the loss: no gradient comes back through it."""

from __future__ import annotations

from collections.abc import Container, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.divergences_of_samples import divergences_of_samples
from gradscope.analysis.facts.losses.samples_in_losses import samples_in_losses
from gradscope.analysis.report_model import Evidence

_DISCRETE = ("ernoulli", "oisson", "Categorical", "inomial", "Geometric")


def _find(sources: Sources) -> Iterator[Finding]:
    index, drawn = sources.index, set[int]()
    for found in samples_in_losses(index, sources.flow, sources.passes, sources.lives):
        drawn.add(index.op_statement[found.op])
        line, call = index.op_line(found.op), index.call_name(found.op)
        names = sources.listed([sources.names.at(one, found.backward) for one in found.leaves])
        if any(part in call for part in _DISCRETE):
            advice = (
                "Use a relaxation (RelaxedBernoulli, Gumbel softmax), or the logarithm of its probability as a factor."
            )
        elif call.endswith(".sample"):
            advice = "Draw with rsample(), which has a derivative."
        else:
            advice = "Draw as mean + std * torch.randn_like(mean), which has a derivative."
        yield sources.finding(
            f"Line {line}: {sources.names.at(found.sample, found.backward)} is drawn without a gradient ({call}), and "
            "the loss depends on it",
            why=f"of what backward at line {index.op_line(found.backward)} gave {names}, nothing came back through it",
            op=found.op,
            tensors=[found.sample, *found.leaves],
            causes=sources.cause("cut", found.op),
            evidence=[Evidence("ops", found.backward)],
            advice=advice,
        )
    yield from _in_divergences(sources, drawn)


def _in_divergences(sources: Sources, known: Container[int]) -> Iterator[Finding]:
    """Of losses that are the log-probability of a sample less another of its densities, and nothing else."""
    index = sources.index
    for found in divergences_of_samples(index, sources.passes):
        if index.op_statement[found.drawn] in known:
            continue
        name = sources.names.at(found.sample, found.backward)
        constant = sources.names.at(found.constant, found.difference)
        yield sources.finding(
            f"Line {index.op_line(found.drawn)}: {name} is drawn without a gradient "
            f"({index.span_source(found.drawn)}), and all that backward at line {index.op_line(found.backward)} gives "
            f"comes from its log_prob (line {index.op_line(found.scored)})",
            why=f"the gradient of the log-probability of one's own sample is zero on average, and {constant} (line "
            f"{index.op_line(found.difference)}) has none, whatever it is",
            op=found.drawn,
            tensors=[found.sample, *found.leaves],
            causes=sources.cause("cut", found.drawn),
            evidence=[Evidence("ops", found.backward), Evidence("ops", found.difference)],
            advice="Draw with rsample() or what the library has for it, so that the sample leads back to what it was "
            "drawn from.",
        )


DIAGNOSIS = Diagnosis(
    code="sample-without-gradient",
    title="a sample in the loss that no gradient comes back through",
    severity="warning",
    explanation=Explanation(
        meaning="""A sample of a distribution whose parameters are trained was drawn by sample(), normal or bernoulli,
            and its values went into the loss. The parameters got a gradient by another way alone: an entropy, a
            divergence, a penalty. Or the loss is the log-probability of the sample less another density of it: a
            divergence whose other part has no gradient.""",
        reason="""sample() draws under no_grad. The loss depends on the parameters through the sample, and autograd
            does not know. Nothing is None and nothing fails, since the other term gives gradients.""",
        remedy="""rsample() draws with a derivative, where the distribution has one. For discrete ones: a relaxation, a
            straight-through estimate, or the score function (the logarithm of the probability times what is
            gained). It is not reported where such a product, or a straight-through estimate, is there.""",
    ),
    example=Example(
        shows="""\
import torch
from torch.distributions import Normal, kl_divergence

mean = torch.zeros(3, requires_grad=True)
posterior = Normal(mean, 1.0)
z = posterior.sample()
loss = (z - 1).pow(2).sum() + kl_divergence(posterior, Normal(0.0, 1.0)).sum()
loss.backward()
""",
        instead_of="z = posterior.sample()",
        silent="z = posterior.rsample()",
    ),
    find=_find,
)
