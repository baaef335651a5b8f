"""A picture of a console's content: SVG that loads nothing from elsewhere."""

from __future__ import annotations

import re

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

_FONT_FACE = re.compile(r"@font-face\s*\{\{.*?\}\}\s*", re.DOTALL)

_FORMAT = _FONT_FACE.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code", "Fira Code, Menlo, Consolas, DejaVu Sans Mono")
"""Rich's own picture without its fonts from a server: whoever opens it is not told on, and it looks alike offline."""


def picture(console: Console, title: str) -> str:
    """What a recording console has shown, as SVG."""
    return console.export_svg(title=title, code_format=_FORMAT)
