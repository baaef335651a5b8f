"""Hooks that a program registers: where, on what, and what those on tensors do when they run.

A hook on a tensor runs in the middle of a backward pass, where no function mode is asked, on CUDA in a thread of
autograd's own. So what is registered on a tensor is wrapped, out of the program's sight (see :mod:`.hook_tables`): it
counts, and hands on what the hook gave. Hooks of modules are left as they are: they are copied and pickled with their
modules. Only the user's own hooks are noted.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling

from gradscope.frames.uncounted import uncounted
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.given_again import GivenAgain
from gradscope.recorder.patches.hook_effects import HookEffect
from gradscope.recorder.patches.hook_references import tensors_referred
from gradscope.recorder.patches.hook_tables import StandIn, original, prepare, table_of
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.refused_calls import note_refusal
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.state.module_numbers import number_of_module
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.tensors_in import PLAIN, version_of
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.dynamo import frames_compiled
from gradscope.recording.rows import EventKind, Span
from gradscope.recording.tables import NONE

TENSOR_HOOKS = {
    "register_hook": ("tensor", "_backward_hooks"),
    "register_post_accumulate_grad_hook": ("accumulated", "_post_accumulate_grad_hooks"),
}
MODULE_HOOKS = {
    "register_forward_hook": ("forward", "_forward_hooks"),
    "register_forward_pre_hook": ("forward_pre", "_forward_pre_hooks"),
    "register_full_backward_hook": ("backward", "_backward_hooks"),
    "register_full_backward_pre_hook": ("backward_pre", "_backward_pre_hooks"),
}
NOTED = 64
"""Registrations of one subject that are noted; a program may register one for each activation of each step."""
EFFECTS = 8
"""Hooks of one subject on leaves whose effect is looked at."""
LOOKS = 8
"""Results of the hooks of one subject that are looked at: the first, second, fourth …"""

_HOOK, _HOOK_RUNS, _HOOK_THERE = (int(kind) for kind in (EventKind.HOOK, EventKind.HOOK_RUNS, EventKind.HOOK_THERE))


class HookRuns:
    """What the hooks did that one line registers of one code."""

    def __init__(self, number: int, span: int, place: int, thread: int, function: str, again: GivenAgain) -> None:
        self.number = number
        self.span = span
        self.place = place
        self.thread = thread
        self.function = function
        self.registered = 0
        self.is_watched = False
        """It is on tensors."""
        self.is_behind_compiled = False
        """It is on a module, and something was compiled before."""
        self.runs = 0
        self.returned = 0
        self.removed = 0
        self.again = again
        self.in_place = 0
        self.looks: list[tuple[Tensor, Tensor]] = []
        """Numbers of elements of the gradient and of the result that are not zero, on their device."""
        self.raised: tuple[str, str, int] | None = None
        self.on_results: list[_OnResult] = []
        """Those on results of operations, as they were registered."""
        self.effects: list[HookEffect] = []
        """What the first ones on leaves did to their gradients."""


class _WatchedHook(StandIn):
    """Stands for a hook on a tensor: counts, and is the hook in all else."""

    __slots__ = ("_effect", "_watched_by")

    def __init__(self, hook: Any, watched_by: list[HookRuns], effect: HookEffect | None) -> None:
        super().__init__(hook)
        self._watched_by = watched_by
        self._effect = effect
        for runs in watched_by:
            runs.is_watched = True

    @uncounted
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else None
        version = version_of(given) if type(given) in PLAIN else NONE
        before = self._effect.before(given) if self._effect is not None else None
        try:
            result = self.hook(*args, **kwargs)
        except BaseException as error:
            for runs in self._watched_by:
                runs.runs += 1
                if runs.raised is None and isinstance(error, Exception):
                    runs.raised = (type(error).__qualname__, str(error), _line_in(error, self.hook))
            raise
        if before is not None and self._effect is not None:
            self._effect.after(before, given, result)
        for runs in self._watched_by:
            runs.runs += 1
            runs.in_place += version != NONE and version_of(given) != version
            runs.returned += result is not None
            runs.again.note(given, result)
            if result is not None and not runs.returned & (runs.returned - 1) and len(runs.looks) < LOOKS:
                _look(runs, given, result)
        return result


def _look(runs: HookRuns, given: Any, result: Any) -> None:
    """Count what is not zero, without waiting for a device, where nobody of the program's would see it done."""
    if type(given) not in PLAIN or type(result) not in PLAIN or is_dynamo_compiling():
        return
    if torch._C._len_torch_dispatch_stack() or torch._C._functorch.peek_interpreter_stack() is not None:
        return
    if given.layout is torch.strided and result.layout is torch.strided and not given.is_meta:
        with DisableTorchFunction(), torch.no_grad():
            runs.looks.append((torch.count_nonzero(given), torch.count_nonzero(result)))


class _OnResult(NamedTuple):
    """A hook on a result of an operation."""

    hook: ref[_WatchedHook]
    tensor: int
    """The row of the result."""
    op: int
    """Ops seen when it was registered."""


class _HooksOfRun:
    """The hooks of one recording, by the line that registers them and their code."""

    def __init__(self) -> None:
        self.runs: dict[tuple[int, CodeType], HookRuns] = {}
        self.of_handle: dict[int, HookRuns] = {}


class _Registered(NamedTuple):
    """A hook that is about to be registered, for one recorder."""

    mode: RecorderMode
    runs: HookRuns
    there: int
    """Hooks of its code that are on the same object already."""


_of_tape: WeakKeyDictionary[Tape, _HooksOfRun] = WeakKeyDictionary()


def reported_on_tensor(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes that which stands for a method of tensors that registers a hook, while a recorder is at work."""
    kind, table = TENSOR_HOOKS[name]

    def make(register: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(register)
        def registers(tensor: Tensor, hook: Any, *args: Any, **kwargs: Any) -> Any:
            if is_dynamo_compiling() or not is_ours_on_top() or code_of(hook) is None:
                return register(tensor, hook, *args, **kwargs)
            frame, found = sys._getframe(1), list[_Registered]()
            note(name, lambda mode: found.extend(_registered(mode, hook, frame, tensor, table)))
            if not found:
                return register(tensor, hook, *args, **kwargs)
            watched = _WatchedHook(hook, [one.runs for one in found], _effect_of(tensor, kind, found))
            prepare(tensor, table)
            hooks = table_of(tensor, table)
            try:
                handle = register(tensor, watched if hooks is None else hook, *args, **kwargs)
            except Exception as error:
                note_refusal(f"Tensor.{name}", frame, [tensor], error)
                raise
            if hooks is not None:
                hooks.put_behind(handle.id, watched)
            note(name, lambda mode: _observe(mode, found, kind, frame, lambda: [tensor], handle.id))
            if type(tensor) in PLAIN and not tensor.is_leaf:
                note(name, lambda mode: _remember(mode, found, tensor, ref(watched)))
            return handle

        return registers

    return make


def reported_on_module(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What makes that which stands for a method of modules that registers a hook, while a recorder is at work."""
    kind, table = MODULE_HOOKS[name]

    def make(register: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(register)
        def registers(module: nn.Module, hook: Any, *args: Any, **kwargs: Any) -> Any:
            if is_dynamo_compiling() or not is_ours_on_top() or code_of(hook) is None:
                return register(module, hook, *args, **kwargs)
            frame, found = sys._getframe(1), list[_Registered]()
            note(name, lambda mode: found.extend(_registered(mode, hook, frame, module, table)))
            handle = register(module, hook, *args, **kwargs)
            if found:
                parts = {"on": number_of_module(module)}
                if compiled := frames_compiled():
                    parts["compiled"] = compiled
                    for one in found:
                        one.runs.is_behind_compiled = True
                note(
                    name,
                    lambda mode: _observe(mode, found, kind, frame, lambda: _own_parameters(module), handle.id, parts),
                )
            return handle

        return registers

    return make


def reported_removal(remove: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``RemovableHandle.remove`` while a recorder is at work."""

    @wraps(remove)
    def removes(handle: Any) -> Any:
        for hooks in list(_of_tape.values()):
            runs = hooks.of_handle.pop(getattr(handle, "id", NONE), None)
            if runs is not None:
                runs.removed += 1
        return remove(handle)

    return removes


def _effect_of(tensor: Tensor, kind: str, found: list[_Registered]) -> HookEffect | None:
    """What is to look at the effect of a hook that is about to be registered; none of those after the first few."""
    all_runs = [one.runs for one in found if len(one.runs.effects) < EFFECTS]
    if not all_runs or type(tensor) not in PLAIN or not tensor.is_leaf:
        return None
    effect = HookEffect(tensor, kind == "accumulated")
    for runs in all_runs:
        runs.effects.append(effect)
    return effect


def _remember(mode: RecorderMode, found: list[_Registered], tensor: Tensor, hook: ref[_WatchedHook]) -> None:
    for runs in (one.runs for one in found if one.mode is mode and len(one.runs.on_results) < NOTED):
        observer = mode.observer
        runs.on_results.append(_OnResult(hook, observer.identity.row_of(tensor), observer.tape.op_count))


def move(tape: Tape, moves: Moves) -> None:
    """Know the results on which hooks of a recording are by their new rows."""
    hooks = _of_tape.get(tape)
    for runs in hooks.runs.values() if hooks is not None else ():
        runs.on_results[:] = [
            one._replace(tensor=moves["tensors"](one.tensor), op=moves["ops"](one.op)) for one in runs.on_results
        ]


def write_runs(tape: Tape, row_of: Callable[[Any], int]) -> None:
    """Note what the hooks of a recording did, and which of those on results are still there, when it ends."""
    hooks = _of_tape.pop(tape, None)
    for runs in hooks.runs.values() if hooks is not None else ():
        for registered in runs.on_results:
            _write_there(tape, runs, registered, row_of)
        if runs.is_behind_compiled:
            done = {"compiled": frames_compiled(), "removed": runs.removed}
            tape.add_event(_HOOK_RUNS, runs.span, runs.thread, runs.number, json.dumps(done), [])
    for runs in (one for one in hooks.runs.values() if one.is_watched) if hooks is not None else ():
        looks = [(int(given), int(result)) for given, result in runs.looks]
        counted = [result for given, result in looks if given]
        detail: dict[str, Any] = {
            "runs": runs.runs,
            "removed": runs.removed,
            "returned": runs.returned,
            "in_place": runs.in_place,
            "looked": len(counted),
            "zeroed": counted.count(0),
        }
        if runs.again.times and not runs.again.refreshed:
            detail["again"] = runs.again.times
        if runs.raised is not None:
            detail |= dict(zip(("raised", "message", "line"), runs.raised, strict=True))
        effects = [(row_of(one.leaf), one.found()) for one in runs.effects if one.leaf is not None]
        looked = {row: effect for row, effect in effects if row != NONE and effect is not None}
        if looked:
            detail["effects"] = list(looked.values())
        taken = [(row, found) for row, found in _taken(runs, row_of) if row != NONE and found is not None]
        if taken and not looked:
            detail["taken"] = [found for _, found in taken]
        rows = list(looked) or [row for row, _ in taken]
        tape.add_event(_HOOK_RUNS, runs.span, runs.thread, runs.number, json.dumps(detail, sort_keys=True), rows)


def _taken(runs: HookRuns, row_of: Callable[[Any], int]) -> list[tuple[int, list[int] | None]]:
    """Leaves with what was found of their gradients that the hooks took away."""
    return [(row_of(one.leaf), one.taken()) for one in runs.effects if one.leaf is not None]


def _write_there(tape: Tape, runs: HookRuns, registered: _OnResult, row_of: Callable[[Any], int]) -> None:
    """Write a hook on a result that is still there, with the tensors that it refers to, if it does."""
    watched = registered.hook()
    if watched is None or registered.tensor == NONE:
        return
    referred = {row_of(tensor): name for name, tensor in tensors_referred(watched.hook)}
    referred.pop(NONE, None)
    if referred:
        detail = {"registered": registered.op, "names": list(referred.values())}
        rows = [registered.tensor, *referred]
        tape.add_event(_HOOK_THERE, runs.span, runs.thread, runs.number, json.dumps(detail, sort_keys=True), rows)


def code_of(hook: Any) -> CodeType | None:
    """The code of a hook; of one that wraps another function, as functools.wraps says, that of the other.

    None for one that has no code of Python's.
    """
    while isinstance(hook, functools.partial):
        hook = hook.func
    hook = original(hook)
    if type(hook) is MethodType:
        hook = hook.__func__
    if type(hook) is not FunctionType:
        hook = vars(type(hook)).get("__call__")
    while type(hook) is FunctionType and type(inner := vars(hook).get("__wrapped__")) is FunctionType:
        hook = inner
    return hook.__code__ if type(hook) is FunctionType else None


def _registered(mode: RecorderMode, hook: Any, frame: FrameType, owner: Any, table: str) -> Iterator[_Registered]:
    """What a recording knows of hooks like this one; nothing where its code is not the user's."""
    observer, code = mode.observer, code_of(hook)
    if code is None or observer.sites.owners.of(code) is not Owner.USER:
        return
    with observer.lock:
        hooks = _of_tape.setdefault(observer.tape, _HooksOfRun())
        span = observer.sites.locate(frame).site.span
        runs = hooks.runs.get((span, code))
        if runs is None:
            spans = observer.sites.spans
            file, line = spans.sources.file(code.co_filename, True), code.co_firstlineno
            place = spans.shared(Span(file, line, line, NONE, NONE, line, line, spans.text(code.co_name)))
            runs = hooks.runs[span, code] = HookRuns(
                len(hooks.runs), span, place, mode.thread, code.co_name, GivenAgain(observer)
            )
    present = getattr(owner, table, None) or {}
    yield _Registered(mode, runs, sum(code_of(one) is code for one in list(present.values())))


def _observe(
    mode: RecorderMode,
    found: list[_Registered],
    kind: str,
    frame: FrameType,
    tensors: Callable[[], list[Any]],
    handle: int,
    parts: dict[str, Any] | None = None,
) -> None:
    if parts is not None:
        mode.observer.forget_direct_forwards(parts["on"])
    for runs, there in ((one.runs, one.there) for one in found if one.mode is mode):
        runs.registered += 1
        _of_tape[mode.observer.tape].of_handle[handle] = runs
        if runs.registered <= NOTED:
            detail = {"hook": kind, "function": runs.function, "place": runs.place, "there": there, **(parts or {})}
            mode.observer.observe_event(_HOOK, frame, mode.thread, runs.number, detail, tensors())


def _own_parameters(module: nn.Module) -> list[Any]:
    return [one for one in vars(module).get("_parameters", {}).values() if type(one) in PLAIN]


def _line_in(error: Exception, hook: Any) -> int:
    """The line of the hook's own code that an error came from, the innermost; 0 where none is."""
    code, trace, line = code_of(hook), error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code is code:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
