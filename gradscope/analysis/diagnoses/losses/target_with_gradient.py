"""A bootstrapped target through which gradients flow: the network moves its target instead of its estimate."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.bootstrapped_targets import bootstrapped_targets
from gradscope.analysis.facts.losses.targets_of_estimates import TargetOfEstimate, targets_of_estimates
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in bootstrapped_targets(index, sources.passes):
        target, loss = index.op_line(found.target), index.op_line(found.loss)
        names = sources.listed([sources.names.at(leaf, found.loss) for leaf in found.leaves])
        forms = (sources.stored(one, found.loss) for one in found.followed)
        stored = next((causes for causes in forms if causes and causes[0].line != target), [])
        through = f", through the value that line {stored[0].line} computed" if stored else ""
        yield sources.finding(
            f"Line {target}: {sources.names.at(found.tensor, found.loss)}, the target of the loss at line {loss}, has "
            f"a gradient to {names}{through}",
            why="a reward and the discounted value of what follows are to be a constant there; so the same weights are "
            "changed to move the target towards the estimate as well",
            op=found.loss,
            tensors=[found.tensor],
            causes=[*sources.cause("made", found.target), *stored, *sources.cause("made", found.value)],
            evidence=[Evidence("ops", found.target), Evidence("ops", found.value)],
            advice="Compute the target under torch.no_grad(), or detach() it.",
        )
    for one in targets_of_estimates(index, sources.passes):
        yield _of_estimate(sources, one)


def _of_estimate(sources: Sources, found: TargetOfEstimate) -> Finding:
    index, names = sources.index, sources.names
    made, loss = index.op_line(found.made), index.op_line(found.loss)
    return sources.finding(
        f"Line {made}: {names.at(found.target, found.loss)}, the target of the loss at line {loss}, is computed of "
        f"{names.at(found.estimate, found.loss)}, which the loss compares with it, and has a gradient",
        why="it says where that is to go, and is moved towards it as well",
        op=found.loss,
        tensors=[found.target],
        causes=[*sources.cause("made", found.made), *sources.cause("used", found.loss)],
        evidence=[Evidence("ops", found.made), Evidence("ops", found.loss)],
        advice="Compute the target under torch.no_grad(), or detach() it.",
    )


DIAGNOSIS = Diagnosis(
    code="target-with-gradient",
    title="a target that gradients flow through",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss compares a network's estimate with a target that is a reward and a discounted value of what
            follows, which the same weights gave, and gradients flow into both. It is reported only where the source
            speaks of rewards or discounts. Or the target of kl_div or of a cross entropy, with a gradient, is computed
            of nothing but the estimate that it is compared with (sharpened assignments, pseudo labels).""",
        reason="""The target stands for what is known of the future; only the estimate is to move. With a gradient in
            both, the loss falls also by making the target fit the estimate, and learning is slow or wrong. Nothing
            fails.""",
        remedy="""with torch.no_grad(): target = reward + gamma * …, or target.detach() in the loss; better with a
            copy of the network (a target network). Where the full residual gradient is meant: ignore this.""",
    ),
    example=Example(
        shows="""\
import torch

values = torch.nn.Linear(4, 1)
state, following, reward = torch.rand(8, 4), torch.rand(8, 4), torch.rand(8, 1)
target = reward + 0.9 * values(following)
torch.nn.functional.mse_loss(values(state), target).backward()
""",
        instead_of="target = reward + 0.9 * values(following)",
        silent="target = reward + 0.9 * values(following).detach()",
    ),
    find=_find,
)
