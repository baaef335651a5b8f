"""What ``named_parameters()`` calls parameters, as far as modules were seen to have them."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE


def names_in_modules(index: Index) -> dict[int, tuple[int, str]]:
    """For each parameter the outermost module that was seen to have it, and its name in ``named_parameters``."""
    recording = index.recording
    modules, text = recording.modules, recording.text
    found: dict[int, tuple[int, str]] = {}
    for module, tensor, name in recording.module_tensors:
        parts, current = [text(name)], module
        while (row := modules[current]).parent != NONE:
            parts.append(text(row.name))
            current = row.parent
        found.setdefault(tensor, (current, ".".join(part for part in reversed(parts) if part)))
    return found
