"""Calls of dropouts and batch norms as functions, and what these are told of their mode."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Literal

_MODE = "training"
_POSITION = {"batch_norm": 5}
"""Where the mode stands among the arguments; of all dropouts behind the rate."""
_OF_A_DROPOUT = 2
_READS_MODE = re.compile(rf"\.{_MODE}\b|[\"']{_MODE}[\"']")
"""How a program gets at the mode of a module."""

Mode = Literal["of a module", "fixed", "given"]


def mode_of_call(source: str, function: str, text: str) -> Mode:
    """What decides whether a call runs as in training.

    Args:
        source: The call.
        function: The bare name of the function of torch that ran: ``batch_norm``.
        text: The file's text.

    Returns:
        ``of a module``: it is no call of that function, or not known to be one. ``fixed``: the call says so itself, or
        says nothing. ``given``: another expression, which may be a module's ``training``.
    """
    call = _call(source)
    if call is None or not _is_function(call, function, text):
        return "of a module"
    if any(isinstance(one, ast.Starred) for one in call.args) or any(one.arg is None for one in call.keywords):
        return "given"
    given = [one.value for one in call.keywords if one.arg == _MODE]
    given += call.args[_POSITION.get(function, _OF_A_DROPOUT) :][:1]
    return "fixed" if not given or isinstance(given[0], ast.Constant) else "given"


def reads_modes(text: str) -> bool:
    """Whether a file looks at the mode of any module."""
    return bool(_READS_MODE.search(text))


def _is_function(call: ast.Call, function: str, text: str) -> bool:
    """Whether it calls what it imported by that name, or gives more than a module takes."""
    if not isinstance(call.func, ast.Name | ast.Attribute):
        return False
    names, imported = ast.unparse(call.func).split("."), _imported(text)
    last = imported.get(names[-1], names[-1]) if len(names) == 1 else names[-1]
    return last == function and (names[0] in imported or len(call.args) + len(call.keywords) > 1)


@lru_cache(maxsize=512)
def _call(source: str) -> ast.Call | None:
    try:
        call = ast.parse(source, mode="eval").body
    except SyntaxError:
        return None
    return call if isinstance(call, ast.Call) else None


@lru_cache(maxsize=64)
def _imported(text: str) -> dict[str, str]:
    """What a file gets of other files, by the names that it gives to that."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    found = (one for one in ast.walk(tree) if isinstance(one, ast.Import | ast.ImportFrom))
    return {name.asname or name.name.partition(".")[0]: name.name for one in found for name in one.names}
