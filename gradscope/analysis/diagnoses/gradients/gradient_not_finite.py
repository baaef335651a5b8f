"""Gradients or a loss that are NaN or infinite: since which pass, of what, and where it began."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.behind_births import behind_birth
from gradscope.analysis.facts.leaf_gradients.births_of_nan import Birth, Births, is_masked
from gradscope.analysis.facts.leaf_gradients.nan_in_data import NanInData, nan_in_data
from gradscope.analysis.facts.leaf_gradients.nan_of_sizes import NanOfSize, nan_of_size
from gradscope.analysis.facts.leaf_gradients.poles_met import pole_met
from gradscope.analysis.facts.leaf_gradients.vanished_eps import VanishedEps, in_half_precision, vanished_eps
from gradscope.analysis.facts.modules.places_of_modules import only_module
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.value_looks import PassLook, born_in_ops, is_bad, is_nan, word_for
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.worded_lines import numbers
from gradscope.frames.names.rates_of_groups import rates_written
from gradscope.frames.values.unguarded_branches import UnguardedBranch, unguarded_branches
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW
from gradscope.recording.rows import EventKind

_GROWN = 1e4
"""How many times as large as in the first pass the largest gradient is where a training diverges."""

_LARGE = 1e5
"""And how large it then is."""

_LARGE_WEIGHT = 1e6
"""How large a weight is that has grown so: none begins with that."""

_FIRST, _TEN = 3, 10
"""Passes from the first on in which gradients stay below ten times those of the first, where it begins well."""

_TOLD = 3
"""Passes that are told of, each with leaves of its own."""

_NEVER = 3
"""Passes that give NaN whatever the scale from which on a GradScaler is taken to skip all steps."""

_UNDEFINED = {
    "sqrt": "add a small number under the root",
    "rsqrt": "add a small number under the root",
    "pow": "add a small number to the base, or keep it away from 0",
    "norm": "add a small number under the root",
    "hypot": "add a small number to one of its inputs",
    "slogdet": "keep the matrix invertible: a small diagonal that is added",
    "qr": "keep the columns independent: a small diagonal that is added",
    "vector_norm": "add a small number under the root",
    "std": "add a small number under the root, and take it of more than one element",
    "log": "keep its input away from 0: clamp(min=...) or a small number added",
    "log2": "keep its input away from 0: clamp(min=...) or a small number added",
    "log10": "keep its input away from 0: clamp(min=...) or a small number added",
    "normalize": "compute it in float32 (its eps of 1e-12 is 0 in float16), or give it a larger eps",
    "div": "keep the divisor away from 0",
    "truediv": "keep the divisor away from 0",
    "reciprocal": "keep the divisor away from 0",
    "acos": "keep its input inside (-1, 1): clamp it to a little less",
    "asin": "keep its input inside (-1, 1): clamp it to a little less",
    "atanh": "keep its input inside (-1, 1): clamp it to a little less",
    "arctanh": "keep its input inside (-1, 1): clamp it to a little less",
    "erfinv": "keep its input inside (-1, 1): clamp it to a little less",
    "logit": "keep its input inside (0, 1): give it an eps",
    "log1p": "keep its input above -1: clamp it to a little more",
    "rdiv": "keep the divisor away from 0",
    "rtruediv": "keep the divisor away from 0",
    "eigh": "take the eigenvalues alone (eigvalsh), or keep them apart by a small diagonal that is added",
    "eig": "take the eigenvalues alone (eigvals), or keep them apart by a small diagonal that is added",
    "svd": "take the singular values alone (svdvals), or keep them apart by a small diagonal that is added",
    "exp": "limit its input, or work with logarithms (logsumexp, log_softmax)",
    "exp2": "limit its input",
    "expm1": "limit its input",
}
"""What to do, by function."""

_CTC, _LOGARITHMS = "ctc_loss", "log_probs"
_UNALIGNED = (
    "a target that needs more steps than its input has (a letter that is repeated takes one more) cannot be aligned "
    "with it, and is infinitely unlikely"
)

_ALIGNED = "Pass zero_infinity=True, or leave such targets out."

_SPLITS = {"eigh": "eigenvalues", "eig": "eigenvalues", "svd": "singular values"}
"""What a decomposition gives, whose derivative divides by the differences of these (torch.linalg.eigh's and svd's own
documentation)."""

_PUT_IN = ("__setitem__", "masked_fill", "masked_fill_", "fill_", "index_fill_", "full", "full_like")
"""Functions that put a number into a tensor."""

_MASKED = {
    "logaddexp": "both of its inputs are",
    "logaddexp2": "both of its inputs are",
    "logsumexp": "every entry is",
    "logcumsumexp": "every entry so far is",
}
"""Where the derivative of a function ends that is finite for a loss; each was asked of torch."""


def _find(sources: Sources) -> Iterator[Finding]:
    looks = sources.looks
    scaled = _scaled(sources)
    is_never = len(looks) >= _NEVER and all(map(_is_nan_at_any_scale, looks))
    told, count = set[int](), 0
    for position, look in enumerate(looks):
        is_scaled = any(row.root in scaled for row in sources.index.recording.backwards if row.op == look.op)
        if is_scaled and not is_never and not any(map(is_nan, look.bad_roots)):
            continue  # a GradScaler tries large scales, and takes back the steps that do not work out
        if not told.isdisjoint(look.gradients) or (told and not look.gradients):
            continue  # (what was not finite once spreads with the weights)
        if (look.bad_roots or look.bad_gradients) and not _was_dealt_with(sources, look):
            yield _finding(sources, looks[: position + 1])
            told.update(look.gradients)
            count += 1
            if count == _TOLD:
                return


def _is_nan_at_any_scale(look: PassLook) -> bool:
    """Whether a gradient is NaN, and a call's derivative is where it keeps 0: no other scale makes it better."""
    derivatives = (one.values for one in look.derivatives if one.at == 0)
    return any(map(is_nan, look.gradients.values())) and any(map(is_nan, derivatives))


def explain(sources: Sources, tensor: int) -> Finding | None:
    """Where the gradient of one tensor was first seen not to be finite, and why; None where it never was."""
    looks = sources.looks
    at = next((position for position, look in enumerate(looks) if tensor in look.bad_gradients), None)
    return None if at is None else _finding(sources, looks[: at + 1])


def _scaled(sources: Sources) -> set[int]:
    events = sources.events.of(EventKind.GRAD_SCALER)
    return {tensor for event in events if event.detail.get("call") == "scale" for tensor in event.tensors}


def _was_dealt_with(sources: Sources, look: PassLook) -> bool:
    """Whether the program made no use of the gradients (it skipped its step), or replaced what is not finite."""
    index, bad = sources.index, set(look.bad_gradients)
    if not bad:
        return False
    rows = [index.recording.gradients[row] for row in index.gradients.of(look.op)]
    for row in rows:
        if row.tensor in bad and row.grad >= 0:
            users = [op for op in index.users.of(row.grad) if op > look.op]
            if any("nan_to_num" in index.func(op) for op in users):
                return True
    first = min(sources.gradients.roots)
    written = [op for op, tensor, *_ in writes_by_program(index) if tensor in bad and op > first]
    if not written or index.recording.info.outcome.kind == "exception":
        return False
    columns = (index.recording.gradients.column(name) for name in ("op", "tensor"))
    later = [op for op, tensor in zip(*columns, strict=True) if tensor in bad and op > look.op]
    following = min(later, default=index.op_count)
    return not any(look.op < op < following for op in written)


def _finding(sources: Sources, looks: list[PassLook]) -> Finding:
    look = looks[-1]
    birth = Births(sources.index, sources.passes, born_in_ops(sources.events)).of(look)
    diverged = _diverged(sources, looks)
    if not look.bad_roots and birth is not None and _is_put_in(sources, birth):
        data = nan_in_data(sources.index, sources.passes, look, sources.looks)
        if data is not None:
            return _of_data(sources, look, data)
    if diverged is not None and (birth is None or not birth.is_derivative):
        return _divergence(sources, looks, *diverged)
    if birth is not None and birth.is_met:
        return _met(sources, look, birth)
    if birth is not None and birth.op >= 0:
        return _born(sources, look, birth)
    if birth is not None and (met := pole_met(sources.index, sources.events, sources.passes, birth.leaf, looks)):
        ending = birth._replace(op=met.op, values=(math.inf, math.inf), is_derivative=True, at=met.at, leaf=NONE)
        return _born(sources, look, ending, met.walked)
    stepped = birth is not None and any(birth.leaf in one.gradients for one in looks[:-1])
    if birth is not None and stepped:
        optimizers = seen_optimizers(sources.index, sources.events)
        vanished = vanished_eps(sources.index, optimizers, birth.leaf, look.op)
        if vanished is not None:
            return _without_eps(sources, look, birth, vanished)
    if birth is None and not look.bad_roots:
        data = nan_in_data(sources.index, sources.passes, look, sources.looks)
        if data is not None:
            return _of_data(sources, look, data)
    return _unknown(sources, looks, birth)


def _is_put_in(sources: Sources, birth: Birth) -> bool:
    """Whether the NaN is one that the program put into data, where values are missing."""
    index = sources.index
    if not birth.is_nan or birth.op < 0 or index.func(birth.op).rpartition(".")[2] not in _PUT_IN:
        return False
    numbers_in = (*index.uses.of(birth.op), *index.tensors_made(birth.op))
    return not any(index.requires_grad(one, birth.op + 1) for one in numbers_in)


def _of_data(sources: Sources, look: PassLook, found: NanInData) -> Finding:
    """By the call that takes data with NaN in, of which the loss leaves out what it makes of them."""
    index, number = sources.index, _number(sources, found.look)
    name = sources.names.at(found.tensor, found.op)
    held = "which holds NaN" if found.is_same else f"which held NaN when backward pass {number} came"
    return sources.finding(
        f"Line {index.op_line(found.op)}: {index.call_name(found.op)} takes in {name}, {held}: {_seen(sources, look)}",
        why="the loss leaves out what it makes of these values, but their gradient is 0 * NaN, which is NaN",
        op=found.op,
        tensors=look.bad_gradients,
        causes=sources.cause("used", found.op),
        evidence=[Evidence("events", look.event), Evidence("ops", look.op), Evidence("events", found.look.event)],
        advice="Leave them out of its inputs, and not out of its result.",
    )


def _seen(sources: Sources, look: PassLook) -> str:
    """What was seen of a pass: ``the gradient of w is NaN``."""
    number, bad = _number(sources, look), look.bad_gradients
    which = "the first backward pass" if number == 1 else f"backward pass {number}"
    by_word = [[one for one in bad if is_nan(look.gradients[one]) == nan] for nan in (True, False)]
    parts = [f"{_gradients_of(sources, look, some)} {word_for(look.gradients[some[0]])}" for some in by_word if some]
    gradient = " and ".join(parts)
    if look.bad_roots:
        loss = f"the loss of {which} is {word_for(look.bad_roots[0])}"
        return f"{loss}{', ' if len(parts) > 1 else ', and '}{gradient}" if bad else loss
    return f"{gradient} in {which}, though the loss is finite"


def _gradients_of(sources: Sources, look: PassLook, tensors: list[int]) -> str:
    """``the gradients of a and b are``."""
    names = sources.listed([sources.names.at(tensor, look.op) for tensor in tensors])
    return f"the gradient{'s' * (len(tensors) > 1)} of {names} {'are' if len(tensors) > 1 else 'is'}"


def _word(look: PassLook) -> str:
    return "NaN" if any(is_nan(look.gradients[tensor]) for tensor in look.bad_gradients) else "infinite"


def _number(sources: Sources, look: PassLook) -> int:
    """Which pass of the run it is, from 1 on."""
    return _number_of(sources, look.op)


def _number_of(sources: Sources, op: int) -> int:
    return 1 + sources.index.times(one for one in sources.gradients.roots if one < op)


def _born(sources: Sources, look: PassLook, birth: Birth, walked: int = NONE) -> Finding:
    """By the call that it began in; with the pass in which it did where that is an earlier one."""
    index = sources.index
    is_result = birth.is_nan and not birth.is_derivative and not birth.function
    if is_result and (of_size := nan_of_size(index, birth.op)) is not None:
        return _born_of_size(sources, look, of_size)
    name = index.call_name(birth.op)
    short = name.rpartition(".")[2].strip("_")
    if birth.values is None:
        what = f"the backward of {birth.function or name} gave what is not finite for a gradient that is"
    elif birth.is_derivative:
        at = "" if birth.at is None or not math.isfinite(birth.at) else f" where it keeps {birth.at:g}"
        if is_masked(birth.at) and short in _MASKED:
            at = f" where {_MASKED[short]} -inf"
        if short in _SPLITS:
            at = f", as it is where two {_SPLITS[short]} are equal"
        what = f"the derivative of {name} is {word_for(birth.values)}{at}"
        if walked >= 0:
            what = f"{what}, as in backward pass {_number_of(sources, walked)}"
    else:
        what = f"{name} gave {'NaN' if birth.is_nan else 'an infinity'}"
    why = _why(sources, look, birth)
    causes = sources.cause("used", birth.op)
    line: int = index.op_line(birth.op)
    is_unaligned = short == _CTC and _is_unaligned(sources, look, birth)
    if is_unaligned:
        is_below = index.recording.ops.column("flags")[birth.op] & BELOW
        made_at, why = only_module(index, "CTCLoss") if is_below else None, _UNALIGNED
        if made_at is not None:
            what = f"this CTCLoss (called at line {line}) gave an infinity"
            causes = [sources.cause_of_line("made", *made_at, made_at[1], ""), *causes]
            line = index.line(*made_at)
    written = sources.functions.of_name.get(f"{birth.function}Backward")
    if birth.function and written is not None:  # the program's own: what its backward computes
        places = written.computed_at(0) or [written.header]
        causes = [*sources.causes_at("returned", places), *causes]
        line = places[0].line
    filling = _fills(birth) or [op for op in (max(birth.mask, birth.given),) if op >= 0]
    mask = [cause for op in filling for cause in sources.cause("used", op)]
    made = behind_birth(index, birth, look, sources.passes)
    if made is not None:
        why = "; ".join(filter(None, (why, made.why)))
        behind = sources.cause("used" if made.ends_too else "made", made.op)
        causes = [*behind, *causes] if made.is_first else [*causes, *behind]
        if made.ends_too and made.is_first:
            short = index.call_name(made.op).rpartition(".")[2].strip("_")
    return sources.finding(
        f"Line {line}: {what}: {_seen(sources, look)}",
        why=why,
        op=birth.op,
        tensors=look.bad_gradients,
        causes=[*mask, *causes],
        evidence=[Evidence("events", look.event), Evidence("ops", look.op)],
        advice=_ALIGNED if is_unaligned else _advice(short, birth),
    )


def _born_of_size(sources: Sources, look: PassLook, found: NanOfSize) -> Finding:
    """By the call that was given nothing, or one value only."""
    index, name = sources.index, sources.index.call_name(found.op)
    given = "no elements" if found.is_empty else "a single value, for which it divides by n - 1,"
    return sources.finding(
        f"Line {index.op_line(found.op)}: {name} of {given} is NaN: {_seen(sources, look)}",
        op=found.op,
        tensors=look.bad_gradients,
        causes=sources.cause("used", found.op),
        evidence=[Evidence("events", look.event), Evidence("ops", look.op), Evidence("ops", found.op)],
        advice="Leave it out where nothing was chosen, or divide the sum by max(count, 1)."
        if found.is_empty
        else "correction=0 gives 0 there; or leave it out for one value.",
    )


def _is_unaligned(sources: Sources, look: PassLook, birth: Birth) -> bool:
    """Whether a CTC loss is infinite though the logarithms that it was given are not."""
    made_by = sources.index.recording.nodes.column("op")
    given = [one.values for one in look.kept if one.attr == _LOGARITHMS and made_by[one.node] == birth.op]
    is_infinite = birth.values is not None and not is_nan(birth.values) and not birth.is_derivative
    return is_infinite and bool(given) and not any(map(is_bad, given))


def _met(sources: Sources, look: PassLook, birth: Birth) -> Finding:
    """By the call whose values end where its input does: what takes them is where it shows only."""
    index, given = sources.index, sources.index.call_name(birth.given)
    short = given.rpartition(".")[2].strip("_")
    left_out = "the loss leaves these values out, but their gradient is 0 * inf, which is NaN"
    return sources.finding(
        f"Line {index.op_line(birth.given)}: {given} is not finite everywhere, and {index.call_name(birth.op)}, which "
        f"takes what was computed from it, meets an infinity: {_seen(sources, look)}",
        why=left_out if _word(look) == "NaN" else "",
        op=birth.op,
        tensors=look.bad_gradients,
        causes=sources.cause("used", birth.given),
        evidence=[Evidence("events", look.event), Evidence("ops", look.op), Evidence("ops", birth.given)],
        advice=advice_for(short, ", before it and not in what is chosen from its result"),
    )


def _fills(birth: Birth) -> list[int]:
    """The calls that filled with the -inf at which a derivative ends."""
    return list(birth.fills) or ([birth.mask] if birth.mask >= 0 and birth.is_derivative else [])


def _why(sources: Sources, look: PassLook, birth: Birth) -> str:
    index = sources.index
    if birth.is_derivative and (fills := _fills(birth)):
        lines = dict.fromkeys(index.op_line(op) for op in fills)
        lines.pop(index.op_line(birth.op), None)
        return f"line{'s' * (len(lines) > 1)} {numbers(lines)} fill{'s' * (len(lines) == 1)} with it" if lines else ""
    if birth.mask >= 0:
        line = index.op_line(birth.mask)
        at = "" if line == index.op_line(birth.op) else f", filled at line {line},"
        if not birth.is_nan:
            met = ", and 0 * inf is NaN" if any(map(is_nan, look.bad_roots)) else ""
            return f"it is -inf where line {line} fills with it{met}"
        return f"where every entry of a row is -inf{at} softmax has nothing to divide by"
    if birth.given >= 0:
        given = f"{index.call_name(birth.given)} of line {index.op_line(birth.given)}"
        return f"it takes in what {given} gave, which is not finite everywhere"
    if not birth.is_derivative and not look.bad_roots:
        kept = "NaN" if birth.values is None or is_nan(birth.values) else "inf"
        return f"the loss leaves these values out, but their gradient is 0 * {kept}, which is NaN"
    return ""


def _advice(short: str, birth: Birth) -> str:
    if is_masked(birth.at) and short in _MASKED:
        return "Fill with a large negative number instead of -inf."
    if birth.mask >= 0:
        unmasked = ", or leave one entry of each row unmasked" if birth.is_nan else ""
        return f"Fill with a large negative number instead of -inf{unmasked}."
    is_chosen_from = birth.is_derivative and short not in _SPLITS
    tail = ", before it and not in what is chosen from its result" if is_chosen_from else ""
    return advice_for(short, tail)


def advice_for(function: str, tail: str = "") -> str:
    """What to do where a function gave what is not finite; empty where no rule knows.

    Args:
        function: Its name: ``sqrt``.
        tail: What to add.
    """
    known = _UNDEFINED.get(function)
    return f"{known[0].upper()}{known[1:]}{tail}." if known else ""


def _diverged(sources: Sources, looks: list[PassLook]) -> tuple[Optimizer, str] | None:
    """The optimizer whose parameters, or their gradients, have grown beyond measure, if it is one; and what grew."""
    known = [one for one in map(_largest, looks[:-1]) if one > 0]
    if len(known) < 2:
        return None
    optimizers, look = seen_optimizers(sources.index, sources.events), looks[-1]
    if known[-1] >= _LARGE and known[-1] >= _GROWN * known[0]:
        trained = look.gradients.keys() | looks[-2].gradients.keys()
        grown = f"the largest gradient grew from {known[0]:.2g} to {known[-1]:.2g}"
        return next(((one, grown) for one in optimizers if not trained.isdisjoint(one.tensors)), None)
    # (the passes in which it grew may not have been looked at: what they left in the weights is seen)
    steps = sources.lives.steps
    sizes = {tensor: max(map(abs, values)) for tensor, values in look.tensors.items() if not is_bad(values)}
    stepped = {tensor for tensor in sizes if len([op for op in steps.get(tensor, ()) if op < look.op]) > 1}
    largest = max(stepped, key=sizes.__getitem__, default=NONE)
    if largest < 0 or sizes[largest] < max(_LARGE_WEIGHT, _GROWN * known[0]):
        return None
    grown = f"{sources.names.at(largest, look.op)} has grown to values as large as {sizes[largest]:.2g}"
    return next(((one, grown) for one in optimizers if largest in one.tensors), None)


def _largest(look: PassLook) -> float:
    values = [abs(value) for values in look.gradients.values() for value in values]
    return max(values, default=0.0) if all(map(math.isfinite, values)) else 0.0


def _divergence(sources: Sources, looks: list[PassLook], optimizer: Optimizer, grown: str) -> Finding:
    look = looks[-1]
    rate = (optimizer.made.detail.get("settings") or {}).get("lr")
    causes: list[Cause] = sources.cause_of_event("made", optimizer.made)
    raised = None if _grew_at_once(looks) else _raised(sources, rate)
    if raised is None:
        with_rate = f" (lr={rate:g})" if isinstance(rate, (int, float)) else ""
        begun = f"Line {optimizer.line}: with this {optimizer.name}{with_rate} the training diverges"
    else:
        file, line, to = raised
        begun = (
            f"Line {sources.index.line(file, line)}: with the lr={to:g} that this gives the {optimizer.name} of line "
            f"{optimizer.line}, made with lr={rate:g}, the training diverges"
        )
        causes = [sources.cause_of_line("set", file, line, line, ""), *causes]
    return sources.finding(
        f"{begun}: {grown}, and then {_seen(sources, look)}",
        op=look.op,
        tensors=look.bad_gradients,
        causes=causes,
        evidence=[Evidence("events", look.event), Evidence("events", optimizer.made.row)],
        advice="Lower the learning rate, or clip the gradients.",
    )


def _grew_at_once(looks: list[PassLook]) -> bool:
    """Whether gradients grew from the first passes on: with the rate that the optimizer was made with."""
    first = [_largest(look) for look in looks[:_FIRST]]
    return len(looks) <= _FIRST or max(first[1:]) > _TEN * first[0]


def _raised(sources: Sources, rate: object) -> tuple[int, int, float] | None:
    """The one statement of the program that sets a rate by hand: to a written number, larger than that of the only
    optimizer."""
    files = [(number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user]
    places = [(number, *one) for number, text in files for one in rates_written(text)]
    is_only_one = len(seen_optimizers(sources.index, sources.events)) == 1 and len(places) == 1
    if not is_only_one or places[0][2] is None or not isinstance(rate, (int, float)) or places[0][2] <= rate:
        return None
    return places[0][0], places[0][1], places[0][2]


def _without_eps(sources: Sources, look: PassLook, birth: Birth, vanished: VanishedEps) -> Finding:
    optimizer, name = vanished.optimizer, sources.names.at(birth.leaf, look.op)
    held = word_for(birth.values) if birth.values is not None else "NaN"
    return sources.finding(
        f"Line {optimizer.line}: the eps={vanished.eps:g} of {optimizer.name} is 0 in {vanished.dtype}, the precision "
        f"of {name}, which a step made {held}",
        why=f"where the mean of squared gradients is 0 too, the step divides by 0; {_seen(sources, look)}",
        op=look.op,
        tensors=[birth.leaf],
        causes=[*sources.cause_of_event("made", optimizer.made), *sources.cause("set", vanished.made_so)],
        evidence=[Evidence("events", look.event), Evidence("events", optimizer.made.row)],
        advice="Keep the parameters in float32 and use autocast, or give it a larger eps (1e-4).",
    )


def _unknown(sources: Sources, looks: list[PassLook], birth: Birth | None) -> Finding:
    index, look = sources.index, looks[-1]
    seen = _seen(sources, look)
    why, causes = "", []
    if birth is not None:
        name = sources.names.at(birth.leaf, look.op)
        causes = sources.cause("made", index.made_by(birth.leaf))
        held = word_for(birth.values) if birth.values is not None else "NaN"
        earlier = [one for one in looks[:-1] if birth.leaf in one.gradients]
        if earlier:
            passes = f"between pass {_number(sources, earlier[-1])} and pass {_number(sources, look)}"
            why, causes = f"{name} has become {held} {passes}", []
            if (unguarded := _unguarded(sources, look.op)) is not None:
                return _unguarded_finding(sources, look, f"{seen}: {why}", *unguarded)
        else:
            line = f", line {causes[0].line}" if causes else ""
            why = f"{name}{line} held {held} values before it"
    advice = "" if causes else "gradscope run --nan finds the call that it began in."
    half = [in_half_precision(index, tensor, look.op) for tensor in look.bad_gradients]
    if birth is None and half and not look.bad_roots and _word(look) == "infinite" and None not in half:
        why = "in float16 nothing is larger than 65,504"
        causes = [cause for op in dict.fromkeys(half) if op is not None for cause in sources.cause("set", op)]
        advice = "Keep the parameters in float32 and use autocast with a GradScaler, or scale the loss down."
    return sources.finding(
        f"{seen[0].upper()}{seen[1:]}",
        why=why,
        op=look.op,
        tensors=look.bad_gradients or [birth.leaf if birth is not None else NONE],
        causes=causes,
        evidence=[Evidence("events", look.event)],
        advice=advice,
    )


def _unguarded(sources: Sources, before: int) -> tuple[int, UnguardedBranch] | None:
    """The one call of where that ran with a branch that is not finite for all values, with its op."""
    index = sources.index
    found: dict[tuple[int, int], tuple[int, UnguardedBranch]] = {}
    files = {
        number: {one.line: one for one in unguarded_branches(file.text)}
        for number, file in enumerate(index.recording.files)
        if file.is_user
    }
    for op in index.calls_of(lambda name: name.endswith(".where")):
        span = index.recording.spans[index.recording.ops.column("span")[op]]
        branch = files.get(span.file, {}).get(span.line)
        if branch is not None and op < before:
            found[span.file, span.line] = op, branch
    return next(iter(found.values())) if len(found) == 1 else None


def _unguarded_finding(sources: Sources, look: PassLook, seen: str, op: int, branch: UnguardedBranch) -> Finding:
    """What is known of a NaN that began in a pass that was not looked at, where one call is made for it."""
    when = "overflows" if branch.function in ("exp", "expm1", "exp2", "cosh", "sinh") else "is not finite"
    return sources.finding(
        f"Line {sources.index.op_line(op)}: where {branch.function}({branch.value}) {when}, the gradient is NaN, 0 * "
        "inf, though torch.where takes the other branch",
        why=seen,
        op=op,
        tensors=look.bad_gradients,
        causes=sources.cause("used", op),
        evidence=[Evidence("events", look.event), Evidence("ops", look.op)],
        advice="Limit what goes into the branch (clamp, or another where on the input); gradscope run --nan shows "
        "whether it began there.",
    )


DIAGNOSIS = Diagnosis(
    code="gradient-not-finite",
    title="a gradient or a loss that is NaN or infinite",
    severity="problem",
    explanation=Explanation(
        meaning="""After a backward pass a gradient, or before it the loss, had a NaN or an infinity. The first passes
            of a run are looked at, then ever fewer of them; with gradscope run --nan, every op and every node.""",
        reason="""Some functions are not finite everywhere, or their derivatives are not: log(0), 0 / 0, the derivative
            of sqrt at 0 or of logaddexp where both inputs are -inf, softmax of a row that is masked with -inf
            throughout. A NaN that is left out afterwards (where, indexing, multiplying by a mask) comes back in the
            gradient: 0 * NaN and 0 * inf are NaN. After the next step of the optimizer every weight that it reached
            is NaN.""",
        remedy="""Keep the input away from where the function ends, before the function and not after it: clamp(), a
            small number added, where() on the input. Mask with a large negative number instead of -inf where a row
            may be masked throughout. Where the values grow from pass to pass, lower the learning rate. A step that
            the program skips, or a GradScaler, is not reported.""",
    ),
    example=Example(
        shows="""\
import torch

x = torch.tensor([0.0, 4.0], requires_grad=True)
y = torch.where(x > 0, torch.sqrt(x), torch.zeros(2))
y.sum().backward()
""",
        instead_of="y = torch.where(x > 0, torch.sqrt(x), torch.zeros(2))",
        silent="y = torch.where(x > 0, torch.sqrt(x.clamp(min=1e-6)), torch.zeros(2))",
    ),
    find=_find,
)
