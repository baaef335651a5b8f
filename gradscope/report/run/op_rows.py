"""Every single op, one a row (``--ops``)."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from gradscope.analysis.report_model import OpRow
from gradscope.analysis.sizes import size
from gradscope.report.screen.layout import Column, table
from gradscope.report.screen.text import Symbols, safe

_COLUMNS = (
    Column("op", justify_right=True),
    Column("line", justify_right=True),
    Column("thread"),
    Column("call", minimum=16, keeps_end=True),
    Column("from", minimum=8),
    Column("to", minimum=8),
    Column("shape", minimum=6),
    Column("req.grad"),
    Column("grad_fn", minimum=8),
    Column("new", justify_right=True),
    Column("what happened", minimum=8),
)


def ops_table(ops: Sequence[OpRow], width: int, marks: Symbols) -> RenderableType:
    """The table of single ops; the thread is named where there is more than one."""
    several = len({op.thread for op in ops}) > 1
    return table(_COLUMNS, [_cells(op, several, marks) for op in ops], width, marks)


def _cells(op: OpRow, several_threads: bool, marks: Symbols) -> list[Text]:
    happened = [f"{marks.problem} {safe(op.error)}"] if op.error else [f"under {mode}" for mode in op.modes]
    return [
        Text(str(op.op), style="dim"),
        Text(str(op.line) if op.line else "", style="dim"),
        Text(str(op.thread) if several_threads else ""),
        Text(safe(op.func)),
        Text(safe(", ".join(op.inputs))),
        Text(safe(", ".join(op.outputs)), style="bold"),
        Text(safe(op.shape)),
        Text("" if op.requires_grad is None else str(op.requires_grad), style="green" if op.requires_grad else "dim"),
        Text(safe(op.grad_fn), style="cyan"),
        Text(size(op.allocated_bytes) if op.allocated_bytes else ""),
        Text("; ".join(happened), style="red" if op.error else "dim"),
    ]
