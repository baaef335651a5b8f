"""REPL transcripts: ``>>> `` and ``... `` lines, or IPython's ``In [1]:``, with output between and prose around."""

from __future__ import annotations

import re

from gradscope.targets.program import Snippet

_QUOTES = r"[ \t]*(?:>(?!>)[ \t]*)*(?:#(?!#)[ \t]+)?"
"""What may stand before a prompt: indentation, the marks of a quoted mail or Markdown quote, a comment sign."""
_PROMPT = re.compile(rf"(?P<before>{_QUOTES})(?:>>>|(?P<ipython>In \[\d+\]:))(?: (?P<code>.*)|)$")
_CONTINUATION = re.compile(rf"{_QUOTES}\.\.\.(?: (?P<code>.*)|)$")
_CONTINUATION_IPYTHON = re.compile(rf"{_QUOTES}\.\.\.+:(?: (?P<code>.*)|)$")
_OUT = re.compile(r"Out\[\d+\]: ?")


def has_prompts(text: str) -> bool:
    """Whether any line of a text is a REPL prompt with code behind it."""
    return any(match and match["code"] for match in map(_PROMPT.match, text.split("\n")))


def is_prompt(line: str) -> bool:
    """Whether a line begins with a REPL prompt."""
    return _PROMPT.match(line) is not None


def read_transcript(text: str, *, first: int = 1, group: str = "") -> tuple[Snippet, ...]:
    """What stood behind each prompt, each on its line of the transcript, and what is shown below it.

    Args:
        text: The transcript.
        first: The number of its first line.
        group: Which snippets these share their names with.
    """
    reader = _Reader(first, group)
    for number, line in enumerate(text.split("\n"), first):
        reader.read(number, line)
    reader.close()
    return tuple(reader.snippets)


class _Reader:
    """Reads a transcript line by line."""

    def __init__(self, first: int, group: str) -> None:
        self.snippets: list[Snippet] = []
        self._group = group
        self._start = first
        self._is_ipython = False
        self._code: list[str] = []
        self._shown: list[str] = []
        self._before = ""
        self._is_open = False
        """The next line may continue the code."""
        self._is_output = False
        """The next line may be what the code printed."""

    def read(self, number: int, line: str) -> None:
        prompt = _PROMPT.match(line)
        if prompt:
            self.close()
            self._start, self._is_ipython, self._before = number, bool(prompt["ipython"]), prompt["before"]
            self._code.append(prompt["code"] or "")
            self._is_open = self._is_output = True
            return
        pattern = _CONTINUATION_IPYTHON if self._is_ipython else _CONTINUATION
        continuation = pattern.match(line) if self._is_open else None
        if continuation:
            self._code.append(continuation["code"] or "")
            return
        self._is_open = False
        if not self._is_output:
            return
        text = line.removeprefix(self._before)
        if text.strip().startswith(("```", "~~~", '"""', "'''")):
            self._is_output = False
        elif text.strip():
            self._shown.append(text.rstrip())
        elif self._shown or not self._is_ipython:  # IPython leaves a line free before what it shows
            self._is_output = False

    def close(self) -> None:
        """What was read so far is a snippet, if it has code."""
        if any(line.strip() for line in self._code):
            code = "\n".join(self._code).rstrip()
            self.snippets.append(
                Snippet(
                    self._start,
                    "\n" * (self._start - 1) + code + "\n",
                    "last" if self._is_ipython else "all",
                    shown=_OUT.sub("", "\n".join(self._shown)),
                    group=self._group,
                )
            )
        self._code, self._shown = [], []
        self._is_open = self._is_output = False
