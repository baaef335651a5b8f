"""Dynamo's C part, which evaluates frames for ``torch.compile``; it is there without dynamo being imported."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

import torch

eval_frame: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)


def _nothing(_: CodeType) -> None:
    """Without dynamo there is nothing to skip."""


def _code_skipper() -> Callable[[CodeType], object]:
    try:
        skip = eval_frame._FrameExecStrategy(eval_frame._FrameAction.SKIP, eval_frame._FrameAction.DEFAULT)
        set_strategy = eval_frame.set_code_exec_strategy
    except AttributeError:  # torch 2.6 has a function for it
        by_name: Callable[[CodeType], object] = getattr(eval_frame, "skip_code", _nothing)
        return by_name
    return lambda code: set_strategy(code, skip)


skip_code = _code_skipper()
"""Let dynamo run code as it is: it neither compiles nor counts it."""


def frames_compiled() -> int:
    """How many frames dynamo has begun to compile in this process; 0 where nobody has imported it."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    return int(counters.get("frames", {}).get("total", 0))
