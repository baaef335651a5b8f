"""``gradscope explain``: the list, one diagnosis with its example measured, and the page made of the catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from gradscope.analysis.comparison.rank_cause_kinds import KINDS
from gradscope.analysis.comparison.rank_model import RankCauseName
from gradscope.analysis.diagnoses.catalogue import every_diagnosis
from gradscope.cli.options.completion import complete_code
from gradscope.experiments.explain.example_runs import run_example
from gradscope.report.explain.explain_formats import to_markdown
from tests.cli.command import gradscope

PAGE = Path(__file__).parents[2] / "gradscope" / "docs" / "diagnoses.md"
CODES = [known.code for known in every_diagnosis()]


def test_the_list_is_a_line_a_code_in_a_pipe_and_json_on_request(tmp_path: Path):
    lines = gradscope("explain", cwd=tmp_path).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == CODES
    rows = json.loads(gradscope("explain", "-f", "json", cwd=tmp_path).stdout)
    assert [row["code"] for row in rows] == CODES
    assert all(row["meaning"] and row["example"] != row["healthy"] for row in rows)


def test_one_is_explained_with_its_example_run(tmp_path: Path):
    done = gradscope("explain", "[graph-used-twice]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    assert "Why torch behaves so Backward frees" in shown
    assert "6      h = torch.tanh(h + w)" in done.stdout  # as indented as it is run
    assert "RuntimeError: Trying to backward through the graph a second time" in shown
    assert "Line 7: backward failed, since <h.sum()> leads through h (made at line 6)" in shown
    assert "With this in place of line 6 h = torch.tanh(h.detach() + w) nothing under this code" in shown
    assert not any(line != line.rstrip() for line in done.stdout.split("\n"))


def test_an_example_is_not_run_where_that_is_not_wanted(tmp_path: Path):
    done = gradscope("explain", "frozen", "--no-run", cwd=tmp_path, PYTHONPATH=str(without_torch(tmp_path)))
    assert (done.returncode, "How to mend it" in done.stdout, "Example" in done.stdout) == (0, True, False)


def test_without_torch_it_says_so_and_explains_all_the_same(tmp_path: Path):
    done = gradscope("explain", "frozen", cwd=tmp_path, PYTHONPATH=str(without_torch(tmp_path)))
    assert (done.returncode, "How to mend it" in done.stdout) == (2, True)
    assert "torch cannot be imported" in done.stderr


def without_torch(folder: Path) -> Path:
    stand_in = folder / "without"
    stand_in.mkdir()
    (stand_in / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    return stand_in


def test_what_changed_between_versions_of_torch_is_a_topic(tmp_path: Path):
    shown = gradscope("explain", "torch-versions", cwd=tmp_path).stdout
    assert "The gradient of clamp where the input is on the bound" in shown and "  2.14  0" in shown
    rows = json.loads(gradscope("explain", "torch-versions", "-f", "json", cwd=tmp_path).stdout)["changes"]
    assert rows[0]["measured"]["2.13"] == "1" and "ClampBackward1" in rows[0]["nodes"]
    page = (PAGE.parent / "compare.md").read_text()
    assert gradscope("explain", "torch-versions", "-f", "markdown", cwd=tmp_path).stdout in page
    assert ("torch-versions", "what changed") in complete_code("torch")


def test_what_several_processes_show_is_explained_like_the_rest(tmp_path: Path):
    assert [known.kind for known in KINDS] == list(get_args(RankCauseName))
    listed = gradscope("explain", "ranks", cwd=tmp_path).stdout
    assert all(known.kind in listed and known.title in " ".join(listed.split()) for known in KINDS)
    shown = gradscope("explain", "[send-without-recv]", cwd=tmp_path).stdout
    assert "How to mend it" in shown and "dist.recv(y, 1 - rank)" in shown
    (row,) = json.loads(gradscope("explain", "send-without-recv", "-f", "json", cwd=tmp_path).stdout)
    assert (row["kind"], row["shows"].count("\n")) == ("send-without-recv", 2)
    page = (PAGE.parent / "ranks.md").read_text()
    assert gradscope("explain", "ranks", "-f", "markdown", cwd=tmp_path).stdout in page
    assert [code for code, _ in complete_code("send-w")] == ["send-without-recv"]


@pytest.mark.parametrize(("code", "hint"), [("frozn", "did you mean frozen or left-"), ("xyz", "lists the codes")])
def test_a_code_that_does_not_exist_is_wrong_use(tmp_path: Path, code: str, hint: str):
    done = gradscope("explain", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr


def test_what_is_shown_of_an_example_is_measured():
    known = every_diagnosis()[0]
    broken = known._replace(example=known.example._replace(silent="prediction = (w * 3).detach()"))
    measured = run_example(broken)
    assert measured.error.startswith("RuntimeError: element 0 of tensors does not require grad")
    assert measured.sentences and measured.healthy_sentences == measured.sentences


def test_the_page_is_what_the_catalogue_says():
    assert PAGE.read_text() == to_markdown(every_diagnosis()), (
        "gradscope explain -f markdown > gradscope/docs/diagnoses.md"
    )


def test_codes_are_completed():
    assert complete_code("graph-u") == [("graph-used-twice", "a second backward through a graph that was freed")]
