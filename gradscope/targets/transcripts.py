"""REPL transcripts: ``>>> `` and ``... `` lines with output between and prose around, as pasted from anywhere."""

from __future__ import annotations

import re

from gradscope.targets.program import TranscriptStatement

_QUOTES = r"[ \t]*(?:>(?!>)[ \t]*)*(?:#(?!#)[ \t]+)?"
"""What may stand before a prompt: indentation, the marks of a quoted mail or Markdown quote, a comment sign."""
_PROMPT = re.compile(rf"(?P<before>{_QUOTES})>>>(?: (?P<code>.*)|)$")
_CONTINUATION = re.compile(rf"{_QUOTES}\.\.\.(?: (?P<code>.*)|)$")


def has_prompts(text: str) -> bool:
    """Whether any line of a text is a REPL prompt with code behind it."""
    return any(match and match["code"] for match in map(_PROMPT.match, text.split("\n")))


def is_prompt(line: str) -> bool:
    """Whether a line begins with a REPL prompt."""
    return _PROMPT.match(line) is not None


def read_transcript(text: str) -> tuple[TranscriptStatement, ...]:
    """What stood behind each prompt, each on its line of the transcript."""
    statements: list[TranscriptStatement] = []
    block: list[str] = []
    start = 0

    def close() -> None:
        if any(line.strip() for line in block):
            code = "\n".join(block).rstrip()
            statements.append(TranscriptStatement(start, "\n" * (start - 1) + code + "\n"))
        block.clear()

    for number, line in enumerate(text.split("\n"), 1):
        prompt = _PROMPT.match(line)
        if prompt:
            close()
            start = number
            block.append(prompt["code"] or "")
            continue
        continuation = _CONTINUATION.match(line) if block else None
        if continuation:
            block.append(continuation["code"] or "")
        else:
            close()
    close()
    return tuple(statements)


def as_source(text: str, statements: tuple[TranscriptStatement, ...]) -> str:
    """The statements alone, each on its line of the transcript; everything else is blank."""
    lines = [""] * (text.count("\n") + 1)
    for statement in statements:
        code = statement.source.split("\n")[statement.line - 1 :]
        lines[statement.line - 1 : statement.line - 1 + len(code) - 1] = code[:-1]
    return "\n".join(lines)
