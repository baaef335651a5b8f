"""A comparison: what differs between variants of a program, and all that a renderer needs.

Plain frozen dataclasses of JSON types, like the report's. Columns are variants, rows are measured facts, in groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gradscope.analysis.facts.derivatives.version_changes import ChangeSeen
from gradscope.analysis.report_model import Place

Value = bool | int | float | str | None

CellKind = Literal["value", "missing", "error"]
"""``missing``: the variant has no such name, line or watched value; ``error``: it could not be had, and the text says
why in the words of what was raised."""

Unit = Literal["", "bytes", "ns"]

SUMMARY = "summary"
"""Title of the group of facts that a screen shows alone, unless it is asked for all or for another."""

Baseline = int
"""Position of a column."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One column: a cell of a file, a file, or a recording."""

    name: str
    target: str
    """What ``gradscope run`` takes to show this variant alone."""
    outcome: str
    """``ok``, ``exception``, ``exit``, ``interrupted``, ``signal``, ``crash`` (the interpreter died), ``timeout``,
    ``output`` (it was ended as it printed too much), or ``running`` for a recording that was cut off."""
    exit_code: int | None
    message: str
    """How it ended, in words: ``RuntimeError: …``; empty when it ran to its end."""
    line: int
    """Where it raised; 0 where it did not."""
    output: str
    """What it wrote to standard output and error, where it was captured."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One measured value."""

    value: Value
    kind: CellKind
    differs: bool
    """From the baseline; False everywhere without one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fact about all variants."""

    fact: str
    """Permanent: ``requires_grad``, ``memory``, ``saved``, ``watch``, ``line`` …"""
    name: str
    """The name, line or expression that the fact is about; empty for a fact about the whole run."""
    names: tuple[str, ...]
    """Where the row stands for many names whose cells are the same: all of them; ``name`` is a pattern then."""
    label: str
    """For people."""
    unit: Unit
    cells: tuple[Cell, ...]
    differs: bool
    """Its cells are not all the same."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class PartedAt:
    """A place at which two runs part."""

    kind: Literal["result", "input", "gradient", "node"]
    """What differs there: what a call gave or changed, what it was given from outside, the gradient of a leaf, or what
    a node of the graph gave in a backward pass."""
    place: Place
    """The call; of a node the call that made it."""
    call: str
    """Its name: ``torch.relu``, ``ClampBackward1``."""
    name: str
    """The tensor, where it has a name."""
    run: int
    """The how-manieth call of that statement and function, or backward pass of the program, from 1 on."""
    backward: Place | None
    """Of a gradient or a node: the call that ran the pass."""
    inputs: Literal["equal", "unlike", "none", "unknown"]
    """What the call was given, or the pass came to before: equal in both, unlike already (of what has no fingerprint),
    no tensor at all, or not known."""
    off: float | None
    """How far the norms are apart, as a part of the larger; None where one is not finite."""
    bad: tuple[int, ...]
    """Elements that are NaN or infinite, in the first and in the second."""


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two runs part, by the fingerprints of what their calls and passes gave."""

    tolerance: float
    """Norms that are no further apart, as a part of the larger, count as equal."""
    compared: int
    """Fingerprints that were compared and equal before the first that was not."""
    first: PartedAt | None
    """None: nothing that both did differs."""
    gradient: PartedAt | None
    """The first gradient of a leaf that differs."""
    calls: tuple[Place, ...] | None
    """The two places from which on they call something else; one that is at its end has no place. None: never."""
    calls_before: bool
    """Whether that was before anything else differed."""
    torch: tuple[str, ...]
    """The versions, of the first and of the second."""
    changes: tuple[ChangeSeen, ...] = ()
    """What is known to have changed between these versions of what the node gives that differs first."""
    only_in_one: int = 0
    """Calls that the program makes under one of two versions only, in torch's own Python; they were passed over."""
    compiled: int = 0
    """Calls of compiled code in one run, and the calls of the other that they stand for; they were passed over, too."""
    parameters: int = 0
    """Leaves with a gradient in the first backward pass of both, by name, whose values before it are known."""
    unlike_at_start: tuple[str, ...] = ()
    """Those of them that were not equal there."""
    hosts: tuple[str, ...] = ()
    """The machines, of the first and of the second."""
    ranks: tuple[int, ...] = ()
    """Which of several processes that a launcher started."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Variants side by side."""

    target: str
    title: str
    variants: tuple[Variant, ...]
    baseline: Baseline | None
    groups: tuple[Group, ...]
    rows_measured: int
    """Rows before those that agree were left out."""
    rows_left_out: int
    differs: bool
    """Something that was measured differs; times do not count."""
    torch: str
    python: str
    repeat: int = 0
    """Of how many runs a time is the median; 0: nothing was timed."""
    parting: Parting | None = None
    """Of two recordings that were made with ``--fingerprints``: where they part."""
    code: tuple[str, ...] = ()
    """Lines of the first variant that its file marks with ``# shown``, in the order in which they ran."""

    @property
    def summary(self) -> Group | None:
        """What a file's watches call ``summary``: few facts that say most; a screen shows them alone."""
        return next((group for group in self.groups if group.title == SUMMARY), None)
