"""What depends on the versions of Python and torch that the tests run on."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

KNOWS_COLUMNS = sys.version_info >= (3, 11)
"""Python 3.10 says of an instruction only on which line it is."""

needs_columns = pytest.mark.skipif(not KNOWS_COLUMNS, reason="which call of a line it was is not known without columns")
"""For tests of what is told by the text of a call."""

_TORCH = tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])

shows_words_of_torch = pytest.mark.skipif(
    _TORCH < (2, 13) or not KNOWS_COLUMNS,
    reason="older torch words its errors in another way, and Python 3.10 knows no columns",
)
"""For tests that compare a whole screen."""


def unnamed(written: str) -> str:
    """What a tensor without a name is called: as it is written or, where no columns tell that, the last word of it."""
    return f"<{written}>" if KNOWS_COLUMNS else f"<{written.rpartition('.')[2]}>"
