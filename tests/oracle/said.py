"""One answer of a report as the checks of answers take it, and how its names and numbers are read."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch

from .claim import Claim
from .naming import path_of
from .witness import Witness

NAME = r"[\w.\[\]'\"*]+"
"""Of a tensor, in a pattern."""


class Said(NamedTuple):
    """One answer."""

    text: str
    line: int
    answer: dict[str, Any]

    def claim(self, kind: str, held: bool | None, truth: str) -> Claim:
        """Something that it says."""
        return Claim(kind, self.line, f"{self.text} [{self.answer['code']}]", held, truth)


def listed(names: str) -> list[str]:
    """The single names in a list of them; what stands for several (``model.* (4)``) is left out."""
    parts = re.split(r", | and ", names)
    return [name for name in parts if re.fullmatch(NAME, name) and "*" not in name]


def tensors_of(seen: Witness, name: str) -> list[torch.Tensor]:
    """Every tensor that a name ever led to, in the order in which they were seen."""
    return list(seen.ever.get(path_of(name) or (), {}).values())


def number(text: str) -> int:
    """A number as sentences write it."""
    return int(text.replace(",", ""))


def line_of(said: Said) -> int:
    """The line that the sentence begins with, which may be another than the place of its symptom."""
    found = re.match(r"Lines? (\d+)", said.text)
    return int(found[1]) if found else said.line
