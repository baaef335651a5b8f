"""Hooks of one code on one module that ran one after the other, each on what the one before it returned.

What hooks on modules do is not counted. But in a forward pass their calls have rows, and in one call of a module its
hooks run with nothing in between.
"""

from __future__ import annotations

from bisect import bisect_left

from gradscope.analysis.facts.modules.registered_hooks import RegisteredHook
from gradscope.analysis.index import Index
from gradscope.frames.calls.reached_functions import function_named, named_from

FORWARD_HOOKS = ("forward", "forward_pre")


def ops_in_hook(index: Index, hook: RegisteredHook) -> list[int]:
    """The ops of a hook's own lines, and of the functions of its file that these name, in order."""
    place = hook.whole
    if place is None:
        return []
    text = index.recording.files[place.file].text
    called = named_from(text, place.line, place.end_line) - {"forward", hook.name}
    wanted = {
        number
        for number, one in enumerate(index.statements)
        if one.file == place.file
        and (place.line <= one.line <= place.end_line or function_named(index.recording.text(one.function)) in called)
    }
    return [op for op, statement in enumerate(index.op_statement) if statement in wanted] if wanted else []


def runs_between(hook: RegisteredHook, ops: list[int]) -> int:
    """How many registrations of the hook on one module had others of its ops before them than the one before had."""
    first: dict[int, dict[int, int]] = {}
    for event in hook.registered:
        on = int(event.detail.get("on", -1))
        first.setdefault(on, {}).setdefault(int(event.detail.get("there", 0)), event.op)
    return max((len({bisect_left(ops, op) for op in levels.values()}) for levels in first.values()), default=0)


def longest_chain(index: Index, ops: list[int]) -> int:
    """So many hooks ran in a row, each on what the one before it gave: so often an instruction met its own result."""
    spans, longest = index.recording.ops.column("span"), 0
    given: dict[int, dict[int, int]] = {}
    last = start = -2
    for op in ops:
        if op != last + 1:
            given, start = {}, op
        last = op
        taken = list(index.uses.of(op))
        ways: dict[int, int] = {}
        for tensor in taken:
            for span, times in given.get(tensor, {}).items():
                ways[span] = max(times, ways.get(span, 0))
        ways[spans[op]] = ways.get(spans[op], 0) + 1
        longest = max(longest, ways[spans[op]])
        made = index.tensors_made(op)
        if not made and taken and index.func(op).endswith("_") and index.made_by(taken[0]) >= start - 1:
            made = taken[:1]  # (what the module gave, written in place; not what the hooks keep for themselves)
        for tensor in made:
            given[tensor] = ways
    return longest
