"""A ratio of new and old probabilities with both in the graph: their gradients cancel."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.ratios_of_one import RatioOfOne, ratios_of_one
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.calls.calls_of_functions import calls_of


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for found in ratios_of_one(index, sources.passes):
        steps = {step for leaf in found.leaves for step in sources.lives.steps.get(leaf, ())}
        if any(found.old < step < found.op for step in steps):
            continue
        names = sources.listed([sources.names.of(leaf) for leaf in found.leaves])
        kept, new = _kept(sources, found), index.op_line(found.new)
        other = f"the one of line {new}, of the same samples" if new != index.op_line(found.old) else "the same anew"
        yield sources.finding(
            f"Line {kept[0].line if kept else index.op_line(found.old)}: the log-probability computed there is kept "
            f"with its graph, and line {index.op_line(found.op)} takes it off {other} by the same parameters ({names})",
            why="their gradients cancel, so that the ratio is 1 and gives no gradient",
            op=found.op,
            tensors=found.leaves,
            causes=[*kept, *sources.cause("used", found.op)],
            evidence=[Evidence("ops", found.old), Evidence("ops", found.new)],
            advice="Keep log_prob.detach(), or compute the old one under no_grad: it is a constant.",
        )


def _kept(sources: Sources, found: RatioOfOne) -> list[Cause]:
    """The line that computed the old one: where one function computes both, the call of it that is not the ratio's."""
    index = sources.index
    where, ratio = (index.statements[index.op_statement[op]] for op in (found.old, found.op))
    if index.op_statement[found.old] == index.op_statement[found.new] and where.file >= 0:
        text, name = index.recording.files[where.file].text, index.recording.text(where.function).rpartition(".")[2]
        later = [range(ratio.line, ratio.end_line + 1)] * (where.file == ratio.file)
        later += [
            range(one.line, one.end_line + 1) for one in sources.stored(index.tensors_made(found.new)[0], found.op)
        ]
        calls = [call for call in calls_of(text, name) if not any(call.line in lines for lines in later)]
        if len(calls) == 1:
            call = calls[0]
            return [sources.cause_of_line("made", where.file, call.line, call.end_line, call.function)]
        stored = sources.stored(index.tensors_made(found.old)[0], found.op)
        if stored:
            return stored
    return sources.cause("made", found.old)


DIAGNOSIS = Diagnosis(
    code="ratio-without-gradient",
    title="a ratio of two probabilities whose gradients cancel",
    severity="warning",
    explanation=Explanation(
        meaning="""A loss has exp(new - old) of two log-probabilities. Both were computed from the same parameters and
            for the same samples, both require grad, and no step was made between them.""",
        reason="""The derivative of new - old is that of new less that of old. Where both come from the same parameters
            these are the same, and what is left is zero up to rounding: the policy is not trained. The old
            probability is meant to be a constant.""",
        remedy="""Store log_prob.detach(), or collect the samples under torch.no_grad().""",
    ),
    example=Example(
        shows="""\
import torch
from torch.distributions import Categorical

policy = torch.nn.Linear(3, 2)
states, gains = torch.rand(8, 3), torch.rand(8)
chances = Categorical(logits=policy(states))
actions = chances.sample()
old = chances.log_prob(actions)
new = Categorical(logits=policy(states)).log_prob(actions)
(-(new - old).exp() * gains).mean().backward()
""",
        instead_of="old = chances.log_prob(actions)",
        silent="old = chances.log_prob(actions).detach()",
    ),
    find=_find,
)
