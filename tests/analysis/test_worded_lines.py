"""Lines in sentences: which of them are named with their file, and how."""

from __future__ import annotations

import json
import sys

import pytest

from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from gradscope.analysis.worded_lines import FileNames, NamedLine, numbers, stretch
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording import Recording, SourceFile
from gradscope.targets.resolve import resolve


def called(target: str, *names: str, kind: str = "script") -> tuple[str, ...]:
    recording = Recording()
    recording.info.target, recording.info.kind = target, kind
    recording.files += [SourceFile(f"/home/u/{name}", name, "") for name in names]
    return FileNames(recording).of


def test_a_line_is_a_number_and_as_text_names_its_file():
    line = NamedLine(10, "model.py")
    assert f"line {line}" == "line 10 of model.py"
    assert (f"{line:d}", json.dumps(line), line + 1, line == 10) == ("10", "10", 11, True)
    assert f"line {NamedLine(10)}" == "line 10"
    assert line != NamedLine(10, "losses.py")
    assert len({line, NamedLine(10, "losses.py"), NamedLine(10, "model.py")}) == 2


def test_several_lines_name_each_file_once():
    model, losses = [NamedLine(at, "model.py") for at in (5, 3, 5)], [NamedLine(7, "losses.py")]
    assert numbers([5, 3]) == "3 and 5"
    assert numbers(model) == "3 and 5 of model.py"
    assert numbers([*model, *losses, NamedLine(2)]) == "2, 7 of losses.py and 3 and 5 of model.py"
    assert stretch(*(NamedLine(at, "model.py") for at in (3, 7))) == "lines 3 to 7 of model.py"
    assert stretch(3, 3) == "line 3"


@pytest.mark.parametrize(
    ("target", "kind", "names", "expected"),
    [
        ("train.py", "script", ("train.py", "model.py"), ("", "model.py")),
        ("./train.py", "script", ("train.py", "lib/model.py"), ("", "model.py")),
        ("../pkg/train.py", "script", ("pkg/train.py", "pkg/model.py"), ("", "model.py")),
        ("leaf_or_not", "script", ("scenarios/leaf_or_not.py",), ("",)),
        ("-m pkg.train", "module", ("pkg/model.py", "pkg/train.py"), ("model.py", "")),
        ("-m pkg", "module", ("pkg/__main__.py", "pkg/model.py"), ("__main__.py", "model.py")),
        ("train.py", "script", ("train.py", "a/model.py", "b/model.py"), ("", "a/model.py", "b/model.py")),
        ("train.py", "script", ("model.py",), ("model.py",)),
        ("", "api", ("notebook.py",), ("",)),
        ("-", "stdin", ("<stdin>",), ("",)),
    ],
)
def test_a_file_is_called_by_as_much_of_its_path_as_tells_it_from_the_others(target, kind, names, expected):
    assert called(target, *names, kind=kind) == expected


def test_a_program_of_two_files_names_the_other_ones_lines(tmp_path, monkeypatch):
    (tmp_path / "model.py").write_text(
        "import torch\n\n\ndef cut(x):\n    with torch.no_grad():\n        return x * 2\n", encoding="utf-8"
    )
    (tmp_path / "train.py").write_text(
        "import torch\nfrom model import cut\n\n"
        "w = torch.ones(3, requires_grad=True)\nv = torch.ones(3, requires_grad=True)\n"
        "loss = (cut(w) * v).sum()\nloss.backward()\nprint(w.grad)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    run = ProgramRun(resolve("train.py"))
    try:
        run.run()
    finally:
        run.restore()
        sys.modules.pop("model", None)
    recording = run.recording
    report = build(recording)
    [answer] = [one for one in report.answers if one.code.startswith("grad-none")]
    assert "at line 8:" in answer.text
    assert "line 5 of model.py" in answer.text
    assert (answer.causes[0].file, answer.causes[0].line) == ("model.py", 5)
    assert f"{Index(recording).op_line(0)}" == "4"
