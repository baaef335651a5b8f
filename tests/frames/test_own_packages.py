"""Whose code is, beyond the target's folder: the project's, packages that are edited, and those that the user names."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gradscope.errors import UsageError
from gradscope.frames import own_packages
from gradscope.frames.own_packages import NO_PACKAGES, NamedPackages, is_own, named_packages
from tests.cli.command import gradscope

MODEL = """
import torch
from torch import nn

class Net(nn.Linear):
    def forward(self, x):
        h = super().forward(x)
        return h * 2
"""
TRAIN = """
import torch
from mylib.model import Net

net = Net(2, 2)
net(torch.ones(1, 2)).sum().backward()
"""


def package(folder: Path, name: str = "mylib") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    (folder / name / "model.py").write_text(MODEL)
    return folder / name / "model.py"


@pytest.fixture(autouse=True)
def nothing_found_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_packages, "_found", {})
    own_packages.project_of.cache_clear()
    own_packages.edited_folders.cache_clear()


def test_what_lies_in_the_project_is_ones_own(tmp_path: Path) -> None:
    file = package(tmp_path / "proj" / "src")
    (tmp_path / "proj" / "scripts").mkdir()
    scripts = str(tmp_path / "proj" / "scripts")
    assert not is_own(str(file), scripts, NO_PACKAGES)
    own_packages.project_of.cache_clear()
    (tmp_path / "proj" / "pyproject.toml").touch()
    assert is_own(str(file), scripts, NO_PACKAGES)
    assert not is_own(str(tmp_path / "other" / "x.py"), scripts, NO_PACKAGES)
    assert not is_own(str(tmp_path / "proj" / ".venv/lib/python3.11/site-packages/a.py"), scripts, NO_PACKAGES)


def test_the_home_folder_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "setup.cfg").touch()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_packages.project_of(str(tmp_path / "work")) == ""


@pytest.mark.parametrize(
    ("told", "is_edited"),
    [({"editable": True}, True), ({"editable": False}, False), ({}, False), (None, False)],
)
def test_a_package_installed_to_be_edited_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, bool] | None, is_edited: bool
) -> None:
    file = package(tmp_path / "far away" / "src")
    installed = tmp_path / "installed" / "mylib-1.dist-info"
    installed.mkdir(parents=True)
    if told is not None:
        url = (tmp_path / "far away").as_uri()
        (installed / "direct_url.json").write_text(json.dumps({"url": url, "dir_info": told}))
    monkeypatch.setattr(own_packages.sysconfig, "get_path", lambda name: str(tmp_path / "installed"))
    assert is_own(str(file), str(tmp_path / "work"), NO_PACKAGES) == is_edited


def test_what_is_named_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = package(tmp_path / "installed" / "site-packages")
    monkeypatch.syspath_prepend(str(tmp_path / "installed" / "site-packages"))
    work = str(tmp_path / "work")
    assert not is_own(str(file), work, NO_PACKAGES)
    assert is_own(str(file), work, NamedPackages(include=("mylib",)))
    assert "mylib" not in sys.modules
    assert not is_own(str(file).replace("mylib", "mylibrary"), work, NamedPackages(include=("mylib",)))
    inner = NamedPackages(include=("mylib",), exclude=("mylib.model",))
    assert not is_own(str(file), work, inner), "the longer name decides"
    assert is_own(str(file.with_name("__init__.py")), work, inner)


def test_what_is_excluded_is_none_though_it_lies_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = package(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert is_own(str(file), str(tmp_path), NO_PACKAGES)
    assert not is_own(str(file), str(tmp_path), NamedPackages(exclude=("mylib",)))


@pytest.mark.parametrize(
    ("include", "exclude", "said"),
    [
        (["my-lib"], [], "no package's name"),
        (["a,,b"], [], "no package's name"),
        (["torch.nn"], [], "never shown as one's own"),
        (["a"], ["b,a"], "cannot be one's own and a library"),
    ],
)
def test_what_cannot_be_meant_is_refused(include: list[str], exclude: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named_packages(include, exclude)


def test_the_command_line_and_the_project_say_it(tmp_path: Path) -> None:
    package(tmp_path / "installed")
    (tmp_path / "train.py").write_text(f"import sys; sys.path.append({str(tmp_path / 'installed')!r})\n{TRAIN}")
    (tmp_path / "work").mkdir()

    def lines(*options: str) -> set[str]:
        done = gradscope("run", *options, "-f", "csv", str(tmp_path / "train.py"), cwd=tmp_path / "work")
        assert done.returncode == 0, done.stderr
        return {row.split(",")[0].rpartition("/")[2] for row in done.stdout.splitlines()[1:]}

    assert lines() == {"train.py", "model.py"}
    assert lines("--exclude", "mylib") == {"train.py"}
    (tmp_path / "pyproject.toml").write_text('[tool.gradscope]\nexclude = "mylib"\n')
    assert lines() == {"train.py"}
    assert lines("--exclude", "others") == {"train.py", "model.py"}
