"""Names of functions by the class that defines them, in every version of Python."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

import pytest

from gradscope.frames.code_names import qualified_name
from gradscope.frames.statements import parse_source


def here() -> FrameType:
    return sys._getframe(1)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Base:
    def method(self) -> FrameType:
        return here()

    @logged
    def decorated(self) -> FrameType:
        return here()

    @property
    def read(self) -> FrameType:
        return here()

    @classmethod
    def of_class(cls) -> FrameType:
        return here()

    @staticmethod
    def without() -> FrameType:
        return here()

    class Inner:
        def method(self) -> FrameType:
            return here()


class Derived(Base):
    def method(self) -> FrameType:
        return super().method()


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        (Derived().method(), "Base.method"),
        (Derived().decorated(), "Base.decorated"),
        (Derived().read, "Base.read"),
        (Derived.of_class(), "Base.of_class"),
        (Derived.without(), "Base.without"),
        (Base.Inner().method(), "Base.Inner.method"),
        (here(), "<module>"),
    ],
)
def test_it_is_the_class_that_defines_it(frame: FrameType, name: str) -> None:
    assert qualified_name(frame.f_code, frame) == name


class Answering:
    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"the program's own code ran for {name}")


def test_no_code_of_the_programs_runs() -> None:
    space: dict[str, Any] = {"here": here}
    exec("def later(): return here()\nfirst = later", space)
    space["later"] = Answering()
    frame = space["first"]()
    assert qualified_name(frame.f_code, frame) == "later"


def test_a_comprehension_has_the_name_of_its_function() -> None:
    head = "class A:\n    def f(self):\n        "
    text = f"{head}return next(here() for _ in [0]), [here() for _ in [0]][0], (lambda: here())()\n"
    space: dict[str, Any] = {"here": here}
    exec(compile(text, "text.py", "exec"), space)
    source = parse_source(text)
    names = [qualified_name(frame.f_code, frame, source) for frame in space["A"]().f()]
    kinds = ["<genexpr>", "<listcomp>", "<lambda>"]
    wanted = [f"A.f.<locals>.{kind}" for kind in kinds]
    if sys.version_info >= (3, 12):
        wanted[1] = "A.f"  # comprehensions have no code of their own
    assert names == wanted
