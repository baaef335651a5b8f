"""What is known to have changed between versions of torch: a screen, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from gradscope.analysis.facts.derivatives.version_changes import VersionChange

WIDEST = 100
"""Columns of a paragraph, however wide the terminal is."""
INTRODUCTION = (
    "Derivatives that are not the same in all versions of torch, each measured under those that are named. "
    "gradscope compare A B says where two recordings with fingerprints part, and which of these is why."
)


def print_versions(changes: Sequence[VersionChange], console: Console) -> None:
    """Print each change with what was measured."""
    _paragraph(console, INTRODUCTION)
    for change in changes:
        console.print()
        _paragraph(console, _capital(change.what), style="bold")
        for version, value in change.measured:
            _paragraph(console, f"{_numbered(version):<6}{value}", indent=2)
        if change.meaning:
            _paragraph(console, change.meaning)
        _paragraph(console, f"nodes: {', '.join(change.nodes)}", style="dim")


def to_json(changes: Sequence[VersionChange]) -> str:
    """The table as data."""
    rows = [
        {
            "what": change.what,
            "nodes": list(change.nodes),
            "measured": {_numbered(version): value for version, value in change.measured},
            "meaning": change.meaning,
        }
        for change in changes
    ]
    return json.dumps({"format": "gradscope-torch-versions", "version": 1, "changes": rows}, indent=1) + "\n"


def to_markdown(changes: Sequence[VersionChange]) -> str:
    """The table as the documentation has it."""
    lines = ["| gradient of | what it was measured to be, under which torch |", "|---|---|"]
    for change in changes:
        values = ", ".join(f"{value} ({_numbered(version)})" for version, value in change.measured)
        lines.append(f"| {change.what.removeprefix('the gradient of ')} | {values} |")
    return "\n".join(lines) + "\n"


def _numbered(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _paragraph(console: Console, text: str, *, indent: int = 0, style: str = "") -> None:
    width = min(console.width, WIDEST) - indent
    for line in Text(text, style).wrap(console, width):
        line.rstrip()
        console.print(Text.assemble(" " * indent, line))
