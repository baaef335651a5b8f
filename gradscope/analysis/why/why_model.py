"""The answer to one question about a run, and all that a renderer needs. Inert data, as the report is."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from typing import Literal, NamedTuple

from gradscope.analysis.report_model import Cause, Place, RunFacts, Severity

StepKind = Literal["pass", "step", "cut", "gap", "tensor"]
"""``pass``: the backward pass that the way begins with; ``step``: a call on it; ``cut``: a call at which autograd lost
track; ``gap``: between the steps around it no call was seen that leads from one to the other; ``tensor``: the one that
was asked about."""


class SeenGradient(NamedTuple):
    """What was seen of a gradient."""

    is_none: bool
    norm: float | None
    """Where all of its elements were looked at; None where only the two below are known, or nothing."""
    low: float | None
    """The smallest and the largest element, NaN where there is one; None where it was not looked at."""
    high: float | None


class WayStep(NamedTuple):
    """One line of the way from the loss to the tensor, the loss first."""

    kind: StepKind
    place: Place
    name: str
    """The tensor that the line gave; of a pass: what it started from."""
    op: str
    """The call: ``F.linear``."""
    grad_fn: str
    """The node of the tensor; empty for a leaf, and for what autograd does not track."""
    is_leaf: bool
    cut: str
    """How it was cut, in words; empty where it was not."""
    saved_bytes: int
    """What the calls of the line keep for backward."""
    calls: int
    """Calls of the way that the step stands for."""
    gradient: SeenGradient | None
    """Where it was looked at."""


class FurtherAnswer(NamedTuple):
    """Another sentence that concerns the tensor."""

    code: str
    severity: Severity
    text: str
    line: int
    """The line to change; 0 where none is known."""


class WhyAnswer(NamedTuple):
    """The answer to one question."""

    run: RunFacts
    question: str
    found: bool
    """Whether it is answered: else the sentence says what is known."""
    code: str
    """Of the diagnosis that it rests on; empty where it says only what was seen."""
    severity: Severity | None
    """None where nothing is wrong."""
    text: str
    """The answer in a sentence or two, without what to do."""
    tensor: str
    """What it is about."""
    place: Place | None
    root: str
    """What the way begins with; empty where there is no way."""
    way: tuple[WayStep, ...]
    changes: tuple[Cause, ...]
    """The lines to change, the first one first."""
    advice: str
    """What to do; empty where there is nothing to do, or no rule knows."""
    further: tuple[FurtherAnswer, ...]
    lacks_birth: bool
    """It is NaN, infinite or zero, and no line is known in which that began: looking at every value may help."""
    looked: int
    """How often the expression was evaluated."""
    runs: int
    """How often the program was run for it."""
    remarks: tuple[str, ...]
    """What could not be done as it was asked for."""
