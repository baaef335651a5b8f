"""Pictures load nothing from elsewhere."""

import io
import re

from rich.console import Console

from gradscope.report.screen.picture import picture


def test_a_picture_loads_nothing() -> None:
    console = Console(record=True, width=60, file=io.StringIO(), force_terminal=True)
    console.print("text", style="bold red")
    svg = picture(console, "title")
    assert "text" in svg
    assert "@font-face" not in svg and not re.search(r"url\((?!#)", svg)
