"""Where two runs part, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.comparison.comparison_model import PartedAt, Parting
from gradscope.analysis.facts.derivatives.version_changes import ChangeSeen
from gradscope.analysis.report_model import Place

TITLE = "Where they part"


def parting_sentences(parting: Parting) -> Iterator[str]:
    """One sentence a line, most telling first."""
    first, gradient = parting.first, parting.gradient
    equal = f"{parting.compared:,} fingerprint{'s' * (parting.compared != 1)} before it {_are(parting.compared)} equal"
    if parting.calls is not None and parting.calls_before:
        yield _calls(parting.calls)
    if first is not None:
        yield f"{_where(first)} {_what(first)}{_how(first)}; {equal}."
        yield from _from_what(first)
    elif parting.calls is None:
        yield f"Nowhere: all {parting.compared:,} fingerprints are equal{_within(parting)}."
    else:
        yield f"What both did before is the same: {equal.replace(' before it', '')}{_within(parting)}."
    if gradient is not None and gradient is not first:
        yield f"The first gradient that differs: {_named(gradient)}, {_pass(gradient)}{_how(gradient)}."
    if parting.calls is not None and not parting.calls_before:
        yield _calls(parting.calls)
    if first is not None or parting.calls is not None:
        yield from _start(parting)
    if len(set(parting.torch)) > 1:
        yield f"The first ran under torch {parting.torch[0]}, the second under torch {parting.torch[1]}."
    for change in parting.changes:
        yield _change(change, parting.torch)
    if len(set(parting.hosts)) > 1:
        yield f"The first ran on {parting.hosts[0]}, the second on {parting.hosts[1]}."
    if len(set(parting.ranks)) > 1:
        yield f"The first is rank {parting.ranks[0]}, the second rank {parting.ranks[1]}."
    if parting.compiled:
        yield (
            f"{parting.compiled:,} calls of compiled code, and of what it stands for in the other run, were passed "
            "over: what comes out of it is compared where it is used next, and its gradients."
        )
    if parting.only_in_one:
        yield f"{parting.only_in_one:,} calls that only one of the versions makes were passed over."


def _start(parting: Parting) -> Iterator[str]:
    """Whether both began with the same parameters, as far as that is known."""
    unlike = parting.unlike_at_start
    if unlike:
        more = f" and {len(unlike) - 1:,} more" if len(unlike) > 1 else ""
        yield f"They do not start from the same parameters: {unlike[0]}{more} had other values before the first pass."
    elif parting.parameters:
        yield f"Both start from the same parameters ({parting.parameters:,} compared)."


def _where(at: PartedAt) -> str:
    if at.kind == "gradient":
        return f"{_pass(at).capitalize()}:"
    if at.kind == "node":
        return f"{_pass(at).capitalize()}: {at.call}, of {_line(at.place)},"
    return f"{_line(at.place).capitalize()}, {at.call}{f', call {at.run:,}' if at.run > 1 else ''}:"


def _what(at: PartedAt) -> str:
    if at.kind == "node":
        return "is the first that gives something else"
    if at.kind == "gradient":
        return f"the gradient of {_named(at)} is the first that differs"
    if at.kind == "input":
        return f"{_named(at)}, which no call before had given, is not the same"
    return f"{_named(at)} is the first that differs"


def _from_what(at: PartedAt) -> Iterator[str]:
    if at.kind == "input":
        yield "So the two do not start from the same values."
    elif at.kind == "result" and at.inputs != "unknown":
        told = {"equal": "What the call was given was equal in both.", "none": "The call was given no tensor."}
        yield told.get(at.inputs, "What the call was given differed already.")


def _how(at: PartedAt) -> str:
    mine, its = at.bad
    if mine != its:
        return f", with {mine:,} elements NaN or infinite in the first and {its:,} in the second"
    if at.off is None:
        return ""
    return f", its norm off by {at.off:.2g} of it" if at.off else ", with the same norm"


def _named(at: PartedAt) -> str:
    return at.name or "what it gave"


def _pass(at: PartedAt) -> str:
    return f"backward pass {at.run:,}{f' ({_line(at.backward)})' if at.backward is not None else ''}"


def _line(place: Place) -> str:
    return f"line {place.line}" if place.line else "a place outside the user's code"


def _calls(places: tuple[Place, ...]) -> str:
    one, other = (f"{_line(place)} ({place.source.strip()})" if place.line else "nothing" for place in places)
    return f"From there on they call something else: the first {one}, the second {other}."


def _within(parting: Parting) -> str:
    return f", or their norms no further apart than {parting.tolerance:g}" if parting.tolerance else ""


def _change(change: ChangeSeen, versions: tuple[str, ...]) -> str:
    """What is known to have changed, by versions without what was built for what."""
    one, other = (version.partition("+")[0] for version in versions)
    mine, its = change.values
    text = f"What changed between them, as measured: {change.what} is {mine} under {one}, {its} under {other}."
    return f"{text} {change.meaning}".rstrip() + " (gradscope explain torch-versions)"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
