"""Pages: Markdown whose fenced blocks of Python are the program; blocks with prompts in them are transcripts."""

from __future__ import annotations

import re

from gradscope.targets.program import Snippet
from gradscope.targets.transcripts import has_prompts, read_transcript

_FENCE = re.compile(r"(?m)^[ \t>]*(?:`{3}|~{3})")
_PYTHON = frozenset(("python", "python3", "py", "py3", "pycon", "ipython", "ipython3"))


def read_page(text: str) -> tuple[Snippet, ...]:
    """The blocks of Python of a page, and what stands behind prompts anywhere in it, in order; empty: it has none.

    Blocks continue each other, and an error in one does not keep the others from being run.
    """
    if not _FENCE.search(text):
        return ()
    from markdown_it import MarkdownIt  # rich brings it; only a page waits for it

    lines = text.split("\n")
    blocks: list[Snippet] = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type != "fence" or token.map is None or not _is_python(token.info):
            continue
        if has_prompts(token.content) or not token.content.strip():
            continue
        start, end = token.map[0] + 2, token.map[1]
        blocks.append(Snippet(start, "\n" * (start - 1) + token.content, "none"))
        lines[start - 1 : end] = [""] * (end - start + 1)
    if not blocks:
        return ()
    return tuple(sorted([*blocks, *read_transcript("\n".join(lines))], key=lambda snippet: snippet.line))


def _is_python(info: str) -> bool:
    """What stands behind the fence: ``python``, ``{python}``, ``{code-cell} python``, ``py title="…"``."""
    words = re.findall(r"[\w-]+", info.lower())
    if words[:1] == ["code-cell"]:
        words = words[1:] or ["python"]
    return bool(words) and words[0] in _PYTHON
