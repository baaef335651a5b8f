"""Which function runs when torch's Python asks a function mode: the one that asked, as it was called.

A function written in Python hands itself over under its *global name*. Where a program has put a wrapper there (to
count, to log, to scale), that is the wrapper, which is running already: to call it would run it a second time. And a
few functions of torch's leave an argument of theirs out when they hand themselves over.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, MethodDescriptorType
from typing import Any

from gradscope.recorder.calls.torch_functions import Function
from gradscope.recorder.places.code_owners import CodeOwners, Owner


class AskedFunctions:
    """Finds what a frame that asks a function mode means.

    Args:
        owners: Whose code is whose.
        learn: Describes a function.
    """

    def __init__(self, owners: CodeOwners, learn: Callable[[Any], Function]) -> None:
        self._owners = owners
        self._learn = learn
        self._of_torch: dict[int, tuple[Any, Function]] = {}
        """By ``id(code)``; the owners' table keeps the code alive."""

    def meant(self, func: Any, info: Function, asking: FrameType, args: Any, kwargs: Any) -> tuple[Any, Function, Any]:
        """The function that a frame asks for, its description, and its keyword arguments.

        Args:
            func: What was handed over.
            info: Its description.
            asking: The frame that handed it over.
            args: Its positional arguments.
            kwargs: Its keyword arguments, or None.
        """
        code = asking.f_code
        if info.code is not code:
            if not self._stands_for(func, code):
                if self._owners.of(code) is Owner.TORCH:
                    info.asked_by = code
                return func, info, kwargs
            func, info = self._original(code, asking)
        count = code.co_argcount + code.co_kwonlyargcount
        if len(args) + len(kwargs or ()) < count and not code.co_posonlyargcount:
            kwargs = _completed(code.co_varnames[:count], code.co_argcount, asking, args, kwargs or {})
        return func, info, kwargs

    def _stands_for(self, func: Any, code: CodeType) -> bool:
        """Whether a function was put in the place of the one whose code asked, which can be called in its stead."""
        names, name = code.co_names, code.co_name
        if code.co_freevars or name == "__call__":  # an object that is called hands itself over
            return False
        if name in names:
            return True
        # A part of a function of torch's (``_max_pool2d``) names the whole, which is meant unless it was replaced.
        return name[:1] == "_" and name[1:] in names and not self._is_torchs(func)

    def _is_torchs(self, func: Any) -> bool:
        if type(func) is FunctionType:
            return self._owners.of(func.__code__) is Owner.TORCH
        return isinstance(func, (BuiltinFunctionType, MethodDescriptorType))

    def _original(self, code: CodeType, asking: FrameType) -> tuple[Any, Function]:
        known = self._of_torch.get(id(code))
        if known is None:
            original = FunctionType(code, asking.f_globals, code.co_name)
            known = original, self._learn(original)
            if self._owners.of(code) is Owner.TORCH:  # what is the program's must not be kept alive
                self._of_torch[id(code)] = known
        return known


def _completed(names: tuple[str, ...], positional: int, asking: FrameType, args: Any, kwargs: Any) -> dict[str, Any]:
    """Keyword arguments with those that were left out, as the frame has them."""
    given = names[: min(len(args), positional)]
    known = asking.f_locals
    left_out = (name for name in names if name not in given and name not in kwargs and name in known)
    return {**kwargs, **{name: known[name] for name in left_out}}
