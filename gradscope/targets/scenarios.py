"""The built-in scenarios: plain Python files, found in a checkout and in an installed package alike."""

from __future__ import annotations

import ast
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from gradscope.frames.whose_file import PACKAGE


class Scenario(NamedTuple):
    """One built-in scenario."""

    name: str
    path: Path
    title: str
    tags: tuple[str, ...]


def scenario_folder() -> Path:
    """Where the scenarios lie: within the installed package, or beside it in a checkout (an editable install too)."""
    installed = PACKAGE / "_scenarios"
    return installed if installed.is_dir() else PACKAGE.parent / "scenarios"


def scenario_names() -> list[str]:
    """Every scenario's name, sorted."""
    folder = scenario_folder()
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")) if folder.is_dir() else []


def find_scenario(name: str) -> Path | None:
    """The file of a scenario, or None."""
    return scenario_folder() / f"{name}.py" if name in scenario_names() else None


def all_scenarios() -> list[Scenario]:
    """Every scenario with its title and tags, sorted by name."""
    found = []
    for name in scenario_names():
        path = scenario_folder() / f"{name}.py"
        title, tags = describe(path.read_text(encoding="utf-8"))
        found.append(Scenario(name, path, title, tags))
    return found


def similar_scenarios(name: str) -> list[str]:
    """Names that somebody who wrote this one may have meant, the likeliest first."""
    names = scenario_names()
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    return close or [known for known in names if len(name) > 2 and name in known][:3]


def describe(source: str) -> tuple[str, tuple[str, ...]]:
    """Title and tags of a file: its docstring's first line, and the line ``Tags: a, b`` in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            docstring = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError):
        return "", ()
    return describe_docstring(docstring)


def describe_docstring(docstring: str) -> tuple[str, tuple[str, ...]]:
    """Title and tags in a docstring."""
    lines = docstring.strip().split("\n")
    tags: tuple[str, ...] = ()
    for line in lines:
        key, colon, value = line.partition(":")
        if colon and key.strip() == "Tags":
            tags = tuple(tag.strip() for tag in value.split(",") if tag.strip())
    return lines[0].strip(), tags
