"""Answers that name tensors, lines and counts, each beside what the witness saw: one check a code.

A check takes what the judge knows and an answer, and gives claims; nothing where it cannot tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .claim import Claim
from .naming import path_of
from .reruns import without_cuts
from .said import NAME, Said, listed, number, tensors_of
from .state_checks import STATE_CHECKS
from .value_checks import VALUE_CHECKS
from .witness import Pass, Witness

Check = Callable[[Witness, Said], Iterator[Claim]]


def checked_answers(seen: Witness, answers: list[dict[str, Any]]) -> Iterator[Claim]:
    """The claims of the answers whose codes have a check, and of the lines that all of them name."""
    for answer in answers:
        said = Said(answer["text"], answer["place"]["line"] if answer["place"] else 0, answer)
        yield from _causes(seen, said)
        if check := CHECKS.get(answer["code"]):
            yield from check(seen, said)


def _causes(seen: Witness, said: Said) -> Iterator[Claim]:
    """The lines that an answer leads to are in the program, as they are quoted, and those that run have run."""
    for cause in said.answer["causes"]:
        text = "\n".join(seen.lines[cause["line"] - 1 : cause["end_line"]])
        yield said.claim("answer-source", cause["source"].strip() == text.strip(), f"line {cause['line']} is {text!r}")


def _through_alias(seen: Witness, said: Said) -> Iterator[Claim]:
    """The bytes of the others changed with the write, and they are on its memory."""
    found = re.search(r"through (\S+) also changed (.+?): they share memory", said.text)
    for name in listed(found[2]) if found else ():
        path = path_of(name) or ()
        moments = [(before, after) for before, after in seen.moments[said.line] if path in after.names]
        states = [(before.state(after.names[path]), after.state(after.names[path])) for before, after in moments]
        known = [(then, now) for then, now in states if then is not None and now is not None]
        written = [after.state(after.names.get(path_of(found[1]) or ())) for _, after in moments] if found else []
        storages = {state.storage for state in written if state is not None}
        if known:
            changed = any(then.values != now.values for then, now in known)
            counted = any(then.version != now.version for then, now in known)
            # (what is added may be zero: then only the version counter tells of the write)
            apart = bool(storages) and storages.isdisjoint(now.storage for _, now in known)
            held = False if apart else changed or counted or None
            yield said.claim("answer-alias", held, f"the bytes of {name} are what they were, or elsewhere")


def _applied_again(seen: Witness, said: Said) -> Iterator[Claim]:
    """A gradient that a step had used was there when the next pass began."""
    found = re.search(r"\((?:([\d,]+) times|once)\).* of (.+?) between a step", said.text)
    passes = [one for one in seen.passes if one.kind == "backward"]
    for name in listed(found[2]) if found else ():
        tensors = tensors_of(seen, name)
        kept = sum(any(one.grad_before.get(id(tensor)) is not None for tensor in tensors) for one in passes)
        times = number(found[1] or "1") if found else 0
        yield said.claim("answer-applied-again", times <= kept, f"a gradient of {name} was there before {kept} passes")


def _twice_a_batch(seen: Witness, said: Said) -> Iterator[Claim]:
    """The statistics changed while a backward pass ran."""
    for name in listed(said.answer["subject"]):
        path = path_of(name) or ()
        lines = {one.line for one in seen.passes if one.kind == "backward"}
        moments = [(before, after) for line in lines for before, after in seen.moments[line] if path in after.names]
        states = [(before.state(after.names[path]), after.state(after.names[path])) for before, after in moments]
        known = [(then, now) for then, now in states if then is not None and now is not None]
        if known:
            changed = any(then.values != now.values for then, now in known)
            is_of_zeros = not any(bytes(len(now.values)) != now.values for _, now in known)  # a mean that stays zero
            held = changed or (None if is_of_zeros else False)
            yield said.claim("answer-updates-twice", held, f"no pass changed {name}")


def _not_finite(seen: Witness, said: Said) -> Iterator[Claim]:
    """The pass that is named had a loss, or gave gradients, that are not finite."""
    if found := re.search(r"the (loss|gradients?) of backward pass ([\d,]+) (?:is|are)", said.text):
        passes = [one for one in seen.passes if one.kind == "backward"]
        position = number(found[2])
        if position <= len(passes):
            one = passes[position - 1]
            values = one.values if found[1] == "loss" else list(one.gradients.values())
            held = any(not bool(value.isfinite().all()) for value in values)
            yield said.claim("answer-not-finite", held, f"pass {position} is finite")
    elif found := re.search(rf"the gradient of ({NAME}) is \w+ in the first backward pass", said.text):
        one = next((one for one in seen.passes if one.kind == "backward"), None)
        tensor = _named_then(one, found[1])
        gradient = None if one is None or tensor is None else one.gradients.get(id(tensor))
        if gradient is not None:
            yield said.claim("answer-not-finite", not bool(gradient.isfinite().all()), f"it is {gradient}")


def _term(seen: Witness, said: Said) -> Iterator[Claim]:
    """A named term of the loss, as it was when the last pass from it began, has no way back."""
    found = re.search(rf"({NAME})( of line \d+)? is a term of ({NAME}), and no gradient flows", said.text)
    passes = [one for one in seen.passes if one.kind == "backward"]
    path = path_of(found[1]) if found else None
    tensor = passes[-1].names.get(path) if passes and path is not None else None
    if found and found[2]:  # (one of several that had the name)
        held = any(not one.requires_grad for one in tensors_of(seen, found[1]))
        yield said.claim("answer-term", held, f"each {found[1]} required grad")
    elif tensor is not None:
        yield said.claim("answer-term", not tensor.requires_grad, f"it requires grad: {tensor.grad_fn}")
    if passes and (taken := re.search(r"is a plain number, .*: line (\d+) \(", said.text)):
        uncut = without_cuts(seen.source, {int(taken[1])})
        others = [one for one in uncut.passes if one.kind == "backward"]
        if len(others) == len(passes):
            held = len(others[-1].walked) > len(passes[-1].walked)
            yield said.claim("answer-term", held, "what the line takes out has no graph, or the loss has it")


def _left_frozen(seen: Witness, said: Said) -> Iterator[Claim]:
    """What is said to be frozen requires no grad in the last pass of that line."""
    names = listed(said.answer["subject"])
    last = seen.passes[-1] if seen.passes else None
    for name in names if last is not None else ():
        tensor = _named_then(last, name)
        if tensor is not None:
            wanted = last.wanted.get(id(tensor), tensor.requires_grad)
            yield said.claim("answer-left-frozen", not wanted, f"requires_grad of {name} was {wanted}")


def _named_then(one: Pass | None, name: str) -> torch.Tensor | None:
    return None if one is None else one.names.get(path_of(name) or ())


def _never_cleared(seen: Witness, said: Said) -> Iterator[Claim]:
    """The gradient is None, or zero, when so many steps begin, and passes had given one."""
    found = re.search(r"\(([\d,]+) times\)", said.text)
    for name in listed(said.answer["subject"]):
        for tensor in tensors_of(seen, name)[-1:]:
            received = any(id(tensor) in one.received for one in seen.passes)
            states = [before.state(tensor) for before, _ in seen.moments[said.line]]
            empty = sum(state is not None and not state.has_gradient for state in states)
            held = received and (found is None or number(found[1]) <= empty)
            yield said.claim("answer-cleared", held, f"it got one: {received}; before {empty} steps there was none")


def _stepped_without(seen: Witness, said: Said) -> Iterator[Claim]:
    """Counts of runs: no more than the line's; and where nothing is said to call backward, no pass gave a gradient."""
    for name in listed(said.answer["subject"]) if "no parameter gets a gradient" in said.text else ():
        received = any(id(tensor) in one.received for tensor in tensors_of(seen, name) for one in seen.passes)
        yield said.claim("answer-no-backward", not received, f"a pass gave {name} one")
    for count in re.findall(r"\(([\d,]+) (?:times|passes|steps)\)", said.text):
        runs = seen.runs.get(said.line)
        held = None if runs is None else number(count) <= max(runs, 1)
        yield said.claim("answer-count", held, f"the line ran {runs} times")


CHECKS: dict[str, Check] = {
    "write-through-alias": _through_alias,
    "gradients-applied-again": _applied_again,
    "checkpoint-updates-twice": _twice_a_batch,
    "gradient-not-finite": _not_finite,
    "term-without-gradient": _term,
    "left-frozen": _left_frozen,
    "cleared-before-step": _never_cleared,
    "never-stepped": _stepped_without,
    "step-without-backward": _stepped_without,
    **STATE_CHECKS,
    **VALUE_CHECKS,
}
