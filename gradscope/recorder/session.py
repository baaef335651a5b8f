"""A recorder: what is installed while a program is observed, and taken away without a trace afterwards."""

from __future__ import annotations

import json
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from time import perf_counter_ns
from types import FrameType, TracebackType
from typing import Any
from weakref import ref

import torch
from torch._C import DisableTorchFunction

from gradscope.recorder.calls.core import core_of
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import uppermost
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.shielded_observer import ShieldedObserver
from gradscope.recorder.naming.held_at_end import held_at_end
from gradscope.recorder.naming.seen_names import SeenNames
from gradscope.recorder.patches import hooks, inside_writes, packed_tensors, replaced_functions
from gradscope.recorder.patches.inside_counts import write_counts
from gradscope.recorder.patches.optimizer_steps import OptimizerSteps
from gradscope.recorder.patches.stack_limit import raise_stack_limit
from gradscope.recorder.patches.state_when_run_again import write_rerun_states
from gradscope.recorder.patches.threads import follow, following, unfollow
from gradscope.recorder.places.call_sites import Site, SourceFiles, SpanTable
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.places.code_owners import CodeOwners
from gradscope.recorder.places.function_places import FunctionPlaces
from gradscope.recorder.repetition.forgetting import Forgetting
from gradscope.recorder.state.fingerprints import Fingerprints
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.last_look import LastLook
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.values_and_memory import Values
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import HookCounter
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import EventKind
from gradscope.recording.this_machine import describe_machine


class Recorder:
    """Observes torch in the thread that starts it and in the threads started from then on.

    Args:
        is_user: Tells by file name whether code is the user's own.
        sources: Text of files that cannot be read from disk (standard input, ``-c``), by file name.
        values: Record the values of small CPU tensors.
        max_ops: Keep so many single ops; what is left out is counted by call site.
        on_flush: Called with the recording after each batch of rows.
        begun_at: The frame in the middle of which the recording begins, where it is not the program's start.
        fingerprints: Keep a fingerprint of what each op, node and pass gives; two runs are compared by them.
        nan: Look at what each op and each node of a backward pass gives, for where a NaN or an infinity is born.
        every_op: Keep each op of a long program, also what comes again alike, which is only counted else. So does a
            recording with values, fingerprints or ``nan``: no two ops are alike then.
    """

    def __init__(
        self,
        *,
        is_user: Callable[[str], bool],
        sources: Mapping[str, str] | None = None,
        values: bool = False,
        max_ops: int | None = None,
        on_flush: Callable[[Recording], None] | None = None,
        begun_at: FrameType | None = None,
        nan: bool = False,
        fingerprints: bool = False,
        every_op: bool = False,
    ) -> None:
        self.recording = Recording()
        self._tape = tape = Tape(self.recording, on_flush)
        self._is_user = is_user
        self._sources = SourceFiles(tape, sources or {})
        owners = CodeOwners(is_user, self._sources.text)
        self._identity = identity = Identity(tape)
        self._names = SeenNames(tape, identity, self._sources)
        spans = SpanTable(tape, self._sources, owners)
        sites = CallSites(spans, owners, begun_at)
        nodes = GraphNodes(tape, identity, FunctionPlaces(tape, spans, owners).see)
        self._fingerprints = Fingerprints(tape, identity) if fingerprints else None
        self._observer = Observer(tape, identity, nodes, sites, self._names, max_ops, nan, self._fingerprints)
        self._observer.values = Values(tape) if values else None
        if not (every_op or values or nan or fingerprints):
            self._observer.forgetting = Forgetting(tape, self._observer.is_quiet, self._move)
        self._core = core_of(self._observer)
        self._modes: dict[int, RecorderMode] = {}
        self._optimizers = OptimizerSteps(self._observer, self._modes)
        self._hook_counter = HookCounter()
        self._started = 0
        self._pid = os.getpid()

    @property
    def op_count(self) -> int:
        """Ops seen so far."""
        forgetting = self._observer.forgetting
        return self._tape.op_count + (0 if forgetting is None else forgetting.forgotten)

    @property
    def living_bytes(self) -> int:
        """Bytes of the storages that were seen and live; from any thread."""
        return self._identity.living_bytes()

    def _move(self, moves: Moves) -> None:
        self._observer.move(moves)
        hooks.move(self._tape, moves)
        inside_writes.move(self._tape, moves)

    @property
    def is_busy(self) -> bool:
        """Whether rows are being written at this moment; a signal handler must then not complete the recording."""
        if not self._observer.lock.acquire(blocking=False):
            return True
        # A thread that holds the lock can take it again: only then is the first release not the last.
        self._observer.lock.release()
        return self._observer.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def start(self) -> None:
        """Begin to observe this thread, and the threads that are started from now on."""
        info = self.recording.info
        info.started_at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        info.torch = str(torch.__version__)
        describe_machine(info)
        raise_stack_limit()
        self._started = perf_counter_ns()
        with _installing:
            follow(self)
            self._optimizers.install()
            replaced_functions.install(self)
            self._hook_counter.install()
        self.enter_thread(threading.current_thread().name)
        if self._tape.on_flush is not None:
            self.flush()  # a program that is killed soon leaves at least what was run

    def stop(self, namespace: Mapping[str, Any] | None = None, filename: str = "") -> None:
        """Stop observing.

        Args:
            namespace: Names that hold tensors at the end are matched in it.
            filename: The file whose module's it is, if it is a whole program's.
        """
        with _installing:
            self._hook_counter.remove()
            replaced_functions.remove(self)
            self._optimizers.remove()
            self.leave_thread()
            unfollow(self)
        self._observer.muted = True
        if os.getpid() != self._pid:
            return
        self.recording.info.duration_ns = perf_counter_ns() - self._started
        with self._observer.lock:  # a thread that goes on may be in the middle of a call
            try:
                self._identity.bury()
                with DisableTorchFunction():
                    hooks.write_runs(self._tape, self.row_of)
                    packed_tensors.write_packed(self._tape)
                    write_counts(self._tape)
                    inside_writes.write_effects(self._tape)
                    write_rerun_states(self._tape)
                    self._observer.arrays.write()
                    self._observer.collectives.note_all()
                    self._look_back(namespace or {}, filename)
            except Exception:
                self._tape.fault("stop", traceback.format_exc())
            for pair in self._identity.alike_storages.items():
                self._tape.pending["alike_storages"] += pair
            self._observer.after_limit.write(self._observer.passes.looks.passes)
            self.flush()

    def _look_back(self, namespace: Mapping[str, Any], filename: str) -> None:
        """Match names, and ask the tensors that bear them once more."""
        self._observer.passes.looks.settle()
        if self._fingerprints is not None:
            self._fingerprints.settle()
        if filename:
            self._observer.enter_rest(namespace, filename)
        self._names.finish(namespace)
        self._names.bind_held(held_at_end(namespace, self._is_user))
        self._observer.module_looks.settle()
        LastLook(self._tape, self._observer.states).settle()

    def flush(self) -> None:
        """Make ``recording`` current."""
        self._tape.flush()

    @contextmanager
    def mute(self) -> Iterator[None]:
        """Nothing that the calling thread does inside is recorded."""
        mode = self._modes.get(threading.get_ident())
        if mode is None or mode.muted:
            yield
            return
        mode.muted = True
        try:
            yield
        finally:
            mode.muted = False

    def observe_watch(self, expression: str, file: str, line: int, text: str, value: Any, failed: bool) -> None:
        """Record what a watched expression gave after a statement."""
        tape = self._tape
        with self._observer.lock:
            tape.pending["watches"] += (
                tape.text(expression),
                tape.op_count,
                line,
                self._sources.file(file, True),
                tape.text(text),
                self.row_of(value),
                failed,
            )

    def observe_snippet(self, file: str, detail: Mapping[str, Any]) -> None:
        """Record how a part of a program ran that is run by itself."""
        with self._observer.lock:
            self._tape.add_event(EventKind.SNIPPET, NONE, 0, self._sources.file(file, True), json.dumps(detail), [])

    def leaves(self) -> dict[int, Any]:
        """The live tensors whose ``.grad`` a backward pass may set, by row."""
        with self._observer.lock:
            known = {row: seen() for row, seen in self._identity.leaves.items()}
        return {row: tensor for row, tensor in known.items() if tensor is not None}

    def row_of(self, tensor: Any) -> int:
        """Row of a tensor that was seen and lives, or NONE."""
        return self._identity.row_of(tensor)

    def gradients_of_living(self) -> dict[int, tuple[Any, int]]:
        """The ``.grad`` of each leaf that lives, by the leaf's row: a weak reference and the version counter."""
        leaves = {row: seen() for row, seen in self._identity.leaves.items()}
        with DisableTorchFunction():
            gradients = {row: leaf.grad for row, leaf in leaves.items() if leaf is not None}
            return {row: (ref(grad), grad._version) for row, grad in gradients.items() if grad is not None}

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def records_this_thread(self) -> bool:
        """Whether the calling thread is recorded, now."""
        mode = self._modes.get(threading.get_ident())
        return mode is not None and not mode.muted and not self._observer.muted

    def mode_here(self) -> RecorderMode | None:
        """The mode that records the calling thread."""
        return self._modes.get(threading.get_ident())

    def start_of_thread(self, frame: FrameType) -> Site | None:
        """Where a thread is started by a frame; None where that runs no code of the user's."""
        try:
            with self._observer.lock:
                return self._observer.sites.user_site(frame)
        except Exception:
            self._observer.fault("thread.start")
            return None

    def enter_thread(self, name: str, started: Site | None = None) -> None:
        """Begin to record the calling thread, which was started at a place of the user's."""
        ident = threading.get_ident()
        with self._observer.lock:
            if started is not None:
                self._observer.sites.started_at[ident] = started
            is_inside_modes = torch._C._len_torch_function_stack() > 0
            observer = ShieldedObserver(self._observer) if is_inside_modes else self._observer
            # (the native core does not switch off the modes of the program's that would see it look)
            core = None if is_inside_modes else self._core
            mode = RecorderMode(observer, len(self.recording.threads), core)
            self._observer.passes.in_flight.threads.add(mode.thread)
            self._names.begin_thread()
            self.recording.threads.append(name)
        self._modes[ident] = mode
        mode.__enter__()  # type: ignore[no-untyped-call]

    def leave_thread(self) -> None:
        """Stop recording the calling thread."""
        mode = self._modes.pop(threading.get_ident(), None)
        self._observer.sites.started_at.pop(threading.get_ident(), None)
        if mode is not None:
            self._observer.passes.in_flight.threads.discard(mode.thread)
        # In the midst of a call (a hook that ends the process) torch has taken the mode off, and puts it back itself.
        # Code that was compiled in an earlier recording of the process puts that one's there again.
        while mode is not None and (uppermost() is mode or _is_over(uppermost())):
            torch._C._pop_torch_function_stack()

    def before_swap(self, pair: tuple[Any, Any]) -> bool:
        """Two tensors are about to change places; returns whether :meth:`after_swap` is due."""
        try:
            return not self._observer.muted and self._observer.before_swap(pair)
        except Exception:
            self._observer.fault("swap_tensors")
            return False

    def after_swap(self, pair: tuple[Any, Any], frame: FrameType) -> None:
        """Two tensors have changed places, in a function that is the frame's."""
        mode = self._modes.get(threading.get_ident())
        try:
            self._observer.observe_swap(pair, None if mode is None else mode.thread, frame)
        except Exception:
            self._observer.fault("swap_tensors")

    def go_on_in_fork(self) -> None:
        """This process is a fork that has only to :meth:`stop`: its rows go to no file, which is its parent's."""
        self._pid = os.getpid()
        self._tape.on_flush = None

    def silence_in_fork(self) -> None:
        """Record nothing more, unless it was begun in this process, a fork of the one that is recorded."""
        if os.getpid() != self._pid:
            self._observer.silence()


_installing = threading.RLock()
"""Held while something is put into torch or the interpreter, or taken out: recorders in several threads share it."""


def _silence_child() -> None:
    global _installing
    _installing = threading.RLock()  # a thread that held the other one does not exist in here
    for recorder in following():
        if isinstance(recorder, Recorder):
            recorder.silence_in_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_silence_child)


def _is_over(mode: Any) -> bool:
    """Whether a mode is that of a recording that has ended."""
    return isinstance(mode, RecorderMode) and mode.observer.muted
