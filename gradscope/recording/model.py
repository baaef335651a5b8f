"""A recording: what was observed of one run. Inert data, no tensors; nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

from gradscope.recording import rows
from gradscope.recording.tables import NONE, Table

FORMAT = "gradscope-recording"

SCHEMA_VERSION = 7
"""Raised with every change that an older reader would misread; the log:

1. The first.
2. Events; writes past the version counter (``Field.WRITTEN``); inference mode as ops.
3. Kinds of events from ``GRADIENTS`` on: values, hooks, learning rates, modes of modules, memory that others changed,
   parts of a page.
4. Kinds of events from ``ARRAYS`` on: NumPy arrays, hooks that stay, calls that raised or were refused, forwards that
   were called directly, freezes, what checkpoints ran again; norms of gradients; ops that continue a call
   (``OpFlag.CONTINUED``).
6. Modules: which there were, their parameters, and which ops ran in them.
7. Ops that came again alike and were taken out (``alike``), and memory that stays of them (``alike_storages``).
"""


@dataclass
class Outcome:
    """How the run ended."""

    kind: str = "running"
    """``ok``, ``exception``, ``exit`` (SystemExit, ``os._exit``), ``interrupted`` (KeyboardInterrupt), ``signal``
    (SIGTERM, SIGHUP), ``timeout`` (``--timeout``), or ``running``: the recording was cut off while the program ran
    (killed, or only looked at; a message says the latter)."""
    exit_code: int | None = None
    """The status that the program's process ends with; None while it runs and where code was recorded in-process."""
    error_type: str = ""
    message: str = ""
    file: int = NONE
    """Where it was raised, or stood when its time was up: the innermost user frame (index into files), its line."""
    line: int = NONE
    traceback: str = ""
    """The program's own traceback as Python prints it, without gradscope's frames."""


@dataclass
class SourceFile:
    """A file of the user's code that made an op; its text as it was run."""

    path: str
    """As Python names it: the path, ``<stdin>``, ``<string>``."""
    name: str
    """For people: relative to the current folder where that is shorter."""
    text: str
    is_user: bool = True
    """False for a third-party file that is kept only because an ``inner`` span points to it."""

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines, which are asked for one by one, often once for each op."""
        return self.text.split("\n")


@dataclass
class Fault:
    """An error inside the recorder, which never reaches the program."""

    where: str
    """The op or step at which it happened."""
    traceback: str
    count: int = 1


@dataclass
class RunInfo:
    """What was run, with what, and how it ended."""

    target: str = ""
    """As the user named it."""
    kind: str = "code"
    """``script``, ``cell``, ``module``, ``code``, ``stdin``, ``transcript``, ``page``, ``notebook``, ``docstrings``, or
    code recorded in-process: ``api``."""
    title: str = ""
    argv: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What people are told about how the target was read: imports that were added, cells that are no Python."""
    started_at: str = ""
    """ISO 8601, UTC."""
    duration_ns: int = 0
    """Wall time of the program under the recorder, in nanoseconds: no measure of its speed without."""
    gradscope: str = ""
    torch: str = ""
    python: str = ""
    platform: str = ""
    process: int = 0
    """Number of the process that ran it, and writes the file as long as the outcome is ``running``."""
    host: str = ""
    rank: int = 0
    """Of several processes that a launcher started, or that are in one process group of torch's: which."""
    local_rank: int = 0
    world_size: int = 1
    """How many they were; 1 where it was alone."""
    child: str = ""
    """Of a process that the program started: which, ``1`` for the first, ``1.2`` for the second that this one started;
    empty: the program itself."""
    parent: int = 0
    """Number of the process that started it, if it is a child."""
    children: int = 0
    """Processes that it was seen to start."""
    children_followed: bool = False
    """Whether they were to be recorded, too."""
    mechanism: str = "function-mode"
    outcome: Outcome = field(default_factory=Outcome)


class Recording:
    """All that was observed of one run.

    The tables' rows are described in :mod:`gradscope.recording.rows`. Row ids are positions; ``strings`` holds
    every text once.
    """

    def __init__(self) -> None:
        self.info = RunInfo()
        self.strings: list[str] = [""]
        self.files: list[SourceFile] = []
        self.faults: list[Fault] = []
        self.threads: list[str] = []

        self.ops: Table[rows.Op] = Table(rows.Op)
        self.spans: Table[rows.Span] = Table(rows.Span)
        self.uses: Table[rows.Use] = Table(rows.Use)
        self.results: Table[rows.Result] = Table(rows.Result)
        self.tensors: Table[rows.Tensor] = Table(rows.Tensor)
        self.layouts: Table[rows.Layout] = Table(rows.Layout)
        self.aliases: Table[rows.Alias] = Table(rows.Alias)
        self.storages: Table[rows.Storage] = Table(rows.Storage)
        self.nodes: Table[rows.Node] = Table(rows.Node)
        self.edges: Table[rows.Edge] = Table(rows.Edge)
        self.saved: Table[rows.Saved] = Table(rows.Saved)
        self.changes: Table[rows.Change] = Table(rows.Change)
        self.backwards: Table[rows.Backward] = Table(rows.Backward)
        self.gradients: Table[rows.Gradient] = Table(rows.Gradient)
        self.bindings: Table[rows.Binding] = Table(rows.Binding)
        self.errors: Table[rows.Error] = Table(rows.Error)
        self.values: Table[rows.Value] = Table(rows.Value)
        self.fingerprints: Table[rows.Fingerprint] = Table(rows.Fingerprint)
        self.watches: Table[rows.Watch] = Table(rows.Watch)
        self.memory: Table[rows.Memory] = Table(rows.Memory)
        self.left_out: Table[rows.SpanCount] = Table(rows.SpanCount)
        self.alike: Table[rows.Alike] = Table(rows.Alike)
        self.alike_storages: Table[rows.AlikeStorage] = Table(rows.AlikeStorage)
        self.events: Table[rows.Event] = Table(rows.Event)
        self.event_tensors: Table[rows.EventTensor] = Table(rows.EventTensor)
        self.modules: Table[rows.Module] = Table(rows.Module)
        self.module_tensors: Table[rows.ModuleTensor] = Table(rows.ModuleTensor)
        self.module_ops: Table[rows.ModuleOp] = Table(rows.ModuleOp)

    @property
    def tables(self) -> dict[str, Table[Any]]:
        """Every table by its name, in the order in which they are written."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Table)}

    def text(self, string_id: int) -> str:
        """The text behind a column of text; empty for NONE."""
        return self.strings[string_id] if string_id >= 0 else ""

    def source(self, file: int, line: int, end_line: int | None = None) -> str:
        """The source text of a line (or of the lines up to ``end_line``), without the newline at its end."""
        if not 0 <= file < len(self.files) or line < 1:
            return ""
        return "\n".join(self.files[file].lines[line - 1 : end_line or line])

    def excerpt(self, file: int, line: int, end_line: int, col: int, end_col: int) -> str:
        """The source text between two columns (counted in bytes) of two lines, on one line.

        Where a column is unknown (below zero): the whole lines.
        """
        lines = self.source(file, line, end_line).encode().split(b"\n")
        if col >= 0 and end_col >= 0:
            lines[-1] = lines[-1][:end_col]
            lines[0] = lines[0][col:]
        return b" ".join(lines).decode(errors="replace")

    def __repr__(self) -> str:
        """What was recorded, in numbers that cost nothing."""
        counts = (("op", "s", self.ops), ("tensor", "s", self.tensors), ("backward pass", "es", self.backwards))
        said = ", ".join(f"{len(rows):,} {name}{end if len(rows) != 1 else ''}" for name, end, rows in counts)
        return f"<gradscope.Recording: {said}, {self.info.outcome.kind}>"

    def _repr_html_(self) -> str:
        """What Jupyter shows: the answers, and the lines to be opened."""
        return str(_views().as_html(self))

    @property
    def answers(self) -> Any:
        """What the diagnoses find: a tuple of answers with ``code``, ``severity``, ``text``, ``place``, ``causes``."""
        return _views().answers(self)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The line table, a dict a row, as ``pandas.DataFrame`` and ``polars.DataFrame`` take it."""
        rows: list[dict[str, Any]] = _views().lines(self)
        return rows

    def report(self, width: int = 80, *, everything: bool = False) -> str:
        """The screen that ``gradscope report`` shows, as text; with ``everything``, that of ``--all``."""
        return str(_views().as_text(self, width, everything))

    def why(self, expression: str = "", width: int = 80) -> str:
        """The answer that ``gradscope why`` gives, as text.

        Args:
            expression: A name that the program had for a tensor, also ``h.grad``, ``forward.h`` (of a function) or
                ``w.grad is None``; empty: about the first problem.
            width: Columns.

        Raises:
            EvaluationError: The recording knows no tensor by that name.
            UsageError: It is no expression.
        """
        return str(import_module("gradscope.report.why.recording_why").why(self, expression, width))

    def to_html(self) -> str:
        """The page that ``gradscope report -o report.html`` writes: one file that loads nothing."""
        return str(import_module("gradscope.report.html.run_page").page_of(self))

    @property
    def nbytes(self) -> int:
        """Bytes that the recording takes in memory (columns and texts)."""
        columns = sum(table.nbytes for table in self.tables.values())
        return columns + sum(len(text) + 57 for text in self.strings)


def _views() -> ModuleType:
    """What shows a recording lies above it, and is imported when somebody asks to see one."""
    return import_module("gradscope.report.run.recording_views")
