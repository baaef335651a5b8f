"""From what the user named to a program."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

from gradscope.errors import TargetError
from gradscope.targets.cells import find_cells, select_cell
from gradscope.targets.comments import find_comments
from gradscope.targets.directives import find_directives
from gradscope.targets.kinds import CELL, CODE, MODULE, SCRIPT, STDIN, TRANSCRIPT, Kind
from gradscope.targets.modules import locate_module
from gradscope.targets.program import Program
from gradscope.targets.scenarios import describe_docstring, find_scenario, scenario_names, similar_scenarios
from gradscope.targets.source import decode, parse, read_file, syntax_error
from gradscope.targets.transcripts import as_source, has_prompts, is_prompt, read_transcript


def resolve(target: str, *, code: str | None = None, module: str | None = None) -> Program:
    """Find and read what a target names.

    Args:
        target: A scenario's name, ``path.py``, ``path.py::cell``, a transcript, a folder with a ``__main__.py``, or
            ``-`` for standard input. With ``code`` or ``module``, only what the recording calls the target.
        code: Source text to run, as ``python -c`` would.
        module: Name of a module to run, as ``python -m`` would.

    Raises:
        TargetError: It cannot be found, read, or compiled.
    """
    if code is not None:
        return _from_code(target or "-c", code)
    if module is not None:
        return _from_module(target or f"-m {module}", module)
    if target == "-":
        return _from_stdin()
    path, separator, cell = target.partition("::")
    path = _find(path)
    if Path(path).is_dir():
        return _from_folder(target, path)
    return _from_file(target, path, cell if separator else None)


def _find(name: str) -> str:
    """The path that a name stands for; a path stays as it was written, as ``sys.argv[0]`` does."""
    path = Path(name)
    scenario = find_scenario(name)
    is_program = path.is_file() or (path / "__main__.py").is_file()
    if name and path.exists() and (is_program or scenario is None):
        return name
    if scenario is not None:
        return str(scenario)
    if not name:
        raise TargetError("no target", "name a file, a built-in scenario (gradscope list), or - for standard input")
    close = similar_scenarios(name)
    if path.suffix or os.sep in name:
        hint = f"did you mean the scenario {close[0]}?" if close else ""
        raise TargetError(f"no such file: {name}", hint)
    hint = f"did you mean {' or '.join(close)}?" if close else "gradscope list shows the built-in scenarios"
    if not scenario_names():
        hint = "this installation has no built-in scenarios"
    raise TargetError(f"no file and no built-in scenario is called {name!r}", hint)


def _from_code(target: str, code: str) -> Program:
    return _analysed(target, CODE, "<string>", "-c", code, "-c", "", str(Path.cwd()))


def _from_stdin() -> Program:
    if sys.stdin is None:
        raise TargetError("standard input is closed")
    text = decode(sys.stdin.buffer.read(), "standard input")
    try:
        parse(text, "<stdin>")
    except SyntaxError:
        if has_prompts(text):
            return _transcript("-", "<stdin>", "standard input", text, "-", "", str(Path.cwd()))
    return _analysed("-", STDIN, "<stdin>", "standard input", text, "-", "", str(Path.cwd()))


def _from_file(target: str, argv0: str, cell: str | None) -> Program:
    filename = os.path.join(Path.cwd(), argv0)  # noqa: PTH118 - a Path would drop the "./" that Python keeps
    folder = str(Path(argv0).resolve().parent)
    text = decode(read_file(Path(argv0)), argv0)
    try:
        tree = parse(text, filename)
    except SyntaxError as error:
        if cell is None and _is_transcript(Path(argv0), text, error):
            return _transcript(target, filename, argv0, text, argv0, folder, folder)
        raise syntax_error(error, argv0) from error
    if cell is None:
        return _analysed(target, SCRIPT, filename, argv0, text, argv0, folder, _user_root(folder), tree)
    cells = find_cells(find_comments(text), text)
    text = select_cell(text, cells, cell, argv0)
    root = _user_root(folder)
    return _analysed(target, CELL, filename, f"{argv0}::{cell}", text, argv0, folder, root, cell=cell, cells=cells)


def _user_root(folder: str) -> str:
    """The folder whose files are the user's: the current one where a script lies below it (``scripts/`` beside
    ``src/``), else the script's own."""
    here = Path.cwd()
    is_project = here not in (Path.home(), Path(here.anchor)) and Path(folder).is_relative_to(here.resolve())
    return str(here.resolve()) if is_project else folder


def _is_transcript(path: Path, text: str, error: SyntaxError) -> bool:
    """A text with prompts; a ``.py`` file only where the prompts are what Python stumbles over."""
    if path.suffix not in (".py", ".pyw"):
        return has_prompts(text)
    lines = text.split("\n")
    return 0 < (error.lineno or 0) <= len(lines) and is_prompt(lines[(error.lineno or 0) - 1])


def _from_folder(target: str, argv0: str) -> Program:
    folder = Path.cwd() / argv0
    main = folder / "__main__.py"
    if not main.is_file():
        raise TargetError(f"{target} is a folder without a __main__.py", "name a file in it")
    return _from_module_file(target, "__main__", str(main), argv0, str(folder), str(folder))


def _from_module(target: str, module: str) -> Program:
    found = locate_module(module)
    return _from_module_file(target, found.name, found.path, found.path, str(Path.cwd()), found.user_root)


def _from_module_file(target: str, module: str, filename: str, argv0: str, path0: str, user_root: str) -> Program:
    text = decode(read_file(Path(filename)), filename)
    name = module if module != "__main__" else argv0
    return _analysed(target, MODULE, filename, name, text, argv0, path0, user_root, module=module)


def _analysed(
    target: str,
    kind: Kind,
    filename: str,
    name: str,
    source: str,
    argv0: str,
    path0: str,
    user_root: str,
    tree: ast.Module | None = None,
    **details: object,
) -> Program:
    """A program of plain source, with what its docstring and its comments say."""
    try:
        tree = tree or parse(source, filename)
    except SyntaxError as error:
        raise syntax_error(error, name) from error
    title, tags = describe_docstring(ast.get_docstring(tree) or "")
    comments = find_comments(source)
    return Program(
        target=target,
        kind=kind,
        filename=filename,
        name=name,
        source=source,
        argv0=argv0,
        path0=path0,
        title=title,
        tags=tags,
        directives=find_directives(comments, tree, source, name),
        user_root=user_root,
        **{"cells": find_cells(comments, source), **details},  # type: ignore[arg-type]
    )


def _transcript(target: str, filename: str, name: str, text: str, argv0: str, path0: str, user_root: str) -> Program:
    statements = read_transcript(text)
    return Program(
        target=target,
        kind=TRANSCRIPT,
        filename=filename,
        name=name,
        source=as_source(text, statements),
        argv0=argv0,
        path0=path0,
        statements=statements,
        user_root=user_root,
    )
