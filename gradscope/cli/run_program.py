"""Doing what ``gradscope run`` was asked to: resolve, run under the recorder, show, and end as the program did."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from gradscope.cli.options.process_options import ChildProcesses
from gradscope.cli.output.failures import tell_as_python
from gradscope.cli.output.run_output import RunOutput
from gradscope.cli.requests import RunRequest
from gradscope.errors import SourceError
from gradscope.expressions.watches import Watches
from gradscope.frames.own_packages import NO_PACKAGES, NamedPackages
from gradscope.hosting.followed_children import ChildSettings, FollowedChildren
from gradscope.hosting.program_run import ProgramRun
from gradscope.targets.program import Program
from gradscope.targets.resolve import resolve
from gradscope.targets.snippets import with_imports

_WRONG_USE = 2
"""With what argparse, click and others end a program whose arguments they refuse."""


def run_program(request: RunRequest) -> NoReturn:
    """Run a program, show what was observed, and end the process as the program did.

    Raises:
        GradscopeError: The target, an option or an output file is no good; nothing was run.
    """
    try:
        program = named_program(
            request.target, is_code=request.is_code, is_module=request.is_module, packages=request.packages
        )
    except SourceError as error:
        sys.exit(tell_as_python(error))
    if request.imports:
        program = with_imports(program, request.imports)
    watches = Watches(program, request.watch)  # what is wrong with one is said before any file is replaced
    result = RunOutput(request)
    children = None
    if request.children is ChildProcesses.FOLLOW and result.recording_paths:
        settings = ChildSettings(result.recording_paths, request.view.values, request.max_ops, request.nan)
        children = FollowedChildren(program, [program.argv0, *request.arguments], settings)
    run = ProgramRun(
        program,
        request.arguments,
        values=request.view.values,
        max_ops=request.max_ops,
        every_op=request.every_op,
        nan=request.nan,
        fingerprints=request.fingerprints,
        companion=watches,
        hidden=own_modules(request.modules_at_start, program.path0),
        ends_process=True,
        on_flush=result.on_flush,
        on_finish=result.finish,
        on_look=result.show_so_far,
        looks_at=request.looks_at,
        timeout=request.timeout,
        progress=result.progress,
        children=children,
        counts_children=request.children is not ChildProcesses.OFF,
    )
    if request.format and not program.source.strip():
        print(f"gradscope: {program.name} is empty: there is nothing to run", file=sys.stderr)
    run.run()
    if request.arguments:
        _hint_at_misplaced_options(request, refused=run.exit_code == _WRONG_USE)
    if result.failure and not run.exit_code:
        sys.exit(result.failure)
    run.leave()


def _hint_at_misplaced_options(request: RunRequest, *, refused: bool) -> None:
    from gradscope.cli.options.trailing_options import meant_for_gradscope, reads_arguments

    program_reads = reads_arguments(request.target, is_code=request.is_code)
    if program_reads and not refused:
        return  # it wanted them
    meant = meant_for_gradscope(request.arguments, request.own_options, program_reads=program_reads)
    if meant:
        print(
            f"gradscope: what stands behind the target went to the program; for gradscope itself: "
            f"gradscope run {' '.join(meant)} …",
            file=sys.stderr,
        )


def named_program(target: str, *, is_code: bool, is_module: bool, packages: NamedPackages = NO_PACKAGES) -> Program:
    """The program that a target and the options ``-c`` and ``-m`` name.

    Args:
        target: As it was written.
        is_code: It is Python code.
        is_module: It is the name of a module.
        packages: Those of which the user says whose they are.

    Raises:
        TargetError: It cannot be found, read, or compiled.
    """
    if is_code:
        program = resolve("-c", code=target)
    elif is_module:
        program = resolve(f"-m {target}", module=target)
    else:
        program = resolve(target)
    return program._replace(packages=packages)


def own_modules(at_start: frozenset[str], path0: str) -> frozenset[str]:
    """Modules that gradscope has imported so far and for which a program finds something of its own.

    That is every installed package, and of the standard library what a file or folder at ``path0`` stands in front of.
    """
    imported = {name: name.partition(".")[0] for name in sys.modules if name not in at_start}
    kept = {"gradscope", "__main__"}
    kept |= {top for top in set(imported.values()) & sys.stdlib_module_names if not _lies_in(path0, top)}
    return frozenset(name for name, top in imported.items() if top not in kept)


def _lies_in(folder: str, module: str) -> bool:
    path = Path(folder or ".", module)
    return path.with_suffix(".py").is_file() or path.is_dir()
