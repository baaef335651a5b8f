"""Text below a command's options in its help."""

from __future__ import annotations

import re


def paragraphs(text: str) -> str:
    """Text whose lines are joined within a paragraph, so that a screen of any width can break them where it must."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text.strip())
