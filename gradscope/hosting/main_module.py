"""Running a program's code in a fresh ``__main__``, as the interpreter would."""

from __future__ import annotations

import ast
import builtins
import linecache
import runpy
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

from gradscope.frames.replacements import Replacement
from gradscope.frames.tracebacks import boundaries, clean_exception
from gradscope.hosting.probes import InsertedProbes
from gradscope.hosting.recursion_room import reported_depth, room_to_recurse
from gradscope.targets.program import Program, TranscriptStatement


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
    if program.kind.is_prompts or (sys.version_info >= (3, 13) and program.kind.is_option):
        lines = program.source.splitlines(keepends=True)
        linecache.cache[program.filename] = (len(program.source), None, lines, program.filename)


def execute(program: Program, module: ModuleType, probes: InsertedProbes) -> list[str]:
    """Run a program to its end; what it raises passes through. Returns the types of the errors that did not end it."""
    if program.kind.is_prompts:
        return _run_transcript(program, module.__dict__, probes)
    if program.kind.is_module:
        _run_module(program, probes)
    else:
        _execute(_compile(program, probes), module.__dict__)
    return []


def _execute(code: CodeType, names: dict[str, Any]) -> None:
    probe: dict[str, Any] = {"reported_depth": reported_depth}
    exec("depth = reported_depth()", probe)
    with room_to_recurse(probe["depth"] - 1):
        exec(code, names)


def _compile(program: Program, probes: InsertedProbes) -> CodeType:
    if not probes:
        return compile(program.source, program.filename, "exec", dont_inherit=True)
    return probes.compile(ast.parse(program.source, program.filename))


def _run_module(program: Program, probes: InsertedProbes) -> None:
    """Run a module by Python's own ``runpy``: the code that it found is compiled anew only where there are probes."""

    def with_probes(find: Callable[..., tuple[str, Any, CodeType]]) -> Callable[..., tuple[str, Any, CodeType]]:
        def find_with_probes(*arguments: Any) -> tuple[str, Any, CodeType]:
            replaced.put_back()
            name, spec, code = find(*arguments)
            return name, spec, _compile(program, probes) if probes else code

        return find_with_probes

    with Replacement(runpy, "_get_module_details", with_probes) as replaced:
        _run_as_main(program.module)


def _run_as_main(name: str) -> None:
    run: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
    with room_to_recurse(reported_depth()):
        run(name.removesuffix(".__main__"), name != "__main__")


def _run_transcript(program: Program, names: dict[str, Any], probes: InsertedProbes) -> list[str]:
    """Run each statement as the REPL would: values are shown, and an error does not end the run."""
    raised: list[str] = []
    for prompt in program.statements:
        try:
            for statement in _parsed(prompt, program.filename):
                _execute(probes.compile(ast.Module([statement], []), "single"), names)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            clean_exception(error)
            sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
            _show_as_repl(error)
            raised.append(type(error).__qualname__)
    return raised


def _parsed(prompt: TranscriptStatement, filename: str) -> list[ast.stmt]:
    try:
        return ast.parse(prompt.source, filename).body
    except SyntaxError as error:
        # Python would read the line from the file, with the prompt.
        error.text = prompt.source.split("\n")[(error.lineno or 1) - 1]
        raise error.with_traceback(None) from None


def _show_as_repl(error: BaseException) -> None:
    if sys.stdout is not None:
        sys.stdout.flush()
    traceback.print_exception(type(error), error, error.__traceback__)


boundaries.update((_execute.__code__, _run_as_main.__code__))
