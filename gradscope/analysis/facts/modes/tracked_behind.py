"""What ran behind a ``torch.no_grad()`` that nothing entered, and so with gradients on: that statement is its cause."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.frames.calls.reached_functions import function_named, named_from
from gradscope.frames.without_effect.contexts_not_entered import contexts_not_entered
from gradscope.recording.rows import BindingKind

_SWITCH_OFF = ("no_grad()", "inference_mode()")


def tracked_behind(index: Index) -> frozenset[int]:
    """The ops of these statements' blocks, and those of functions that the blocks call, while they did.

    A function that a block calls may be called from elsewhere, too (``forward``, in training): its ops count where the
    op before or after them, of those that are not in such functions, is in the block, or since a line of the block was
    seen to begin (a block may do nothing but to call them).
    """
    found = set[int]()
    for number, file in enumerate(index.recording.files):
        for made in contexts_not_entered(file.text) if file.is_user else []:
            if made.source.endswith(_SWITCH_OFF):
                called = named_from(file.text, made.end_line + 1, made.until)
                found.update(_behind(index, number, range(made.end_line + 1, made.until + 1), called))
    return frozenset(found)


def _behind(index: Index, file: int, lines: range, called: frozenset[str]) -> set[int]:
    found, waiting, is_inside = set[int](), list[int](), False
    begun = _begun(index, file, lines)
    for op, statement in enumerate(index.op_statement):
        place = index.statements[statement]
        if op in begun:
            is_inside, waiting = True, []
        if place.file == file and place.line in lines:
            found.update([*waiting, op])
            is_inside, waiting = True, []
        elif place.file < 0 or function_named(index.recording.text(place.function)) in called:
            if is_inside:
                found.add(op)
            else:
                waiting.append(op)
        else:
            is_inside, waiting = False, []
    return found


def _begun(index: Index, file: int, lines: range) -> frozenset[int]:
    """The ops that came next when a line was seen to look up a name, or to do what is noted beside ops: ``eval()``."""
    recording, found = index.recording, set[int]()
    inside = {at for at, span in enumerate(recording.spans) if span.file == file and span.stmt_line in lines}
    found.update(event.op for event in recording.events if event.span in inside)
    found.update(one.op for one in recording.bindings if one.span in inside and one.kind == BindingKind.LOAD)
    return frozenset(found)
