"""The manual pages say what the help says, and nothing in them is a request of roff's that was not meant."""

from __future__ import annotations

import re

import pytest

from gradscope.cli.man_pages import FOLDER, _text, man_pages
from gradscope.cli.root import COMMANDS, Commands
from gradscope.version import VERSION

HINT = "python -m gradscope.cli.man_pages writes them anew"


def page_of(name: str) -> str:
    """The words of a page, line by line."""
    roff = (FOLDER / f"gradscope-{name}.1").read_text(encoding="utf-8")
    return re.sub(r"\\f[BR]", "", roff).replace(r"\-", "-").replace(r"\&", "").replace(r"\e", "\\")


def test_there_is_a_page_a_command_of_this_version():
    names = {file.name for file in FOLDER.iterdir()}
    assert names == {"gradscope.1", *(f"gradscope-{name}.1" for name in COMMANDS)} == man_pages().keys(), HINT
    for file in FOLDER.iterdir():
        assert f"gradscope {VERSION}" in file.read_text(encoding="utf-8").split("\n")[0], HINT


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_option_and_what_the_help_says_of_it(name: str):
    """Not to the letter: how types and defaults are written is Typer's, and differs between its versions."""
    page, command = page_of(name), Commands()[name]
    words = " ".join(page.split())
    assert COMMANDS[name].rstrip(".") in words, HINT
    known = {"-h", "--help"}
    for param in command.params:
        assert " ".join((getattr(param, "help", None) or "").split()) in words, f"{param.name}: {HINT}"
        known |= {*param.opts, *param.secondary_opts}
        if param.param_type_name == "option":
            assert all(option in words for option in param.opts), f"{param.name}: {HINT}"
    told = re.findall(r"(?m)^(--?\w[\w-]*)(?:, (--\w[\w-]*))?", page)
    assert {option for pair in told for option in pair if option} <= known, HINT


def test_text_is_text():
    assert [_text(one) for one in (".grad", "'a'", "a\\b", "-f")] == [r"\&.grad", r"\&'a'", r"a\eb", r"\-f"]
