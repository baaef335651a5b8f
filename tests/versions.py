"""What depends on the versions of Python and torch that the tests run on."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

_TORCH = tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])

shows_words_of_torch = pytest.mark.skipif(
    _TORCH < (2, 13) or sys.version_info < (3, 11),
    reason="older torch words its errors in another way, and Python 3.10 knows no columns",
)
"""For tests that compare a whole screen."""
