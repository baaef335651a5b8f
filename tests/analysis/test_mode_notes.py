"""What a line is said to switch is what was in force behind it, not what its end gave back."""

from __future__ import annotations

from textwrap import dedent

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recorder import tape
from gradscope.recorder.repetition import forgetting
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nw = torch.ones(2, requires_grad=True)\n"
GRAD, INFERENCE = "switches grad mode ", "switches inference mode "

WITH = """
{with}:
    y = w * 2
print("grad" if torch.is_grad_enabled() else "none")
"""
LOOP = """
for flag in ({flags}):
    with torch.set_grad_enabled(flag):  # here
        y = w * 2
"""
CALLS = """
for flag in ({flags}):
    torch.set_grad_enabled(flag)  # here
"""
DECORATED = """
@torch.{mode}({flag})  # here
def doubled():
    return w * 2

with torch.{around}():
    doubled()
    doubled()
"""
FACTORY = """
def made(flag):
    @torch.set_grad_enabled(flag)  # here
    def doubled():
        return w * 2

    return doubled

{calls}
"""
GENERATOR = """
@torch.set_grad_enabled({flag})  # here
def doubled():
    yield w * 2
    yield w * 3

print(len(list(doubled())))
"""


def notes_of(source: str, where: str) -> tuple[str, ...]:
    source = HEAD + dedent(source)
    (row,) = [row for row in build(recorded(source)).lines if row.line == line_of(source, where)]
    return row.notes


@pytest.mark.parametrize(
    ("statement", "notes"),
    [
        ("with torch.set_grad_enabled(False)", [GRAD + "off"]),
        ("with torch.set_grad_enabled(True)", [GRAD + "on"]),
        ("with torch.inference_mode(False)", [INFERENCE + "off"]),
        ("with torch.inference_mode()", [INFERENCE + "on"]),
        ("with torch.no_grad()", ["sets no_grad"]),
        ("with torch.no_grad(), torch.set_grad_enabled(True)", ["sets no_grad", GRAD + "on"]),
        ("with torch.set_grad_enabled(True), torch.set_grad_enabled(False)", [GRAD + "on", GRAD + "off"]),
    ],
)
def test_a_with_switches_what_is_in_force_in_its_body(statement: str, notes: list[str]) -> None:
    assert notes_of(WITH.replace("{with}", statement), statement) == tuple(notes)


@pytest.mark.parametrize("source", [LOOP, CALLS])
@pytest.mark.parametrize(
    ("flags", "note"),
    [
        ("True, False", "on in 1 of 2 runs"),
        ("False, True", "on in 1 of 2 runs"),
        ("False, True, True", "on in 2 of 3 runs"),
        ("False, False", "off"),
        ("True, True", "on"),
    ],
)
def test_a_switch_that_differs_from_run_to_run_is_told_of_with_the_runs(source: str, flags: str, note: str) -> None:
    assert notes_of(source.replace("{flags}", flags), "# here") == (GRAD + note,)


@pytest.mark.parametrize(
    ("mode", "flag", "around", "note"),
    [
        ("set_grad_enabled", "False", "enable_grad", GRAD + "off"),
        ("set_grad_enabled", "True", "no_grad", GRAD + "on"),
        ("inference_mode", "False", "inference_mode", INFERENCE + "off"),
        ("inference_mode", "True", "enable_grad", INFERENCE + "on"),
    ],
)
def test_a_decorator_switches_what_is_in_force_in_the_function(mode: str, flag: str, around: str, note: str) -> None:
    assert notes_of(DECORATED.format(mode=mode, flag=flag, around=around), "# here") == (note,)


@pytest.mark.parametrize(("flag", "note"), [("False", "off"), ("True", "on")])
def test_a_decorated_generator_is_told_of_likewise(flag: str, note: str) -> None:
    assert notes_of(GENERATOR.format(flag=flag), "# here") == (GRAD + note,)


@pytest.mark.parametrize(
    ("calls", "note"),
    [
        ("off = made(False); off(); off(); on = made(True); on()", "on in 1 of 2 runs"),
        ("off = made(False); off(); off(); also = made(False); also()", "off"),
    ],
)
def test_the_runs_of_a_decorator_are_those_of_its_line_and_not_of_the_function(calls: str, note: str) -> None:
    assert notes_of(FACTORY.format(calls=calls), "# here") == (GRAD + note,)


def test_a_switch_made_at_one_line_and_entered_at_another_is_told_of_at_both() -> None:
    source = """
    switch = torch.set_grad_enabled(False)
    torch.set_grad_enabled(True)
    with switch:
        y = w * 2
    """
    assert notes_of(source, "switch = ") == notes_of(source, "with switch") == (GRAD + "off",)
    assert notes_of(source, "(True)") == (GRAD + "on",)


def test_runs_that_a_recording_leaves_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in ((forgetting, "FROM_BYTES", 0), (forgetting, "EVERY", 8), (tape, "FLUSH_OPS", 8)):
        monkeypatch.setattr(module, name, value)
    source = HEAD + dedent("""
    for step in range(300):
        with torch.set_grad_enabled(step % 3 == 0):  # here
            y = w * 2
    """)
    recording = recorded(source)
    assert len(recording.ops) < 300
    (row,) = [row for row in build(recording).lines if row.line == line_of(source, "# here")]
    assert row.notes == (GRAD + "on in 100 of 300 runs",)


def test_a_mode_was_set_as_often_as_its_line_ran() -> None:
    report = build(
        recorded("""
        import torch
        w = torch.ones(2, requires_grad=True)
        for flag in (True, False, False):
            with torch.set_grad_enabled(flag):
                w * 2
        with torch.no_grad():
            w * 2
    """)
    )
    assert [(one.mode, one.executions) for one in report.modes] == [("set_grad_enabled", 3), ("no_grad", 1)]
