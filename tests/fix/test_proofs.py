"""Edits that hold and edits that do not: each program is run as it is, and with each edit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run

PROGRAMS = {
    "total": """
        import torch

        w = torch.ones(3, requires_grad=True)
        total = 0
        for step in range(12):
            loss = (w * step).sum()
            loss.backward()
            total += loss
    """,
    "state": """
        import torch

        torch.manual_seed(0)
        cell, opt = torch.nn.LSTM(2, 3), None
        opt = torch.optim.SGD(cell.parameters(), lr=0.1)
        state = (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3))
        for window in range(4):
            opt.zero_grad()
            out, state = cell(torch.ones(5, 1, 2), state)
            out.sum().backward()
            opt.step()
    """,
    "cached": """
        import torch

        w = torch.ones(3, requires_grad=True)
        cache = {}
        for step in range(3):
            if "h" not in cache:
                cache["h"] = w.exp()
            cache["h"].sum().backward()
    """,
    "goes_on": """
        import torch

        w, layer = torch.ones(3, requires_grad=True), torch.nn.Linear(3, 1)
        opt = torch.optim.SGD([w], lr=0.1)
        h = w.exp()
        for step in range(4):
            opt.zero_grad()
            layer(h).sum().backward()
            opt.step()
    """,
    "of_two": """
        import torch
        from torch import nn

        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, s):
                ctx.save_for_backward(s)
                return x * s

            @staticmethod
            def backward(ctx, g):
                return g * ctx.saved_tensors[0], None

        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.l, self.s = nn.Linear(3, 3), nn.Parameter(torch.ones(3))
            def forward(self, x):
                return Scale.apply(self.l(x), self.s)

        net = nn.Sequential(Layer(), Layer())
        for p in net[0].parameters():
            p.require_grad = False
        for step in range(2):
            net(torch.ones(2, 3)).sum().backward()
        print([n for n, p in net.named_parameters() if p.grad is None])
    """,
    "gap": """
        import torch
        from torch import nn


        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.head = nn.Linear(200, 200), nn.Linear(200, 3)

            def forward(self, x):
                return self.head(self.body(x).tanh())


        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            right = (net(torch.ones(200, 200)).argmax(1) == 0).float()
            loss = (1 - right).mean().requires_grad_()
            loss.backward()
            optimizer.step()
    """,
    "two": """
        import torch

        torch.manual_seed(0)
        layer, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        losses = []
        for step in range(12):
            optimizer.zero_grad()
            loss = head(layer(torch.ones(2, 3))).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss)
    """,
    "renamed": """
        import torch
        from torch import nn

        torch.manual_seed(0)


        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.branches = [nn.Linear(4, 4) for _ in range(2)]
                self.out = nn.Linear(4, 3)

            def forward(self, x):
                return torch.softmax(self.out(sum(branch(x) for branch in self.branches)), -1)


        net = Net()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(torch.randn(8, 4)), torch.arange(8) % 3).backward()
            optimizer.step()
    """,
    "left": """
        import torch

        w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        history = []
        for step in range(12):
            error = (w * 2 - 1).pow(2).sum()
            penalty = v.exp().sum().item()
            (error + 0.1 * penalty).backward()
            w.grad = v.grad = None
            history.append((step, penalty))
    """,
    "healthy": """
        import torch

        layer = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            layer(torch.ones(2, 3)).sum().backward()
            optimizer.step()
    """,
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All from one process: torch is imported once."""
    from textwrap import dedent

    folder = tmp_path_factory.mktemp("fix")
    for name, source in PROGRAMS.items():
        (folder / f"{name}.py").write_text(dedent(source).lstrip("\n"))
    files = [str(folder / f"{name}.py") for name in PROGRAMS]
    done = run([sys.executable, "-m", "tests.fix.fixed_programs", *files], check=True, cwd=Path(__file__).parents[2])
    return dict(zip(PROGRAMS, map(json.loads, done.stdout.splitlines()), strict=True))


def offered(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [fix for fix in report["fixes"] if fix["offered"]]


def added(fix: dict[str, Any]) -> list[str]:
    return [line[1:].strip() for line in fix["diff"].splitlines()[2:] if line.startswith("+")]


def test_an_edit_that_holds_takes_the_answer_away_and_nothing_else(reports: dict[str, Any]):
    (fix,) = offered(reports["total"])
    proof = fix["proof"]
    assert added(fix) == ["total += loss.detach()"]
    assert proof["holds"] and proof["gone"] == ["graph-carried-along"] and proof["new"] == []
    assert proof["first_loss"] == {"before": 0.0, "after": 0.0}
    assert proof["gradients"]["same"] == 1 and proof["gradients"]["other"] == []
    assert reports["total"]["diff"] == fix["diff"]


def test_of_several_edits_that_which_holds_is_offered_and_an_error_is_gone(reports: dict[str, Any]):
    (fix,) = offered(reports["state"])
    assert added(fix) == ["state = tuple(part.detach() for part in state)"]
    assert "RuntimeError" in fix["proof"]["ended_before"] and fix["proof"]["ended"] == ""
    failed = [fix for fix in reports["state"]["fixes"] if not fix["offered"]]
    assert any("AttributeError" in reason for fix in failed for reason in fix["proof"]["reasons"])


def test_an_edit_that_only_hides_the_symptom_is_not_offered(reports: dict[str, Any]):
    assert offered(reports["cached"]) == []
    tried = {tuple(added(fix)): fix["proof"]["reasons"] for fix in reports["cached"]["fixes"]}
    reasons = next(found for lines, found in tried.items() if any(".detach()" in line for line in lines))
    assert any("no gradient any more" in reason or "RuntimeError" in reason for reason in reasons)


def test_what_is_saved_in_vain_since_no_gradient_comes_is_not_put_under_no_grad(reports: dict[str, Any]):
    assert "leaf-unreached" in reports["gap"]["unmended"]
    assert "saved-in-vain" not in reports["gap"]["unmended"] and offered(reports["gap"]) == []


def test_edits_of_several_answers_are_proved_alone_and_together(reports: dict[str, Any]):
    report = reports["two"]
    assert [added(fix) for fix in offered(report)] == [
        ["optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)"],
        ["losses.append(loss.detach())"],
    ]
    assert report["together"]["holds"] and sorted(report["together"]["gone"]) == [
        "graph-kept-after-pass",
        "never-stepped",
    ]
    assert report["diff"].count("\n+ ") + report["diff"].count("\n+o") == 2


def test_a_leaf_that_an_edit_names_otherwise_is_not_taken_for_one_without_gradient(reports: dict[str, Any]):
    """The branches get the same gradients to the bit, and the softmax's edit changes them all."""
    report = reports["renamed"]
    leaves = [f"net.{part}.{kind}" for part in ("branches.0", "branches.1", "out") for kind in ("bias", "weight")]
    registered = next(fix for fix in offered(report) if "ModuleList" in fix["title"])["proof"]["gradients"]
    assert registered["same"] == 6 and [one["after"] for one in registered["renamed"]] == leaves[:4]
    together = report["together"]
    assert together["holds"] and together["gradients"]["other"] == leaves
    assert together["gradients"]["lost"] == together["gradients"]["gained"] == []


def test_a_graph_that_an_edit_leaves_in_a_list_is_edited_with_it(reports: dict[str, Any]):
    (fix,) = offered(reports["left"])
    assert added(fix) == ["penalty = v.exp().sum()", "history.append((step, penalty.detach()))"]
    assert fix["proof"]["gradients"]["gained"] == ["v"]


def test_what_an_error_kept_from_being_seen_is_no_reason_against_the_edit_that_mends_it(reports: dict[str, Any]):
    (fix,) = offered(reports["goes_on"])
    assert fix["proof"]["gone"] == ["graph-used-twice"] and not fix["proof"]["ended"]
    (warned,) = fix["proof"]["new"]
    assert "the SGD of line 4 does not hold them" in warned


def test_nothing_is_run_twice_for_a_healthy_program(reports: dict[str, Any]):
    assert reports["healthy"]["fixes"] == [] and reports["healthy"]["runs"] == 1


def test_an_answer_about_what_is_left_of_several_is_no_new_one_and_none_that_is_gone(reports: dict[str, Any]):
    (fix,) = [one for one in offered(reports["of_two"]) if "p.requires_grad = False" in added(one)]
    assert fix["proof"]["gone"] == ["attribute-ignored"]
    assert not fix["proof"]["new"]
