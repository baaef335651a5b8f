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

GRAD = int(OpFlag.GRAD)
INFERENCE = int(OpFlag.INFERENCE)
AUTOCAST = int(OpFlag.AUTOCAST)
RAISED = int(OpFlag.RAISED)
HOOKED = int(OpFlag.HOOKED)
