"""From what the user named to a program."""

from __future__ import annotations

import ast
import os
import sys
from difflib import get_close_matches
from pathlib import Path

from gradscope.errors import TargetError
from gradscope.targets.cells import find_cells, select_cell
from gradscope.targets.comments import find_comments
from gradscope.targets.directives import find_directives
from gradscope.targets.docstrings import DOCSTRINGS_PART, read_docstrings
from gradscope.targets.kinds import CELL, CODE, DOCSTRINGS, MODULE, NOTEBOOK, PAGE, SCRIPT, STDIN, TRANSCRIPT, Kind
from gradscope.targets.modules import locate_module
from gradscope.targets.notebooks import is_notebook, read_notebook
from gradscope.targets.pages import read_page
from gradscope.targets.program import Program, Snippet
from gradscope.targets.scenarios import describe_docstring, find_scenario, scenario_names, similar_scenarios
from gradscope.targets.snippets import as_source, missing_imports
from gradscope.targets.source import decode, parse, read_file, syntax_error
from gradscope.targets.transcripts import has_prompts, is_prompt, read_transcript

_ALIKE = 0.7
"""How much the names of two files have in common that may be taken for each other."""


def resolve(target: str, *, code: str | None = None, module: str | None = None) -> Program:
    """Find and read what a target names.

    Args:
        target: A scenario's name, ``path.py``, ``path.py::cell``, ``path.py::docstrings``, a transcript, a page of
            Markdown, ``path.ipynb``, ``path.ipynb::3``, ``path.ipynb::tag``, a folder with a ``__main__.py``, or ``-``
            for standard input. With ``code`` or ``module``, only what the recording calls the target.
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
        beside = _similar_files(path)
        hint = f"did you mean {beside[0]}?" if beside else f"did you mean the scenario {close[0]}?" if close else ""
        raise TargetError(f"no such file: {name}", hint)
    hint = f"did you mean {' or '.join(close)}?" if close else "gradscope list shows the built-in scenarios"
    if not scenario_names():
        hint = "this installation has no built-in scenarios"
    raise TargetError(f"no file and no built-in scenario is called {name!r}", hint)


def _similar_files(path: Path) -> list[str]:
    """Files in the same folder that somebody who wrote this one may have meant."""
    folder = path.parent
    there = [other.stem for other in folder.iterdir() if other.suffix == path.suffix] if folder.is_dir() else []
    return [str(folder / f"{stem}{path.suffix}") for stem in get_close_matches(path.stem, there, 1, _ALIKE)]


def _from_code(target: str, code: str) -> Program:
    if code.lstrip().startswith(">>>"):
        return _in_snippets(target, TRANSCRIPT, "<string>", "-c", code, "-c", "", str(Path.cwd()))
    return _analysed(target, CODE, "<string>", "-c", code, "-c", "", str(Path.cwd()))


def _from_stdin() -> Program:
    if sys.stdin is None:
        raise TargetError("standard input is closed")
    text = decode(sys.stdin.buffer.read(), "standard input")
    try:
        parse(text, "<stdin>")
    except SyntaxError:
        kind = _kind_for_people(text)
        if kind is not None:
            return _in_snippets("-", kind, "<stdin>", "standard input", text, "-", "", str(Path.cwd()))
    return _analysed("-", STDIN, "<stdin>", "standard input", text, "-", "", str(Path.cwd()))


def _from_file(target: str, argv0: str, cell: str | None) -> Program:
    filename = os.path.join(Path.cwd(), argv0)  # noqa: PTH118 - a Path would drop the "./" that Python keeps
    folder = str(Path(argv0).resolve().parent)
    text = decode(read_file(Path(argv0)), argv0)
    root = _user_root(folder)
    if is_notebook(argv0):
        return _notebook(target, filename, argv0, text, cell, folder, root)
    try:
        tree = parse(text, filename)
    except SyntaxError as error:
        kind = _kind_for_people(text, Path(argv0), error) if cell is None else None
        if kind is not None:
            return _in_snippets(target, kind, filename, argv0, text, argv0, folder, folder)
        raise syntax_error(error, argv0) from error
    if cell is None:
        return _analysed(target, SCRIPT, filename, argv0, text, argv0, folder, root, tree)
    cells = find_cells(find_comments(text), text)
    if cell == DOCSTRINGS_PART and all(known.name != cell for known in cells):
        return _docstrings(target, filename, argv0, text, tree, folder, root)
    text = select_cell(text, cells, cell, argv0)
    return _analysed(target, CELL, filename, f"{argv0}::{cell}", text, argv0, folder, root, cell=cell, cells=cells)


def _notebook(
    target: str, filename: str, argv0: str, text: str, cell: str | None, folder: str, user_root: str
) -> Program:
    notebook = read_notebook(text, argv0, cell)
    return Program(
        target=target,
        kind=NOTEBOOK,
        filename=filename,
        name=argv0 if cell is None else f"{argv0}::{cell}",
        source=as_source(notebook.line_count, notebook.cells),
        argv0=argv0,
        path0=folder,
        snippets=notebook.cells,
        cell=cell or "",
        user_root=user_root,
        remarks=notebook.remarks,
    )


def _docstrings(
    target: str, filename: str, argv0: str, text: str, tree: ast.Module, folder: str, user_root: str
) -> Program:
    examples = read_docstrings(tree, text)
    if not examples:
        raise TargetError(f"no docstring of {argv0} has an example", "an example stands behind >>> in a docstring")
    return Program(
        target=target,
        kind=DOCSTRINGS,
        filename=f"{filename}::{DOCSTRINGS_PART}",
        name=f"{argv0}::{DOCSTRINGS_PART}",
        source=as_source(text.count("\n") + 1, examples),
        argv0=argv0,
        path0=folder,
        snippets=examples,
        examples_of=filename,
        user_root=user_root,
    )


def _user_root(folder: str) -> str:
    """The folder whose files are the user's: the current one where a script lies below it (``scripts/`` beside
    ``src/``), else the script's own."""
    here = Path.cwd()
    is_project = here not in (Path.home(), Path(here.anchor)) and Path(folder).is_relative_to(here.resolve())
    return str(here.resolve()) if is_project else folder


def _kind_for_people(text: str, path: Path | None = None, error: SyntaxError | None = None) -> Kind | None:
    """What a text is that is no Python: a page with blocks of code, or a text with prompts.

    A ``.py`` file is one only where a prompt is what Python stumbles over.
    """
    if path is not None and error is not None and path.suffix in (".py", ".pyw"):
        lines = text.split("\n")
        is_one = 0 < (error.lineno or 0) <= len(lines) and is_prompt(lines[(error.lineno or 0) - 1])
        return TRANSCRIPT if is_one else None
    if read_page(text):
        return PAGE
    return TRANSCRIPT if has_prompts(text) else None


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


def _in_snippets(
    target: str, kind: Kind, filename: str, name: str, text: str, argv0: str, path0: str, user_root: str
) -> Program:
    """A program of what a text for people has of code, and what that uses without importing it."""
    snippets: tuple[Snippet, ...] = read_page(text) if kind is PAGE else read_transcript(text)
    imports = missing_imports(snippets)
    said, asked = "; ".join(imports), "torch" if "import torch" in imports else "NAME"
    remarks = [f"no {kind.snippet} here has {said}: that was run first, as --import {asked} does"]
    return Program(
        target=target,
        kind=kind,
        filename=filename,
        name=name,
        source=as_source(text.count("\n") + 1, snippets),
        argv0=argv0,
        path0=path0,
        snippets=snippets,
        user_root=user_root,
        imports=imports,
        remarks=tuple(remarks) if imports else (),
    )
