"""Flags of the recording as plain integers: an operation on an ``IntFlag`` costs a hundred times one on ``int``."""

from __future__ import annotations

from gradscope.recording.rows import OpFlag, TensorFlag

REQUIRES_GRAD = int(TensorFlag.REQUIRES_GRAD)
LEAF = int(TensorFlag.LEAF)
INFERENCE_TENSOR = int(TensorFlag.INFERENCE)
PARAMETER = int(TensorFlag.PARAMETER)
EXTERNAL = int(TensorFlag.EXTERNAL)
NO_VERSION = int(TensorFlag.NO_VERSION)
GRADIENT = int(TensorFlag.GRADIENT)
CUT_VIEW = int(TensorFlag.VIEW | TensorFlag.LEAF | TensorFlag.REQUIRES_GRAD)
"""Of a result: a view made under no_grad, which says that it requires grad, has no grad_fn, and leads nowhere."""

GRAD = int(OpFlag.GRAD)
INFERENCE = int(OpFlag.INFERENCE)
AUTOCAST = int(OpFlag.AUTOCAST)
RAISED = int(OpFlag.RAISED)
HOOKED = int(OpFlag.HOOKED)
MADE = int(OpFlag.MADE)
