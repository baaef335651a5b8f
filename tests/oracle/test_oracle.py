"""Nothing that a report says of a program is refuted by torch.

The normal run tries some hundred generated programs; the long one (``-m oracle``) as many as ``ORACLE_PROGRAMS`` says,
from the seed ``ORACLE_SEED`` on, and prints how many programs and claims it checked.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gradscope.analysis.diagnoses.catalogue import diagnosis, every_diagnosis
from gradscope.analysis.diagnoses.diagnosis import Diagnosis

from .answer_checks import CHECKS
from .claim import Claim
from .claims import Judge
from .once_false import ONCE_FALSE
from .programs import Program, any_program, healthy_program
from .reported import reported

pytestmark = pytest.mark.filterwarnings("ignore")  # what the programs do is often what torch warns of

LONG_RUNS = (1, 2, 3, 5, 17, 18, 40, 60)
"""How often loops of the long run may run: what is folded or repaired only at first shows in them."""
SHOWN = 20
"""Refuted claims that a failing long run prints."""


def claims_about(program: Program) -> list[Claim]:
    """Every claim of the report of a program."""
    return list(Judge(program.source, reported(program.source), program.healthy).claims())


def assert_true(program: Program) -> None:
    """None of the claims is refuted."""
    refuted = [str(claim) for claim in claims_about(program) if claim.held is False]
    lines = [f"{number:3} {line}" for number, line in enumerate(program.source.split("\n"), 1)]
    assert not refuted, "\n".join([*lines, *refuted])


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("first", range(0, 160, 40))
def test_what_is_said_of_programs_is_true(first: int) -> None:
    for seed in range(first, first + 40):
        assert_true(any_program(Random(seed)))


@settings(SETTINGS, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_what_is_said_of_small_programs_is_true(random: Random) -> None:
    """Hypothesis starts with the small ones, and makes what fails smaller."""
    assert_true(any_program(random))


@settings(SETTINGS, max_examples=50)
@given(st.randoms(use_true_random=False))
def test_what_is_said_of_a_healthy_program_is_true_and_no_alarm(random: Random) -> None:
    assert_true(healthy_program(random))


@pytest.mark.parametrize("cause", ONCE_FALSE)
def test_once_false(cause: str) -> None:
    program = ONCE_FALSE[cause]
    refuted = [str(claim) for claim in Judge(program, reported(program)).claims() if claim.held is False]
    assert not refuted, "\n".join(refuted)


READ = {
    *("executions", "pass-executions", "gradient", "why-cut", "why-none", "why-unused", "row-version", "names"),
    *("cut-output", "write", "step-changed", "shared-memory", "graph-nodes", "graph-leaf", "saved-bytes"),
    *("answer-grad-none", "answer-unreached", "answer-frozen", "answer-no-grad"),
}
"""Kinds of claims that programs of all pieces must bring up: with other words or keys the oracle would see nothing."""


PLAIN = """\
import torch
w, v = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
class OneSided(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, s):
        return h * s
    @staticmethod
    def backward(ctx, grad):
        return grad, None
OneSided.apply(w, v).sum().backward()
h = w.detach()
loss = h.sum()
loss.backward()
"""


ALONE = sorted(CHECKS)
"""Codes whose answers have a check."""


FROZEN = """\
import torch
from torch import nn
x = torch.ones(2, 3)
fc, other = nn.Linear(3, 3), nn.Linear(3, 3)
fc.requires_grad_(False)
for step in range(2):
    loss = fc(x).sum() + other(x).sum()
    loss.backward()
print(fc.weight.grad)
"""


def test_the_oracle_reads_what_is_said() -> None:
    sources = [PLAIN, FROZEN, *(any_program(Random(seed)).source for seed in range(25))]
    claims = [claim for source in sources for claim in Judge(source, reported(source)).claims()]
    assert {claim.kind for claim in claims} >= READ
    assert not [claim.said for claim in claims if claim.kind == "why-unread"]


@pytest.mark.parametrize("code", ALONE)
def test_what_an_answer_says_holds_of_its_example_and_is_refuted_of_the_twin(code: str) -> None:
    """The twin differs in the line that makes the answer false, and in no other."""
    known = diagnosis(code)
    assert known is not None
    answers = [answer for answer in reported(known.example.shows)["answers"] if answer["code"] == code]
    shown, twin = (_held(program, answers) for program in (known.example.shows, known.example.healthy))
    assert True in shown
    assert False not in shown
    assert False in twin


def _held(program: str, answers: list[dict[str, Any]]) -> list[bool | None]:
    """What is found of some answers, maybe those of another program, beside the one that is given."""
    judge = Judge(program, {**reported(program), "answers": answers})
    codes = {f"[{answer['code']}]" for answer in answers}
    claims = [claim for claim in judge.claims() if claim.kind != "answer-source"]
    return [claim.held for claim in claims if any(code in claim.said for code in codes)]


NOT_AS_HERE = {"snippet-raised", "output-differs", "compiled-backward", "hook-not-compiled"}
"""Codes whose examples the witness cannot run: transcripts, and compiled programs (it looks at every statement)."""


@pytest.mark.oracle
@pytest.mark.timeout(0)
@pytest.mark.parametrize("known", every_diagnosis(), ids=lambda known: known.code)
def test_what_is_said_of_the_examples_is_true(known: Diagnosis) -> None:
    if known.code not in NOT_AS_HERE:
        for program in (known.example.shows, known.example.healthy):
            assert_true(Program(program))


@pytest.mark.oracle
@pytest.mark.timeout(0)
def test_many_programs(capsys: pytest.CaptureFixture[str]) -> None:
    first, count = int(os.environ.get("ORACLE_SEED", "0")), int(os.environ.get("ORACLE_PROGRAMS", "1000"))
    checked: Counter[str] = Counter()
    refuted: list[str] = []
    for seed in range(first, first + count):
        make = healthy_program if seed % 4 == 3 else any_program
        program = make(Random(seed), LONG_RUNS)
        for claim in claims_about(program):
            checked["undecided" if claim.held is None else claim.kind] += 1
            if claim.held is False:
                refuted.append(f"seed {seed}, {claim}")
    claims = sum(checked.values()) - checked["undecided"]
    with capsys.disabled():
        counts = f"{claims:,} claims checked, {checked['undecided']:,} undecided, {len(refuted):,} refuted"
        print(f"\n{count:,} programs, {counts}")
        print(", ".join(f"{kind} {number:,}" for kind, number in checked.most_common()))
    assert not refuted, "\n".join(refuted[:SHOWN])
