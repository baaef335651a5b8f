"""Which programs a folder, a file and code stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradscope.errors import TargetError
from gradscope.targets.expecting import find_expecting, has_expectations

EXPECTING = "a = 1  # expect: a == 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "b.py": EXPECTING,
        "a.py": EXPECTING,
        "without.py": "a = 1\n",
        "quoted.py": 'a = "# expect: a"\n',
        "broken.py": "a = = 1\n",
        "notes.txt": EXPECTING,
        "deeper/c.py": EXPECTING,
        "deeper/__pycache__/d.py": EXPECTING,
        ".hidden/e.py": EXPECTING,
        "environment/pyvenv.cfg": "",
        "environment/f.py": EXPECTING,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_stands_for_the_files_with_expectations_in_it(folder: Path) -> None:
    assert [program.name for program in find_expecting(["."])] == ["a.py", "b.py", "deeper/c.py"]


def test_a_file_is_run_once_however_it_is_named(folder: Path) -> None:
    programs = find_expecting(["deeper/c.py", ".", str(folder / "a.py")])
    assert [program.filename for program in programs] == [
        str(folder / name) for name in ("deeper/c.py", "a.py", "b.py")
    ]


def test_a_file_that_is_named_is_taken_in_any_case(folder: Path) -> None:
    (program,) = find_expecting(["without.py"])
    assert not has_expectations(program)


def test_code_and_modules(folder: Path) -> None:
    first, second = find_expecting([EXPECTING, "b = 1"], is_code=True)
    assert (first.kind.name, has_expectations(first), has_expectations(second)) == ("code", True, False)
    (program,) = find_expecting(["a"], is_module=True)
    assert (program.kind.name, has_expectations(program)) == ("module", True)


def test_a_folder_without_expectations_is_refused(folder: Path) -> None:
    with pytest.raises(TargetError, match="no file in deeper/__pycache__/x has an expectation"):
        (folder / "deeper/__pycache__/x").mkdir()
        find_expecting(["deeper/__pycache__/x"])


def test_a_broken_file_with_expectations_is_refused(folder: Path) -> None:
    (folder / "broken.py").write_text("a = = 1  # expect: a\n")
    with pytest.raises(TargetError, match="SyntaxError"):
        find_expecting(["."])
    (folder / "broken.py").write_text("a = 1  # expect: a =\n")
    with pytest.raises(TargetError, match=r"broken.py, line 1: # expect: a = is no Python expression"):
        find_expecting(["."])
