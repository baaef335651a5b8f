"""``gradscope run FILE --format json``: options behind a program that takes no arguments.

What stands behind the target goes to the program. A built-in scenario takes no arguments, though, and many a script
reads none either; there, options of gradscope's own that stand behind the target are meant for gradscope. A script
counts as reading arguments when it names any of the usual ways, or imports anything but torch, numpy and the standard
library (what it imports may read them); ``--`` keeps the arguments for the program in any case.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

_READS_ARGUMENTS = r"\b(argv|argparse|optparse|getopt|unittest|runpy)\b"
"""Ways of the standard library; what else reads them is imported."""
_MODULE = r"[\w.]+(?:[ \t]+as[ \t]+\w+)?"
_IMPORTED = rf"(?m)(?:^|;)[ \t]*(?:from|import)[ \t]+({_MODULE}(?:[ \t]*,[ \t]*{_MODULE})*)"
_READ_NONE = frozenset(("torch", "numpy", *sys.stdlib_module_names))
"""Modules that look at no arguments unless they are told to by a name above."""


def options_first(arguments: Sequence[str], takes_value: Mapping[str, bool]) -> list[str]:
    """The arguments of ``run`` with options of gradscope's own moved before a target that reads no arguments.

    Args:
        arguments: The command line behind ``gradscope``, ``run`` first.
        takes_value: The options of ``run``, and whether each takes a value.
    """
    given = list(arguments)
    at = _skip_options(given, 1, takes_value)
    behind = given[at + 1 :]
    if not behind or "-m" in given[1:at] or at >= len(given) or given[at - 1] == "--":
        return given
    if _skip_options(given, at + 1, takes_value) != len(given) or reads_arguments(
        given[at], is_code="-c" in given[1:at]
    ):
        return given
    return [*given[:at], *behind, given[at]]


def meant_for_gradscope(arguments: Sequence[str], options: Collection[str], *, program_reads: bool) -> list[str]:
    """Long options of gradscope's own, or what nearly is one, among the arguments that a program got.

    They are looked for when the program has ended: one that ended well, and reads arguments, wanted them. Behind a
    ``--`` somebody knew what is whose.

    Args:
        arguments: What stood behind the target.
        options: The names of the options of ``run``.
        program_reads: Whether the program may look at its arguments: what is nearly an option may then be its own.

    Returns:
        The options that were meant, as gradscope writes them.
    """
    found = []
    for argument in arguments if "--" not in arguments else ():
        name = argument.partition("=")[0]
        if not name.startswith("--"):
            continue
        if name in options:
            found.append(name)
        elif not program_reads:
            found += get_close_matches(name, options, 1, cutoff=0.8)
    return list(dict.fromkeys(found))


def _skip_options(arguments: Sequence[str], at: int, takes_value: Mapping[str, bool]) -> int:
    """The position of the first argument from a position on that is neither a known option nor its value."""
    while at < len(arguments):
        name, has_value, _ = arguments[at].partition("=")
        if name not in takes_value:
            break
        at += 2 if takes_value[name] and not has_value else 1
    return at


def reads_arguments(target: str, *, is_code: bool) -> bool:
    """Whether a program may look at its arguments."""
    path = Path(target.partition("::")[0])
    if not is_code and not path.is_file():
        return target == "-" or path.suffix == ".py"  # else a built-in scenario
    text = target if is_code else path.read_text(encoding="utf-8", errors="replace")
    return bool(re.search(_READS_ARGUMENTS, text)) or not _imported(text) <= _READ_NONE


def _imported(text: str) -> set[str]:
    """The packages that a program imports."""
    lists = re.findall(_IMPORTED, text)
    return {module.split()[0].partition(".")[0] for modules in lists for module in modules.split(",")}
