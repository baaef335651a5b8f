"""``%load_ext gradscope``: ``%%gradscope`` runs a cell and shows what autograd did, ``%gradscope why`` asks about it.

Names and functions of earlier cells are the user's own, as in a file. The lines are those of the cell as a notebook
counts them, the magic's own included. The recording is kept as ``_gradscope``, or under the name that ``--as`` gives.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from gradscope.analysis.view import RunView
from gradscope.errors import GradscopeError, UsageError
from gradscope.frames.own_packages import NO_PACKAGES, is_own
from gradscope.integrations.ipython_why import RecordedCell, answer_about, question_of
from gradscope.report.run.recording_views import ShownRecording

MAGIC = "gradscope"
_OWN_NAMES = frozenset(("In", "Out", "exit", "quit", "get_ipython", "open"))
"""What IPython puts into the user's namespace."""


def load(shell: Any) -> None:
    """Register the magics with an IPython shell."""
    cells = _Cells(shell)

    def run_cell(line: str, cell: str) -> None:
        _saying_errors(cells.run, line, cell)

    def ask(line: str) -> None:
        """Ask about the last cell that was run with %%gradscope: %gradscope why w.grad"""
        _saying_errors(cells.ask, line)

    run_cell.__doc__ = _parser().format_help()
    shell.register_magic_function(run_cell, magic_kind="cell", magic_name=MAGIC)
    shell.register_magic_function(ask, magic_kind="line", magic_name=MAGIC)


def unload(shell: Any) -> None:
    """Take the magics away."""
    for kind in ("cell", "line"):
        shell.magics_manager.magics[kind].pop(MAGIC, None)


def _saying_errors(work: Callable[..., None], *arguments: str) -> None:
    try:
        work(*arguments)
    except GradscopeError as error:
        print(f"gradscope: {error.message}" + (f"\n  {error.hint}" if error.hint else ""))


class _Cells:
    """What the magics do in one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._last: RecordedCell | None = None
        self._asked: set[int] = set()
        """The numbers of the cells that only asked."""

    def run(self, line: str, cell: str) -> None:
        """``%%gradscope``."""
        self._last = _run(self._shell, line, cell)

    def ask(self, line: str) -> None:
        """``%gradscope``."""
        expression = question_of(line)
        if self._last is None:
            raise UsageError("no cell was run with %%gradscope", "put %%gradscope above the cell that is asked about")
        now = self._shell.execution_count
        unseen = set(range(self._last.number + 1, now)) - self._asked
        self._asked.add(now)
        print(answer_about(self._last, self._shell.user_ns, expression, len(unseen)))


class _Parser(argparse.ArgumentParser):
    """Its errors are the cell's output, and end no process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, " ".join(self.format_usage().split()))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:  # noqa: ARG002 - as the base class has it
        raise UsageError("see %%gradscope?", message or "")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=f"%%{MAGIC}", description="Run the cell and show what autograd did in it.", add_help=False)
    parser.add_argument("--all", action="store_true", help="every row")
    parser.add_argument("--ops", action="store_true", help="every single call")
    parser.add_argument("--graph", action="store_true", default=None, help="the graph")
    parser.add_argument("--memory", action="store_true", default=None, help="the memory of each line")
    parser.add_argument("--values", action="store_true", help="the values of small CPU tensors")
    parser.add_argument("--nan", action="store_true", help="where a NaN or an infinity was born; slower")
    parser.add_argument("--summary", action="store_true", help="only the answers and the summary")
    parser.add_argument("-o", "--output", action="append", default=[], type=Path, help="write a file: report.html …")
    parser.add_argument("--as", dest="name", default="_gradscope", help="keep the recording under a name")
    return parser


def _run(shell: Any, line: str, cell: str) -> RecordedCell:
    from IPython.display import display

    from gradscope.report.output_files import check_output, write_file
    from gradscope.report.run.run_result import RunResult

    try:
        asked = _parser().parse_args(shlex.split(line))
    except ValueError as error:  # a quotation without its end
        raise UsageError(f"cannot read the options: {error}") from error
    if not asked.name.isidentifier():
        raise UsageError(f"--as {asked.name!r} is no name")
    for path in asked.output:
        check_output(path, "run")
    view = RunView(
        all=asked.all,
        ops=asked.ops,
        graph=asked.graph,
        memory=asked.memory,
        values=asked.values,
        quiet=asked.summary,
        width=100,
        color=False,
    )
    recorded = _recorded(shell, f"# %%{MAGIC} {line}\n{cell}", values=asked.values, nan=asked.nan)
    recording = shell.user_ns[asked.name] = recorded.recording
    for path in asked.output:
        write_file(RunResult(recording, view), path)
    display(ShownRecording(recording, view))  # type: ignore[no-untyped-call, unused-ignore]
    return recorded


def _recorded(shell: Any, code: str, *, values: bool, nan: bool) -> RecordedCell:
    """Run code in a shell as a cell is run; what it raises is shown by the shell, and does not end this."""
    from gradscope.recorder.session import Recorder

    cells = _CellFiles(shell)
    recorder = Recorder(is_user=cells.is_user, values=values, nan=nan)
    recording = recorder.recording
    info, outcome = recording.info, recording.info.outcome
    info.kind, info.target = "api", cells.current
    recorder.start()
    try:
        result = shell.run_cell(code, store_history=False)
    finally:
        recorder.stop(_own_names(shell.user_ns))
    error = result.error_before_exec or result.error_in_exec
    outcome.kind = "exception" if error is not None else "ok"
    if error is not None:
        outcome.error_type, outcome.message = type(error).__qualname__, str(error)
    for file in recording.files:
        file.name = cells.name(file.path, file.name)
    return RecordedCell(recording, recorder, shell.execution_count, recorder.gradients_of_living())


def _own_names(namespace: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in namespace.items() if name not in _OWN_NAMES and not name.startswith("_")}


class _CellFiles:
    """The names that a shell gives to the code of its cells, as if each were a file."""

    def __init__(self, shell: Any) -> None:
        self._folder = str(Path.cwd())
        self._number = len(shell.user_ns.get("In", ())) - 1
        self._numbers: dict[str, int] = getattr(shell.compile, "_filename_map", {})
        self._earlier = frozenset(self._numbers)
        self._kernel = f"ipykernel_{os.getpid()}"

    def is_user(self, filename: str) -> bool:
        """Whether it is a cell, or lies beside the notebook."""
        return self._is_cell(filename) or is_own(filename, self._folder, NO_PACKAGES)

    def _is_cell(self, filename: str) -> bool:
        is_named_so = filename.startswith("<ipython-input-") or self._kernel in Path(filename).parts
        return is_named_so or filename in self._numbers

    def name(self, filename: str, usual: str) -> str:
        """What people call a file: a cell by its number."""
        if not self._is_cell(filename):
            return usual
        return f"cell {self._numbers[filename]}" if filename in self._earlier else self.current

    @property
    def current(self) -> str:
        """The cell that is run: what a magic runs in it counts as the next one in some versions of IPython."""
        return f"cell {self._number}" if self._number > 0 else "cell"
