"""Weights that the program overwrites after each step, so that no step counts."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.calls_beside_passes import where_asked_for
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.carried_states import CarriedState, carried_states
from gradscope.analysis.facts.memory_writes.drawn_masks import DrawnMask, drawn_masks
from gradscope.analysis.facts.memory_writes.overwritten_weights import STEPS, Overwritten, OverwrittenWeights
from gradscope.analysis.facts.memory_writes.rounded_weights import Rounded, RoundedWeights
from gradscope.analysis.facts.memory_writes.target_networks import TargetNetwork, target_networks
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.updates_written import updates_written
from gradscope.recording.rows import EventKind

_SAYS = {
    "unchanged": "with values that nothing changed meanwhile, so that each step begins where the first did",
    "average": "with their own running average, which so takes the place of what the steps made",
    "towards": "with an average of them and of parameters that nothing changes, so that they are pulled back to those",
}
_INSTEAD = {
    "unchanged": "Load them once, before the loop.",
    "average": "Keep the average in a copy, and load that for an evaluation only.",
    "towards": "Where the others are to be the average, write into them.",
}


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that calls of one line overwrite with the same kind of values."""
    index, lives = sources.index, sources.lives
    if not any(len(steps) >= STEPS for steps in lives.steps.values()):
        return
    alike: dict[tuple[int, str], list[Overwritten]] = {}
    told = set[int]()
    for one in OverwrittenWeights(index, lives).found():
        alike.setdefault((index.op_statement[one.copies[-1]], one.source), []).append(one)
    for (_, source), group in alike.items():
        tensors, last = [one.tensor for one in group], group[0].copies[-1]
        told.update(tensors)
        names = sources.listed([sources.names.of(tensor) for tensor in tensors])
        writes, causes = index.call_name(last), sources.cause("write", last)
        if source != "towards":  # (which of two is written is decided where it is written)
            writes, causes = where_asked_for(sources, "write", last, last_before(lives.steps[tensors[0]], last))
        line = causes[0].line if causes else index.op_line(last)
        yield sources.finding(
            f"Line {line}: {writes} overwrites {names} after each step ({index.times(group[0].copies):,} times)",
            why=_SAYS[source],
            op=last,
            tensors=tensors,
            causes=causes,
            evidence=[Evidence("ops", op) for one in group for op in one.copies[-STEPS:]],
            advice=_INSTEAD[source],
        )
    yield from _from_targets(sources, told)
    yield from _rounded(sources)
    yield from _masked(sources)
    yield from _carried(sources)


def _from_targets(sources: Sources, told: set[int]) -> Iterator[Finding]:
    """One finding for each network that gets the values of its own target network, which gets none."""
    index = sources.index
    for one in target_networks(index, sources.passes, sources.lives):
        writes = one.given_back
        is_again = len(writes) > 1 and any(writes[0] < step < writes[-1] for step in one.steps)
        if not is_again or one.meets < 0 or not told.isdisjoint(one.originals):
            continue
        names, source = (
            sources.listed([sources.names.of(leaf) for leaf in some]) for some in (one.originals, one.leaves)
        )
        called, causes = _call_of_both(sources, one), sources.cause("write", writes[-1])
        line = called[0].line if called else index.op_line(writes[-1])
        since = f" since line {index.op_line(one.copied)} copied them" if one.copied >= 0 else ""
        yield sources.finding(
            f"Line {line}: {names} are written from {source} between the steps ({index.times(writes):,} times), not "
            "the other way round",
            why=f"nothing writes {source}{since}, so that the network is pulled back to them, and line "
            f"{index.op_line(one.meets)} takes its targets from values of the beginning",
            op=writes[-1],
            tensors=one.originals,
            causes=[*called, *causes],
            evidence=[Evidence("ops", op) for op in writes[-2:]],
            advice="Exchange the two.",
        )


def _call_of_both(sources: Sources, one: TargetNetwork) -> list[Cause]:
    """The call that hands both networks to the function that writes; empty where that knows them by itself."""
    index, at = sources.index, sources.index.statements[sources.index.op_statement[one.given_back[-1]]]
    copy, original = (set(sources.names.of(leaves[0]).split(".")) for leaves in (one.leaves, one.originals))
    text = index.recording.files[at.file].text if at.file >= 0 else ""
    found = updates_written(text, original - copy, copy - original)
    calls = [update for update in found if update.callee[0] and update.callee[0] <= at.line <= update.callee[1]]
    return [sources.cause_of_line("write", at.file, one.line, one.end_line, "") for one in calls[:1]]


def _carried(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters in whose place one line puts a state that the network computed."""
    index = sources.index
    alike: dict[int, list[CarriedState]] = {}
    for one in carried_states(index, sources.lives):
        alike.setdefault(index.op_statement[one.writes[-1]], []).append(one)
    for group in alike.values():
        last = group[0].writes[-1]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        yield sources.finding(
            f"Line {index.op_line(last)}: {index.call_name(last)} puts what the network computed in the place of "
            f"{names}, in each forward pass ({index.times(group[0].writes):,} times)",
            why=f"line {index.op_line(group[0].read)} used it before, so that the pass and the step are for values "
            "that are gone by then, and what a step makes of them is dropped in the next forward pass",
            op=last,
            tensors=[one.tensor for one in group],
            causes=sources.cause("write", last),
            evidence=[Evidence("ops", op) for one in group for op in one.writes[-STEPS:]],
            advice="Keep the state that is carried in an attribute or a buffer of its own.",
        )


def _rounded(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters whose rounded values one line puts in their own place."""
    index, lives = sources.index, sources.lives
    alike: dict[int, list[Rounded]] = {}
    for one in RoundedWeights(index, lives).found():
        alike.setdefault(index.op_statement[one.writes[-1]], []).append(one)
    for group in alike.values():
        last, rounds = group[0].writes[-1], group[0].rounds[-1]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        yield sources.finding(
            f"Line {index.op_line(last)}: {index.call_name(last)} puts the rounded values of {names} in their own "
            "place after each step",
            why=f"what a step adds is lost in {index.call_name(rounds)} unless it reaches the next level, and does not "
            "add up",
            op=last,
            tensors=[one.tensor for one in group],
            causes=sources.cause("write", last),
            evidence=[Evidence("ops", op) for one in group for op in one.writes],
            advice="Leave the parameter alone and compute with w + (round(w) - w).detach().",
        )


def _masked(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line multiplies by what is drawn anew each time."""
    index = sources.index
    alike: dict[int, list[DrawnMask]] = {}
    is_same = any(event.detail.get("again") for event in sources.events.of(EventKind.SEEDED))
    for one in drawn_masks(index, sources.lives) if not is_same else ():
        alike.setdefault(index.op_statement[one.writes[-1]], []).append(one)
    for group in alike.values():
        last, draws = group[0].writes[-1], group[0].draws
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        drawn = "what" if draws == last else f"what line {index.op_line(draws)} ({index.call_name(draws)}) draws, which"
        yield sources.finding(
            f"Line {index.op_line(last)}: {index.call_name(last)} masks {names} in place "
            f"({index.times(group[0].writes):,} times), by {drawn} is another each time",
            why="nothing writes the values back before the step: what one draw took away is gone from the weights "
            "themselves, and the next draw takes more",
            op=last,
            tensors=[one.tensor for one in group],
            causes=sources.cause("write", last),
            evidence=[Evidence("ops", op) for one in group for op in one.writes[-STEPS:]],
            advice="Leave the parameter alone and compute with the product: F.linear(x, weight * mask).",
        )


DIAGNOSIS = Diagnosis(
    code="weights-overwritten",
    title="weights are overwritten after each step",
    severity="warning",
    explanation=Explanation(
        meaning="""After each step of an optimizer, and before the next pass, the program copied other values into the
            parameters: always the same ones, the running average of the parameters themselves, or their own values,
            rounded or masked by what was drawn anew. Or each forward pass put what the network computed (a hidden
            state) in the place of a parameter that it had used (a learned first state). Or a network is
            written now and then from the target network of its own loss, which nothing writes.""",
        reason="""load_state_dict and copy_ write into the very parameters that the optimizer steps. A checkpoint that
            is loaded inside the loop takes the training back to it each time. An average that is copied into the live
            model lets through only a small part of each step, (1 - decay) of it. Of rounded weights a step that
            is smaller than half the distance of two levels leaves nothing. What a drawn mask (dropout of weights) took
            out of the parameter itself does not come back when another is drawn.""",
        remedy="""Load a checkpoint before the loop. Write the average into a second model (copy.deepcopy,
            torch.optim.swa_utils.AveragedModel) and leave the trained one alone. Quantise a copy of the weights in
            forward, with a straight-through estimate, and not the parameters; mask a product, weight * mask.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

layer = torch.nn.Linear(3, 1)
best = copy.deepcopy(layer.state_dict())
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(6):
    layer.load_state_dict(best)
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
""",
        instead_of="layer.load_state_dict(best)",
        silent="layer.state_dict()",
    ),
    find=_find,
)
