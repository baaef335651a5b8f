"""Answers about values that did or did not change, and objects that are one: one check a code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .claim import Claim
from .naming import path_of
from .said import NAME, Said, line_of, listed, number, tensors_of
from .witness import State, Witness


def _states_at(seen: Witness, line: int, name: str) -> list[tuple[State, State]]:
    """What a name held before and after each run of a line."""
    path = path_of(name) or ()
    moments = [(before, after) for before, after in seen.moments[line] if path in after.names]
    states = [(before.state(after.names[path]), after.state(after.names[path])) for before, after in moments]
    return [(then, now) for then, now in states if then is not None and now is not None]


def _all_zeros(seen: Witness, said: Said) -> Iterator[Claim]:
    """No pass gave a gradient that was not zero; not asked where passes of other lines may have."""
    passes = [one for one in seen.passes if one.kind == "backward"]
    if len({one.line for one in passes}) != 1:
        return
    for name in listed(said.answer["subject"]):
        tensors = {id(tensor) for tensor in tensors_of(seen, name)}
        given = [one.gradients[key] for one in passes for key in tensors & one.received if key in one.gradients]
        if given:
            worst = max(float(gradient.abs().max()) for gradient in given)
            yield said.claim("answer-zeros", worst == 0, f"{name} got a gradient of up to {worst}")


def _died(seen: Witness, said: Said) -> Iterator[Claim]:
    """No pass after the one of the number, and after the steps one of which it was, gave one that was not zero."""
    told = r"since (?:the step|one of ([\d,]+) steps) .+ the pass number ([\d,]+), .+ zeros, and (.+?) no gradient"
    found = re.search(told, said.text)
    later = seen.passes[number(found[2]) + number(found[1] or "1") - 1 :] if found else []
    for name in listed(found[3]) if found else ():
        (tensor, *others) = tensors_of(seen, name) or (None,)
        if tensor is None or others:
            continue
        given = [one.gradients[id(tensor)] for one in later if id(tensor) in one.received & one.gradients.keys()]
        worst = max((float(gradient.abs().max()) for gradient in given), default=0.0)
        yield said.claim("answer-died", worst == 0 if given else None, f"{name} got a gradient of up to {worst}")


def _never_received(seen: Witness, said: Said) -> Iterator[Claim]:
    """No pass gave it a gradient."""
    for name in listed(said.answer["subject"]):
        path = path_of(name) or ()
        tensors = {key for known, held in seen.ever.items() if known[-len(path) + 1 :] == path[1:] for key in held}
        received = any(not tensors.isdisjoint(one.received) for one in seen.passes)
        if tensors:
            yield said.claim("answer-left-out", not received, f"a pass gave {name} a gradient")


def _steps_change_nothing(seen: Witness, said: Said) -> Iterator[Claim]:
    """So many steps ran, and none of them changed it."""
    found = re.search(r"in all ([\d,]+) steps", said.text)
    for name in listed(said.answer["subject"]) if found else ():
        states = _states_at(seen, said.line, name)
        changed = sum(then.values != now.values for then, now in states)
        held = changed == 0 and number(found[1]) <= len(states) if found else None
        yield said.claim("answer-no-rate", held, f"{changed} of {len(states)} steps changed {name}")


def _overwritten(seen: Witness, said: Said) -> Iterator[Claim]:
    """The line changed its values so many times."""
    found = re.search(r"overwrites (.+?) after each step \(([\d,]+) times\)", said.text)
    for name in listed(found[1]) if found else ():
        changed = sum(then.values != now.values for then, now in _states_at(seen, line_of(said), name))
        yield said.claim("answer-overwritten", bool(found) and number(found[2]) <= changed, f"{changed} times")


def _one_tensor(seen: Witness, said: Said) -> Iterator[Claim]:
    """Both names held one tensor when the line wrote it."""
    found = re.search(rf"({NAME}) and ({NAME}) are one (?:tensor|module)", said.text)
    if found is None:
        return
    names = [path_of(found[group]) or () for group in (1, 2)]
    one = [
        not {id(held) for path, held in after.names.items() if path[: len(names[0])] == names[0]}.isdisjoint(
            id(held) for path, held in after.names.items() if path[: len(names[1])] == names[1]
        )
        for _, after in seen.moments[line_of(said)]
        if all(any(path[: len(name)] == name for path in after.names) for name in names)
    ]
    if one:
        yield said.claim("answer-one-tensor", any(one), "they never were one there")


def _shares_memory(seen: Witness, said: Said) -> Iterator[Claim]:
    """What was taken lies on the memory of the other, which changed after that."""
    found = re.search(rf"took ({NAME}) without a copy: this is the memory of ({NAME}),", said.text)
    if found is None:
        return
    taken, source = (tensors_of(seen, found[group]) for group in (1, 2))
    storages = {tensor.untyped_storage()._cdata for tensor in source}
    shared = [tensor for tensor in taken if tensor.untyped_storage()._cdata in storages]
    changed = any(len(seen.changed_at[id(tensor)]) > 1 for tensor in shared)
    if taken and source:
        yield said.claim("answer-snapshot", changed, f"on its memory: {bool(shared)}; changed: {changed}")


def _replaced(seen: Witness, said: Said) -> Iterator[Claim]:
    """The name holds another tensor after the line."""
    found = re.search(rf"({NAME}) is another tensor from here on", said.text)
    path = path_of(found[1]) or () if found else ()
    moments = [(before, after) for before, after in seen.moments[line_of(said)] if path in after.names]
    if moments:
        other = any(before.names.get(path) is not after.names[path] for before, after in moments)
        yield said.claim("answer-replaced", other, f"{found[1] if found else ''} is the same tensor after it")


def _kept_after_pass(seen: Witness, said: Said) -> Iterator[Claim]:
    """So many results are held there whose graphs passes have walked."""
    found = re.search(rf"({NAME}) keeps ([\d,]+) results with their graphs: ([\d,]+) backward passes", said.text)
    if found is None:
        return
    beginning = path_of(found[1]) or ()
    held = [seen.ever[path] for path in seen.ever if path[:-1] == beginning]
    walked = {node for one in seen.passes for node in one.walked}
    kept = sum(one.grad_fn is not None and one.grad_fn in walked for several in held for one in several.values())
    yield said.claim("answer-kept-after", number(found[2]) <= kept, f"{kept} results have such a graph")


def _lost(seen: Witness, said: Said) -> Iterator[Claim]:
    """What keeps the old values never changed, and the line ran so many times."""
    found = re.search(r"\(([\d,]+) times\), which nothing takes; (.+?) keeps? the old values", said.text)
    for name in listed(found[2]) if found else ():
        since = seen.moments[line_of(said)][0][0].number if seen.moments[line_of(said)] else 0
        tensors = tensors_of(seen, name)[-1:]
        changes = [sum(at > since for at, _ in seen.changed_at[id(tensor)]) for tensor in tensors]
        if changes and found:
            runs = seen.runs[line_of(said)]
            held = changes[0] == 0 and number(found[1]) <= runs
            yield said.claim("answer-lost", held, f"{name} changed {changes[0]} times; the line ran {runs} times")


def _moved(seen: Witness, said: Said) -> Iterator[Claim]:
    """A step changed it though it had no gradient then but zeros."""
    for name in listed(said.answer["subject"]):
        states = _states_at(seen, line_of(said), name)
        moved = any(then.values != now.values and not then.has_gradient for then, now in states)
        if states:
            yield said.claim("answer-moved", moved, f"no step changed {name} without a gradient")


VALUE_CHECKS: dict[str, Callable[[Witness, Said], Iterator[Claim]]] = {
    "gradient-always-zero": _all_zeros,
    "layer-died": _died,
    "zero-factors": _all_zeros,
    "layer-left-out": _never_received,
    "learning-rate-zero": _steps_change_nothing,
    "weights-overwritten": _overwritten,
    "one-tensor-two-names": _one_tensor,
    "loaded-from-itself": _one_tensor,
    "snapshot-shares-memory": _shares_memory,
    "parameter-replaced": _replaced,
    "graph-kept-after-pass": _kept_after_pass,
    "update-lost": _lost,
    "moved-without-gradient": _moved,
}
