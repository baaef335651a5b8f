"""What a transcript, a page and a notebook print and raise, and what is said of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from gradscope.hosting.program_run import ProgramRun
from gradscope.targets.resolve import resolve


def reported(tmp_path: Path, name: str, text: str, part: str = "") -> Report:
    (tmp_path / name).write_text(text)
    run = ProgramRun(resolve(str(tmp_path / name) + part))
    try:
        run.run()
    finally:
        run.restore()
    assert not run.recording.faults
    return build(run.recording)


def said(report: Report, code: str) -> list[str]:
    return [answer.text for answer in report.answers if answer.code == code]


TYPO = """\
A page of an old torch, without its import.

>>> t = torch.tensor([3.0, 4.0])
>>> id(t)
140231888123456
>>> d = t.detach()
>>> d
tensor([3., 4.])

>>> t = torch.tensor([3.0, 4.0], requires_grad=True)
>>> with torch.no_grad():
...     d = m.pow(2).sum()
...
>>> d
tensor(25.)
>>> e = d * two
>>> e + 1
tensor(51.)
"""


def test_a_typo_is_one_answer_with_what_follows_from_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    report = reported(tmp_path, "page.txt", TYPO)
    first, second = said(report, "snippet-raised")
    assert first.startswith("Line 12 raised NameError") and first.endswith("Is t meant?")
    assert second.startswith("Line 16 raised NameError") and "so do 1 later" in second and "meant" not in second
    (differs,) = said(report, "output-differs")
    assert "prints tensor([3., 4.]) today, and the page shows tensor(25.): line 12" in differs
    assert [error.place.line for error in report.errors] == [12, 16, 17]
    assert "outputs as the page shows them, ids apart: 2 of 3; line 14" in " ".join(report.remarks)
    assert "write" not in vars(sys.stdout)


@pytest.mark.parametrize(
    "shown",
    [
        "Traceback (most recent call last):\n  …\nRuntimeError: something",
        "RuntimeError: something",
    ],
)
def test_an_error_that_the_page_shows_is_no_answer(tmp_path: Path, shown: str, capsys: pytest.CaptureFixture[str]):
    report = reported(
        tmp_path, "page.txt", f"prose is here\n>>> import torch\n>>> torch.ones(2) @ torch.ones(3)\n{shown}\n"
    )
    assert said(report, "snippet-raised") == said(report, "output-differs") == []
    report = reported(
        tmp_path, "page.txt", f"prose is here\n>>> import torch\n>>> torch.ones(2) @ torch.ones(2)\n{shown}\n"
    )
    (differs,) = said(report, "output-differs")
    assert "raises nothing today, and the page shows RuntimeError" in differs


@pytest.mark.parametrize(
    ("shown", "differs"),
    [
        ("tensor([1., 1.])", False),
        ("tensor([1.,  1.])\nwhich is prose", False),
        ("tensor([1., ...])", False),
        ("This makes a tensor of two", False),
        ("", False),
        ("tensor([1., 2.])", True),
    ],
)
def test_only_an_output_that_is_another_differs(
    tmp_path: Path, shown: str, differs: bool, capsys: pytest.CaptureFixture[str]
):
    report = reported(tmp_path, "page.txt", f"prose is here\n>>> import torch\n>>> torch.ones(2)\n{shown}\n")
    assert bool(said(report, "output-differs")) == differs


@pytest.mark.parametrize(
    ("shown", "is_as_shown"), [("tensor([1., 1.], grad_fn=<MulBackward0>)", False), ("nothing came back", None)]
)
def test_a_value_where_none_is_printed_differs_and_prose_is_not_compared(
    tmp_path: Path, shown: str, is_as_shown: bool | None, capsys: pytest.CaptureFixture[str]
):
    page = f"prose is here\n>>> import torch\n>>> a = torch.ones(2)\n>>> print(a.grad)\n{shown}\n"
    report = reported(tmp_path, "page.txt", page)
    assert bool(said(report, "output-differs")) == (is_as_shown is False)
    compared = [remark for remark in report.remarks if "as the page shows" in remark]
    assert compared == ([] if is_as_shown is None else ["outputs as the page shows them, ids apart: 0 of 1"])


def test_an_error_of_torchs_has_its_own_answer_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cell = "import torch\nw = torch.ones(2)\nw.sum().backward()"
    cells = [{"cell_type": "code", "source": text, "metadata": {}} for text in (cell, "print('not reached')")]
    report = reported(tmp_path, "nb.ipynb", json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}))
    assert said(report, "backward-no-grad") and not said(report, "snippet-raised")
    assert report.run.outcome == "exception" and report.run.error_place.line == 103
    shown = capsys.readouterr()
    assert "not reached" not in shown.out and "w.sum().backward()" in shown.err


def test_the_examples_of_docstrings_know_the_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = (
        'import torch\n_hidden = torch.ones(2)\nif __name__ == "__main__":\n    print("script")\n'
        'def f():\n    """\n    >>> own = _hidden * 2; own\n    tensor([2., 2.])\n    """\n'
        'def g():\n    """\n    >>> own\n    """\n'
    )
    report = reported(tmp_path, "documented.py", text, "::docstrings")
    sys.modules.pop("documented", None)
    assert "script" not in capsys.readouterr().out
    (raised,) = said(report, "snippet-raised")
    assert raised.startswith("Line 12 raised NameError")
    assert {row.line for row in report.lines} >= {2, 7}
