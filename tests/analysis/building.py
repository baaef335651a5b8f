"""Recordings for tests: of real programs, and synthetic ones of any size."""

from __future__ import annotations

import contextlib
import io
import sys
import textwrap
import traceback
import types
from typing import Any

import torch

from gradscope.hosting.program_run import ProgramRun
from gradscope.recorder.session import Recorder
from gradscope.recording import NONE, Recording, SourceFile
from gradscope.recording.rows import OpFlag, OpKind, TensorFlag
from gradscope.targets.resolve import resolve

FILE = "/nowhere/snippet.py"


def recorded(source: str, max_ops: int | None = None, **settings: Any) -> Recording:
    """Run a program under the recorder. An error that it raises ends it and is part of the recording."""
    text = textwrap.dedent(source).lstrip("\n")
    if text.startswith(">>>"):
        return _recorded_transcript(text)
    module = types.ModuleType("__main__")
    recorder = Recorder(is_user=lambda name: name == FILE, sources={FILE: text}, max_ops=max_ops, **settings)
    code = compile(text, FILE, "exec")
    outcome = recorder.recording.info.outcome
    excepthook, grad_mode = sys.excepthook, torch.is_grad_enabled()
    recorder.start()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, module.__dict__)
        outcome.kind = "ok"
    except Exception as error:
        outcome.kind, outcome.error_type, outcome.message = "exception", type(error).__name__, str(error)
        lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == FILE]
        outcome.line = lines[-1] if lines else NONE
        outcome.traceback = "".join(traceback.format_exception(error))
    finally:
        recorder.stop(module.__dict__, FILE)
        sys.excepthook = excepthook  # torch.distributed puts its own there, which names the rank
        torch.set_grad_enabled(grad_mode)
    recording = recorder.recording
    assert not recording.faults, recording.faults[0].traceback
    names = [file.path for file in recording.files]
    outcome.file = names.index(FILE) if outcome.line > 0 and FILE in names else NONE
    for file in recording.files:
        file.name = "snippet.py"
    recording.info.target = "snippet.py"
    return recording


def _recorded_transcript(text: str) -> Recording:
    """Run a transcript, whose errors do not end it."""
    run = ProgramRun(resolve("snippet.py", code=text))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            run.run()
    finally:
        run.restore()
    assert not run.recording.faults, run.recording.faults[0].traceback
    return run.recording


def line_of(source: str, marker: str) -> int:
    """The line of a program that contains a text."""
    lines = textwrap.dedent(source).lstrip("\n").split("\n")
    return next(number for number, line in enumerate(lines, 1) if marker in line)


class Builder:
    """A recording built row by row: one file, one op a call, each with one new tensor on a block of its own."""

    def __init__(self, lines: int = 3) -> None:
        self.recording = Recording()
        self.recording.files.append(SourceFile(FILE, "snippet.py", "\n".join(f"t{n} = op{n}()" for n in range(lines))))
        self._texts = {"": 0}
        for number in range(lines):
            line = number + 1
            self.recording.spans.append((0, line, line, 0, 5, line, line, self.text("<module>")))
        self.recording.layouts.append(
            (self.text("(4,)"), self.text("(1,)"), self.text("float32"), self.text("cpu"), self.text("Tensor"), 0, 16)
        )

    def text(self, text: str) -> int:
        """Intern a text."""
        if text not in self._texts:
            self._texts[text] = len(self.recording.strings)
            self.recording.strings.append(text)
        return self._texts[text]

    def op(
        self,
        line: int,
        func: str = "Tensor.mul",
        inputs: tuple[int, ...] = (),
        nbytes: int = 16,
        requires_grad: bool = False,
        node: int = NONE,
        kind: OpKind = OpKind.CALL,
    ) -> int:
        """One op that makes one tensor; returns the tensor."""
        recording = self.recording
        op = recording.ops.append((self.text(func), kind, line - 1, NONE, 0, OpFlag.GRAD, 1))
        for tensor in inputs:
            recording.uses.append((op, tensor))
        storage = recording.storages.append((op, nbytes, 4096 + op * 64, NONE, 0))
        flags = (TensorFlag.REQUIRES_GRAD if requires_grad else 0) | (TensorFlag.LEAF if node < 0 else 0)
        return recording.tensors.append((op, storage, 0, node, flags, NONE))

    def node(self, op: int, name: str = "MulBackward0", following: tuple[int, ...] = (), variable: int = NONE) -> int:
        """One graph node of an op."""
        node = self.recording.nodes.append((op, self.text(name), variable))
        for after in following:
            self.recording.edges.append((node, after))
        return node

    def save(self, node: int, storage: int, nbytes: int = 16) -> None:
        """One saved tensor."""
        self.recording.saved.append((node, self.text("self"), storage, NONE, nbytes))

    def die(self, storage: int, op: int) -> None:
        """A memory block is gone at the start of an op."""
        self.recording.storages.column("died")[storage] = op

    def bind(self, name: str, tensor: int) -> None:
        """A name held the tensor when the run ended."""
        self.recording.bindings.append((self.text(name), tensor, len(self.recording.ops), NONE, 1))
