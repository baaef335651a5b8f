"""What the commands that run programs were asked to do: from their options to the modules that do it."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from pathlib import Path
from typing import NamedTuple

from gradscope.analysis.view import RunView
from gradscope.analysis.why.asked import Question
from gradscope.cli.options.answer_options import AnswersAsked
from gradscope.cli.options.output_options import Output
from gradscope.cli.options.process_options import ChildProcesses
from gradscope.frames.own_packages import NamedPackages


class RunRequest(NamedTuple):
    """One call of ``gradscope run``."""

    target: str
    arguments: tuple[str, ...]
    own_options: frozenset[str]
    """The names of the options of ``run``, to be known again among the program's arguments."""
    is_code: bool
    is_module: bool
    packages: NamedPackages
    watch: tuple[str, ...]
    imports: tuple[str, ...]
    """What to import before the program: ``torch``, ``numpy as np``."""
    max_ops: int | None
    every_op: bool
    nan: bool
    fingerprints: bool
    view: RunView
    answers: AnswersAsked
    format: str
    """``table`` or a data format; empty: print nothing."""
    ranks: str
    """Which of several processes print, as they were written: ``0``, ``0,3``, ``all``."""
    children: ChildProcesses
    """What becomes of the processes that the program starts."""
    looks_at: int | None
    """The signal at which the screen so far is shown while the program runs."""
    timeout: float | None
    """Seconds after which it is ended."""
    progress: bool
    """Tell on a terminal how far a long program has come."""
    outputs: tuple[Path, ...]
    modules_at_start: frozenset[str]
    """Names of the modules that Python had imported before gradscope."""


class WhyRequest(NamedTuple):
    """One call of ``gradscope why``."""

    target: str
    question: Question
    arguments: tuple[str, ...]
    is_code: bool
    is_module: bool
    packages: NamedPackages
    may_run_again: bool
    max_ops: int
    output: Output
    modules_at_start: frozenset[str]
    """Names of the modules that Python had imported before gradscope."""


class WhatIfRequest(NamedTuple):
    """One call of ``gradscope whatif``."""

    target: str
    line: str
    """As it was written: ``LINE``, ``LINE:NAME``, ``FILE:LINE:NAME``."""
    variants: tuple[str, ...]
    """Names of variants, and expressions; empty: those that make sense."""
    arguments: tuple[str, ...]
    is_code: bool
    is_module: bool
    packages: NamedPackages
    input: Path | None
    seed: int | None
    stop_after: int
    timeout: float | None
    repeat: int
    """Timed runs of each; 0: no times."""
    jobs: int | None
    output: Output


class FixRequest(NamedTuple):
    """One call of ``gradscope fix``."""

    target: str
    arguments: tuple[str, ...]
    is_code: bool
    is_module: bool
    packages: NamedPackages
    answers: AnswersAsked
    writes: bool
    checks: bool
    all_edits: bool
    """Show also what did not hold."""
    timeout: float | None
    jobs: int | None
    stop_after: int
    max_ops: int
    output: Output


class CompareRequest(NamedTuple):
    """One call of ``gradscope compare``."""

    targets: tuple[str, ...]
    packages: NamedPackages
    all_rows: bool
    groups: tuple[str, ...]
    """Titles of groups of facts, or several with commas between."""
    only: tuple[str, ...]
    """Names of cells, or several with commas between."""
    baseline: str | None
    exit_code: bool
    repeat: int
    """Timed runs of each variant; 0: no times."""
    tolerance: float
    """Of two recordings with fingerprints: how far norms may be apart that count as equal."""
    timeout: float | None
    jobs: int | None
    output: Output


class CheckRequest(NamedTuple):
    """One call of ``gradscope check``."""

    targets: tuple[str, ...]
    is_code: bool
    is_module: bool
    packages: NamedPackages
    passes_over: bool
    """Leave out the files that have no expectation."""
    expressions: tuple[str, ...]
    answers: AnswersAsked
    timeout: float | None
    jobs: int | None
    output: Output


class EvalRequest(NamedTuple):
    """One call of ``gradscope eval``."""

    target: str
    expressions: tuple[str, ...]
    is_code: bool
    is_module: bool
    as_json: bool
    modules_at_start: frozenset[str]
    """Names of the modules that Python had imported before gradscope."""
