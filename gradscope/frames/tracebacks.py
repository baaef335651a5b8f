"""Tracebacks as Python would show them if gradscope were not there.

Left out are gradscope's own frames, the frames that stand for the caller of a torch function (``<gradscope call>``),
and the frames of torch's that are there only because a function mode is on: a Python wrapper that hands the call to the
mode, and ``handle_torch_function``. The same wrapper follows again, called by the mode.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import CodeType, FrameType, TracebackType
from typing import Any

from gradscope.frames.replacements import Replacement
from gradscope.frames.whose_file import is_gradscope

CALL_NAME = "<gradscope call>"
"""Name of the frames through which torch functions are called; they stand for the caller (see ``sites.Callers``)."""
PROBE_NAME = "__gradscope probe"
"""How the names begin under which a program calls its probes (see ``hosting.probes``)."""

_HANDLER = ("torch/overrides.py", "torch\\overrides.py")
_IMPORTLIB = "<frozen importlib"

boundaries: set[CodeType] = set()
"""Code under which a program runs: a walk up the stack ends there, as it does at the bottom of Python's own."""


def is_own(code: CodeType) -> bool:
    """Whether a frame of this code is gradscope's doing."""
    return code.co_name == CALL_NAME or is_gradscope(code.co_filename)


def own_frames_removed(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames that are there because of gradscope; the one given is not changed."""
    entries = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    result: TracebackType | None = None
    for position in reversed(_foreign([entry.tb_frame.f_code for entry in entries])):
        entry = entries[position]
        result = TracebackType(result, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return result


def _foreign(codes: list[CodeType]) -> list[int]:
    """Positions of the frames that would be there without gradscope; the outermost first."""
    kept: list[int] = []
    for position, code in enumerate(codes):
        if not is_own(code):
            kept.append(position)
            continue
        while kept and kept[-1] == position - 1 and codes[kept[-1]].co_filename.startswith(_IMPORTLIB):
            kept.pop()
            position -= 1
        if kept and kept[-1] == position - 1 and _is_handler(codes[kept[-1]]):
            del kept[-2:]
    return kept


def _is_handler(code: CodeType) -> bool:
    return code.co_name == "handle_torch_function" and code.co_filename.endswith(_HANDLER)


def clean_exception(error: BaseException) -> None:
    """Remove our frames from an exception and from all those that it is chained to or groups."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        BaseException.with_traceback(current, own_frames_removed(current.__traceback__))
        todo += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]


@contextmanager
def clean_walkers() -> Iterator[None]:
    """While open, the ``traceback`` module walks past our frames: a program that prints its own traceback sees none."""
    with ExitStack() as replaced:
        for name in ("walk_tb", "_walk_tb_with_full_positions"):
            if hasattr(traceback, name):
                replaced.enter_context(Replacement(traceback, name, _cleaned))
        replaced.enter_context(Replacement(traceback, "walk_stack", lambda _: _walk_stack))
        yield


def _cleaned(walk: Callable[[TracebackType | None], Any]) -> Callable[[TracebackType | None], Any]:
    def walk_cleaned(tb: TracebackType | None) -> Any:
        # Who walks by itself and asks for one entry of ours must get it.
        return walk(tb if tb is not None and is_own(tb.tb_frame.f_code) else own_frames_removed(tb))

    return walk_cleaned


def _walk_stack(f: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    if f is None:
        f = sys._getframe()
        while f is not None and (is_own(f.f_code) or f.f_code.co_filename == traceback.__file__):
            f = f.f_back
    frames: list[FrameType] = []
    while f is not None and f.f_code not in boundaries:
        frames.append(f)
        f = f.f_back
    frames.reverse()
    for position in reversed(_foreign([frame.f_code for frame in frames])):
        yield frames[position], frames[position].f_lineno
