"""What the numbers in a column stand for: a text, a row of another table, one of a set of kinds, flags.

:mod:`gradscope.recording.rows` says it in words; here it is said for programs, which check and show what a file holds.
A column that is not named here is a plain number.
"""

from enum import IntEnum, IntFlag
from typing import NamedTuple

from gradscope.recording.rows import BindingKind, Field, GradOutcome, OpFlag, OpKind, TensorFlag


class Text(NamedTuple):
    """Index into the strings, or NONE."""


class RowOf(NamedTuple):
    """Id of a row of another table (``files`` included)."""

    table: str
    optional: bool = False
    """NONE is allowed."""
    or_end: bool = False
    """The number of rows is allowed too: what was seen after the last op."""


class OneOf(NamedTuple):
    """A member of an enumeration."""

    kinds: type[IntEnum]


class AnyOf(NamedTuple):
    """Flags, added up."""

    flags: type[IntFlag]


Meaning = Text | RowOf | OneOf | AnyOf

_TEXT = Text()
_OP = RowOf("ops")
_OP_OR_END = RowOf("ops", or_end=True)
_TENSOR = RowOf("tensors")
_MAYBE_TENSOR = RowOf("tensors", optional=True)
_MAYBE_NODE = RowOf("nodes", optional=True)
_MAYBE_SPAN = RowOf("spans", optional=True)
_MAYBE_STORAGE = RowOf("storages", optional=True)
_DIED = RowOf("ops", optional=True, or_end=True)

MEANINGS: dict[str, dict[str, Meaning]] = {
    "ops": {"func": _TEXT, "kind": OneOf(OpKind), "span": _MAYBE_SPAN, "inner": _MAYBE_SPAN, "flags": AnyOf(OpFlag)},
    "spans": {"file": RowOf("files"), "function": _TEXT},
    "uses": {"op": _OP, "tensor": _TENSOR},
    "results": {"op": _OP, "tensor": _TENSOR},
    "tensors": {
        "op": _OP_OR_END,
        "storage": _MAYBE_STORAGE,
        "layout": RowOf("layouts"),
        "node": _MAYBE_NODE,
        "flags": AnyOf(TensorFlag),
        "died": _DIED,
    },
    "layouts": dict.fromkeys(("shape", "stride", "dtype", "device", "type_name", "form"), _TEXT),
    "aliases": {"tensor": _TENSOR, "base": _TENSOR},
    "storages": {"op": _OP_OR_END, "died": _DIED},
    "nodes": {"op": _OP_OR_END, "name": _TEXT, "variable": _MAYBE_TENSOR},
    "edges": {"node": RowOf("nodes"), "next": _MAYBE_NODE},
    "saved": {"node": RowOf("nodes"), "attr": _TEXT, "storage": _MAYBE_STORAGE, "tensor": _MAYBE_TENSOR},
    "changes": {"op": _OP_OR_END, "tensor": _TENSOR, "field": OneOf(Field)},
    "backwards": {"op": _OP, "root": _TENSOR, "node": _MAYBE_NODE},
    "gradients": {"op": _OP, "tensor": _TENSOR, "outcome": OneOf(GradOutcome), "grad": _MAYBE_TENSOR},
    "bindings": {
        "name": _TEXT,
        "tensor": _TENSOR,
        "op": _OP_OR_END,
        "span": _MAYBE_SPAN,
        "kind": OneOf(BindingKind),
    },
    "errors": {"op": _OP, "type_name": _TEXT, "message": _TEXT},
    "values": {"op": _OP, "tensor": _TENSOR, "text": _TEXT},
    "watches": {
        "expression": _TEXT,
        "op": _OP_OR_END,
        "file": RowOf("files", optional=True),
        "text": _TEXT,
        "tensor": _MAYBE_TENSOR,
    },
    "memory": {"op": _OP_OR_END, "device": _TEXT},
    "left_out": {"span": _MAYBE_SPAN, "func": _TEXT},
}

CHANGED_ROWS: dict[Field, RowOf] = {
    Field.GRAD_FN: _MAYBE_NODE,
    Field.STORAGE: _MAYBE_STORAGE,
    Field.LAYOUT: RowOf("layouts"),
    Field.GRAD: _MAYBE_TENSOR,
}
"""What ``before`` and ``after`` of a change stand for; plain numbers for the other fields."""

LATE_COLUMNS: tuple[tuple[str, str], ...] = (
    ("ops", "flags"),
    ("ops", "calls"),
    ("tensors", "died"),
    ("storages", "died"),
)
"""Columns whose values may change after their row was added: an op raises or runs more calls, a tensor dies."""
