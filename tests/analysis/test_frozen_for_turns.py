"""A discriminator that is frozen for the generator's turn, in each round, and never set back."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """\
import torch
torch.manual_seed(0)
gen, dis, head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
opt_g = torch.optim.SGD(gen.parameters(), lr=0.1)
opt_d = torch.optim.SGD([*dis.parameters(), *head.parameters()], lr=0.1)
def requires(net, flag):
    for p in net.parameters():
        p.requires_grad = flag
def score(x):
    return head(dis(x)).mean()
for step in range(5):
    {before}
    fake = gen(torch.randn(4, 2))
    loss_d = score(fake.detach()) - score(torch.randn(4, 3))  # own
    opt_d.zero_grad()
    {own}
    opt_d.step()
    {freeze}  # frozen
    loss_g = -score(fake)
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    {after}
"""


def lines(freeze: str, before: str = "pass", after: str = "pass", own: str = "loss_d.backward()") -> list[int]:
    source = SOURCE.format(freeze=freeze, before=before, after=after, own=own)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code in ("left-frozen", "backward-no-grad")]


@pytest.mark.parametrize(
    "freeze",
    [
        "dis.requires_grad_(False)",
        "requires(dis, False)",
        "for p in dis.parameters(): p.requires_grad_(False)",
    ],
)
def test_what_has_no_turn_any_more_is_told_of_where_it_is_frozen(freeze: str) -> None:
    assert lines(freeze) == [line_of(SOURCE, "# frozen")]


def test_so_it_is_where_its_own_pass_does_not_run_any_more_or_fails() -> None:
    both = "dis.requires_grad_(False); head.requires_grad_(False)"
    frozen = line_of(SOURCE, "# frozen")
    assert lines(both) == [frozen]  # (the error names the freezing, not the detach())
    assert lines("requires(dis, False); requires(head, False)") == [frozen]


@pytest.mark.parametrize(
    ("freeze", "before", "after"),
    [
        ("dis.requires_grad_(False)", "dis.requires_grad_(True)", "pass"),
        ("dis.requires_grad_(False)", "pass", "dis.requires_grad_(True)"),
        ("requires(dis, False)", "pass", "requires(dis, True)"),
        ("pass", "pass", "dis.requires_grad_(False) if step >= 1 else None"),
        ("dis.requires_grad_(False) if step == 2 else None", "pass", "pass"),
        ("pass", "pass", "pass"),
    ],
)
def test_what_is_set_back_or_frozen_for_good_at_the_end_of_a_round_is_fine(
    freeze: str, before: str, after: str
) -> None:
    assert lines(freeze, before, after) == []
