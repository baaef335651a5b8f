"""Running a program's code in a fresh ``__main__``, as the interpreter would."""

from __future__ import annotations

import builtins
import linecache
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from gradscope.frames.replacements import Replacement
from gradscope.frames.tracebacks import boundaries
from gradscope.hosting.probes import InsertedProbes
from gradscope.hosting.recursion_room import reported_depth, room_to_recurse
from gradscope.targets.program import Program


def new_main(program: Program) -> ModuleType:
    """A ``__main__`` module with the attributes that Python gives it, in ``sys.modules``."""
    module = ModuleType("__main__")
    names = module.__dict__
    kind = program.kind
    names["__loader__"] = SourceFileLoader("__main__", program.filename) if kind.is_in_file else BuiltinImporter
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    names["__builtins__"] = builtins
    if kind.has_file_name:
        names["__file__"] = program.filename
        names["__cached__"] = None
    sys.modules["__main__"] = module
    return module


def register_source(program: Program) -> None:
    """Let tracebacks show source that is in no file, where Python itself does so."""
    is_shown = program.kind.snippet or program.is_edited
    if is_shown or (sys.version_info >= (3, 13) and program.kind.is_option):
        lines = program.source.splitlines(keepends=True)
        linecache.cache[program.filename] = (len(program.source), None, lines, program.filename)


def forget_source(program: Program) -> None:
    """Take back what :func:`register_source` did: another program of that name has other lines."""
    known = linecache.cache.get(program.filename)
    if known is not None and len(known) > 1 and known[1] is None:  # (no file's: those have a time)
        del linecache.cache[program.filename]


def execute(program: Program, module: ModuleType, probes: InsertedProbes) -> None:
    """Run a program that is one whole to its end; what it raises passes through."""
    if program.kind.is_module:
        _run_module(program, probes)
    else:
        run_code(_compile(program, probes), module.__dict__)


def run_imports(program: Program, names: dict[str, Any]) -> None:
    """Import what a program uses and does not import itself."""
    for statement in program.imports:
        exec(compile(statement, "<imports>", "exec", dont_inherit=True), names)


def run_code(code: CodeType, names: dict[str, Any]) -> None:
    """Run code with the room to recurse that it would have under Python."""
    probe: dict[str, Any] = {"reported_depth": reported_depth}
    exec("depth = reported_depth()", probe)
    with room_to_recurse(probe["depth"] - 1):
        exec(code, names)


def _compile(program: Program, probes: InsertedProbes) -> CodeType:
    if not probes and program.tree is None:
        return compile(program.source, program.filename, "exec", dont_inherit=True)
    return probes.compile(program.parsed())


def _run_module(program: Program, probes: InsertedProbes) -> None:
    """Run a module by Python's own ``runpy``: what it found is compiled anew only where it is to be something else."""

    def with_probes(find: Callable[..., tuple[str, Any, CodeType]]) -> Callable[..., tuple[str, Any, CodeType]]:
        def find_with_probes(*arguments: Any) -> tuple[str, Any, CodeType]:
            replaced.put_back()
            name, spec, code = find(*arguments)
            return name, spec, _compile(program, probes) if probes or program.is_edited else code

        return find_with_probes

    with Replacement(runpy, "_get_module_details", with_probes) as replaced:
        _run_as_main(program.module)


def _run_as_main(name: str) -> None:
    run: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
    with room_to_recurse(reported_depth()):
        run(name.removesuffix(".__main__"), name != "__main__")


boundaries.update((run_code.__code__, _run_as_main.__code__))
