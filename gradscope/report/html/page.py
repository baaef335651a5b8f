"""Pages: one file each, which loads nothing, runs nothing but its own script, and obeys nothing of a program's.

Whatever a template prints goes through two gates: characters that reorder or hide others are spelled out, and what HTML
would obey is escaped. A content security policy allows the page's own style and script by their hashes, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from gradscope.analysis.sizes import size
from gradscope.report.json_values import to_text
from gradscope.report.screen.text import safe
from gradscope.version import VERSION

_FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """A page of a template.

    Args:
        template: Name of the file.
        values: What the template shows; texts as a program has them.
    """
    style, script = _text("page.css"), _text("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    own = {"style": Markup(style), "script": Markup(script), "policy": Markup(policy), "version": VERSION}
    return _environment().get_template(template).render(**own, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"size": size, "data": _data}
    return environment


def _shown(value: Any) -> Any:
    """Text without a character that reorders or hides others; what is HTML already stays."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(map(safe, value.split("\n")))
    return value


def _data(value: Any) -> Markup:
    """A value as JSON that stays inside its ``script`` element."""
    text = to_text(_spelled(value))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        return safe(value)
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(item) for item in value]
    return value


@cache
def _text(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """A text as a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
