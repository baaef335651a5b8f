"""What depends on the version of torch that the tests run on."""

from __future__ import annotations

from importlib.metadata import version

import pytest

_TORCH = tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])

shows_words_of_torch = pytest.mark.skipif(_TORCH < (2, 13), reason="older torch words its errors in another way")
"""For tests that compare a whole screen."""
