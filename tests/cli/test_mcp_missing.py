"""``gradscope mcp`` where the protocol's package is not installed, or is one of before its second version."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from gradscope.cli.assistants.server import check_installed
from gradscope.errors import UsageError


@pytest.mark.parametrize(
    ("missing", "said", "hint"), [("mcp", "which is not installed", "[mcp]"), ("mcp_types", "mcp 2 or later", "-U")]
)
def test_what_is_missing_is_said_and_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, missing: str, said: str, hint: str
):
    def find(name: str, *_: Any) -> Any:
        return None if name == missing else object()

    monkeypatch.setattr(importlib.util, "find_spec", find)
    with pytest.raises(UsageError, match=said) as raised:
        check_installed()
    assert hint in raised.value.hint and "pip install" in raised.value.hint
