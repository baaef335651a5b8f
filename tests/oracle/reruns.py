"""Runs of a program in which one thing is otherwise: a tensor's values, or a cut that lets everything through."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointFunction

from .naming import Path
from .witness import Pass, Witness, names_in

SHIFTS = ((-1.7, 0.31), (2.3, -1.9))
"""Factors and summands of changed values: two, as one may land where the program is blind (behind a relu)."""


def roots_change(source: str, position: int, one: Pass, changed: Mapping[Path, int]) -> bool | None:
    """Whether the roots of a pass are others once the values of some tensors were.

    Args:
        source: The program.
        position: The pass's number among the passes of the run.
        one: The pass, as it was without the change.
        changed: Names of tensors; each is changed once, at the statement that begins at a moment.

    Returns:
        None where the changed program no longer gets that far, or the roots are NaN whatever comes.
    """
    decided = None
    if all(bool(value.isnan().all()) for value in one.values):
        return None
    for by in SHIFTS:
        run = Witness(source, _Shift(changed, by), watch=False)
        if len(run.passes) <= position or run.passes[position].line != one.line:
            continue
        values = run.passes[position].values
        decided = False
        if any(
            not torch.equal(torch.nan_to_num(new), torch.nan_to_num(old))
            for new, old in zip(values, one.values, strict=True)
        ):
            return True
    return decided


class _Shift:
    """Changes the values of tensors, each once."""

    def __init__(self, changed: Mapping[Path, int], by: tuple[float, float]) -> None:
        self._waiting = dict(changed)
        self._by = by

    def __call__(self, run: Witness, line: int, frame: types.FrameType) -> None:
        due = [path for path, since in self._waiting.items() if since <= run.number]
        if not due:
            return
        with torch._C.DisableTorchFunction():
            names = names_in(frame)
            for path in due:
                tensor = names.get(path)
                if tensor is not None and tensor.is_floating_point():
                    del self._waiting[path]
                    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
                        tensor.data.mul_(self._by[0]).add_(self._by[1])


def without_cuts(source: str, lines: Collection[int]) -> Witness:
    """The run of a program in which the statements of some lines cut nothing: what detaches hands through."""
    text = source.split("\n")
    decorated = {line + 1 for line in lines if text[line - 1].lstrip().startswith("@")}
    return Witness(
        source, lambda run, line, frame: _nothing_cut() if line in {*lines, *decorated} else None, watch=False
    )


def with_values_as_saved(source: str) -> Witness:
    """The run of a program whose graphs keep copies of what they save: no later write reaches those."""
    with torch.autograd.graph.saved_tensors_hooks(torch.clone, lambda saved: saved):
        return Witness(source, watch=False)


def _through(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    return tensor.view_as(tensor) if isinstance(tensor, torch.Tensor) else tensor


def _same(tensor: Any, *args: Any, **kwargs: Any) -> Any:
    return tensor


@contextlib.contextmanager
def _nothing_cut() -> Iterator[None]:
    original_tensor, original_grad = torch.tensor, torch.autograd.grad

    def tensor(data: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if isinstance(data, torch.Tensor):
            return data.view_as(data)
        if isinstance(data, (list, tuple)) and any(isinstance(item, torch.Tensor) for item in data):
            return torch.stack([torch.as_tensor(item) for item in data])
        return original_tensor(data, *args, **kwargs)

    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return original_grad(outputs, inputs, *args, **{**kwargs, "create_graph": True})

    def enabled(*args: Any, **kwargs: Any) -> Any:
        return torch.enable_grad()

    replaced: list[tuple[Any, str, Any]] = [
        (torch.Tensor, "detach", _through),
        (torch.Tensor, "data", property(_through, torch._C.TensorBase.data.__set__)),
        (torch.Tensor, "numpy", _same),
        (torch.Tensor, "tolist", _same),
        (torch.Tensor, "item", _same),
        (torch.Tensor, "requires_grad_", _same),
        (torch.Tensor, "new_tensor", lambda self, data, *args, **kwargs: tensor(data)),
        (torch, "from_numpy", _same),
        (torch, "tensor", tensor),
        (torch.autograd, "grad", grad),
        (CheckpointFunction, "apply", lambda function, preserve, *args: function(*args)),
        (torch, "no_grad", enabled),
        (torch, "inference_mode", enabled),
        (torch, "set_grad_enabled", enabled),
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for owner, name, value in replaced:
            stack.enter_context(_replaced(owner, name, value))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any] | property) -> Iterator[None]:
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
