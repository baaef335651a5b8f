"""Options that say whose packages are: the user's own, or libraries."""

from typing import Annotated

import typer

WHOSE = "Whose code"

IncludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="PACKAGES",
        help="These are your own code, not libraries, with commas between. Repeatable.",
        rich_help_panel=WHOSE,
    ),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PACKAGES",
        help="These are libraries, though they lie beside the target or in its project. Repeatable.",
        rich_help_panel=WHOSE,
    ),
]
