"""What the names of one statement held when it ran, and how often it ran."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class StatementLook(NamedTuple):
    """A statement, and which names of it to look at."""

    filename: str
    line: int
    column: int
    """Where it begins, in UTF-8 bytes like the AST."""
    names: tuple[str, ...]
    """Names and dotted names."""


@dataclass
class LookedStatement:
    """What was seen of a statement."""

    runs: int = 0
    kinds: dict[str, str] = field(default_factory=dict)
    """For names that held something just before it ran: ``tensor`` (one that requires grad and is no leaf), ``leaf``,
    ``data`` (a tensor that does not require grad), ``module``, ``frozen`` (one without a parameter that requires
    grad), ``tuple`` (or a list or dict that holds tensors that
    require grad) or ``other``."""
