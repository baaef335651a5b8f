"""What a row of the line table says, as cells: facts about the tensor, and what happened in words."""

from __future__ import annotations

from rich.text import Text

from gradscope.analysis.report_model import LineRow
from gradscope.analysis.sizes import size
from gradscope.report.screen.layout import Column
from gradscope.report.screen.text import Symbols, cut_to, safe

FACTS = (
    Column("tensor", minimum=18, keeps_end=True),
    Column("shape", minimum=10),
    Column("requires_grad"),
    Column("grad_fn", minimum=12),
    Column("memory", minimum=8),
    Column("new", justify_right=True),
    Column("saved", justify_right=True),
    Column("in use", justify_right=True),
)
MESSAGE = 72
"""Cells of an error's message in a table; the program's own output and the data have all of it."""


class Cells:
    """Writes the cells of rows.

    Args:
        marks: Symbols.
        usual: dtype and device that need no mention.
        memory: Show what was in use after each line, and what each node saved; False: no bytes at all.
    """

    def __init__(self, marks: Symbols, usual: tuple[str, str], memory: bool | None) -> None:
        self._marks = marks
        self._usual = usual
        self._memory = memory

    def facts(self, row: LineRow) -> list[Text]:
        """One cell for each of :data:`FACTS`."""
        are_several = row.kind in ("made", "changed", "cut") and bool(row.name)
        if row.requires_grad is None and not are_several:
            return [Text("") for _ in range(5)] + self._bytes(row)
        return [
            Text(safe(row.name), style="dim italic" if row.name.startswith("<") else "bold"),
            self._shape(row),
            self._requires_grad(row),
            Text(safe(row.grad_fn), style="cyan") if row.grad_fn else Text("leaf" if row.is_leaf else "", style="dim"),
            self._storage(row),
            *self._bytes(row),
        ]

    def _shape(self, row: LineRow) -> Text:
        text = Text(safe(row.shape))
        if row.dtype not in ("", self._usual[0]):
            text.append(f" {safe(row.dtype)}", style="yellow")
        if row.device not in ("", self._usual[1]):
            text.append(f" {safe(row.device)}", style="yellow")
        if row.type_name not in ("Tensor", "Parameter", ""):
            text.append(f" {safe(row.type_name)}", style="yellow")
        return text

    def _requires_grad(self, row: LineRow) -> Text:
        style = "green" if row.requires_grad else "dim"
        if row.requires_grad_before is not None and row.requires_grad_before != row.requires_grad:
            return Text(f"{row.requires_grad_before}{self._marks.arrow}{row.requires_grad}", style=f"bold {style}")
        return Text("some" if row.requires_grad is None else str(row.requires_grad), style=style)

    def _storage(self, row: LineRow) -> Text:
        """Letter, whose memory it is, and the version counter where it is not 0."""
        text = Text(row.storage, style="blue")
        if row.alias_of:
            text.append(f" = {safe(row.alias_of)}", style="blue")
        if row.version_before is not None and row.version_before != row.version:
            text.append(f" v{row.version_before}{self._marks.arrow}{row.version}", style="bold yellow")
        elif row.version:
            text.append(f" v{row.version}", style="dim")
        return text

    def _bytes(self, row: LineRow) -> list[Text]:
        if self._memory is False:
            return [Text("")] * 3
        return [
            Text(size(row.allocated_bytes) if row.allocated_bytes else ""),
            Text(size(row.saved_bytes) if row.saved_bytes else "", style="magenta"),
            Text(size(row.live_bytes) if self._memory else "", style="dim"),
        ]

    def note(self, row: LineRow) -> Text:
        """What happened, in words."""
        parts = [self._event(row)]
        if row.kind != "error":
            parts += [Text(safe(note), style="yellow") for note in row.notes]
        parts += [Text(f"under {mode}", style="dim") for mode in row.modes if mode not in parts[0].plain]
        if row.temporaries and self._memory:
            noun = "temporary" if row.temporaries == 1 else "temporaries"
            parts.append(Text(f"and {row.temporaries:,} {noun}", style="dim"))
        if row.saved and self._memory:
            parts.append(Text(f"saved {safe(', '.join(row.saved))}", style="magenta"))
        if row.value:
            parts.append(Text(f"= {safe(row.value)}"))
        return Text("; ").join(part for part in parts if part.plain)

    def _event(self, row: LineRow) -> Text:
        if row.kind == "cut":
            by = row.requires_grad_why.removeprefix("Tensor.").removeprefix("torch.")
            return Text(f"{self._marks.cut} cut: {safe(by)}", style="bold red")
        if row.kind == "error":
            message = Text(f"{self._marks.problem} raised {safe('; '.join(row.notes))}", style="bold red")
            return cut_to(message, MESSAGE, self._marks.dots)
        if row.requires_grad_why and (row.requires_grad is False or row.requires_grad_before is not None):
            return Text(safe(row.requires_grad_why), style="yellow")
        if row.kind == "export":
            return Text(f"values of {safe(row.name)} left torch ({safe(row.op)})", style="dim")
        if row.kind == "backward":
            return Text(f"backward from {safe(row.name)}" if row.name else "backward", style="bold")
        return Text("")
