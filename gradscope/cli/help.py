"""``gradscope help``: the pages that stand beside the package, as text on a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.options.completion import complete_topic
from gradscope.cli.options.help_pages import pages_by_topic, title_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("help")(help_command)


def help_command(
    topic: Annotated[
        str, typer.Argument(help="A page; without one, all are listed.", autocompletion=complete_topic)
    ] = "",
) -> None:
    """Show a page about a topic: in colour on a terminal, as Markdown into a pipe or a file.

    Into a pipe, the list is one page a line, the columns separated by a tab.
    """
    pages = pages_by_topic()
    if not topic:
        _print_topics(pages)
    elif topic in pages:
        _print_page(pages[topic].read_text(encoding="utf-8"))
    else:
        _refuse(topic, pages)


def _print_topics(pages: dict[str, Path]) -> None:
    titles = [(topic, title_of(page)) for topic, page in pages.items()]
    if not sys.stdout.isatty():
        for topic, title in titles:
            typer.echo(f"{topic}\t{title}")
        return
    for topic, title in titles:
        typer.echo(f"  {topic:<12}{title}")
    typer.echo("\ngradscope help TOPIC shows a page, gradscope COMMAND --help the options of a command.")


def _print_page(text: str) -> None:
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    readable_on_light_too = Theme({"markdown.code": "bold cyan"})
    Console(theme=readable_on_light_too).print(Markdown(text, code_theme="ansi_dark"))


def _refuse(topic: str, pages: dict[str, Path]) -> None:
    from difflib import get_close_matches

    from gradscope.cli.root import COMMANDS
    from gradscope.errors import UsageError

    if topic in COMMANDS:
        raise UsageError(f"there is no page about {topic!r}", f"its options: gradscope {topic} --help")
    near = get_close_matches(topic, pages, 1)
    raise UsageError(
        f"there is no page about {topic!r}",
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(pages)}",
    )
