"""Files and recordings against each other."""

from pathlib import Path

import pytest

from gradscope.errors import RecordingError, TargetError, UsageError
from gradscope.experiments.compare.comparing import compare
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording.file.store import save
from gradscope.targets.resolve import resolve

OLD = """import torch
w = torch.ones(3, requires_grad=True)
h = w * 2
loss = h.sum()
loss.backward()
"""
NEW = OLD.replace("loss = h.sum()", "noise = torch.zeros(3)\nloss = (h.detach() * w).sum()")


def write(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_lines_are_aligned_by_content(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path, "old.py", OLD), write(tmp_path, "new.py", NEW))
    (group,) = [group for group in comparison.groups if group.title == "lines"]
    labels = [(row.label, [cell.kind for cell in row.cells]) for row in group.rows]
    assert ("4 noise = torch.zeros(3)", ["missing", "value"]) in labels
    assert not any("h = w * 2" in label for label, _ in labels)
    assert comparison.differs


def test_equal_files_do_not_differ(tmp_path: Path) -> None:
    comparison = compare(write(tmp_path, "a.py", OLD), write(tmp_path, "b.py", OLD))
    assert (comparison.differs, comparison.groups) == (False, ())


def test_recordings_are_taken_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradscope.experiments.compare.variant_runs as variants
    from gradscope.experiments.compare.comparing import compare as run_and_compare

    kept = []
    run = variants.run_variants
    monkeypatch.setattr(variants, "run_variants", lambda *args, **options: kept.extend(run(*args, **options)) or kept)
    live = run_and_compare(write(tmp_path, "old.py", OLD), write(tmp_path, "new.py", NEW))
    names = []
    for number, ran in enumerate(kept):
        names.append(str(tmp_path / f"{number}.gradscope"))
        save(ran.recording, names[-1])
    monkeypatch.setattr(variants, "run_variants", None)
    loaded = compare(*names)
    assert loaded.groups == live.groups


def test_a_recording_without_values_is_no_different_from_its_own_script(tmp_path: Path) -> None:
    script, file = write(tmp_path, "old.py", OLD), tmp_path / "old.gradscope"
    program = ProgramRun(resolve(script))
    try:
        program.run()
    finally:
        program.restore()
    save(program.recording, file)
    assert not compare(script, str(file)).differs
    baseline = compare(script, str(file), baseline=script, all_rows=True)
    assert not any(cell.differs for group in baseline.groups for row in group.rows for cell in row.cells)


def test_a_damaged_recording_is_never_run(tmp_path: Path) -> None:
    damaged = write(tmp_path, "damaged.gradscope", "raise SystemExit('was run')\n")
    with pytest.raises(RecordingError):
        compare(damaged, write(tmp_path, "old.py", OLD))
    with pytest.raises(TargetError, match="no program but a recording") as wrong:
        compare(damaged)
    assert "gradscope report" in wrong.value.hint


def test_wrong_use(tmp_path: Path) -> None:
    plain = write(tmp_path, "plain.py", OLD)
    with pytest.raises(TargetError, match="has no cells to compare"):
        compare(plain)
    cells = write(tmp_path, "cells.py", "import torch\n# %% one\nx = 1\n# %% two\nx = 2\n")
    with pytest.raises(UsageError, match="no cell 'tow'") as wrong:
        compare(cells, only=["tow"])
    assert "two" in wrong.value.hint
    with pytest.raises(UsageError, match="no variant is called 'three'"):
        compare(cells, baseline="three")
    with pytest.raises(UsageError, match="--only"):
        compare(plain, cells, only=["one"])
