"""``gradscope mcp``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.help_text import paragraphs
from gradscope.errors import UsageError

EPILOG = """[bold]Examples[/bold]

gradscope mcp  [dim]# what an assistant starts; it may name what lies below the current folder[/dim]

gradscope mcp --root src --root tests --read-only  [dim]# only look at recordings there, and explain[/dim]

It needs the extra gradscope\\[mcp]. Each tool runs in a process of its own; run, why and compare run the programs that
they are given, with the rights of the user. gradscope help mcp says how a client is told of it.
"""

SECONDS = 120.0
CHARACTERS = 20_000
_LEAST_CHARACTERS = 1_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("mcp", epilog=paragraphs(EPILOG))(mcp)


def mcp(
    context: typer.Context,
    roots: Annotated[
        list[Path] | None,
        typer.Option(
            "--root", metavar="FOLDER", help="What lies below may be named; else the current one. Repeatable."
        ),
    ] = None,
    any_code: Annotated[
        bool, typer.Option("--allow-code", help="Also run code that is given as text, and any expression.")
    ] = False,
    only_reads: Annotated[bool, typer.Option("--read-only", help="Only the tools that run no program.")] = False,
    seconds: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="End a program that takes longer.")
    ] = SECONDS,
    characters: Annotated[
        int, typer.Option("--max-chars", min=_LEAST_CHARACTERS, help="How long an answer may be.")
    ] = CHARACTERS,
) -> None:
    """Serve run, why, compare, report and explain to assistants and editors: Model Context Protocol on stdio."""
    from gradscope.cli.assistants.server import check_installed
    from gradscope.cli.options.many_options import checked_timeout

    check_installed()
    checked_timeout(seconds)
    folders = tuple(roots or [Path()])
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--root {folder} is no folder")

    def work() -> int:
        from gradscope.cli.assistants.server import serve

        return serve(folders, any_code=any_code, only_reads=only_reads, seconds=seconds, characters=characters)

    after_parsing(context, work)
