"""Objects with code of their own among a program's values: none of it runs because a recorder looks."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function

from .sameness import assert_unnoticed

ran: list[str] = []


def own(first, other=None):
    """A function that hands itself to function modes, with whatever it is given."""
    if has_torch_function((first,)):
        return handle_torch_function(own, (first,), first, other)
    return first * 2


class LoggedList(list):
    def __iter__(self):
        ran.append("iter")
        return super().__iter__()

    def __reversed__(self):
        ran.append("reversed")
        return super().__reversed__()


class LoggedDict(dict):
    def values(self):
        ran.append("values")
        return super().values()


class Lazy:
    """Makes its object when it is asked for its class, as lazy imports and request proxies do."""

    @property
    def __class__(self):
        ran.append("class")
        return torch.Tensor

    def __getattribute__(self, name):
        ran.append(name)
        return object.__getattribute__(self, name)


class TypeWithoutHash(type):
    __hash__ = None


class OfATypeWithoutHash(metaclass=TypeWithoutHash):
    pass


class AskedForItsKind(torch.Tensor):
    """``isinstance(…, nn.Parameter)`` asks it for an attribute that it has not."""

    def __getattr__(self, name):
        ran.append(name)
        raise AttributeError(name)


def containers():
    x = torch.ones(2, requires_grad=True)
    cyclic: list[Any] = [x]
    cyclic.append(cyclic)
    held: dict[str, Any] = {"x": x}
    held["itself"] = held
    results = [own(x, LoggedList([x])), own(x, LoggedDict(a=x)), own(x, cyclic), own(x, held)]
    with pytest.raises(ValueError, match="dimensions"):
        torch.tensor(cyclic[1:])
    return results


def lazy_objects():
    lazy = Lazy()
    config = [lazy]
    x = own(torch.ones(2, requires_grad=True), lazy)
    return x.sum() * 2, len(config), own(x, OfATypeWithoutHash())


def subclass_that_is_asked():
    x = torch.ones(2).as_subclass(AskedForItsKind)
    return (x * 2).as_subclass(torch.Tensor)


def namespace_of_a_class():
    class Logged(dict):
        def get(self, *args):
            ran.append("get")
            return super().get(*args)

    class Meta(type):
        @classmethod
        def __prepare__(cls, name, bases):
            return Logged()

        def __new__(cls, name, bases, namespace):
            return super().__new__(cls, name, bases, dict(namespace))

    class Made(metaclass=Meta):
        first = torch.ones(2) * 2
        second = first + 1

    return Made.second


class Unhashable:
    __hash__ = None

    def __call__(self, first):
        return handle_torch_function(self, (first,), first) if has_torch_function((first,)) else first * 3


class Refusal(Exception):
    """A class of errors that nobody but the program has."""


class Nameless:
    @property
    def __name__(self):
        raise Refusal("it has none")

    def __call__(self, first):
        return handle_torch_function(self, (first,), first) if has_torch_function((first,)) else first * 3


def callables():
    x = torch.ones(2, requires_grad=True)
    return Unhashable()(x), Nameless()(x)


PROGRAMS = [containers, lazy_objects, subclass_that_is_asked, namespace_of_a_class, callables]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_no_code_of_the_programs_runs(program):
    def runs():
        ran.clear()
        return program(), list(ran)

    recording = assert_unnoticed(runs)
    assert len(recording.ops) > 0


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An error that refuses that attributes are set, its traceback too."""

    code: int


class Raising(torch.Tensor):
    log: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.mul:
            raise Frozen(3)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_an_error_that_refuses_attributes_arrives_as_it_is():
    def raises():
        with pytest.raises(Frozen) as caught:
            torch.ones(2).as_subclass(Raising) * 2
        return caught.value.code

    assert_unnoticed(raises)


def local_names_that_the_program_holds():
    def configured(rate, epochs):
        config = locals()
        config.pop("epochs")
        out = nn.functional.relu(torch.ones(2) * rate)
        return sorted(config), out

    def executed():
        exec("held = 3")
        out = torch.ones(2) * 2
        return eval("held"), out + 1

    return configured(0.1, 2), executed()


def test_local_names_that_the_program_holds_stay_as_they_are():
    assert_unnoticed(local_names_that_the_program_holds)
