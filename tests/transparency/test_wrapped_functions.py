"""Functions of torch's own Python that a program wraps, replaces or exchanges: each runs once a call, as bare."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradscope.recording.rows import OpKind

from .sameness import assert_unnoticed, recorder_for_tests

PLACES = {
    "cross_entropy": (F, "cross_entropy"),
    "dropout": (F, "dropout"),
    "softmax": (F, "softmax"),
    "max_pool2d": (F, "max_pool2d"),
    "linear_init": (nn.init, "uniform_"),
    "einsum": (torch.functional, "einsum"),
    "backward": (torch.Tensor, "backward"),
    "autograd.grad": (torch.autograd, "grad"),
    "repr": (torch.Tensor, "__repr__"),
    "format": (torch.Tensor, "__format__"),
    "split": (torch.Tensor, "split"),
    "rsub": (torch.Tensor, "__rsub__"),
    "norm": (torch.Tensor, "norm"),
}


def plain(function: Any, seen: list[str]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen.append("plain")
        result = function(*args, **kwargs)
        return result * 10 if isinstance(result, torch.Tensor) else result

    return wrapper


def wrapped(function: Any, seen: list[str]) -> Callable[..., Any]:
    return functools.wraps(function)(plain(function, seen))


def nested(function: Any, seen: list[str]) -> Callable[..., Any]:
    return plain(wrapped(plain(function, seen), seen), seen)


def partly(function: Any, seen: list[str]) -> Callable[..., Any]:
    return (
        functools.partialmethod(plain(function, seen))
        if "Tensor" in function.__qualname__
        else functools.partial(plain(function, seen))
    )


def decorated(function: Any, _: list[str]) -> Callable[..., Any]:
    """By a decorator of torch's own."""
    return torch.enable_grad()(function)


class Counter:
    """A callable object that is no function."""

    def __init__(self, function: Any, seen: list[str]) -> None:
        self.function, self.seen = function, seen

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.seen.append("counter")
        return self.function(*args, **kwargs)


@contextmanager
def replaced(owner: Any, name: str, replacement: Any) -> Any:
    original = getattr(owner, name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)


def calls() -> list[Any]:
    """Each of the functions above, by way of a module, of a method and of a name that holds the original."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, requires_grad=True)
    loss = F.cross_entropy(F.dropout(x, 0.5) * 2, torch.tensor([0, 2]))
    loss.backward()
    (again,) = torch.autograd.grad(torch.functional.einsum("ij,ij->i", x, x).sum(), x)
    picture = torch.arange(16.0).view(1, 1, 4, 4)
    parts = x.split(2, dim=1)
    return [
        x.grad, again, F.softmax(x, dim=1), F.max_pool2d(picture, 2), nn.MaxPool2d(2)(picture), parts,
        nn.Linear(2, 2), 1 - x, x.norm(), repr(loss.detach()), f"{loss.detach().sum():.3f}",
    ]  # fmt: skip


@pytest.mark.parametrize("wrap", [plain, wrapped, nested, partly, decorated, Counter])
@pytest.mark.parametrize("name", PLACES)
def test_a_wrapper_runs_once_a_call(name: str, wrap: Callable[..., Any]) -> None:
    owner, attribute = PLACES[name]
    seen: list[str] = []

    def program() -> list[Any]:
        seen.clear()
        with replaced(owner, attribute, wrap(getattr(owner, attribute), seen)):
            result = calls()
        return [*result, list(seen)]

    assert_unnoticed(program)


def test_a_wrapper_that_was_there_before_the_recording() -> None:
    seen: list[str] = []
    with replaced(F, "cross_entropy", wrapped(F.cross_entropy, seen)):
        assert_unnoticed(lambda: [seen.clear(), *calls(), list(seen)])


def test_two_functions_exchanged() -> None:
    """Neither is the one that a name of its own leads to."""

    def program() -> list[Any]:
        cross_entropy, nll_loss, softmax = F.cross_entropy, F.nll_loss, F.softmax
        x, target = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True), torch.tensor([0])
        swap = replaced(F, "cross_entropy", nll_loss), replaced(F, "nll_loss", cross_entropy)
        with swap[0], swap[1], replaced(F, "softmax", torch.softmax):
            return [cross_entropy(x, target), nll_loss(x, target), softmax(x, dim=1), F.softmax(x, dim=1)]

    assert_unnoticed(program)


def test_arguments_that_torch_leaves_out_when_it_hands_a_function_over() -> None:
    def program() -> list[Any]:
        x, y, weight = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0]), torch.tensor([1.0, 10.0])
        return [F.l1_loss(x, y, weight=weight), F.l1_loss(x, y, None, None, "sum", weight), x.dim_order()]

    assert_unnoticed(program)


def test_a_wrapped_function_keeps_its_name_and_kind() -> None:
    recorder = recorder_for_tests()
    x = torch.ones(2, requires_grad=True)
    backward, dropout = plain(torch.Tensor.backward, []), plain(F.dropout, [])
    with replaced(torch.Tensor, "backward", backward), replaced(F, "dropout", dropout), recorder:
        F.dropout(x, 0.5).sum().backward()
    recording = recorder.recording
    named = {recording.strings[op.func]: op.kind for op in recording.ops}
    assert named["F.dropout"] == OpKind.CALL
    assert named["Tensor.backward"] == OpKind.BACKWARD
