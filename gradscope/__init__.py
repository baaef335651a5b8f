"""gradscope: what PyTorch's autograd does in a program, line by line.

Nothing heavy is imported here: each public name is loaded when it is first used, so that ``import gradscope`` costs
nothing and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradscope.version import VERSION as __version__

if TYPE_CHECKING:
    from gradscope import testing
    from gradscope.errors import ExitCode, GradscopeError
    from gradscope.experiments.compare.comparing import compare
    from gradscope.recorder.api import record
    from gradscope.recording import Recording
    from gradscope.recording.file.store import load, save


__all__ = ["ExitCode", "GradscopeError", "Recording", "__version__", "compare", "load", "record", "save", "testing"]

_HOME = {
    "ExitCode": "gradscope.errors",
    "GradscopeError": "gradscope.errors",
    "Recording": "gradscope.recording",
    "compare": "gradscope.experiments.compare.comparing",
    "load": "gradscope.recording.file.store",
    "record": "gradscope.recorder.api",
    "save": "gradscope.recording.file.store",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("gradscope.testing")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """What ``%load_ext gradscope`` calls."""
    import_module("gradscope.integrations.ipython_extension").load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """What ``%unload_ext gradscope`` calls."""
    import_module("gradscope.integrations.ipython_extension").unload(ipython)
