"""What ``gradscope fix`` found: edits, and what came of running the program with each."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from typing import NamedTuple

from gradscope.analysis.report_model import Answer


class Measure(NamedTuple):
    """One number of the run as it is and of the run with the edit."""

    before: float | None
    after: float | None


class Renamed(NamedTuple):
    """A leaf that the edit gives another name."""

    before: str
    after: str


class GradientsChanged(NamedTuple):
    """The gradients of leaves after the first backward pass of each run, by the leaves' names."""

    same: int
    """The same to the bit."""
    other: tuple[str, ...]
    """Leaves whose gradient is another."""
    gained: tuple[str, ...]
    """Leaves that have one only with the edit."""
    lost: tuple[str, ...]
    """Leaves that have none any more."""
    furthest: float | None
    """The largest relative difference of two norms; None where each is the same, or that is not known."""
    renamed: tuple[Renamed, ...] = ()
    """Leaves that only have another name with the edit: their gradients are counted as any."""


class Proof(NamedTuple):
    """What the run with an edit shows."""

    holds: bool
    reasons: tuple[str, ...]
    """Why it does not hold; empty where it does."""
    gone: tuple[str, ...]
    """Codes of the answers of the run as it is that are not given any more."""
    only_new: bool
    """It fails for nothing but new problems and warnings."""
    new: tuple[str, ...]
    """Problems and warnings that only the run with the edit has: their sentences."""
    ended: str
    """How the run with the edit ended, in words; empty where it came to its end."""
    ended_before: str
    first_loss: Measure
    """What the first backward pass started from; None where there was none of one element."""
    last_loss: Measure
    passes: Measure
    """Backward passes."""
    gradients: GradientsChanged
    saved_bytes: Measure
    peak_bytes: Measure
    wall_ns: Measure
    """Of the runs under the recorder: no measure of the program's speed without."""


class ChangedSpan(NamedTuple):
    """One span of a file, and what takes its place."""

    line: int
    """1-based."""
    column: int
    """0-based, in characters."""
    end_line: int
    end_column: int
    text: str


class Fix(NamedTuple):
    """One edit, and its proof."""

    title: str
    answers: tuple[Answer, ...]
    """What it is for."""
    file: str
    """As the report names it."""
    path: str
    spans: tuple[ChangedSpan, ...]
    diff: str
    """Unified, as ``patch -p1`` and ``git apply`` take it in the current folder."""
    offered: bool
    """Its proof holds, and no better edit of the same answer's does."""
    proof: Proof


class FixReport(NamedTuple):
    """What came of all edits."""

    target: str
    answers: int
    """Problems and warnings of the run as it is."""
    unmended: tuple[str, ...]
    """Codes of those for which no edit is offered."""
    fixes: tuple[Fix, ...]
    """Edits that are offered first, then those whose proof failed."""
    together: Proof | None
    """Of the offered edits at once, where there are several."""
    diff: str
    """Of all that are offered and hold together."""
    runs: int
    """How often the program was run."""
    remarks: tuple[str, ...]

    @property
    def offered(self) -> tuple[Fix, ...]:
        """The edits that are offered."""
        return tuple(fix for fix in self.fixes if fix.offered)
