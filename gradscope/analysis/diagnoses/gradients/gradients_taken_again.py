"""A gradient that is taken after each of several passes, and in which nothing clears those of earlier passes."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.multiplied_copies import MultipliedCopies, multiplied_copies
from gradscope.analysis.facts.leaf_gradients.piled_gradients import TakenAgain, gradients_taken_again
from gradscope.analysis.report_model import Evidence


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that takes them."""
    index = sources.index
    alike: dict[tuple[int, bool], list[TakenAgain]] = {}
    for one in gradients_taken_again(index, sources.lives, sources.events.in_optimizers):
        alike.setdefault((index.op_statement[one.taken], one.is_summed), []).append(one)
    for group in alike.values():
        last = max(group, key=lambda one: one.taken)
        names = sources.listed(list(dict.fromkeys(sources.names.of(one.leaf) for one in group)))
        does = "adds up" if last.is_summed else "keeps what it makes of"
        yield sources.finding(
            f"Line {index.op_line(last.taken)}: this {does} .grad of {names} after each pass of line "
            f"{index.op_line(last.passed)}, and nothing clears it in between",
            why=f"backward adds to .grad, so that the gradients of earlier passes are in it again "
            f"({max(one.times for one in group):,} times)",
            op=last.taken,
            tensors=[one.leaf for one in group],
            causes=[*sources.cause("backward", last.passed), *sources.cause("used", last.taken)],
            evidence=[Evidence("ops", last.passed)],
            advice="Set .grad to None before each backward, or take the gradient with torch.autograd.grad.",
        )
    yield from _multiplied(sources)


def _multiplied(sources: Sources) -> Iterator[Finding]:
    """One finding for each statement that takes copies, of which one is multiplied with the next."""
    index, alike = sources.index, dict[int, list[MultipliedCopies]]()
    for one in multiplied_copies(index, sources.lives):
        alike.setdefault(index.op_statement[one.taken], []).append(one)
    for group in alike.values():
        last = max(group, key=lambda one: one.taken)
        names = sources.listed([sources.names.of(leaf) for leaf in dict.fromkeys(one.leaf for one in group)])
        times = index.times({one.product for one in group})
        yield sources.finding(
            f"Line {index.op_line(last.taken)}: this copies .grad of {names} after each pass of line "
            f"{index.op_line(last.passed)}, and nothing clears it between two of them",
            why=f"backward adds to .grad, so that the later copy has the earlier gradient in it as well, and line "
            f"{index.op_line(last.product)} multiplies the one with the other ({times:,} times)",
            op=last.taken,
            tensors=list(dict.fromkeys(one.leaf for one in group)),
            causes=[*sources.cause("backward", last.passed), *sources.cause("used", last.taken)],
            evidence=[Evidence("ops", last.passed), Evidence("ops", last.product)],
            advice="Set .grad to None before each backward, or take the gradient with torch.autograd.grad.",
        )


DIAGNOSIS = Diagnosis(
    code="gradients-taken-again",
    title="a gradient that is taken after each pass, with those of earlier passes in it",
    severity="warning",
    explanation=Explanation(
        meaning="""A statement adds .grad of a leaf to a sum of its own after each of several backward passes, or keeps
            what it makes of the .grad of an input, and nothing clears .grad between the passes. Or a helper that
            runs backward gives copies of .grad, and one is multiplied with the next.""",
        reason="""backward adds to what is in .grad. The sum of what is read after each pass has the first gradient as
            often as there are rounds: a Fisher information or a saliency map grows with the number of passes.""",
        remedy="""x.grad = None (or zero_grad()) before each backward, or autograd.grad(loss, x), which gives the
            gradient of one pass. Or read .grad once, when all passes are over.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
fisher = torch.zeros_like(layer.weight)
for x in torch.randn(4, 3):
    layer(x).sum().backward()
    fisher += layer.weight.grad ** 2
""",
        instead_of="layer(x).sum().backward()",
        silent="layer.zero_grad()\nlayer(x).sum().backward()",
    ),
    find=_find,
)
