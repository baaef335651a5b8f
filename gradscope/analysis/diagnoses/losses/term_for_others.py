"""A term of a loss that is cut off what the step updates, and whose gradients go to others and are thrown away."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.terms_for_others import TermForOthers, TermsForOthers
from gradscope.analysis.facts.passes.passes_by_step import PassesByStep
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.wording import listed
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

_WITHOUT = "Where the term is to train them, leave the cut out here."
_OF_UNCUT = "Where the term is to train them, compute it of the results without the cut."


def _find(sources: Sources) -> Iterator[Finding]:
    """For the last passes of each place before a step of each optimizer: one finding for each cut.

    The last but one as well: what a round clears before its own pass is not cleared any more after the last round.
    """
    index, said = sources.index, set[tuple[int, ...]]()
    flags, kinds = (index.recording.ops.column(name) for name in ("flags", "kind"))
    by_step = sources.passes_by_step
    terms = TermsForOthers(index, sources.passes, by_step, sources.lives, sources.flow, sources.cuts)
    for op in (op for group in sources.gradients.groups for op in _last_two(by_step, group.ops)):
        if flags[op] & RAISED or kinds[op] != OpKind.BACKWARD:
            continue
        for found in terms.of_pass(op, sources.gradients.roots[op]):
            if (cuts := tuple(index.op_statement[cut] for cut in found.cuts)) not in said:
                said.add(cuts)
                yield _finding(sources, found, op)


def _last_two(by_step: PassesByStep, ops: list[int]) -> list[int]:
    last = by_step.last_of_each(ops)
    before = [op for op in ops if op not in last]
    return [*last, *(by_step.last_of_each(before) if before else ())]


def _finding(sources: Sources, found: TermForOthers, op: int) -> Finding:
    names = sources.names
    (root, *_) = sources.gradients.roots[op]
    where = listed(list(dict.fromkeys(sources.cuts.where(cut) for cut in found.cuts)))
    trained = sources.listed([names.at(leaf, op) for leaf in found.trained])
    others = sources.listed([names.at(leaf, op) for leaf in found.others])
    cuts = dict.fromkeys(sources.cuts.line_to_change(cut) for cut in found.cuts)
    causes, advice = [cause for cut in cuts for cause in sources.cause("cut", cut)], _WITHOUT
    other = _other_pass(sources, found, op)
    if other >= 0:
        # (the cut is right where another loss is computed of the same results)
        where = f"{where} for the loss of line {sources.index.op_line(other)}"
        causes, advice = sources.cause("used", sources.index.made_by(found.term)), _OF_UNCUT
    return sources.finding(
        f"{names.at(found.term, op)}, a term of {names.of(root)}, gives {trained} no gradient, which the step updates",
        why=f"it was cut off at {where}, and the gradients that it gives to {others} are cleared before any step",
        op=op,
        tensors=[found.term, *found.trained],
        causes=causes,
        evidence=[Evidence("ops", cut) for cut in found.cuts] + [Evidence("ops", found.cleared)],
        advice=advice,
    )


def _other_pass(sources: Sources, found: TermForOthers, op: int) -> int:
    """Another pass that came through what was computed for a term behind its cuts; NONE where none did."""
    index, passes, nodes = sources.index, sources.passes, sources.index.recording.nodes
    variable, made = nodes.column("variable"), nodes.column("op")
    behind = passes.behind(index.node_after(found.term))
    own = [node for node in behind if variable[node] < 0 and made[node] > max(found.cuts)]
    walked = {at for node in own for at in (passes.first_walked_at[node], passes.last_walked_at[node])}
    return max(walked - {op, NONE}, default=NONE)


DIAGNOSIS = Diagnosis(
    code="term-for-others",
    title="a term of a loss that gives its gradients to others, which nobody uses",
    severity="warning",
    explanation=Explanation(
        meaning="""A term of a loss was computed from parameters that the next step updates, cut off by detach() or
            no_grad. The gradients that it has go to other parameters, and are cleared before a step applies them.""",
        reason="""In a GAN the discriminator's loss detaches what the generator made, and the generator's loss must
            not. With the detach in both, the adversarial term of the generator's loss reaches the discriminator's
            parameters alone: only the other terms train the generator.""",
        remedy="""Give the discriminator what the generator made as it is, in the generator's loss:
            loss = criterion(discriminator(fake), real) + l1.""",
    ),
    example=Example(
        shows="""\
import torch

generator, critic = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
g_opt = torch.optim.SGD(generator.parameters(), lr=0.1)
c_opt = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(3):
    fake = generator(torch.ones(4, 2))
    judged = critic(fake.detach())
    loss = (judged - 1).pow(2).mean() + fake.abs().mean()
    g_opt.zero_grad()
    loss.backward()
    g_opt.step()
    c_opt.zero_grad()
    critic(fake.detach()).mean().backward()
    c_opt.step()
""",
        instead_of="judged = critic(fake.detach())",
        silent="judged = critic(fake)",
    ),
    find=_find,
)
