"""Expectations where they stand: what is evaluated when, and that the program cannot tell."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from gradscope.errors import UsageError
from gradscope.isolated import jobs
from tests.check.running import check, parts, verdicts


def test_after_the_statement_in_its_frame_each_time(tmp_path: Path) -> None:
    result = check(
        """
        total = 0
        for i in range(3):
            total += i  # expect: total < 3

        def add(a, b):
            c = a + b
            # expect: c > 2
            return c  # expect: a == 1

        add(1, 1), add(1, 2)
        """,
        tmp_path,
    )
    first, second, third = result.expectations
    assert (first.evaluations, first.failures, first.first_failure.evaluation) == (3, 1, 3)
    assert (second.evaluations, second.failures, second.first_failure.evaluation) == (2, 1, 1)
    assert parts(second) == {"c": "2"}
    assert (third.verdict, third.evaluations) == ("holds", 2)
    assert result.output == ""


def test_private_names_are_those_of_the_class(tmp_path: Path) -> None:
    result = check(
        """
        class _Outer:
            class Inner:
                __shared = 1  # expect: __shared == 1
            def __init__(self):
                self.__x = 4  # expect: self.__x == 4 and self.__dict__ == {"_Outer__x": 4}
                # expect: self.__x == 5
        _Outer()
        """,
        tmp_path,
    )
    assert verdicts(result) == ["holds", "holds", "fails"]
    assert parts(result.expectations[2])["self.__x"] == "4"


def test_behind_a_decorator_is_after_the_whole_definition(tmp_path: Path) -> None:
    result = check(
        """
        def twice(f):
            return lambda: f() * 2
        @twice  # expect: value() == 6
        @twice
        def value():  # expect: "value" in globals()
            return 3 / 2
        """,
        tmp_path,
    )
    assert [(item.verdict, item.evaluations) for item in result.expectations] == [("holds", 1), ("holds", 1)]


def test_a_variable_of_the_function_around_is_known_where_it_is_used(tmp_path: Path) -> None:
    result = check(
        """
        def outer():
            used = unused = 1
            def inner():
                y = used  # expect: used == 1
                # expect: unused == 1
            inner()
        outer()
        """,
        tmp_path,
    )
    assert verdicts(result) == ["holds", "raises"]
    assert result.expectations[1].first_failure.error == (
        "NameError: name 'unused' is not defined (not a variable of inner, whose own statements do not use it)"
    )


def test_what_never_ran_failed(tmp_path: Path) -> None:
    result = check(
        """
        if False:
            x = 1  # expect: x == 1
        def unused():
            pass  # expect: True
        y = 1  # expect: y == 1
        """,
        tmp_path,
    )
    assert verdicts(result) == ["never ran", "never ran", "holds"]
    assert not result.passed and not result.failure


def test_an_expression_that_raises(tmp_path: Path) -> None:
    result = check(
        """
        import torch
        a = torch.ones(2)  # expect: a.nosuch
        # expect: a == a
        # expect: exit(3)
        """,
        tmp_path,
        ["b"],
    )
    errors = [item.first_failure.error for item in result.expectations]
    assert errors[0] == "AttributeError: 'Tensor' object has no attribute 'nosuch'"
    assert errors[1].startswith("RuntimeError: Boolean value of Tensor")
    assert errors[2:] == ["SystemExit: 3", "NameError: name 'b' is not defined"]
    assert not result.failure


def test_at_the_end_of_the_program(tmp_path: Path) -> None:
    result = check("a = 1\na += 1\n", tmp_path, ["a == 2", "a == 1"])
    assert verdicts(result) == ["holds", "fails"]
    assert [item.line for item in result.expectations] == [0, 0]


def test_a_name_of_the_programs_own_goes_first(tmp_path: Path) -> None:
    result = check(
        """
        def grad_fn(t):
            return "mine"
        version = 3
        a = 1  # expect: grad_fn(a) == "mine"
        # expect: version(a) == 0
        """,
        tmp_path,
    )
    assert verdicts(result) == ["holds", "raises"]
    assert "the program's own" in parts(result.expectations[1])["version"]


class TestRaised:
    def test_by_the_statement_that_it_stands_behind(self, tmp_path: Path) -> None:
        result = check(
            """
            import torch
            from contextlib import suppress
            def careful():
                try:
                    {}["k"]
                except LookupError:
                    return 1
            try:
                torch.ones(2).view(3)
            except RuntimeError:
                pass
            # expect: raised(RuntimeError) and not raised(KeyError)
            a = 1  # expect: not raised(Exception)
            careful()  # expect: raised(KeyError) and raised((OSError, LookupError))
            with suppress(Exception):
                torch.ones(2).backward()
            # expect: raised(RuntimeError) and raised() and not raised(ValueError)
            try:
                raise ValueError
            except ValueError:  # expect: raised(ValueError)
                pass
            b = 2  # expect: raised("RuntimeError")
            """,
            tmp_path,
            ["raised(KeyError)", "raised(RuntimeError)", "not raised(OSError)"],
        )
        assert verdicts(result) == ["holds"] * 5 + ["raises"] + ["holds"] * 3

    def test_each_time_in_a_loop(self, tmp_path: Path) -> None:
        result = check(
            """
            for i in range(3):
                try:
                    1 / i
                except ZeroDivisionError:
                    pass
                # expect: raised(ZeroDivisionError) == (i == 0)
            """,
            tmp_path,
        )
        assert [(item.verdict, item.evaluations) for item in result.expectations] == [("holds", 3)]

    def test_what_ended_the_program(self, tmp_path: Path) -> None:
        result = check("a = 1\nraise OSError('x')\n", tmp_path, ["raised(OSError)", "a == 1"])
        assert verdicts(result) == ["holds", "holds"]
        assert (result.failure, result.failure_line, result.passed) == ("OSError: x", 2, False)


class TestAProgramThatFails:
    def test_exit(self, tmp_path: Path) -> None:
        result = check("import sys\na = 1  # expect: a == 1\nsys.exit(3)\nb = 1  # expect: b\n", tmp_path)
        assert result.failure == "it exited with status 3"
        assert verdicts(result) == ["holds", "never ran"]

    def test_a_good_exit(self, tmp_path: Path) -> None:
        result = check("import sys\na = 1  # expect: a == 1\nsys.exit(0)\n", tmp_path, ["a == 1"])
        assert result.passed and verdicts(result) == ["holds", "holds"]

    def test_exit_at_once(self, tmp_path: Path) -> None:
        result = check("import os\na = 1  # expect: a == 1\nos._exit(0)\n", tmp_path, ["a == 1"])
        assert result.passed and verdicts(result) == ["holds", "holds"]

    def test_killed(self, tmp_path: Path) -> None:
        result = check(
            """
            import os, signal
            a = 1  # expect: a == 1
            os.kill(os.getpid(), signal.SIGKILL)
            b = 1  # expect: b == 1
            """,
            tmp_path,
        )
        assert result.failure == "the process was killed by SIGKILL"
        assert verdicts(result) == ["holds", "never ran"]

    def test_too_slow(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The time is up when the program has come to its sleep."""
        asleep = tmp_path / "asleep"
        clock = SimpleNamespace(sleep=time.sleep, monotonic=lambda: 1e6 if asleep.exists() else 0.0)
        monkeypatch.setattr(jobs, "time", clock)
        source = f"import time\na = 1  # expect: a\nopen({str(asleep)!r}, 'w').close()\ntime.sleep(600)\n"
        result = check(source, tmp_path, timeout=5)
        assert result.failure == "it was stopped after 5 seconds"
        assert verdicts(result) == ["holds"]

    def test_its_traceback_is_its_own(self, tmp_path: Path) -> None:
        result = check("def f():\n    raise ValueError('x')\nf()  # expect: True\n", tmp_path)
        assert result.traceback in result.output
        assert result.traceback.startswith("Traceback (most recent call last):")
        assert "gradscope" not in result.traceback.replace(str(tmp_path), "")
        assert result.failure_line == 2


NOTICING = """
import random, sys, warnings
import torch
{numpy}
torch.manual_seed(1); random.seed(1)
x = torch.ones(3, requires_grad=True){a}
y = x * 2{b}
warnings.simplefilter("always")
print(y.grad, file=sys.stdout)
print(torch.rand(2), random.random(), {draw}){c}
print(torch.is_grad_enabled(), x._version, y._version, sorted(n for n in globals() if n[0] != "_")){d}
def f():
    t = torch.ones(1){e}
    return sorted(locals())
print(f())
y.exp().sum().backward()
print(x.grad, torch.rand(1), {draw})
"""


def test_the_program_cannot_tell(tmp_path: Path) -> None:
    numpy = {"numpy": "import numpy; numpy.random.seed(1)", "draw": "numpy.random.rand()"}
    bare = NOTICING.format(a="", b="", c="", d="", e="", **numpy)
    expecting = NOTICING.format(
        a="  # expect: torch.rand(1) > 2 or random.random() > 2 or numpy.random.rand() > 2",
        b="  # expect: y.grad is not None or shares_version(x, y) or grad_fn(y) == 3",
        c="  # expect: torch._C._set_grad_enabled(False) or torch.is_grad_enabled()",
        d="  # expect: (z := saved_bytes(y)) > 10**9 or raised(ValueError)",
        e="  # expect: (t * x).sum() < 0 or nosuch",
        **numpy,
    )
    plain = check(bare, tmp_path, ["True"], fork=False)  # in a fork of pytest no warning would be shown
    watched = check(expecting, tmp_path, fork=False)
    assert not plain.failure and "The .grad attribute of a Tensor that is not a leaf" in plain.output
    assert verdicts(watched) == ["fails", "fails", "fails", "fails", "raises"]
    comments = re.compile(r"  # expect:.*")  # a warning shows its line
    assert comments.sub("", watched.output) == plain.output


def test_what_torch_compile_compiles_is_as_without(tmp_path: Path) -> None:
    source = """
        import marshal, torch
        def count(graph, inputs):
            print("compiled", len(graph.graph.nodes))
            return graph.forward
        def f(x):
            try:
                y = x * 2{}
            except ValueError:
                y = x
            return y + 1
        print(torch.compile(f, backend=count, fullgraph=True)(torch.ones(2)))
        marshal.dumps(f.__code__)
        """
    plain = check(source.format(""), tmp_path, ["not raised()"])
    watched = check(source.format("  # expect: not raised(ValueError)"), tmp_path)
    assert not watched.failure and watched.output == plain.output == "compiled 4\ntensor([3., 3.])\n"
    assert verdicts(watched) == ["never ran"]


def test_targets_do_not_disturb_each_other(tmp_path: Path) -> None:
    first = (
        "import torch, sys\ntorch.set_default_dtype(torch.float64)\nsys.modules['json'] = None\na = 1  # expect: a\n"
    )
    assert check(first, tmp_path).passed
    assert check("import torch, json\na = torch.ones(1)  # expect: a.dtype == torch.float32\n", tmp_path).passed


def test_without_fork(tmp_path: Path) -> None:
    result = check("a = 1  # expect: a == 1\n# expect: a == 2\nprint('hello')\n", tmp_path, ["a"], fork=False)
    assert verdicts(result) == ["holds", "fails", "holds"]
    assert result.output == "hello\n"


def test_an_expression_that_is_no_python_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-e 'a =' is no Python expression"):
        check(f"open({str(tmp_path / 'ran')!r}, 'w')\n", tmp_path, ["a ="])
    assert not (tmp_path / "ran").exists()
