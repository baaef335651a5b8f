"""What is false in a report is refuted, also where a claim may be right in several ways: one thing is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from textwrap import dedent
from typing import Any, NamedTuple

import pytest

from gradscope.analysis.diagnoses.catalogue import diagnosis

from .claims import Judge
from .reported import reported

Report = dict[str, Any]

_HEAD = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\nx = torch.randn(2, 3)\n"


class _False(NamedTuple):
    """A program, how its report is made false, and the kind of claim that is to be refuted."""

    source: str
    falsify: Callable[[Report], None]
    kind: str


def _example(code: str) -> str:
    known = diagnosis(code)
    assert known is not None
    return known.example.shows


def _rows(report: Report, source: str) -> list[dict[str, Any]]:
    return [row for row in report["lines"] if source in row["source"]]


def _one_run_more(report: Report) -> None:
    for row in _rows(report, "a = x + 1"):
        row["executions"] += 2


def _other_shape(report: Report) -> None:
    for row in _rows(report, "a = x + 1"):
        row["shape"] = "(7,)"


def _name_of_another(report: Report) -> None:
    for row in _rows(report, "self.body ="):
        row["names"] = [name.replace("body", "extra") for name in row["names"]]


def _more_nodes(report: Report) -> None:
    for answer in report["answers"]:
        answer["text"] = answer["text"].replace("(60 nodes", "(57 nodes")


def _fewer_changed(report: Report) -> None:
    for row in _rows(report, "optimizer.step()"):
        row["notes"] = [re.sub(r"wrote \d+ parameters", "wrote 1 parameter", note) for note in row["notes"]]


def _written_another(report: Report) -> None:
    for row in report["inplace_writes"]:
        row["name"] = "kept"


def _cut_elsewhere(report: Report) -> None:
    for one in report["backwards"]:
        for row in one["gradients"]:
            if row["cut_line"]:
                row["why"], row["cut_line"] = "cut at line 8 by detach", 8


def _root_of_another(report: Report) -> None:
    for one in report["backwards"]:
        one["roots"] = ["w" for _ in one["roots"]]


FALSE = {
    "runs of one of two statements": _False(
        _HEAD + "for n in range(3):\n    a = x + 1; b = [x * n for _ in range(2)]\n", _one_run_more, "executions"
    ),
    "the shape after the first of two statements": _False(
        _HEAD + "for n in range(3):\n    a = x + 1; a = a.sum()\n", _other_shape, "row-shape"
    ),
    "a short name below DistributedDataParallel": _False(_example("ddp-unused-parameters"), _name_of_another, "names"),
    "nodes that are carried along": _False(_example("graph-carried-along"), _more_nodes, "answer-carried"),
    "parameters that a step changed": _False(_example("optimizer-state-kept"), _fewer_changed, "step-changed"),
    "what a write with a later name wrote": _False(
        _HEAD
        + dedent("""\
            kept = torch.ones(2, 3)
            def jitter(h):
                h += 0.1
                return h
            for step in range(3):
                noisy = jitter(x * 1)
        """),
        _written_another,
        "write",
    ),
    "the cut of one of the models of a line": _False(
        _HEAD
        + dedent("""\
            w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
            one = (x * w).detach() * v
            other = x * v
            aside = v.detach()
            for loss in (one, other):
                loss.sum().backward()
        """),
        _cut_elsewhere,
        "why-cut",
    ),
    "a root that is given as an edge": _False(
        _HEAD
        + dedent("""\
            w = torch.ones(3, requires_grad=True)
            y = x * w
            edge = torch.autograd.graph.get_gradient_edge(y)
            (g,) = torch.autograd.grad(edge, w, grad_outputs=torch.ones(2, 3))
        """),
        _root_of_another,
        "root",
    ),
}


@pytest.mark.parametrize("case", FALSE)
def test_what_is_false_is_refuted(case: str) -> None:
    program = FALSE[case]
    report = reported(program.source)
    assert not [str(claim) for claim in Judge(program.source, report).claims() if claim.held is False]
    program.falsify(report)
    refuted = {claim.kind for claim in Judge(program.source, report).claims() if claim.held is False}
    assert program.kind in refuted
