"""The page about the rooms names paths that exist."""

from __future__ import annotations

import re
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
