"""What ``gradscope why`` was asked, and what was found where its expression was evaluated. Inert data."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from typing import Literal, NamedTuple

from gradscope.recording import NONE

Condition = Literal["", "none", "zero", "nan", "infinite"]
"""What the question says of it: ``w.grad is zero``; empty where it only names it."""


class Question(NamedTuple):
    """One question."""

    text: str
    """As the user wrote it."""
    expression: str
    """What is evaluated; empty where the question names a line, or nothing."""
    tensor: str
    """The expression without the ``.grad`` at its end."""
    of_gradient: bool
    """It ends in ``.grad``."""
    condition: Condition
    at: int
    """The line at which it is evaluated; 0: where the program ends or raises."""
    lines: tuple[int, int] | None
    """First and last line of ``--line``."""

    @property
    def wants_values(self) -> bool:
        """Whether it asks where values were born that a plain run does not look for."""
        return self.condition in ("zero", "nan", "infinite")


class Numbers(NamedTuple):
    """What the elements of a tensor were."""

    elements: int
    norm: float
    low: float
    high: float
    """The smallest and the largest element that is no NaN; both 0 where there is none."""
    nans: int
    infinities: int

    @property
    def condition(self) -> Condition:
        """What is remarkable about them; empty for nothing."""
        if self.nans:
            return "nan"
        if self.infinities:
            return "infinite"
        return "zero" if self.elements and self.low == 0 == self.high else ""


class Looked(NamedTuple):
    """What one evaluation of the expression gave."""

    op: int
    """The number of ops seen before it."""
    tensor: int = NONE
    """The tensor (row of ``tensors``); NONE where none was seen that it is."""
    error: str = ""
    """Why it gave no tensor: one message."""
    hint: str = ""
    is_unknown: bool = False
    """It raised, since a name is not there: the recording may know a tensor by it all the same."""
    is_none: bool = False
    """Its ``.grad`` was None."""
    values: Numbers | None = None
    """Of the tensor itself; None where they could not be read."""
    gradient: Numbers | None = None
    """Of its ``.grad``; None where there is none, or it could not be read."""
    shape: str = ""
    requires_grad: bool = False


class LookedAt(NamedTuple):
    """All evaluations of one run."""

    looks: tuple[Looked, ...]
    where: str
    """``where the program ends``, ``where the program raised (line 9)``, ``at line 9``."""
