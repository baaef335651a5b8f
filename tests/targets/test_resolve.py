"""What a target is resolved to, and what is said where it cannot be."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from gradscope.errors import TargetError
from gradscope.targets.resolve import resolve
from gradscope.targets.scenarios import scenario_names


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(target: str, **details: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        resolve(target, **details)
    return caught.value


def test_a_file_keeps_the_name_that_it_was_given(tmp_path: Path):
    (tmp_path / "train.py").write_text('"""Trains.\n\nTags: a, b\n"""\nx = 1\n')
    program = resolve("./train.py")
    assert (program.kind.name, program.argv0, program.path0) == ("script", "./train.py", str(tmp_path))
    assert program.filename == f"{tmp_path}/./train.py"  # as Python's own __file__
    assert (program.title, program.tags) == ("Trains.", ("a", "b"))


def test_every_scenario_is_found_by_its_name():
    assert "detach" in scenario_names()
    for name in scenario_names():
        program = resolve(name)
        assert program.title and program.tags, f"{name} has no title or no tags"
        assert program.filename.endswith(f"{name}.py")


def test_a_file_in_the_current_folder_comes_before_a_scenario(tmp_path: Path):
    (tmp_path / "detach").write_text("mine = 1\n")
    assert resolve("detach").source == "mine = 1\n"


def test_line_ends_are_read_as_python_reads_them(tmp_path: Path):
    (tmp_path / "windows.py").write_bytes(b"x = '''a\r\nb'''\r\ny = 1\r")
    assert resolve("windows.py").source == "x = '''a\nb'''\ny = 1\n"


def test_a_declared_encoding_is_honoured(tmp_path: Path):
    (tmp_path / "latin.py").write_bytes(b"# coding: latin-1\nx = '\xe9'\n")
    assert "é" in resolve("latin.py").source


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = 1\nprint('\xff')\n", "bad.py, line 2: not valid utf-8"),
        (b"\xff\n", "bad.py: not UTF-8, and no encoding is declared"),
        (b"# coding: klingon\n", "bad.py: unknown encoding: klingon"),
        (b"\x7fELF\x00\x00", "bad.py is a binary file"),
        (b"SQLite format 3\x00rest", "bad.py is no program but a recording"),
        (b"def f(:\n    pass\n", "line 1\n    def f(:\n          ^\nSyntaxError: invalid syntax"),
        (b"return 1\n", "SyntaxError: 'return' outside function"),
        (b"(" * 500, "SyntaxError"),
    ],
)
def test_a_file_that_cannot_be_run_is_an_error(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "bad.py").write_bytes(content)
    assert message in error_of("bad.py").message


@pytest.mark.parametrize(
    ("target", "message", "hint"),
    [
        ("missing.py", "no such file: missing.py", ""),
        ("folder/missing", "no such file: folder/missing", ""),
        ("detahc", "no file and no built-in scenario is called 'detahc'", "did you mean detach?"),
        ("detahc.py", "no such file: detahc.py", "did you mean the scenario detach?"),
        ("zzzzzz", "no file and no built-in scenario", "gradscope list"),
        ("", "no target", "gradscope list"),
        (".", "a folder without a __main__.py", "name a file"),
    ],
)
def test_what_does_not_exist_is_an_error(target: str, message: str, hint: str):
    error = error_of(target)
    assert message in error.message
    assert hint in error.hint


def test_a_file_beside_it_may_have_been_meant(tmp_path: Path):
    (tmp_path / "train.py").write_text("")
    assert error_of("trian.py").hint == "did you mean train.py?"
    assert error_of("trian.md").hint == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_an_error(tmp_path: Path):
    (tmp_path / "secret.py").write_text("")
    (tmp_path / "secret.py").chmod(0)
    assert "Permission denied" in error_of("secret.py").message


def test_modules_are_found_without_being_imported(tmp_path: Path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("raise SystemError('imported')")
    (tmp_path / "pkg" / "part.py").write_text("x = 1")
    assert resolve("", module="pkg.part").filename == str(tmp_path / "pkg" / "part.py")
    assert "the package pkg cannot be run" in error_of("", module="pkg").message
    (tmp_path / "pkg" / "__main__.py").write_text("y = 1")
    assert resolve("", module="pkg").module == "pkg.__main__"
    assert "no module named pkg.other" in error_of("", module="pkg.other").message
    assert "no module named nothing" in error_of("", module="nothing.at.all").message
    assert "has no Python source" in error_of("", module="math").message
    assert "no module's name" in error_of("", module="a file.py").message


def test_the_users_code_is_the_target_and_what_lies_beside_it(tmp_path: Path):
    (tmp_path / "train.py").write_text("")
    is_user = resolve("train.py").is_user
    assert is_user(str(tmp_path / "train.py"))
    assert is_user(str(tmp_path / "lib" / "model.py"))
    assert not is_user(str(tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "torch" / "x.py"))
    assert not is_user(f"{tmp_path}-other/x.py")
    assert not is_user(os.__file__)
    assert not is_user("<string>")
    assert resolve("", code="x = 1").is_user("<string>")


def test_a_scenario_is_user_code_and_gradscope_is_not():
    program = resolve("detach")
    assert program.is_user(program.filename)
    import gradscope

    assert not resolve("", code="").is_user(gradscope.__file__ or "")


def standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_standard_input(monkeypatch: pytest.MonkeyPatch):
    standard_input(monkeypatch, b"x = 1\n")
    assert (resolve("-").kind.name, resolve("-").source) == ("stdin", "")
    standard_input(monkeypatch, b"text\n>>> x = 1\n")
    assert resolve("-").kind.name == "transcript"
    standard_input(monkeypatch, b"x = \n")
    assert "standard input is not valid Python" in error_of("-").message
    monkeypatch.setattr(sys, "stdin", None)
    assert "closed" in error_of("-").message


def test_a_script_below_the_current_folder_is_part_of_the_project(in_an_empty_folder: Path) -> None:
    (in_an_empty_folder / "scripts").mkdir()
    (in_an_empty_folder / "scripts" / "train.py").write_text("import torch\n")
    program = resolve("scripts/train.py")
    assert program.is_user(str(in_an_empty_folder / "src" / "package" / "model.py"))
    assert not program.is_user(str(in_an_empty_folder / ".venv" / "lib" / "site-packages" / "x.py"))
    assert not program.is_user(str(in_an_empty_folder.parent / "other.py"))
