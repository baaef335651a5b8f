"""Running a program in this process: outcomes, watches, probes, transcripts, and that everything is put back."""

from __future__ import annotations

import atexit
import builtins
import os
import signal
import sys
import textwrap
import threading
import traceback
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from gradscope.errors import UsageError
from gradscope.expressions.watches import Watches
from gradscope.hosting.ending_signals import raising_at_signals
from gradscope.hosting.probes import Probe
from gradscope.hosting.program_run import ProgramRun
from gradscope.targets.resolve import resolve


def prepared(source: str, watch: tuple[str, ...] | list[str] = (), **options) -> ProgramRun:
    program = resolve("", code=textwrap.dedent(source).lstrip("\n"))
    return ProgramRun(program, companion=Watches(program, watch), **options)


def finished(run: ProgramRun) -> ProgramRun:
    try:
        run.run()
    finally:
        run.restore()
    return run


@contextmanager
def ending(run: ProgramRun) -> Iterator[None]:
    """The process as it is when the program is over and nothing is put back yet."""
    run.run()
    yield
    run.restore()


def watched(run: ProgramRun) -> list[tuple[str, int, str, bool]]:
    recording = run.recording
    return [
        (recording.text(row.expression), row.line, recording.text(row.text), bool(row.failed))
        for row in recording.watches
    ]


@pytest.mark.parametrize(
    ("source", "kind", "code", "type_name", "line"),
    [
        ("x = 1", "ok", 0, "", -1),
        ("x = 1\ndef f():\n    raise ValueError('why')\nf()", "exception", 1, "ValueError", 3),
        ("import sys\nsys.exit(300)", "exit", 300 & 255, "SystemExit", 2),
        ("import sys\nsys.exit('text')", "exit", 1, "SystemExit", 2),
        ("raise SystemExit", "exit", 0, "SystemExit", 1),
        ("raise KeyboardInterrupt", "interrupted", 130, "KeyboardInterrupt", 1),
        ("import torch\ntorch.ones(2) + torch.ones(3)", "exception", 1, "RuntimeError", 2),
        ("import json\njson.loads('{')", "exception", 1, "JSONDecodeError", 2),
    ],
)
def test_the_outcome_says_how_the_program_ended_and_where(source, kind, code, type_name, line, capsys):
    outcome = finished(prepared(source)).recording.info.outcome
    assert (outcome.kind, outcome.exit_code, outcome.error_type, outcome.line) == (kind, code, type_name, line)
    assert (outcome.file >= 0) == (line > 0)
    if kind == "exception":
        assert capsys.readouterr().err == outcome.traceback
        assert "gradscope" not in outcome.traceback


def test_everything_is_put_back(capsys):
    module = types.ModuleType("kept")

    def state():
        return {
            "argv": sys.argv,
            "path": list(sys.path),
            "main": sys.modules["__main__"],
            "meta_path": list(sys.meta_path),
            "exit": os._exit,
            "hooks": (sys.excepthook, threading.excepthook, sys.displayhook),
            "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
            "walkers": [
                vars(traceback).get(name) for name in ("walk_tb", "walk_stack", "_walk_tb_with_full_positions")
            ],
            "warnings": vars(warnings)["_showwarnmsg"],
            "recursion": sys.getrecursionlimit(),
            "modes": torch.overrides._get_current_function_mode_stack(),
            "typer": sys.modules.get("kept"),
            "builtins": set(vars(builtins)) - {"_"},
        }

    sys.modules["kept"] = module
    before = state()
    source = "import sys\nassert 'kept' not in sys.modules\nimport torch  # watch: 1\ntorch.ones(2).nope"
    finished(prepared(source, hidden=["kept"]))
    assert state() == before
    assert "AttributeError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "_exit"),
        ("threading", "excepthook"),
        ("traceback", "walk_tb"),
        ("traceback", "walk_stack"),
        ("warnings", "_showwarnmsg"),
    ],
)
def test_what_the_program_put_around_ours_stays(module, name):
    owner = sys.modules[module]
    before = getattr(owner, name)
    try:
        finished(prepared(f"import {module}\nours = {module}.{name}\n{module}.{name} = lambda *args: ours(*args)\n"))
        theirs = getattr(owner, name)
        assert theirs.__code__.co_filename == "<string>"
        assert theirs.__globals__["ours"] is not before
    finally:
        setattr(owner, name, before)


def test_a_signal_handler_that_was_set_meanwhile_stays():
    def other(number, frame):
        pass

    before = signal.getsignal(signal.SIGTERM)
    try:
        for inside in (raising_at_signals, lambda: ending(prepared("x = 1"))):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with inside():
                assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            with inside():
                signal.signal(signal.SIGTERM, other)
            assert signal.getsignal(signal.SIGTERM) is other
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with inside():  # it was ignored before, as nohup does
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_watch_comments_give_a_row_each_time_their_statement_ran():
    run = prepared(
        """
        import torch
        a = torch.ones(2, requires_grad=True)
        total = 0
        for i in range(3):
            total = total + i  # watch: total
        # watch: i
        def f(x):
            y = x * 2
            return y  # watch: y.requires_grad
        f(a)
        c = 5  # watch: missing
        with torch.no_grad():  # watch: torch.is_grad_enabled()
            d = a * 3
        """
    )
    assert watched(finished(run)) == [
        ("total", 5, "0", False),
        ("total", 5, "1", False),
        ("total", 5, "3", False),
        ("i", 4, "2", False),
        ("y.requires_grad", 9, "True", False),
        ("missing", 11, "NameError: name 'missing' is not defined", True),
        ("torch.is_grad_enabled()", 13, "False", False),
    ]


def test_a_followed_expression_gives_a_row_where_its_value_changes():
    run = prepared(
        """
        import torch
        a = torch.ones(2, requires_grad=True)
        b = a.detach()
        loss = (a * 2).sum()
        x = 1
        loss.backward()
        for i in range(2):
            b.add_(1)
        """,
        watch=["a.grad", "b.tolist()"],
    )
    assert watched(finished(run)) == [
        ("a.grad", 2, "None", False),
        ("b.tolist()", 3, "[1.0, 1.0]", False),
        ("a.grad", 6, "tensor([2., 2.])", False),
        ("b.tolist()", 8, "[2.0, 2.0]", False),
        ("b.tolist()", 8, "[3.0, 3.0]", False),
    ]


def test_a_followed_expression_without_a_value_is_an_error_once():
    run = prepared("import torch\na = torch.ones(2)\nb = a * 2\n", watch=["missspelt", "b.tolist()"])
    assert watched(finished(run)) == [
        ("b.tolist()", 3, "[2.0, 2.0]", False),
        ("missspelt", 3, "NameError: name 'missspelt' is not defined", True),
    ]


def test_a_watch_knows_the_functions_of_an_expectation_after_the_programs_own():
    run = prepared(
        """
        import torch
        def version(x):
            return "own"
        a = torch.ones(2, requires_grad=True)
        b = a.exp()  # watch: (saved_bytes(b), reaches(b, a), version(b))
        """
    )
    assert watched(finished(run)) == [("(saved_bytes(b), reaches(b, a), version(b))", 5, "(8, True, 'own')", False)]


def test_a_watched_tensor_is_the_one_that_was_recorded():
    run = finished(prepared("import torch\na = torch.ones(2)\nb = a + 1  # watch: b\n"))
    [watch] = run.recording.watches
    assert run.recording.tensors[watch.tensor].op == 1


def test_watching_is_unseen_by_the_program(capsys, recwarn):
    source = """
        '''A docstring.'''
        from __future__ import annotations
        import sys, torch, warnings
        def f(x):
            '''Documented.'''
            y = x * 2  # watch: (y.grad, warnings.warn('from the watch'))
            print(sorted(locals()), y.grad)
            return y
        f(torch.ones(2, requires_grad=True))
        print(sorted(name for name in globals() if not name.startswith('__')), f.__doc__, __doc__)
        print(f.__code__.co_varnames, f.__code__.co_cellvars, f.__code__.co_firstlineno)
        print([entry.lineno for entry in __import__('traceback').extract_stack()])
        """
    plain = finished(prepared(source.replace("# watch", "#")))
    expected = capsys.readouterr()
    run = finished(prepared(source, watch=["f", "y"]))
    shown = capsys.readouterr()
    assert shown.out == expected.out
    assert shown.err == expected.err
    assert [str(warning.message)[:19] for warning in recwarn] == ["The .grad attribute"] * 2
    assert len(run.recording.ops) == len(plain.recording.ops)
    assert len(run.recording.watches) == 3


def test_watched_tensors_die_when_they_would(capsys):
    source = """
        import torch, weakref
        def f():
            y = torch.ones(3)  # watch: y
            seen = weakref.ref(y)
            y = torch.ones(4)
            return seen() is None
        print(f())
        """
    finished(prepared(source))
    assert capsys.readouterr().out == "True\n"


def test_an_expression_that_is_no_python_is_an_error_before_anything_runs(tmp_path: Path):
    mark = tmp_path / "ran"
    with pytest.raises(UsageError, match="no Python expression"):
        prepared(f"open({str(mark)!r}, 'w')", watch=["a b"])
    assert not mark.exists()


def test_probes_run_in_the_frame_of_their_statement():
    seen = []
    probes = [
        Probe(3, 4, False, lambda frame: seen.append(("after", frame.f_lineno, dict(frame.f_locals)))),
        Probe(4, 4, True, lambda frame: seen.append(("before", frame.f_lineno, sorted(frame.f_locals)))),
        Probe(5, 0, False, lambda frame: seen.append(("last", frame.f_code.co_name, torch.ones(2).sum()))),
    ]
    run = finished(prepared("import torch\ndef f(x):\n    y = x + 1\n    return y\nf(torch.tensor(1))", probes=probes))
    assert seen[0] == ("after", 3, {"x": torch.tensor(1), "y": torch.tensor(2)})
    assert seen[1] == ("before", 4, ["x", "y"])
    assert seen[2] == ("last", "<module>", torch.tensor(2.0))
    names = [run.recording.text(op.func) for op in run.recording.ops]
    assert names == ["torch.tensor", "Tensor.add"]  # what a probe does is not recorded


def test_what_another_thread_warns_of_meanwhile_is_shown(recwarn):
    def warn(text):
        warnings.warn(text, UserWarning, stacklevel=1)

    def evaluate(_):
        warn("while a probe evaluates")
        other = threading.Thread(target=warn, args=("from another thread",))
        other.start()
        other.join()

    finished(prepared("x = 1", probes=[Probe(1, 0, False, evaluate)]))
    assert [str(warning.message) for warning in recwarn] == ["from another thread"]


TRANSCRIPT = """\
Prose.
>>> import torch
>>> a = torch.ones(2, requires_grad=True)
>>> a
tensor([1., 1.], requires_grad=True)
>>> def f():
...     return a.nope
...
>>> f()
>>> b = a * 2; b.requires_grad
>>> x ==
>>> _
>>> if True:
...     'shown'
>>> raise LookupError('last')
"""


def test_a_transcript_runs_as_in_the_repl(tmp_path: Path, capsys):
    path = tmp_path / "post.md"
    path.write_text(TRANSCRIPT)
    program = resolve(str(path))
    run = finished(ProgramRun(program, companion=Watches(program, ["b.requires_grad"])))
    shown = capsys.readouterr()
    assert shown.out == "tensor([1., 1.], requires_grad=True)\nTrue\nTrue\n'shown'\n"
    errors = [line for line in shown.err.split("\n") if line and not line.startswith(" ")]
    assert errors == [
        "Traceback (most recent call last):",
        "AttributeError: 'Tensor' object has no attribute 'nope'",
        "SyntaxError: invalid syntax",
        "Traceback (most recent call last):",
        "LookupError: last",
    ]
    assert f'File "{path}", line 7, in f\n    return a.nope' in shown.err
    assert f'File "{path}", line 11\n    x ==\n' in shown.err
    assert watched(run) == [("b.requires_grad", 10, "True", False)]
    recording = run.recording
    outcome = recording.info.outcome
    assert (outcome.kind, outcome.exit_code, outcome.error_type) == ("ok", 0, "LookupError")
    assert outcome.message == f"3 of {len(program.snippets)} prompts raised AttributeError, SyntaxError, LookupError"
    assert {recording.spans[op.span].line for op in recording.ops} == {3, 4, 10} - {4}
    assert recording.source(0, 10) == "b = a * 2; b.requires_grad"
    del builtins._


def test_a_transcript_ends_where_it_exits(tmp_path: Path, capsys):
    path = tmp_path / "post.txt"
    path.write_text(">>> import sys\n>>> sys.exit(3)\n>>> print('not reached')\n")
    run = finished(ProgramRun(resolve(str(path))))
    assert run.recording.info.outcome.exit_code == 3
    assert capsys.readouterr().out == ""


def test_the_recording_is_finished_once_and_after_exit_functions():
    calls = []
    source = """
        import atexit, threading, time, torch
        x = torch.ones(2)
        threading.Thread(target=lambda: (time.sleep(0.1), x * 2)).start()
        """
    run = prepared(source, on_finish=lambda run: calls.append(len(run.recording.ops)))
    finished(run)
    assert len(calls) == 1
    assert atexit._ncallbacks() >= 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_that_comes_to_the_programs_end_finishes_nothing():
    reading, writing = os.pipe()
    run = prepared(
        "import os, torch\nchild = os.fork()\nif child: os.waitpid(child, 0)",
        on_finish=lambda run: os.write(writing, f"{os.getpid()} ".encode()),
    )
    try:
        run.run()
    finally:
        if run.is_child:
            os._exit(0)
        run.restore()
    assert os.read(reading, 64) == f"{os.getpid()} ".encode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_imports_torch_is_not_recorded():
    run = prepared("x = 1")
    child = os.fork()
    if child == 0:
        run._observed._torch._imported()
        os._exit(run.recorder is not None)
    assert os.waitpid(child, 0)[1] == 0


def test_a_recursion_limit_of_the_programs_stays():
    before = sys.getrecursionlimit()
    try:
        finished(prepared("import sys\nsys.setrecursionlimit(4321)"))
        assert sys.getrecursionlimit() == 4321
    finally:
        sys.setrecursionlimit(before)


def test_a_run_without_torch_is_described(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", torch)
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torch"}
    try:
        run = finished(prepared("x = 1"))
    finally:
        sys.modules.update(saved)
    run._observed._torch._imported()  # another thread's import of torch has come to its end only now
    info = run.recording.info
    assert (run.recorder, info.torch, info.kind, info.argv) == (None, "", "code", ["-c"])
    assert info.started_at and info.duration_ns > 0 and info.python


def test_a_fault_in_the_recorder_does_not_stop_the_program(monkeypatch, capsys):
    from gradscope.recorder.session import Recorder

    def broken(self):
        raise OSError("cannot start")

    monkeypatch.setattr(Recorder, "start", broken)
    run = finished(prepared("print('ran')"))
    assert capsys.readouterr().out == "ran\n"
    assert "cannot start" in run.recording.faults[0].traceback


def test_the_lines_of_a_transcript_are_none_of_the_next_program_s(capsys: pytest.CaptureFixture[str]) -> None:
    finished(prepared(">>> import torch\n>>> torch.ones(2) + torch.ones(3)\n"))
    capsys.readouterr()
    run = finished(prepared("import json\njson.loads('{')"))
    assert "torch" not in run.recording.info.outcome.traceback
