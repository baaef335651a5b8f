"""Scalers and schedulers that raise: the line that was left out, or made too early."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SCALED = """
import torch
class Trainer:
    def __init__(self):
        self.model = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scaler = torch.amp.GradScaler("cpu")
    def train(self, batches):
        for batch in batches:
            self.optimizer.zero_grad()
            loss = self.model(batch).sum()
            self.scaler.scale(loss).backward()
            UNSCALED
            self.scaler.step(self.optimizer)  # stepped
Trainer().train(torch.ones(3, 2, 3))
"""


def _answers(source: str, code: str) -> list[tuple[str, list[int]]]:
    return [
        (one.text, [cause.line for cause in one.causes]) for one in build(recorded(source)).answers if one.code == code
    ]


@pytest.mark.parametrize("unscaled", ["self.scaler.unscale_(self.optimizer)", "pass"])
def test_a_scaler_that_no_line_updates(unscaled: str) -> None:
    """``step()`` of a GradScaler raises as well, and unscale_() or step() may be the one that does."""
    source = SCALED.replace("UNSCALED", unscaled)
    [(text, lines)] = _answers(source, "scaler-refused")
    assert "self.scaler.update()" in text and lines == [line_of(source, "# stepped")]


@pytest.mark.parametrize(
    "unscaled", ["pass", "self.scaler.unscale_(self.optimizer); self.scaler.unscale_(self.optimizer)"]
)
def test_a_scaler_that_is_updated_is_no_matter(unscaled: str) -> None:
    """Also where another call is refused: unscaled twice in one round."""
    updated = SCALED.replace("UNSCALED", unscaled).replace("# stepped", "; self.scaler.update()")
    assert not _answers(updated, "scaler-refused")


GUARDED = """
import torch
class Loop:
    def __init__(self):
        self.model = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    def apply(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()  # applied
    def one(self, index, batch):
        CLEARED
        self.scaler.scale(self.model(batch).sum()).backward()
        self.scaler.unscale_(self.optimizer)  # unscaled
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        GUARD
loop = Loop()
for index, scale in enumerate((1.0, 1.0, 50.0, 1.0)):
    loop.one(index, torch.ones(2, 3) * scale)
"""
CLEARED = "self.optimizer.zero_grad()"
UNDER_IF = """if norm < 9:  # asked
            self.scaler.step(self.optimizer)
            self.scaler.update()  # updated"""
AFTER_EXIT = """if norm >= 9:
            return  # asked
        self.scaler.step(self.optimizer)
        self.scaler.update()  # updated"""
BY_HELPER = """if norm < 9:  # asked
            self.apply()  # updated"""


@pytest.mark.parametrize(
    ("guard", "lines"),
    [(UNDER_IF, ["# updated", "# asked"]), (AFTER_EXIT, ["# updated", "# asked"])],
)
@pytest.mark.parametrize("cleared", [CLEARED, "self.optimizer.zero_grad(set_to_none=False)"])
def test_an_update_that_is_left_out_with_the_step(guard: str, lines: list[str], cleared: str) -> None:
    source = GUARDED.replace("CLEARED", cleared).replace("GUARD", guard)
    [(text, found)] = _answers(source, "scaler-refused")
    assert found == [line_of(source, mark) for mark in lines]
    assert "after 2 updates" in text and f"line {found[0]} did not run" in text and f"of line {found[1]}" in text


def test_an_update_that_a_helper_makes_where_a_condition_calls_it() -> None:
    source = GUARDED.replace("CLEARED", CLEARED).replace("GUARD", BY_HELPER)
    [(_, found)] = _answers(source, "scaler-refused")
    assert found == [line_of(source, mark) for mark in ("# applied", "# updated", "# asked")]


def test_an_update_in_some_rounds_though_each_steps() -> None:
    guard = UNDER_IF.replace("norm < 9", "index % 2 == 1").replace("self.scaler.step(self.optimizer)", "pass")
    source = GUARDED.replace("CLEARED", CLEARED).replace("GUARD", f"self.scaler.step(self.optimizer)\n        {guard}")
    source = source.replace("self.scaler.unscale_(self.optimizer)", "pass")
    [(text, found)] = _answers(source, "scaler-refused")
    assert "self.scaler.step() was refused" in text
    assert found == [line_of(source, mark) for mark in ("# updated", "# asked")]


def test_unscaling_in_each_round_of_those_that_add_up() -> None:
    """The update is where it belongs."""
    guard = UNDER_IF.replace("norm < 9", "index % 2 == 1") + "\n            self.optimizer.zero_grad()"
    source = GUARDED.replace("CLEARED", "pass").replace("GUARD", guard)
    [(text, found)] = _answers(source, "scaler-refused")
    assert found == [line_of(source, "# unscaled")] and "this one added" in text


def test_an_update_in_each_round_is_no_matter_where_the_step_is_left_out() -> None:
    """Neither where nothing is refused, nor where the second call of one round is."""
    guard = "if norm < 9:\n            self.scaler.step(self.optimizer)\n        self.scaler.update()"
    source = GUARDED.replace("CLEARED", CLEARED).replace("GUARD", guard)
    assert not _answers(source, "scaler-refused")
    twice = source.replace("# unscaled", "; index == 2 and self.scaler.unscale_(self.optimizer)")
    assert not _answers(twice, "scaler-refused")


ONE_CYCLE = """
import torch
layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=TOTAL)  # made
for epoch in range(3):
    for batch in torch.ones(4, 2, 4):
        optimizer.zero_grad()
        layer(batch).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()  # stepped
"""
GROUPS = """
import torch
body, head = torch.nn.Linear(4, 4), torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)  # made
for epoch in range(4):
    if epoch == 2:
        optimizer.add_param_group({"params": body.parameters()})  # added
        REMADE
    optimizer.zero_grad()
    head(body(torch.ones(2, 4))).pow(2).mean().backward()
    optimizer.step()
    scheduler.step()
"""


def test_a_scheduler_that_is_made_for_epochs_and_stepped_for_batches() -> None:
    source = ONE_CYCLE.replace("TOTAL", "3")
    [(text, lines)] = _answers(source, "scheduler-refused")
    assert "made for 3 steps" in text and "once a batch" in text
    assert lines == [line_of(source, "# made"), line_of(source, "# stepped")]
    assert not _answers(ONE_CYCLE.replace("TOTAL", "12"), "scheduler-refused")


def test_a_scheduler_that_is_older_than_a_group() -> None:
    source = GROUPS.replace("REMADE", "pass")
    [(text, lines)] = _answers(source, "scheduler-refused")
    assert "LambdaLR" in text and lines == [line_of(source, "# added"), line_of(source, "# made")]
    remade = "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda epoch: 1.0] * 2)"
    assert not _answers(GROUPS.replace("REMADE", remade), "scheduler-refused")


def test_an_error_of_the_programs_own_while_it_trains_is_left_alone() -> None:
    source = (
        ONE_CYCLE.replace("TOTAL", "12")
        + 'raise ValueError("Tried to step 5 times. The specified number of total steps is 4")\n'
    )
    assert not _answers(source, "scheduler-refused")
