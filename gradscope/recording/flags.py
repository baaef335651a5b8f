"""Flags and kinds of the recording as plain integers: an operation on an ``IntFlag`` costs a hundred times as much."""

from __future__ import annotations

from gradscope.recording.rows import Field, OpFlag, OpKind, TensorFlag

REQUIRES_GRAD = int(TensorFlag.REQUIRES_GRAD)
LEAF = int(TensorFlag.LEAF)
VIEW = int(TensorFlag.VIEW)
INFERENCE_TENSOR = int(TensorFlag.INFERENCE)
PARAMETER = int(TensorFlag.PARAMETER)
EXTERNAL = int(TensorFlag.EXTERNAL)
NO_STORAGE = int(TensorFlag.NO_STORAGE)
SUBCLASS = int(TensorFlag.SUBCLASS)
NO_VERSION = int(TensorFlag.NO_VERSION)
GRADIENT = int(TensorFlag.GRADIENT)
CUT_VIEW = VIEW | LEAF | REQUIRES_GRAD
"""Of a result: a view made under no_grad, which says that it requires grad, has no grad_fn, and leads nowhere."""

GRAD = int(OpFlag.GRAD)
INFERENCE = int(OpFlag.INFERENCE)
AUTOCAST = int(OpFlag.AUTOCAST)
RAISED = int(OpFlag.RAISED)
HOOKED = int(OpFlag.HOOKED)
MADE = int(OpFlag.MADE)
BELOW = int(OpFlag.BELOW)
CONTINUED = int(OpFlag.CONTINUED)

CALL_OP = int(OpKind.CALL)
BACKWARD_OP = int(OpKind.BACKWARD)
GRAD_OP = int(OpKind.GRAD)
MODE_OP = int(OpKind.MODE)
SET_OP = int(OpKind.SET)
READ_GRAD_OP = int(OpKind.READ_GRAD)
EXPORT_OP = int(OpKind.EXPORT)
STEP_OP = int(OpKind.STEP)
GROUP_OP = int(OpKind.GROUP)
COLLECTIVE_OP = int(OpKind.COLLECTIVE)

VERSION_FIELD = int(Field.VERSION)
REQUIRES_GRAD_FIELD = int(Field.REQUIRES_GRAD)
GRAD_FN_FIELD = int(Field.GRAD_FN)
LEAF_FIELD = int(Field.LEAF)
STORAGE_FIELD = int(Field.STORAGE)
LAYOUT_FIELD = int(Field.LAYOUT)
GRAD_FIELD = int(Field.GRAD)
OFFSET_FIELD = int(Field.OFFSET)
