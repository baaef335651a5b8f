"""What was seen when the example of a diagnosis was run. Inert: imports no torch."""

from __future__ import annotations

from typing import NamedTuple


class Measured(NamedTuple):
    """What was seen of a diagnosis's example."""

    sentences: tuple[str, ...]
    """What gradscope says of the example under the diagnosis's code."""
    error: str
    """The error that ended the example; empty where none did."""
    healthy_sentences: tuple[str, ...]
    """The same of the twin; empty where the diagnosis holds what it promises."""
