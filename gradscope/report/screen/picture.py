"""A picture of a console's content: SVG that loads nothing from elsewhere."""

from __future__ import annotations

import re
from io import StringIO

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console


def drawing_console(width: int) -> Console:
    """A console of which a picture is to be made; it prints nothing, in a notebook neither."""
    return Console(
        record=True,
        width=width,
        file=StringIO(),
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
    )


def picture(console: Console, title: str) -> str:
    """What a recording console has shown, as SVG.

    Rich's own picture without its fonts from a server: whoever opens it is not told on, and it looks alike offline.
    """
    without_fonts = re.sub(r"@font-face\s*\{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    code_format = without_fonts.replace("Fira Code", "Fira Code, Menlo, Consolas, DejaVu Sans Mono")
    return console.export_svg(title=title, code_format=code_format)
