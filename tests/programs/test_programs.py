"""Programs that nobody wrote for gradscope: they print what they print without it, and what is recorded is true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.experiments.compare.variant_process import VariantJob
from gradscope.experiments.compare.variant_runs import Ran, run_variants
from gradscope.recording.rows import GradOutcome
from gradscope.targets.resolve import resolve
from tests.plain_python import Plain, run_plain


@dataclass(frozen=True)
class Known:
    """What a reader of the program knows about it."""

    backwards: dict[str, int]
    """Backward passes by the source of their statement."""
    cut: str
    """A part of the source of a line at which the graph is cut."""
    by: str
    trained: int
    """Parameters that receive gradients."""


KNOWN = {
    "char_gpt": Known({"loss.backward()": 12}, "self.proj(y)", "no_grad", 29),
    "convnet": Known({"loss.backward()": 16}, "self.fc2(x)", "no_grad", 13),
    "rnn_tbptt": Known({"loss.backward()": 22}, "return h.detach()", "detach", 11),
    "gan": Known(
        {"errD_real.backward()": 16, "errD_fake.backward()": 16, "errG.backward()": 16}, "fake.detach()", "detach", 16
    ),
}
PATHS = [Path(__file__).parent / f"{name}.py" for name in KNOWN]


@pytest.fixture(scope="module")
def plain() -> dict[str, Plain]:
    return dict(zip(KNOWN, run_plain(PATHS), strict=True))


@pytest.fixture(scope="module")
def ran() -> dict[str, Ran]:
    jobs = [VariantJob(resolve(str(path)), threads=1) for path in PATHS]
    new_interpreters = run_variants(jobs, fork=False)  # a fork of pytest has its logging and its warnings
    return dict(zip(KNOWN, new_interpreters, strict=True))


@pytest.fixture(scope="module")
def reports(ran: dict[str, Ran]) -> dict[str, Report]:
    return {name: build(one.recording) for name, one in ran.items()}


def without_times(output: str) -> list[str]:
    """The lines in any order (standard error is not buffered), without those that tell a time."""
    return sorted(line for line in output.splitlines() if not line.endswith(" s"))


@pytest.mark.parametrize("name", KNOWN)
def test_it_prints_what_it_prints_under_python(name: str, ran: dict[str, Ran], plain: dict[str, Plain]) -> None:
    assert plain[name].exit_code == 0
    assert ran[name].ending == 0
    assert without_times(ran[name].output) == without_times(plain[name].output)


@pytest.mark.parametrize("name", KNOWN)
def test_nothing_is_missed_and_nothing_fails(name: str, ran: dict[str, Ran]) -> None:
    recording = ran[name].recording
    assert [fault.traceback for fault in recording.faults] == []
    assert recording.info.outcome.kind == "ok"
    assert len(recording.ops) > 100
    assert len(recording.left_out) == 0


@pytest.mark.parametrize("name", KNOWN)
def test_every_backward_pass_is_seen(name: str, reports: dict[str, Report]) -> None:
    passes: dict[str, int] = {}
    for one in reports[name].backwards:
        passes[one.place.source.strip()] = passes.get(one.place.source.strip(), 0) + one.executions
    assert passes == KNOWN[name].backwards


@pytest.mark.parametrize("name", KNOWN)
def test_each_parameter_receives_its_gradient(name: str, ran: dict[str, Ran]) -> None:
    gradients = ran[name].recording.gradients
    received = {row.tensor for row in gradients if row.outcome in (GradOutcome.CREATED, GradOutcome.ACCUMULATED)}
    assert len(received) == KNOWN[name].trained


@pytest.mark.parametrize("name", KNOWN)
def test_the_cut_that_a_reader_knows_is_among_the_cuts(name: str, reports: dict[str, Report]) -> None:
    cuts = [(cut.place.source, str(cut.kind)) for cut in reports[name].cuts]
    known = KNOWN[name]
    assert any(known.cut in source and known.by in kind for source, kind in cuts), cuts
