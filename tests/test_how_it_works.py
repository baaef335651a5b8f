"""The page about the rooms names paths that exist."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gradscope"
PAGE = PACKAGE / "HOW_IT_WORKS.md"
PATHS = sorted(set(re.findall(r"`((?:gradscope/)?[a-z_]+/[a-z_./]*)`", PAGE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", PATHS)
def test_it_exists(path: str):
    assert (PACKAGE / path.removeprefix("gradscope/")).exists()


def test_every_room_is_on_the_page():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= {path.partition("/")[0] for path in PATHS}
    assert len(PATHS) > 40


def test_one_name_stands_for_one_thing():
    classes = [
        statement.name
        for path in PACKAGE.rglob("*.py")
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ClassDef)
    ]
    files = [path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    for names in (classes, files):
        assert [name for name, count in Counter(names).items() if count > 1] == []
