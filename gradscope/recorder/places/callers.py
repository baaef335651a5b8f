"""From the frame that called a torch function to the user's line, and to what is one op of torch's own Python."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.utils import _contextlib, checkpoint

from gradscope.frames.code_names import qualified_name
from gradscope.frames.frame_locals import reading_locals
from gradscope.frames.statements import NO_STATEMENT, Assignment, SourceStatement
from gradscope.frames.tracebacks import CALL_NAME
from gradscope.frames.whose_file import within
from gradscope.recorder.places.call_sites import Call, Callers, Site, SpanTable
from gradscope.recorder.places.code_owners import CodeOwners, Owner
from gradscope.recorder.places.forwards_in_frames import MODULE_CALLS, directly_called, is_forward
from gradscope.recorder.places.torch_calls import call_in
from gradscope.recording.flags import BELOW
from gradscope.recording.rows import Span
from gradscope.recording.tables import NONE

_USER, _TORCH, _LIBRARY = Owner.USER, Owner.TORCH, Owner.LIBRARY  # looked up in an enumeration they are slow

HANDLE_CODE = torch.overrides.handle_torch_function.__code__

_HANDLER = "__torch_function__"
_APPLY = "Function.apply"
_CHECKPOINT = inspect.unwrap(getattr(checkpoint, "_checkpoint_impl", checkpoint.checkpoint)).__code__
"""What calls the checkpointed function; since torch 2.14 a function of its own."""
_DISPATCHERS = ("_ops.py", "_jit_internal.py", "_VF.py")
_DECORATES = frozenset(
    (code.co_filename, code.co_firstlineno)
    for maker in (_contextlib.context_decorator, _contextlib._wrap_generator)
    for code in maker.__code__.co_consts
    if isinstance(code, CodeType) and code.co_name in ("decorate_context", "generator_context")
)
"""Where the code is of what stands for a decorated function: it sets a mode, calls the function, and sets it back.

Since torch 2.15 each has a copy of that code, which is called as the mode is.
"""
SETS_MODE = frozenset(
    method.__code__
    for kind in (torch.no_grad, torch.enable_grad, torch.set_grad_enabled, torch.inference_mode)
    for method in map(vars(kind).get, ("__init__", "__enter__", "__exit__"))
    if inspect.isfunction(method)
)
"""Code of what sets grad mode and sets it back, without what stands for decorated functions."""
_MODES_IN_SOURCE = re.compile(r"\b(no_grad|enable_grad|set_grad_enabled|inference_mode)\b")
MODE_METHODS = ("no_grad.", "enable_grad.", "set_grad_enabled.", "inference_mode.")
"""What the names of methods that set a mode begin with."""
_COMPILES = ("torch/_dynamo/eval_frame.py", "torch\\_dynamo\\eval_frame.py")
_OPTIMIZERS = within(Path(torch.optim.__file__).parent)
_RESUMED = re.compile(r"torch_dynamo_resume_in_(.+)_at_\d+$")
"""The name of what runs behind a graph break."""
_WRAPPERS = frozenset(("wrapper", "inner", "wrapped", "decorate_autocast", "_use_grad", "_fn"))


class Located:
    """Where a call of a torch function comes from."""

    __slots__ = ("below", "group", "label", "site", "user")

    def __init__(self, site: Site, user: FrameType | None, label: str = "", group: Any = None, below: int = 0) -> None:
        self.site = site
        self.user = user
        self.label = label
        """What torch's own Python was called for (``nn.Linear.__init__``); empty for a call of the user's."""
        self.group = group
        """Equal for the calls that one call into torch's Python makes: that call, and the instruction that made it."""
        self.below = below
        """The flag BELOW where not the user's own code makes the call."""


class CallPlace:
    """An instruction that calls a torch function, in anybody's code."""

    __slots__ = ("call", "is_mode", "is_recorder", "site")

    def __init__(self, call: Call, site: Site | None, is_recorder: bool, is_mode: bool) -> None:
        self.call = call
        """Calls a torch function in place of the instruction's code."""
        self.site = site
        """The call site, where it is in the user's code."""
        self.is_recorder = is_recorder
        """It is a recorder's own instruction."""
        self.is_mode = is_mode
        """It is in a ``__torch_function__`` of somebody else's, which may hand on what was called elsewhere."""


PLAIN_PLACE = CallPlace(lambda func, args, kwargs: func(*args, **(kwargs or {})), None, False, False)
"""Of a call whose instruction could not be looked at."""


class CallSites:
    """The call sites seen so far."""

    def __init__(self, spans: SpanTable, owners: CodeOwners, begun_at: FrameType | None = None) -> None:
        self.spans = spans
        self.owners = owners
        self._callers = Callers()
        self._sites: dict[tuple[int, int], Site] = {}
        self._library_sites: dict[tuple[int, int], Site] = {}
        self._decorators: dict[int, Site | None] = {}
        """By ``id(code)`` of a decorated function; the code objects are kept by their owners' table."""
        self.places: dict[tuple[int, int], CallPlace] = {}
        """By ``id(code)`` and instruction; the code objects are kept by their owners' table."""
        self._begun_at: tuple[int, str, tuple[int, int]] | None = None
        """File, function, line and column at which the recording began: names may hold what was made before."""
        if begun_at is not None:
            file = spans.sources.file(begun_at.f_code.co_filename, True)
            function = qualified_name(begun_at.f_code, begun_at, spans.sources.parsed(file))
            line, _, col, _ = spans.sources.positions(file, begun_at)
            self._begun_at = (file, function, (line, col))
        self._nowhere = Site(NONE, NONE, NONE, NO_STATEMENT, "")
        self.started_at: dict[int, Site] = {}
        """By thread: where the user's code started it. What has no user frame there was begun by that line:
        ``Thread(target=loss.backward).start()``."""
        self.note_direct_forward: Callable[[nn.Module, int], None] | None = None
        """Called with a module whose ``forward`` was called without calling the module, and the span of that."""

    def new_place(self, frame: FrameType) -> CallPlace:
        """Enter the instruction that a frame is at."""
        owner = self.owners.of(frame.f_code)
        is_recorder = owner is Owner.GRADSCOPE or frame.f_code.co_name == CALL_NAME
        site = self._user_site(frame) if owner is Owner.USER and not is_recorder else None
        is_mode = frame.f_code.co_name == _HANDLER and not is_recorder
        place = CallPlace(self._callers.make(frame), site, is_recorder, is_mode)
        self.places[id(frame.f_code), frame.f_lasti] = place
        return place

    def of_apply(self, site: Site, frame: FrameType) -> Located:
        """Where a tensor became a view of itself: at a custom Function's ``apply``, if the call there is no other."""
        if torch.is_grad_enabled() or "view_as" in self.spans.text_at(frame):
            return Located(site, frame)
        group = (object(), id(frame), frame.f_lasti, _APPLY)  # (no other call is a further one of this)
        return Located(site, frame, _APPLY, group, BELOW)

    def caller(self, frame: FrameType) -> Located:
        """Find the user's frame above a frame of torch's that stands for one call as a whole."""
        current: FrameType | None = frame
        library = None
        while current is not None:
            owner = self.owners.of(current.f_code)
            if owner is _USER:
                break
            if library is None and owner is _LIBRARY:
                library = current
            current = current.f_back
        return Located(self._site(current, library), current, below=BELOW)

    def locate(self, frame: FrameType) -> Located:
        """Find the user's frame above a frame, and what of torch's Python lies between."""
        known = self.owners.known
        torch_frames: list[FrameType] = []
        library, outer = None, frame
        current: FrameType | None = frame
        while current is not None:
            code = current.f_code
            owner = known.get(id(code))
            if owner is None:
                owner = self.owners.of(code)
            if owner is _USER:
                break
            if library is None:
                if owner is _TORCH:
                    torch_frames.append(current)
                elif owner is _LIBRARY:
                    library = current
            if library is None:
                outer = current  # of torch, or of Python on the way to it: copy.deepcopy
            current = current.f_back
        if torch_frames and (torch_frames[0].f_code in SETS_MODE or _stands_for_decorated(torch_frames[0].f_code)):
            torch_frames = self._up_to_decorator(torch_frames)
        decorated = _decorated(torch_frames[-1]) if torch_frames else None
        decorator = None if decorated is None else self._site_of_decorator(decorated)
        site = decorator or self._site(current, library)
        at = current.f_lasti if current else NONE
        # (A decorator's frame does not run: the caller's is at a statement of its own, whose names wait.)
        user = current if decorator is None else None
        if not torch_frames or torch_frames[-1].f_code in MODULE_CALLS or _is_checkpointed(torch_frames):
            return Located(site, user, below=BELOW)
        if is_forward(torch_frames[-1]):  # what it is made of is seen as it is where the module is called
            if not site.seen & (site.seen - 1):
                self.look_at_forward(torch_frames[-1])
            return Located(site, user, below=BELOW)
        label = _compiled(torch_frames, site) or _label(torch_frames)
        if label.startswith(MODE_METHODS):
            label = self._decorated_by_torch(torch_frames) or label
        group = (call_in(outer) or _made_by(torch_frames[-1]), id(current), at, label) if label else None
        return Located(site, user, label, group, BELOW)

    def _up_to_decorator(self, frames: list[FrameType]) -> list[FrameType]:
        """The frames of torch's, innermost first, that set a mode around a function of the user's, without its caller.

        A module calls its decorated ``forward``.
        """
        for place, frame in enumerate(frames):
            function = _decorated(frame)
            if function is not None and self._site_of_decorator(function) is not None:
                return frames[: place + 1]
        return frames

    def _site_of_decorator(self, function: CodeType) -> Site | None:
        """The site of a decorator of torch's that sets a mode around a function of the user's, in the user's code.

        None where torch itself has put that around the function, as L-BFGS does with a closure.
        """
        if self.owners.of(function) is not _USER:
            return None
        if id(function) not in self._decorators:
            found = self.spans.of_decorator(function, _MODES_IN_SOURCE)
            site = None if found is None else Site(found[0], NONE, found[1], found[2], function.co_name)
            self._decorators[id(function)] = site
        return self._decorators[id(function)]

    def _decorated_by_torch(self, frames: list[FrameType]) -> str:
        """The function of torch's own around which a mode is set by the innermost of some frames; empty for none."""
        decorated = next((one for frame in frames if (one := _decorated_function(frame)) is not None), None)
        if decorated is None or self.owners.of(decorated.__code__) is not _TORCH:
            return ""
        code = decorated.__code__
        name: str = getattr(code, "co_qualname", decorated.__qualname__)
        return _home(code.co_filename) + name

    def call_assigned_to(self, name: str, site: Site, after: int) -> tuple[str, int] | None:
        """The call that a name was assigned from before a site was reached: the function as written, and its span."""
        line, _, col, *_ = site.statement
        call = self.spans.sources.parsed(site.file).call_assigned_to(name, after, line, col)
        if call is None or self._is_before_recording(site, call):
            return None
        return self._call(call, site.file, site.function)

    def call_stored_by(self, name: str, stored_by: Site, site: Site) -> tuple[str, int] | None:
        """The call that a name was assigned from by the statement that was before a site's: see `call_assigned_to`."""
        parsed = self.spans.sources.parsed(stored_by.file)
        call = parsed.call_stored_by(name, stored_by.statement, site.statement)
        if call is None or self._is_before_recording(stored_by, call):
            return None
        return self._call(call, stored_by.file, stored_by.function)

    def found_under(self, name: str, stored_by: Site, site: Site) -> str:
        """The name that has at a site what an earlier statement stored under a name; that itself if none is known."""
        parsed = self.spans.sources.parsed(stored_by.file)
        return parsed.found_under(name, stored_by.statement, site.statement) or name

    def parts_stored_before(self, site: Site, stored_by: Site | None) -> tuple[str, ...]:
        """Attributes of what a site's statement reads that were assigned since the frame's last op.

        ``self.layer.weight`` of ``self.layer.weight = nn.Parameter(new)`` before ``self.layer(x)``.
        """
        scope = site.statement.scope
        since = stored_by.statement if stored_by is not None else SourceStatement(scope, scope, scope=scope)
        stored = self.spans.sources.parsed(site.file).stored_between(since, site.statement)
        read = tuple(f"{name}." for name in site.statement.loads)
        return tuple(name for name in stored if name.startswith(read))

    def call_at_end(self, name: str, filename: str) -> tuple[str, int] | None:
        """The call that a name of a module was assigned from, if it was assigned once: the function, and its span."""
        file = self.spans.sources.file(filename, True)
        call = self.spans.sources.parsed(file).call_assigned_to(name, 0, sys.maxsize)
        return None if call is None else self._call(call, file, "<module>")

    def _call(self, call: Assignment, file: int, function: str) -> tuple[str, int]:
        name = self.spans.text(function)
        span = Span(file, call.line, call.end_line, call.col, call.end_col, call.line, call.end_line, name)
        return call.function, self.spans.shared(span)

    def _is_before_recording(self, site: Site, call: Assignment) -> bool:
        """Whether a call stands before the place at which the recording began; of one line the column decides."""
        if self._begun_at is None:
            return False
        file, function, (line, col) = self._begun_at
        is_before = (call.line, call.col) < (line, col) if col != NONE else call.line <= line
        return is_before and site.file == file and site.function in (function, "<module>")

    def _site(self, user: FrameType | None, library: FrameType | None) -> Site:
        if user is None:
            site = self.started_at.get(get_ident(), self._nowhere)
        else:
            site = self._sites.get((id(user.f_code), user.f_lasti)) or self._user_site(user)
        return site if library is None else self._site_in_library(site, library)

    def _site_in_library(self, site: Site, library: FrameType) -> Site:
        """The site of a call that a library makes for a call of the user's."""
        inner = self.spans.of(library)[0]
        key = (id(site), inner)  # sites are kept, so their ids are not used again
        known = self._library_sites.get(key)
        if known is None:
            known = Site(site.span, inner, site.file, site.statement, site.function)
            self._library_sites[key] = known
        return known

    def user_site(self, frame: FrameType) -> Site | None:
        """The site that a frame is at, if it runs the user's code."""
        if self.owners.of(frame.f_code) is not Owner.USER or frame.f_code.co_name == CALL_NAME:
            return None
        return self._user_site(frame)

    def _user_site(self, frame: FrameType) -> Site:
        key = (id(frame.f_code), frame.f_lasti)
        site = self._sites.get(key)
        if site is None:
            span, file, statement = self.spans.of(frame)
            function = qualified_name(frame.f_code, frame, self.spans.sources.parsed(file))
            site = self._sites[key] = Site(span, NONE, file, statement, function)
        return site

    def look_at_forward(self, frame: FrameType) -> None:
        """Note who called the ``forward`` that a frame runs, if that was the user's code."""
        found = directly_called(frame, lambda code: self.owners.of(code) is _USER and code.co_name != CALL_NAME)
        if found is not None and self.note_direct_forward is not None:
            module, caller = found
            self.note_direct_forward(module, self.spans.of(caller)[0])


def _is_checkpointed(torch_frames: list[FrameType]) -> bool:
    """Whether a module of torch's own was called by ``checkpoint``: its layers' calls are told apart, as without it."""
    called = None
    for frame in torch_frames:
        if frame.f_code is _CHECKPOINT and called in MODULE_CALLS:
            return True
        called = frame.f_code
    return False


def _stands_for_decorated(code: CodeType) -> bool:
    return (code.co_filename, code.co_firstlineno) in _DECORATES


def _decorated(frame: FrameType) -> CodeType | None:
    """The code of the function around which a frame of torch's sets a mode (``@torch.no_grad()``), if it does."""
    function = _decorated_function(frame)
    return None if function is None else function.__code__


def _decorated_function(frame: FrameType) -> Any:
    """That function, which has code."""
    if not _stands_for_decorated(frame.f_code):
        return None
    with reading_locals(frame) as names:
        function = names.get("func")
    function = inspect.unwrap(function) if callable(function) else None
    return function if isinstance(getattr(function, "__code__", None), CodeType) else None


def caller_behind_recorder(frame: FrameType) -> FrameType | None:
    """The frame for which a recorder inside this one calls a torch function; None where it asks for itself."""
    if frame.f_code.co_name != CALL_NAME:
        return None
    current: FrameType | None = frame
    while current is not None and (current.f_code.co_name == CALL_NAME or current.f_code is HANDLE_CODE):
        handled = current.f_code is HANDLE_CODE
        current = current.f_back
        if handled and current is not None:
            current = current.f_back
        if current is not None and current.f_code.co_name == _HANDLER:
            current = current.f_back
    return current


def caller_behind_mode(frame: FrameType, func: Any) -> FrameType | None:
    """The frame that called a function which function modes (``with torch.device(…)``) hand on; None where none does.

    What a mode calls on its own account is its own.

    Args:
        frame: The frame that calls the function.
        func: The function.
    """
    current: FrameType | None = frame
    while current is not None and current.f_code.co_name == _HANDLER and _handed_to(current) is func:
        current = current.f_back
        if current is not None and current.f_code is HANDLE_CODE and current.f_back is not None:
            current = current.f_back.f_back
    return None if current is frame else current


def _handed_to(frame: FrameType) -> Any:
    """The function that a ``__torch_function__`` was called with: its second parameter, whatever its name."""
    parameters = frame.f_code.co_varnames[: frame.f_code.co_argcount]
    with reading_locals(frame) as names:
        return names.get(parameters[1]) if len(parameters) > 1 else None


def _made_by(outer: FrameType) -> int:
    """Which object a frame of torch's initialises, so that one made after the other is another call; 0 for none."""
    code = outer.f_code
    if code.co_name != "__init__" or not code.co_argcount:
        return 0
    with reading_locals(outer) as names:
        return id(names.get(code.co_varnames[0]))


def _label(frames: list[FrameType]) -> str:
    """What torch's Python was called for, or empty where its ops are the user's own (a module's forward).

    Args:
        frames: Of torch's Python, innermost first.
    """
    outer = frames[-1].f_code
    if outer.co_filename.endswith(_DISPATCHERS):
        return ""
    for frame in reversed(frames):
        name = qualified_name(frame.f_code, frame)
        is_wrapper = "<locals>" in name or name in _WRAPPERS or _stands_for_decorated(frame.f_code)
        if not is_wrapper:  # (a decorator of torch's own)
            return _home(frame.f_code.co_filename) + name
    return qualified_name(outer, frames[-1])


def _compiled(frames: list[FrameType], site: Site) -> str:
    """The function of the user's whose compiled code frames of torch's run; empty where they run none.

    Args:
        frames: Innermost first.
        site: Where the outermost was called.
    """
    code = frames[-1].f_code
    if code.co_name != "_fn" or not code.co_filename.endswith(_COMPILES):
        return ""
    if any(frame.f_code.co_filename.startswith(_OPTIMIZERS) for frame in frames):
        return ""  # (with the first compilation dynamo puts what is called so before LBFGS.step, to let that alone)
    return _RESUMED.sub(r"\1", site.function)


@cache
def _home(file: str) -> str:
    """The public name of the part of torch that a file is, with a dot: ``nn.``, ``optim.``."""
    parts = file.replace("\\", "/").rpartition("/torch/")[2].removesuffix(".py").split("/")
    if parts[0] == "nn" and len(parts) > 1:
        return {"modules": "nn.", "utils": "nn.utils.", "init": "nn.init.", "functional": "F."}.get(parts[1], "nn.")
    if parts[0] in ("optim", "amp", "distributions"):
        return f"{parts[0]}."
    return "" if parts[0] in ("autograd", "utils") else "torch."
