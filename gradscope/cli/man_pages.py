"""The manual pages, made from what ``--help`` says: ``python -m gradscope.cli.man_pages`` writes them anew.

They lie in ``gradscope/docs/man`` and are installed where ``man`` looks; a test compares them with the help of today.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from gradscope.cli.app import app
from gradscope.cli.root import COMMANDS, EXAMPLES, EXIT_CODES
from gradscope.version import VERSION

FOLDER = Path(__file__).parents[1] / "docs" / "man"
_OPTIONS = "Options"


def man_pages() -> dict[str, str]:
    """The text of each page by the name of its file: one for the command itself, one for each of its commands."""
    root = typer.main.get_command(app)
    commands: Any = root.commands  # type: ignore[attr-defined]
    pages = {"gradscope.1": _main_page(root)}
    return pages | {f"gradscope-{name}.1": _command_page(name, commands[name], root) for name in commands}


def _main_page(root: Any) -> str:
    context = root.make_context("gradscope", [], resilient_parsing=True)
    return _page(
        "gradscope",
        "what PyTorch's autograd does in a program, line by line",
        [".B gradscope", "COMMAND ..."],
        [".PP", _text(root.help)],
        [".SH COMMANDS", *_pairs((f"gradscope-{name}(1)", text) for name, text in COMMANDS.items())],
        [".SH OPTIONS", *_pairs(filter(None, (param.get_help_record(context) for param in root.get_params(context))))],
        [".SH EXAMPLES", *_pairs(EXAMPLES)],
        [".SH EXIT STATUS", _text(EXIT_CODES)],
        [
            ".SH FILES",
            *_pairs([("pyproject.toml", "What a project always wants, in [tool.gradscope]: gradscope help ci.")]),
        ],
        [".SH SEE ALSO", _text("gradscope help lists pages about topics, gradscope help TOPIC shows one.")],
    )


def _command_page(name: str, command: Any, root: Any) -> str:
    parent = root.make_context("gradscope", [], resilient_parsing=True)
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    return _page(
        f"gradscope-{name}",
        COMMANDS[name].rstrip("."),
        [f".B gradscope {_text(name)}", _text(usage)],
        *([[".PP", _text(" ".join(part.split()))] for part in command.help.split("\n\n")]),
        *_parameters(command, context),
        list(_epilog(command.epilog or "")),
        [".SH SEE ALSO", ".BR gradscope (1)"],
    )


def _page(name: str, title: str, usage: list[str], *parts: Iterable[str]) -> str:
    head = [
        f'.TH {name.upper()} 1 "" "gradscope {VERSION}" "gradscope"',
        ".SH NAME",
        rf"{_text(name)} \- {_text(title)}",
        ".SH SYNOPSIS",
        *usage,
        ".SH DESCRIPTION",
    ]
    lines = [*head, *(line for part in parts for line in part)]
    first = lines.index(".SH DESCRIPTION") + 1
    del lines[first]  # a paragraph begins there anyway
    return "\n".join(lines) + "\n"


def _parameters(command: Any, context: Any) -> Iterator[list[str]]:
    """The arguments, and the options panel by panel as the help shows them."""
    arguments, panels = [], dict[str, list[tuple[str, str]]]()
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None:
            continue
        if param.param_type_name == "argument":
            arguments.append(record)
        else:
            panels.setdefault(getattr(param, "rich_help_panel", None) or _OPTIONS, []).append(record)
    if arguments:
        yield [".SH ARGUMENTS", *_pairs(arguments)]
    yield [".SH OPTIONS"]
    for panel, records in panels.items():
        yield [*([] if panel == _OPTIONS else [f".SS {_text(panel)}"]), *_pairs(records)]


def _epilog(markup: str) -> Iterator[str]:
    """Examples, and the paragraphs behind them."""
    are_notes = False
    for paragraph in filter(None, Text.from_markup(markup).plain.split("\n\n")):
        if paragraph == "Examples":
            yield ".SH EXAMPLES"
        elif paragraph.startswith("gradscope "):
            command, _, comment = paragraph.partition("  # ")
            yield from _pairs([(command, comment)])
        else:
            yield ".PP" if are_notes else ".SH NOTES"
            yield _text(" ".join(paragraph.split()))
            are_notes = True


def _pairs(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in records:
        yield ".TP"
        yield rf"\fB{_text(name)}\fR"
        yield _text(" ".join(text.split())) or r"\&"


def _text(text: str) -> str:
    """Text of which roff obeys nothing; a hyphen is one that can be copied."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write_man_pages(folder: Path) -> None:
    """Write all pages, and remove what is none any more."""
    pages = man_pages()
    folder.mkdir(exist_ok=True)
    for file in folder.glob("*.1"):
        if file.name not in pages:
            file.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_man_pages(FOLDER)
