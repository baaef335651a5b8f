"""Results that become an entry of a log in one function, which another one collects."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """import torch
from types import SimpleNamespace
w = torch.ones(100, requires_grad=True)
def criterion(step):
    loss = (w * step).exp().mean()
    log = {
        "step": step,
        "loss": loss,  # enters
    }
    return loss, log
def evaluate(step):
    loss = (w * step).mean()
    return {"loss": loss.detach()}
logs = []
def train(steps):
    for step in range(steps):
        loss, log = criterion(step)
        loss.backward()
        logs.append(log)  # keeps
train(6)
"""
DICT = SOURCE[SOURCE.index("    log = {") : SOURCE.index("    return loss, log")]


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "graph-kept-after-pass" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (DICT, "    log = dict(step=step, loss=loss)  # enters\n"),
        (DICT, '    log = {}\n    log["loss"] = loss  # enters\n'),
        (DICT, "    log = {}\n    log.update(loss=loss)  # enters\n"),
        (DICT, '    log = {"all": {"loss": loss}}  # enters\n'),
        (DICT, "    log = SimpleNamespace(loss=loss)  # enters\n"),
        (DICT, "    log = SimpleNamespace()\n    log.loss = loss  # enters\n"),
        ("train(6)\n", 'train(6)\nprint(sum(log["loss"] for log in logs))\n'),
        ("train(6)\n", "train(6)\nprint(f\"{logs[-1]['loss']:.3f}\")\n"),
    ],
)
def test_the_entry_is_the_line_to_change(old: str, new: str) -> None:
    assert old in SOURCE
    source = SOURCE.replace(old, new, 1)
    assert lines(source) == [line_of(source, "# enters"), line_of(source, "# keeps")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss.backward()", 'log["loss"].backward()'),
        ("loss.backward()", '(loss + log["loss"]).backward()'),
        ("loss.backward()", 'loss = log["loss"]\n        loss.backward()'),
        ('"loss": loss.detach()', '"loss": loss'),
    ],
)
def test_what_a_pass_starts_from_is_kept_by_the_line_that_collects(old: str, new: str) -> None:
    assert old in SOURCE
    source = SOURCE.replace(old, new, 1)
    own = [line_of(source, "# enters")] if "evaluate" in new or "detach" in old else []
    assert lines(source) == [*own, line_of(source, "# keeps")]


def test_one_that_is_detached_is_not_kept() -> None:
    assert lines(SOURCE.replace('"loss": loss,', '"loss": loss.detach(),')) == []


NAMED = """import torch, collections
w = torch.ones(100, requires_grad=True)
Out = collections.namedtuple("Out", "loss step")
class History:
    def update(self, loss):
        self.all = (*getattr(self, "all", ()), loss)
history = History()
def criterion(step):
    loss = (w * step).exp().mean()
    loss.backward()
    {kept}
    return {returned}
logs = []
for step in range(6):
    out = criterion(step)
    logs.append(out)  # keeps
"""


@pytest.mark.parametrize("returned", ["Out(loss, step)", "Out(loss=loss, step=step)"])
def test_what_a_function_returned_as_a_part_of_something_is_put_there(returned: str) -> None:
    source = NAMED.format(returned=returned, kept="pass")
    assert lines(source) == [line_of(source, "# keeps")]


def test_what_a_function_returned_besides_is_not_what_keeps_them() -> None:
    source = NAMED.format(returned="Out(loss.item(), step)", kept="history.update(loss)")
    assert line_of(source, "# keeps") not in lines(source)
