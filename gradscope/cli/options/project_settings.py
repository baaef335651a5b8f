"""``[tool.gradscope]`` in ``pyproject.toml``: what a project wants of each command, unless an option says otherwise.

The file is the nearest one with that section, from the target's folder upwards, else from the current folder upwards.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gradscope.errors import UsageError

if TYPE_CHECKING:
    from gradscope.cli.options.output_options import Color, Output
    from gradscope.frames.own_packages import NamedPackages

T = TypeVar("T")

FILE = "pyproject.toml"
_SECTION = "[tool.gradscope]"
_MENTIONED = b"gradscope"
"""A file without it cannot have the section, and need not be parsed."""

_CODES = "a list of codes"
_WHOLE = "a whole number"
KEYS: Mapping[str, str] = {
    "select": _CODES,
    "ignore": _CODES,
    "fail-on": "a list of codes or severities",
    "baseline": "the path of a file",
    "all-answers": "true or false",
    "include": "a list of packages",
    "exclude": "a list of packages",
    "max-ops": f"{_WHOLE}, 0 or more",
    "progress": "true or false",
    "width": f"{_WHOLE}, 40 or more",
    "color": '"auto", "always" or "never"',
    "jobs": f"{_WHOLE}, 1 or more",
    "timeout": "a number of seconds above 0",
}
"""What the section may have, and what each must be; named like the options that they stand in for."""


class ProjectSettings:
    """What a project wants.

    Args:
        file: The file; None: there is none.
        values: What its section has, checked.
    """

    def __init__(self, file: Path | None, values: Mapping[str, Any]) -> None:
        self._file = file
        self._values = values

    def value(self, context: Any, option: str, given: T) -> T:
        """The value of an option: as it was given on the command line, else as the project wants it.

        Args:
            context: Typer's, which knows whether it was given.
            option: The name of the parameter: ``max_ops``.
            given: What Typer found, its default included.
        """
        key = option.replace("_", "-")
        if key not in self._values or context.get_parameter_source(option).name == "COMMANDLINE":
            return given
        found: T = self._values[key]
        return found

    def output(self, context: Any, format: str, files: list[Path] | None, color: Color, width: int | None) -> Output:
        """Where a result goes and how it looks: as the command line asks, else as the project wants it."""
        from gradscope.cli.options.output_options import Output

        return Output(
            format=format,
            files=tuple(files or ()),
            color=self.value(context, "color", color).wanted,
            width=self.value(context, "width", width),
            printed=False,
        )

    def codes(self, key: str, given: list[str] | None) -> tuple[list[str], str]:
        """Codes of an option as on the command line, else as the project wants them; and where they were written."""
        if given:
            return given, f"--{key}"
        return self._values.get(key, []), f"{self._file}: {key}"

    def packages(self, include: list[str] | None, exclude: list[str] | None) -> NamedPackages:
        """Whose packages are: as the command line says, else as the project does.

        Raises:
            UsageError: Something is no package's name.
        """
        from gradscope.frames.own_packages import named_packages

        found = (given or self._values.get(key, []) for key, given in (("include", include), ("exclude", exclude)))
        return named_packages(*found)

    def path(self, key: str) -> Path | None:
        """A path, which a project gives relative to its file."""
        return self._file.parent / self._values[key] if self._file is not None and key in self._values else None


def project_settings(*targets: str) -> ProjectSettings:
    """What the project of a target wants; nothing where none says.

    Args:
        targets: What was named on the command line; the first that is a file counts.

    Raises:
        UsageError: The file is no TOML, or has what is unknown or of another type.
    """
    for folder in _folders(targets):
        path = folder / FILE
        section = _section(path)
        if section is not None:
            return ProjectSettings(path, {key: _checked(path, key, value) for key, value in section.items()})
    return ProjectSettings(None, {})


def _folders(targets: tuple[str, ...]) -> Iterator[Path]:
    seen: set[Path] = set()
    files = (Path(target.partition("::")[0]) for target in targets)
    starts = [file.parent for file in files if _is_file(file)][:1]
    for start in (*starts, Path()):
        try:
            here = start.absolute()
        except OSError:  # the current folder is gone
            continue
        for folder in (here, *here.parents):
            if folder not in seen:
                seen.add(folder)
                yield folder


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # code that was named with -c
        return False


def _section(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if _MENTIONED not in data:
        return None
    toml = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        document = toml.loads(data.decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    tools = document.get("tool", {})
    section = tools.get("gradscope") if isinstance(tools, dict) else None
    if section is None:
        return None
    if not isinstance(section, dict):
        raise UsageError(f"{path}: tool.gradscope is no table", f"write a line {_SECTION} above the settings")
    return section


def _checked(path: Path, key: str, value: Any) -> Any:
    """A value as options have it.

    Raises:
        UsageError: The key is unknown, or the value of another type.
    """
    if key not in KEYS:
        from difflib import get_close_matches

        close = get_close_matches(key, KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it may have {', '.join(KEYS)}"
        raise UsageError(f"{path}: {_SECTION} has an unknown key {key!r}", hint)
    checked = _converted(key, value)
    if checked is None:
        raise UsageError(f"{path}: {key} = {value!r} in {_SECTION} is not {KEYS[key]}")
    return checked


def _converted(key: str, value: Any) -> Any:
    """The value, or None where it is not what its key must have."""
    if key in ("select", "ignore", "fail-on", "include", "exclude"):
        value = [value] if isinstance(value, str) else value
        return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None
    if key == "baseline":
        return value if isinstance(value, str) and value else None
    if key in ("all-answers", "progress"):
        return value if isinstance(value, bool) else None
    if key == "color":
        from gradscope.cli.options.output_options import Color

        return Color(value) if value in [color.value for color in Color] else None
    if isinstance(value, bool) or not isinstance(value, (int, float) if key == "timeout" else int):
        return None
    least = {"max-ops": 0, "width": 40, "jobs": 1}.get(key)
    return value if (value >= least if least is not None else value > 0) else None
