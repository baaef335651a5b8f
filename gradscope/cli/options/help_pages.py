"""The pages that stand beside the package, by what a reader calls them."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "docs"


def pages_by_topic() -> dict[str, Path]:
    """The files of the pages, sorted by topic."""
    return {page.stem: page for page in sorted(_FOLDER.glob("*.md"))}


def title_of(page: Path) -> str:
    """The heading of a page, as text."""
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").replace("`", "")
