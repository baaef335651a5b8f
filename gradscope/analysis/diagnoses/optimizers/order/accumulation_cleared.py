"""Gradients of several passes that were to be added up, and of which only some ones' reach the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.order.clearing_calls import call_that_clears
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.cleared_remainders import cleared_remainders
from gradscope.analysis.facts.leaf_gradients.kept_gradients import owners_kept
from gradscope.analysis.facts.leaf_gradients.numbers_of_gradients import is_for_numbers
from gradscope.analysis.facts.leaf_gradients.passes_in_vain import PassesInVain, passes_in_vain
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.passes_counted import are_counted_for
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps before which gradients were dropped from which on it is reported; there may be no others."""


class _Dropped(NamedTuple):
    """What was lost before one step."""

    step: int
    passes: int
    """Passes of one line between the step before and this one."""
    cleared: int
    """The last call that cleared what one of them had given."""
    is_looked_at: bool
    """Numbers were taken of it before: its norm, for a log."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line steps and one line clears."""
    yield from _find_at_rounds(sources)
    yield from _find_of_lines(sources)
    index, lives = sources.index, sources.lives
    watched = {
        tensor for hook in sources.hooks.all if hook.is_on_tensor for one in hook.registered for tensor in one.tensors
    }
    alike: dict[tuple[int, int], list[tuple[int, list[_Dropped]]]] = {}
    for tensor, steps in lives.steps.items():
        if tensor in watched or len(steps) < STEPS or tensor not in lives.cleared:
            continue
        found = _before_each_step(index, lives, tensor, steps)
        if len(found) >= STEPS:
            key = index.op_statement[found[-1].step], index.op_statement[found[-1].cleared]
            alike.setdefault(key, []).append((tensor, found))
    # What was cleared had been kept, by reference: see gradient-kept-by-reference and kept-again.
    kept = owners_kept(index, lives) if alike else set()
    again = {one.tensor for one in sources.kept_again} if alike else set()
    for group in alike.values():
        tensors, found = [tensor for tensor, _ in group], group[0][1]
        if not kept.isdisjoint(tensors) or not again.isdisjoint(_gradients_of(lives, tensors)):
            continue
        last = found[-1]
        # (where rounds are taken out that begin in the midst of one, those at the gap have other numbers)
        often = Counter(one.passes for one in found)
        most = max(often, key=lambda passes: (often[passes], passes))
        where, causes = call_that_clears(sources, last.cleared, last_before(lives.passes[tensors[0]], last.step))
        yield sources.finding(
            f"L{where[1:]} clears what all but the last of the {most:,} backward passes before each step gave "
            f"{sources.listed([sources.names.of(tensor) for tensor in tensors])}, and "
            f"{'nothing but numbers had been taken of it' if last.is_looked_at else 'nothing had used it'}",
            op=last.step,
            tensors=tensors,
            causes=causes,
            evidence=[Evidence("ops", one.cleared) for one in found[-STEPS:]],
            advice="To add them up, clear once a step: before the first of the passes, or after the step.",
        )


def _find_at_rounds(sources: Sources) -> Iterator[Finding]:
    """What a round of a loop had added up for a step of the next one, which that begins by clearing."""
    for found in cleared_remainders(sources.index, sources.lives):
        step, cleared, gone = found.gone[-1]
        where, causes = call_that_clears(sources, cleared, found.last_pass)
        rest = found.passes - gone
        yield sources.finding(
            f"L{where[1:]} clears gradients of "
            f"{sources.listed([sources.names.of(tensor) for tensor in found.tensors])} that no step had applied: "
            f"each of {found.steps:,} steps came {found.passes:,} backward passes after the one before, and "
            f"{len(found.gone):,} of these steps applied gradients of fewer, the last of them of {rest:,}",
            op=step,
            tensors=list(found.tensors),
            causes=causes,
            evidence=[Evidence("ops", cleared) for _, cleared, _ in found.gone[-STEPS:]],
            advice="Clear after each step only; or count the passes anew there, if what is left over is to be dropped.",
        )


def _find_of_lines(sources: Sources) -> Iterator[Finding]:
    """The lines whose passes give gradients that never reach a step, while those of others do."""
    if any(not hook.kind.startswith("forward") for hook in sources.hooks.all):
        return  # (such a pass may have been run for what a hook takes of it)
    kept: set[int] | None = None
    for found in passes_in_vain(sources.index, sources.lives):
        kept = owners_kept(sources.index, sources.lives) if kept is None else kept
        if kept.isdisjoint(found.tensors) and not _is_for_idle_step(sources.index, found):
            yield _of_line(sources, found)


def _is_for_idle_step(index: Index, found: PassesInVain) -> bool:
    """Whether a step that found no gradient follows the last pass: that was for what this step holds, and missed it."""
    last, steps = found.passes[-1], index.of_kind(OpKind.STEP)
    return any(last < step < found.cleared and not len(index.uses.of(step)) for step in steps)


def _of_line(sources: Sources, found: PassesInVain) -> Finding:
    index, last = sources.index, found.passes[-1]
    where, cleared = call_that_clears(sources, found.cleared, last)
    applied, step = index.op_line(found.applied), found.before
    symptom = (
        f"Line {index.op_line(last)}: no step applied what the {index.times(found.passes):,} backward passes of this "
        f"line gave {sources.listed([sources.names.of(tensor) for tensor in found.tensors])}, and nothing else used it"
    )
    if step >= 0:
        why = (
            f"line {index.op_line(step)} ({index.call_name(step).removeprefix('optim.')}) has stepped before, and "
            f"{where} clears it before the next step, which applies what line {applied} gives"
        )
        causes = [*sources.cause("backward", last), *sources.cause("step", step), *cleared]
        advice = "Step after this pass."
    else:
        why = f"{where} clears it before the pass of line {applied}, whose gradients the next step applies"
        causes = [*sources.cause("backward", last), *cleared]
        advice = "Clear before both passes."
    return sources.finding(
        symptom,
        why=why,
        op=last,
        tensors=list(found.tensors),
        causes=causes,
        evidence=[Evidence("ops", found.cleared), Evidence("ops", found.applied)],
        advice=advice,
    )


def _gradients_of(lives: GradientLives, tensors: list[int]) -> Iterator[int]:
    for tensor in tensors:
        for one in lives.passes[tensor]:
            yield from lives.given.get(one, ())


def _before_each_step(index: Index, lives: GradientLives, tensor: int, steps: list[int]) -> list[_Dropped]:
    """What was lost before every step of a parameter; empty where one of them had all that was computed for it."""
    passes, cleared, found, since = lives.passes[tensor], lives.cleared[tensor], list[_Dropped](), NONE
    for step in steps:
        between = [one for one in passes if since < one < step]
        since = step
        if not between:
            continue
        last = between[-1]
        same = [one for one in between if index.op_statement[one] == index.op_statement[last]]
        gone = last_before(cleared, last)
        if len(same) < 2 or gone < same[-2]:
            return []
        took = _taken(index, lives, same[:-1], cleared)
        if took is None or (took and not _is_counted(index, step, same)):
            return []
        found.append(_Dropped(step, max(len(same), index.times(same) // index.weights[step]), gone, took))
    return found


def _taken(index: Index, lives: GradientLives, passes: list[int], cleared: list[int]) -> bool | None:
    """Whether numbers were taken of what passes gave, to whichever parameter, before it was cleared.

    None where some call or step took more than that.
    """
    cleared_at = {op for ops in lives.cleared.values() for op in ops}
    is_looked_at = False
    for one in passes:
        if _is_stepped(lives, one):
            return None
        gone = next((at for at in cleared if at > one), index.op_count)
        for gradient in lives.given.get(one, ()):
            uses = [use for use in index.users.of(gradient) if one < use < gone and use not in cleared_at]
            is_looked_at |= bool(uses)
            if not all(is_for_numbers(index, gradient, use) for use in uses):
                return None
    return is_looked_at


def _is_counted(index: Index, step: int, passes: list[int]) -> bool:
    """Whether the program counts passes up to a step: else it may have run them for the sake of the numbers."""
    where = index.statements[index.op_statement[step]]
    if where.file < 0 or index.statements[index.op_statement[passes[-1]]].file != where.file:
        return False
    made = index.made_by(index.roots[passes[-1]][0]) if index.roots.get(passes[-1]) else NONE
    return are_counted_for(
        index.recording.files[where.file].text,
        index.op_line(step),
        index.op_line(passes[-1]),
        index.op_line(made) if index.method(made) == "Tensor.div" and len(index.uses.of(made)) == 1 else 0,
        len(passes),
    )


def _is_stepped(lives: GradientLives, one: int) -> bool:
    """Whether what a pass gave some parameter went into a step: of a generator, behind the discriminator."""
    for tensor, steps in lives.steps.items():
        step, gone = first_after(steps, one), first_after(lives.cleared.get(tensor, []), one)
        if step >= 0 and not one < gone < step and one in lives.passes.get(tensor, ()):
            return True
    return False


DIAGNOSIS = Diagnosis(
    code="accumulation-cleared",
    title="of several backward passes only some ones' gradients reach the step",
    severity="warning",
    explanation=Explanation(
        meaning="""Before each step the same line ran backward several times, and each time the gradients of the pass
            before had been cleared without anybody having used them for more than a number, such as a norm for a log.
            The step applied those of the last pass. Or each step came after equally many passes, and a line that runs
            after another number of them cleared what was added up for some steps. Or what all passes
            of one line gave was cleared each time before a step, and nothing had used it.""",
        reason="""Backward adds to .grad, which is how gradients of several small batches become those of a large one.
            zero_grad() before every pass takes away what was added up so far; no error tells. At the begin of each
            epoch it takes away what the one before left over, while a count of passes that goes on lets the next step
            come as if it were there. A loss of its own whose pass comes between a step and zero_grad() has no
            effect at all.""",
        remedy="""Call zero_grad() as often as step(): right after it, or before the first of the batches that belong
            together. Run the pass of a second loss before the step.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for batch in range(8):
    optimizer.zero_grad()
    (layer(torch.ones(2, 3)).sum() / 4).backward()
    if batch % 4 == 3:
        optimizer.step()
""",
        instead_of="optimizer.zero_grad()",
        silent="if batch % 4 == 0:\n    optimizer.zero_grad()",
    ),
    find=_find,
)
