"""Answers about what objects held, and which values they had when: one check a code (see :mod:`.answer_checks`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import torch

from .claim import Claim
from .naming import path_of
from .said import NAME, Said, line_of, listed, number, tensors_of
from .witness import Moment, Witness


def _evaluated_with_graph(seen: Witness, said: Said) -> Iterator[Claim]:
    """So many results had graphs that no pass walked."""
    found = re.search(r"keeps ([\d,]+) results with graphs", said.text)
    beginning = (path_of(said.answer["subject"]) or ())[:-1]
    if found is None or not beginning:
        return
    paths = [path for path in seen.ever if path[:-1] == beginning]
    results = [tensor for path in paths for tensor in seen.ever[path].values()]
    walked = {node for one in seen.passes for node in one.walked}
    kept = sum(tensor.grad_fn is not None and tensor.grad_fn not in walked for tensor in results)
    yield said.claim("answer-evaluated", number(found[1]) <= kept, f"{kept} of {len(results)} have such a graph")


def _stale_result(seen: Witness, said: Said) -> Iterator[Claim]:
    """Passes walked one tensor's graph again after so many steps had changed a leaf behind it."""
    found = re.search(rf"({NAME}) was computed once, .* each of ([\d,]+) steps that changed ({NAME}),", said.text)
    if found is None:
        return
    results, leaves = (tensors_of(seen, found[group]) for group in (1, 3))
    most = 0
    for result, leaf in ((result, leaf) for result in results for leaf in leaves if result.grad_fn is not None):
        passes = [one.number for one in seen.passes if result.grad_fn in one.walked]
        changes = [at for at, _ in seen.changed_at[id(leaf)] if passes and passes[0] < at <= passes[-1]]
        most = max(most, len(changes) if id(leaf) in {id(one) for one in _leaves_behind(result)} else 0)
    truth = f"{found[3]} changed {most} times between passes through it"
    yield said.claim("answer-stale", number(found[2]) <= most, truth)


def _leaves_behind(tensor: torch.Tensor) -> list[torch.Tensor]:
    found, todo, met = list[torch.Tensor](), [tensor.grad_fn], set[object]()
    while todo:
        node = todo.pop()
        if node is None or node in met:
            continue
        met.add(node)
        found += [node.variable] if hasattr(node, "variable") else []
        todo += [after for after, _ in node.next_functions]
    return found


def _kept_by_reference(seen: Witness, said: Said) -> Iterator[Claim]:
    """A name held the very tensor that was a leaf's ``.grad``, and its bytes changed after that."""
    found = re.search(rf"\.grad of ({NAME}) itself is kept", said.text)
    for name in listed(found[1]) if found else ():
        kept: dict[int, int] = {}
        for after in (after for _, after in seen.moments[line_of(said)]):
            state = after.state(after.names.get(path_of(name) or ()))
            held = {id(tensor) for tensor in after.names.values()}
            if state is not None and state.grad is not None and id(state.grad) in held:
                kept.setdefault(id(state.grad), after.number)
        changed = any(at > since for key, since in kept.items() for at, _ in seen.changed_at[key])
        truth = (
            f"{'a name held it' if kept else 'no name held it'}, and it {'changed' if changed else 'did not change'}"
        )
        yield said.claim("answer-kept-gradient", changed, truth)


def _frozen_with_another(seen: Witness, said: Said) -> Iterator[Claim]:
    """The line switched ``requires_grad`` off, of what two objects hold."""
    found = re.search(r"and for (.+?) as well", said.text)
    moments = seen.moments[line_of(said)]
    for name in listed(found[1]) if found else ():
        path = path_of(name) or ()
        for before, after in moments[-1:]:
            then, now = before.state(before.names.get(path)), after.state(after.names.get(path))
            if then is None or now is None:
                continue
            others = {other[0] for other, tensor in after.names.items() if tensor is after.names[path]} - {path[0]}
            held = then.requires_grad and not now.requires_grad and bool(others)
            truth = f"requires_grad {then.requires_grad}, then {now.requires_grad}; {sorted(others)} hold it too"
            yield said.claim("answer-frozen-with", held, truth)


def _scheduler_in_vain(seen: Witness, said: Said) -> Iterator[Claim]:
    """No schedule of the class was stepped, and the optimizer made so many steps."""
    found = re.search(r"the (\w+) of \w+ is never stepped \(([\d,]+) steps", said.text)
    kind = getattr(torch.optim.lr_scheduler, found[1], None) if found else None
    schedules = [value for value in seen.namespace.values() if kind is not None and type(value) is kind]
    if found is None or not schedules:
        return
    stepped = [schedule.last_epoch for schedule in schedules]
    held = 0 in stepped and number(found[2]) <= seen.runs[said.line]
    yield said.claim("answer-schedule", held, f"stepped {stepped} times; line {said.line} ran {seen.runs[said.line]}")


def _tie_broken(seen: Witness, said: Said) -> Iterator[Claim]:
    """Two names were one tensor's before the line and are not after it, and both get gradients."""
    names = [path_of(name) or () for name in listed(said.answer["subject"])]
    for before, after in seen.moments[line_of(said)][-1:]:
        then, now = ([moment.names.get(name) for name in names] for moment in (before, after))
        if len(names) != 2 or None in (*then, *now):
            continue
        received = [any(id(tensor) in one.received for one in seen.passes) for tensor in now]
        held = then[0] is then[1] and now[0] is not now[1] and all(received)
        truth = f"one before: {then[0] is then[1]}, one after: {now[0] is now[1]}; trained: {received}"
        yield said.claim("answer-tie", held, truth)


def _argument_written(seen: Witness, said: Said) -> Iterator[Claim]:
    """The line changed the tensor of that name, which the caller holds too."""
    held_outside = {id(tensor) for tensor in tensors_of(seen, said.answer["subject"])}
    moments = seen.moments[line_of(said)]
    if not held_outside or not moments:
        return
    changed = any(_is_changed(before, after, key) for before, after in moments for key in held_outside)
    yield said.claim("answer-argument", changed, f"{said.answer['subject']} is what it was after the line")


def _is_changed(before: Moment, after: Moment, key: int) -> bool:
    then, now = before.states.get(key), after.states.get(key)
    return then is not None and now is not None and (then.values, then.version) != (now.values, now.version)


def _paired_by_broadcast(seen: Witness, said: Said) -> Iterator[Claim]:
    """The shapes are those, and together they are so many."""
    found = re.search(rf"({NAME}) has the shape (\(.*?\)) and ({NAME}) (\(.*?\)), .* the ([\d,]+) pairs", said.text)
    before = seen.before.get(line_of(said))
    if found is None or before is None:
        return
    states = [before.state(before.names.get(path_of(found[group]) or ())) for group in (1, 3)]
    if None not in states:
        shapes = [state.shape for state in states if state is not None]
        sizes = [tuple(map(int, re.findall(r"\d+", shape))) for shape in shapes]
        pairs = torch.Size(torch.broadcast_shapes(*sizes)).numel()
        held = shapes == [found[2], found[4]] and number(found[5]) == pairs
        yield said.claim("answer-paired", held, f"the shapes are {shapes}: {pairs} pairs")


STATE_CHECKS: dict[str, Callable[[Witness, Said], Iterator[Claim]]] = {
    "evaluated-with-graph": _evaluated_with_graph,
    "stale-result": _stale_result,
    "gradient-kept-by-reference": _kept_by_reference,
    "frozen-with-another": _frozen_with_another,
    "scheduler-in-vain": _scheduler_in_vain,
    "tie-broken": _tie_broken,
    "argument-written": _argument_written,
    "paired-by-broadcast": _paired_by_broadcast,
}
