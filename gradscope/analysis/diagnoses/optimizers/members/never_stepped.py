"""Parameters that get gradients and that no optimizer step updates: in no optimizer, or in one made too early."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.members.chosen_while_frozen import made_with
from gradscope.analysis.diagnoses.optimizers.members.held_in_vain import held_in_vain
from gradscope.analysis.diagnoses.optimizers.members.optimizer_choice import OptimizerFor
from gradscope.analysis.diagnoses.optimizers.members.why_no_step import WhyNoStep, what_steps_did
from gradscope.analysis.diagnoses.optimizers.members.why_not_held import (
    constructed_by,
    frozen_when_chosen,
    held_twice,
    kept_unregistered,
    not_given_to_library,
    not_held,
    with_optimizer_copied,
)
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.functional_updates import FunctionalUpdates
from gradscope.analysis.facts.leaf_gradients.given_to_others import asked_and_given
from gradscope.analysis.facts.losses.losses_of_last_rounds import losses_of_returned_rounds
from gradscope.analysis.facts.optimizers import Optimizer, all_were_seen, seen_optimizers
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.recording import NONE
from gradscope.recording.flags import LEAF, PARAMETER
from gradscope.recording.rows import GradOutcome, OpKind

STEPS = 2
"""Optimizer steps without an update from which on a parameter is reported."""


_OF_SEVERAL = re.compile(r"\b(hold|leaves?|before|put) them\b")
"""Where a reason speaks of the parameters that have it."""


def _find(sources: Sources) -> Iterator[Finding]:
    """Parameters that were never written after they got gradients, though optimizers ran their steps."""
    index = sources.index
    steps = index.of_kind(OpKind.STEP)
    if len(steps) < STEPS:
        return
    written = last_written(index)
    flags = index.recording.tensors.column("flags")
    held, updates = sources.events.in_optimizers, FunctionalUpdates(index)
    asked = {tensor for op in index.of_kind(OpKind.GRAD) for tensor in index.uses.of(op)}
    anew = {leaf for one in sources.made_each_round for leaf in one.leaves}  # (see layer-made-anew)
    by_copies = _used_by_copies(sources, held)
    no_way = {leaf for one in sources.ends_at_steps for leaf in one.leaves}  # (see graph-ends-at-step)
    unadded = _in_losses_of_last_rounds(sources)
    missed = {
        tensor: passes
        for tensor, passes in _all_passes(index, held, steps[-1]).items()
        if len(passes) >= STEPS
        and tensor not in anew
        and tensor not in by_copies
        and tensor not in no_way
        and tensor not in unadded
        and passes[0] < steps[-STEPS]
        and _last_write(index, written, tensor) < passes[0]
        # (what autograd.grad is asked about, and is no parameter, is where a derivative is taken: points of a grid)
        and (flags[tensor] & PARAMETER or (tensor not in asked and kept_unregistered(sources, tensor) is not None))
        and (tensor in held or not updates.has(tensor))
    }
    for reason, tensors in _by_reason(sources, missed, steps).items():
        passes = [missed[tensor] for tensor in tensors]
        last_pass = passes[0][-1]
        statement = index.op_statement[last_pass]
        times = max(index.times(op for op in several if index.op_statement[op] == statement) for several in passes)
        is_named = sources.names.is_named
        names = [reason.name if reason.name and not is_named(one) else sources.names.of(one) for one in tensors]
        number = f" ({len(names)} tensors)" if len(set(names)) < len(names) else ""
        yield sources.finding(
            f"{sources.backward_at(last_pass, reason.causes)} gave {sources.listed(names)}{number} gradients "
            f"({times:,} passes), and no optimizer step changed {'them' if len(names) > 1 else 'it'}",
            why=reason.why if len(names) > 1 else _of_one(reason.why),
            op=last_pass,
            tensors=tensors,
            causes=reason.causes,
            evidence=[Evidence("ops", op) for op in steps[-STEPS:]]
            + [Evidence("events", row) for row in reason.events],
            advice=reason.advice,
        )


def _used_by_copies(sources: Sources, held: Collection[int]) -> set[int]:
    """Parameters with which copies of their module compute, which are what an optimizer holds (copy-runs-original)."""
    found = (one for one in sources.copied_closures if any(copy in held for copy in one.copies))
    return {tensor for one in found for tensor in one.originals}


def _in_losses_of_last_rounds(sources: Sources) -> set[int]:
    """Parameters of the losses of a loop that returns another one (see loss-of-last-round)."""
    index, nodes = sources.index, sources.index.recording.tensors.column("node")
    lost = [op for one in losses_of_returned_rounds(index, sources.passes) for op in one.losses]
    return sources.passes.leaves_behind(*{nodes[one] for op in lost for one in index.tensors_made(op)})


def _of_one(why: str) -> str:
    return (
        _OF_SEVERAL.sub(r"\1 it", why)
        .replace("as they were made", "as it was made")
        .replace("while they did not", "while it did not")
    )


def _by_reason(sources: Sources, missed: dict[int, list[int]], steps: list[int]) -> dict[WhyNoStep, list[int]]:
    """The parameters that no step changed, with those that have one reason together."""
    index = sources.index
    optimizers = seen_optimizers(index, sources.events)
    choice = OptimizerFor(sources, optimizers if all_were_seen(index, optimizers) else [])
    unknown = WhyNoStep(what_steps_did(index, steps))
    found: dict[WhyNoStep, list[int]] = {}
    for tensor, passes in missed.items():
        holders = [one for one in optimizers if tensor in one.tensors]
        if holders:
            reason = held_in_vain(sources, holders, tensor, passes, steps)
        else:
            reason = (
                with_optimizer_copied(sources, tensor)
                or not_held(sources, choice.of(tensor), tensor, missed)
                or frozen_when_chosen(sources, made_with(sources, optimizers, tensor), tensor, missed)
                or held_twice(sources, optimizers, steps)
                or not_given_to_library(sources, tensor, steps)
            )
        found.setdefault(reason or unknown, []).append(tensor)
    return _with_one_order(sources, found, optimizers)


def _with_one_order(
    sources: Sources, found: dict[WhyNoStep, list[int]], optimizers: list[Optimizer]
) -> dict[WhyNoStep, list[int]]:
    """The same, with all that was made after one optimizer together: one line, moved, mends them all."""
    united = dict[WhyNoStep, WhyNoStep]()
    for optimizer in optimizers:
        reasons = [reason for reason in found if reason.is_order and reason.events == (optimizer.made.row,)]
        if len(reasons) < 2:
            continue
        causes = tuple(dict.fromkeys(cause for reason in reasons for cause in reason.causes))
        through = reasons[0].through
        own = [*through, *cause_of_making(sources, optimizer)]
        lines = numbers(sorted({cause.line for cause in causes if cause not in own and cause.role != "used"}))
        called = sorted({cause.line for cause in causes if cause.role == "used"})
        by = f", called at line {numbers(called)}," if len(called) == 1 else ""
        one = WhyNoStep(
            f"{constructed_by(sources, optimizer, through)} was made before them and does not hold them, as lines "
            f"{lines}{by} made them later",
            (*own, *(cause for cause in causes if cause not in own)),
            reasons[0].events,
            "Make the optimizer after that.",
        )
        united.update(dict.fromkeys(reasons, one))
    together: dict[WhyNoStep, list[int]] = {}
    for reason, tensors in found.items():
        together.setdefault(united.get(reason, reason), []).extend(tensors)
    return together


def _last_write(index: Index, written: dict[int, int], tensor: int) -> int:
    """The last op that wrote into memory that a tensor is or was on, or NONE."""
    memory = [index.storage_at(tensor, NONE), *(storage for _, storage in index.moves.get(tensor, ()))]
    return max(written.get(storage, NONE) for storage in memory)


def _passes_that_gave(index: Index, before: int) -> dict[int, list[int]]:
    """For each leaf that is still there at an op: the earlier passes that gave it a gradient."""
    tensors, gradients = index.recording.tensors, index.recording.gradients
    flags, died = tensors.column("flags"), tensors.column("died")
    passes: dict[int, list[int]] = {}
    for op, tensor, outcome in zip(*(gradients.column(name) for name in ("op", "tensor", "outcome")), strict=True):
        if outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED) and flags[tensor] & LEAF and op < before:
            passes.setdefault(tensor, []).append(op)
    return {tensor: ops for tensor, ops in passes.items() if died[tensor] == NONE or died[tensor] > before}


def _all_passes(index: Index, held: Collection[int], before: int) -> dict[int, list[int]]:
    """The same, and the passes whose gradients the program gave to a copy of the leaf that an optimizer holds."""
    flags = index.recording.tensors.column("flags")
    asked = {
        tensor: [op for op in ops if op < before]
        for tensor, ops in asked_and_given(index, held).items()
        if tensor not in held and flags[tensor] & LEAF
    }
    return {**asked, **_passes_that_gave(index, before)}


DIAGNOSIS = Diagnosis(
    code="never-stepped",
    title="parameters that get gradients and that no optimizer updates",
    severity="warning",
    explanation=Explanation(
        meaning="""Backward passes gave parameters gradients, optimizers made their steps, and the parameters were
            never written. Gradients that autograd.grad returned count where they became the .grad of what an optimizer
            holds in place of the parameters.""",
        reason="""An optimizer updates the very objects that it was given. A layer that was added, replaced or
            unfrozen after the optimizer was made, parameters in a plain list, copies of the parameters (clone,
            deepcopy), or an iterator that was used up before leave parameters out of it.""",
        remedy="""Make the optimizer after the model is complete, from the parameters that are trained, or add the
            new ones with add_param_group. If they are not to be trained, requires_grad_(False) saves their
            gradients.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(4, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    head(body(torch.ones(2, 4))).sum().backward()
    optimizer.step()
""",
        instead_of="optimizer = torch.optim.SGD(body.parameters(), lr=0.1)",
        silent="optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)",
    ),
    find=_find,
)
