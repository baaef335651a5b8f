"""Leaves whose gradient is zero in every pass, since every way to them leads through a derivative that is zero."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.ended_gradients import ended_finding
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.grad_of_other_view import asked_in_vain
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.diagnoses.zeroing_arguments import ZeroingArgument, zeroing_argument
from gradscope.analysis.facts.derivatives.softmax_of_one import LENGTHS, NORM, OF_GROUPS
from gradscope.analysis.facts.derivatives.vanished_gradients import VanishedGradients
from gradscope.analysis.facts.derivatives.zero_derivatives import Blocked, ZeroGradients
from gradscope.analysis.facts.leaf_gradients.behind_node_hooks import hooked_nodes
from gradscope.analysis.facts.leaf_gradients.factors_of_zero import zero_factors
from gradscope.analysis.facts.leaf_gradients.overflown_halves import overflown_halves
from gradscope.analysis.facts.losses.samples_in_losses import samples_in_losses
from gradscope.analysis.facts.modules.direct_forwards import direct_forwards
from gradscope.analysis.facts.modules.places_of_modules import only_module, put_on_self
from gradscope.analysis.facts.reaching.straight_through import StraightThroughs
from gradscope.analysis.facts.value_looks import is_zero
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.analysis.wording import listed
from gradscope.frames.names.given_names import fields_given, second_names
from gradscope.frames.syntax_trees import dotted_name
from gradscope.recording.flags import BELOW

_ONE_VALUE = (".constant_", ".fill_", ".full", ".full_like")
"""Calls that give all elements one value."""

_ZEROS = (".zeros_like", ".zeros", ".new_zeros")

_SAMPLES = ("bernoulli", "poisson")
_OF_ONE_NORM = "Normalise over several values, or leave the norm out."
_OF_ONE_LENGTH = "Go over the dimension of several values, or leave it out."
_SATURATED = (
    "Scale the inputs, that the logits are not so far apart; cross_entropy of the logits has a derivative there too."
)
_OF_ONE = "For one logit use sigmoid; where weights of several are meant, go over their dimension."


def _find(sources: Sources) -> Iterator[Finding]:
    looks = sources.looks
    direct = {found.op for found in direct_forwards(sources.index)}
    others = zero_factors(sources.index, looks)
    told = frozenset(others.leaves if others is not None else ())
    overflown = {leaf for one in overflown_halves(sources.index, sources.passes, looks) for leaf in one.leaves}
    estimates = {sources.index.made_by(one.takes) for one in StraightThroughs(sources.index, sources.flow).reversed()}
    zeros = sources.zero_gradients
    known = told.union(overflown, *(one.leaves for one in zeros))
    for ended in VanishedGradients(sources.index, sources.passes, looks).found():
        hooked = {sources.index.recording.nodes.column("op")[node] for node in hooked_nodes(sources.index)}
        if not hooked.isdisjoint(ended.ops):
            continue  # (what the node gave was seen behind the hook)
        if known.isdisjoint(ended.leaves) and (found := ended_finding(sources, ended)) is not None:
            yield found
    sampled = _behind_samples(sources) if zeros else set()
    for blocked in zeros:
        if not blocked.everywhere and sampled.issuperset(blocked.leaves):
            continue  # (the other way, through a sample, was cut: a divergence alone starts at its least value)
        if told.issuperset(blocked.leaves):
            continue  # (what they hold is the cause)
        if not overflown.isdisjoint(blocked.leaves):
            continue  # (a norm that overflowed is the cause, of what is zero behind it, too)
        if not _alike(sources, list(estimates)).isdisjoint(_alike(sources, blocked.ops)):
            continue  # (the sum that hands the gradient to it instead of past it is the cause)
        if direct and not direct.isdisjoint(_alike(sources, blocked.ops)):
            continue  # (the backward that passes a gradient on was not called)
        if not blocked.everywhere and _is_of_zeros_for_none(sources, blocked):
            continue  # (a gradient was asked for of another view, and taken as zeros)
        if blocked.everywhere or not _is_at_rest(blocked):
            yield _finding(sources, blocked)


def _behind_samples(sources: Sources) -> set[int]:
    found = samples_in_losses(sources.index, sources.flow, sources.passes, sources.lives)
    return {leaf for one in found for leaf in one.leaves}


def explain(sources: Sources, leaf: int) -> Finding | None:
    """Why the gradient of one leaf was zero when it was last looked at; None where no such derivative was seen."""
    looks = sources.looks
    blocked = ZeroGradients(sources.index, sources.passes, looks, sources.functions).in_last_look(leaf)
    return None if blocked is None else _finding(sources, blocked)


def _alike(sources: Sources, ops: list[int]) -> set[int]:
    """The last ops of the statements of some."""
    index = sources.index
    return {index.last_op[index.op_statement[op]] for op in ops if 0 <= op < index.op_count}


def _is_of_zeros_for_none(sources: Sources, blocked: Blocked) -> bool:
    """Whether what went in was computed with zeros that the program put where a gradient was asked for in vain."""
    asked, index = asked_in_vain(sources), sources.index
    if not asked:
        return False
    is_zeros = {op for op in range(1, index.op_count) if index.func(op).endswith(_ZEROS)}
    made_at = index.recording.tensors.column("op")
    return all(
        any(
            made_at[tensor] in is_zeros and index.op_statement[made_at[tensor] - 1] in asked
            for taken in index.uses.of(op)
            for tensor in sources.flow.origins_of_all([taken], op)
        )
        for op in blocked.ops
    )


def _is_at_rest(blocked: Blocked) -> bool:
    """Whether the loss was exactly zero in each pass: a square of what agrees, a margin that is kept."""
    return all(root == (0.0, 0.0) for look in blocked.passes for root in look.roots)


def _finding(sources: Sources, blocked: Blocked) -> Finding:
    index = sources.index
    ops = sorted(blocked.cancelled) or blocked.ops
    op = ops[-1]
    calls = listed(list(dict.fromkeys(index.call_name(one) for one in ops)))
    lines = {index.op_line(one) for one in ops}
    where = f"Line{'s' if len(lines) > 1 else ''} {numbers(lines)}"
    names = sources.listed([sources.names.at(leaf, blocked.passes[-1].op) for leaf in blocked.leaves])
    passes = _passes(blocked)
    is_zero_for = "is zero everywhere" if blocked.everywhere else f"was zero for every element in {passes} looked at"
    is_norm = blocked.of_one and all(index.func(one) in (NORM, OF_GROUPS) for one in ops)
    is_length = blocked.of_one and all(index.func(one) in LENGTHS for one in ops)
    is_rounded = (is_norm or is_length) and not all(
        is_zero(look.gradients[leaf]) for look in blocked.passes for leaf in blocked.leaves
    )
    if is_norm:
        over = "each group is" if index.func(op) == OF_GROUPS else "it goes over"
        is_zero_for = f"is zero, since {over} one value (less its own mean, that is 0, whatever goes in)"
    elif is_length:
        is_zero_for = "is zero, since it goes over a dimension of size 1 (a number by its own size is 1 or -1)"
    elif blocked.of_one:
        is_zero_for = "is zero, since it goes over a dimension of size 1 (the softmax of one is 1, whatever goes in)"
    is_softmax = not blocked.cancelled and all(index.func(one).endswith("softmax") for one in ops)
    if is_softmax and not blocked.of_one:
        is_zero_for += " (all that it gave was 0 or 1)"
    what = f"the derivative of {calls} {is_zero_for}, and every way from the loss to {names} leads through it"
    made_at = _only_softmax(sources, ops) if is_softmax and not is_norm else None
    if is_norm:
        made_at = put_on_self(index, op) if len(lines) == 1 else None
    if made_at is not None:
        where = f"Line {made_at[1]}"
    start = [] if blocked.everywhere or blocked.of_one else _starting_values(sources, blocked)
    if start:
        what += f"; line {index.op_line(start[-1])} ({index.call_name(start[-1])}) set what it starts from"
    if blocked.cancelled:
        what = _cancelled(sources, blocked, names)
    elif len(blocked.returned) == len(ops):
        return _returned(sources, blocked, names)
    elif len(blocked.gave_zeros) == len(ops):
        return _gave_zeros(sources, blocked, names)
    elif ops == [one for one in ops if one in blocked.by_argument] and (argued := zeroing_argument(sources, op)):
        return _by_argument(sources, blocked, names, argued)
    return sources.finding(
        f"{where}: {what}",
        why=f"the gradient is {'zero, but for rounding,' if is_rounded else 'all zeros'}"
        + (f" in {passes} looked at" if blocked.everywhere else ""),
        op=op,
        tensors=blocked.leaves,
        causes=[
            *_two_names(sources, blocked),
            *([sources.cause_of_line("made", *made_at, made_at[1], "")] if made_at is not None else []),
            *(cause for one in start for cause in sources.cause("write", one)),
            *(
                cause
                for one in reversed(ops if made_at is None or not is_norm else [])
                for cause in sources.cause("cut", one)
            ),
        ],
        evidence=[Evidence("events", look.event) for look in blocked.passes],
        advice=_detached(sources, blocked)
        if blocked.cancelled
        else (_OF_ONE_NORM if is_norm else _OF_ONE_LENGTH if is_length else _OF_ONE)
        if blocked.of_one
        else _SATURATED
        if is_softmax
        else _advice(index.call_name(op), blocked.everywhere),
    )


def _by_argument(sources: Sources, blocked: Blocked, names: str, argued: ZeroingArgument) -> Finding:
    """Calls whose derivative is zero for an argument that they have."""
    index, op = sources.index, blocked.ops[-1]
    call, line = index.call_name(op), index.op_line(op)
    at = argued.causes[0].line if argued.causes else line
    here = f" (line {line})" if at != line else ""
    return sources.finding(
        f"Line {at}: with {argued.said} the derivative of {call}{here}{argued.by} is zero everywhere, and every way "
        f"from the loss to {names} leads through it",
        why=f"the gradient is all zeros in {_passes(blocked)} looked at",
        op=op,
        tensors=blocked.leaves,
        causes=[*argued.causes, *(cause for one in reversed(blocked.ops) for cause in sources.cause("cut", one))],
        evidence=[Evidence("events", look.event) for look in blocked.passes],
        advice=_advice(call, blocked.everywhere) if argued.advice is None else argued.advice,
    )


def _only_softmax(sources: Sources, ops: list[int]) -> tuple[int, int] | None:
    """Where the program makes the only softmax module, where a module made these calls."""
    flags = sources.index.recording.ops.column("flags")
    return only_module(sources.index, "Softmax") if all(flags[op] & BELOW for op in ops) else None


def _starting_values(sources: Sources, blocked: Blocked) -> list[int]:
    """The last calls that gave the blocked leaves one value throughout, before the first pass that was looked at."""
    index, first = sources.index, blocked.passes[0].op
    storages = index.recording.tensors.column("storage")
    own = {storages[leaf]: leaf for leaf in blocked.leaves}
    found: dict[int, int] = {}
    for op, tensor, _, _ in all_writes(index):
        if op < first and storages[tensor] in own and index.op_line(op):
            found[own[storages[tensor]]] = op
    for leaf in blocked.leaves:
        made = index.made_by(leaf)
        if leaf not in found and 0 <= made < first and index.op_line(made):
            wraps = (
                index.func(made) == "nn.Parameter" and made and index.op_statement[made - 1] == index.op_statement[made]
            )
            found[leaf] = made - 1 if wraps else made
    return sorted({op for op in found.values() if index.func(op).endswith(_ONE_VALUE)})


def _returned(sources: Sources, blocked: Blocked, names: str) -> Finding:
    """Zeros that custom Functions return by their source."""
    returned = [blocked.returned[op] for op in sorted(blocked.returned)]
    places = [lines for _, lines in returned]
    who = listed(list(dict.fromkeys(f"{written.name}'s backward (line {lines.line})" for written, lines in returned)))
    return sources.finding(
        f"{who} returns zeros, and every way from the loss to {names} leads through it",
        why=f"the gradient is all zeros in {_passes(blocked)} looked at",
        op=blocked.ops[-1],
        tensors=blocked.leaves,
        causes=sources.causes_at("returned", places),
        evidence=[Evidence("events", look.event) for look in blocked.passes],
    )


def _gave_zeros(sources: Sources, blocked: Blocked, names: str) -> Finding:
    """Zeros that custom Functions computed."""
    written = list(dict.fromkeys(blocked.gave_zeros[op] for op in sorted(blocked.gave_zeros)))
    places = [one.lines_of(statement) for one in written for statement in one.returns] or [
        one.header for one in written
    ]
    computed = [lines for one in written for lines in one.computed_at(0)]
    lines = numbers({sources.index.line(place.file, place.line) for place in places})
    return sources.finding(
        f"{listed([f'{one.name}.backward' for one in written])} (line{'s' if len(places) > 1 else ''} {lines}) gave "
        f"zeros alone for gradients that were not zero, in {_passes(blocked)} looked at, and every way from the loss "
        f"to {names} leads through it",
        op=blocked.ops[-1],
        tensors=blocked.leaves,
        causes=sources.causes_at("returned", [*places, *computed]),
        evidence=[Evidence("events", look.event) for look in blocked.passes],
    )


def _passes(blocked: Blocked) -> str:
    count = len(blocked.passes)
    return "the backward pass" if count == 1 else f"all {count} backward passes"


def _cancelled(sources: Sources, blocked: Blocked, names: str) -> str:
    """What cancels, and what else is on the way."""
    terms = sources.listed([sources.names.at(term, op) for op, terms in blocked.cancelled.items() for term in terms])
    named = _two_names(sources, blocked)
    if named:
        terms += f", which line {named[0].line} made a second name of one tensor (no detach()),"
    others = [one for one in blocked.ops if one not in blocked.cancelled]
    calls = listed(list(dict.fromkeys(sources.index.call_name(one) for one in others)))
    rest = f" and the derivative of {calls}, the way that is left, is zero" if others else ""
    return f"{terms} is added and taken away again, so that its gradient is 1 - 1{rest}: no other way leads to {names}"


def _two_names(sources: Sources, blocked: Blocked) -> list[Cause]:
    """The line that gave a tensor the second of the names by which it is taken away from itself."""
    index = sources.index
    for op, terms in blocked.cancelled.items():
        taken_twice = [term for term in terms if list(index.uses.of(op)).count(term) > 1]
        file, span = index.recording.spans[index.recording.ops[op].span].file, index.op_place(op)
        for term in taken_twice if file >= 0 else ():
            slot, slots = sources.names.slots[term], sources.names.slots
            alike = [one for one in sources.names_held if one == term or (slot >= 0 and slots[one] == slot)]
            names = {index.recording.text(name) for one in alike for name, _, _ in sources.names_held[one]}
            names |= _operands(index.span_source(op, exact=True))
            text = index.recording.files[file].text
            given = second_names(text, names, same_part=False) or fields_given(text, names)
            here = [one for one in given if one.name in span.source and one.of in span.source]
            if here:
                return [sources.cause_of_line("made", file, here[-1].line, here[-1].end_line, span.function)]
    return []


def _operands(text: str) -> set[str]:
    """What an expression calls the two that it subtracts one from the other, or adds."""
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else ()
    return {name for side in sides if (name := dotted_name(side))}


def _detached(sources: Sources, blocked: Blocked) -> str:
    """How a straight-through estimate is written, where it is one."""
    others = [one for one in blocked.ops if one not in blocked.cancelled]
    if not others:
        return ""
    last = sources.index.call_name(others[-1]).rpartition(".")[2].strip("_")
    return f"To pass the gradient on as if {last} were not there, detach the difference: x + ({last}(x) - x).detach()."


def _advice(call: str, everywhere: bool) -> str:
    last = call.rpartition(".")[2].strip("_")
    if not everywhere:
        return ""
    if last == "normal":
        return "Sample as mean + std * torch.randn_like(mean), which has a derivative."
    if last in _SAMPLES:
        return "A sample has no derivative: use a relaxation (Gumbel softmax) or the logarithm of its probability."
    return f"To pass the gradient on as if it were not there: y = x + ({last}(x) - x).detach()."


DIAGNOSIS = Diagnosis(
    code="gradient-always-zero",
    title="a gradient that is all zeros in every pass",
    severity="warning",
    explanation=Explanation(
        meaning="""Leaves got a gradient in backward, but it was zero in every pass that was looked at, and every way
            from the loss to them leads through a call whose derivative is zero: everywhere (round, sign, floor,
            a sample, softmax over a dimension of size 1, grid_sample with mode='nearest' by its grid), or for all the
            values that were seen (clamp outside of its bounds, a ReLU that is never active, points outside of the image
            that grid_sample samples); or of what a call put together only a part is used (h[-1] of the two directions
            of a recurrent layer), and the way leads to the rest.""",
        reason="""Such a call has a node in the graph, so that nothing fails and no gradient is None. Zeros come out
            of it all the same, and what lies behind it is not trained.""",
        remedy="""Let the gradient pass as if the call were not there (straight-through: x + (round(x) - x).detach()),
            use a smooth function instead, or keep the values inside of the bounds.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.tensor([0.3, 1.6], requires_grad=True)
y = torch.round(w * 2)
y.sum().backward()
""",
        instead_of="y = torch.round(w * 2)",
        silent="y = w * 2 + (torch.round(w * 2) - w * 2).detach()",
    ),
    find=_find,
)
