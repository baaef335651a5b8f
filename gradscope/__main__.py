"""The command ``gradscope``: the one place where an expected error becomes an exit code."""

from __future__ import annotations

import sys

_MODULES_AT_START = frozenset(sys.modules)
"""What Python itself has imported; what gradscope imports from here on, a program that it runs must not find."""


def main() -> int:
    """Run the command line and return the exit code; a program that was run ends the process as it would itself."""
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the current folder or the command's: a file there must not stand in for what we import
    try:
        from gradscope import collector

        collector.rest()
        from gradscope.cli.app import run_command_line

        code = run_command_line(sys.argv[1:], _MODULES_AT_START)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is to be said here, not when the interpreter ends
        return code
    except KeyboardInterrupt:
        from gradscope.hosting.process import die_by_interrupt

        die_by_interrupt()
    except Exception as error:
        from gradscope.cli.output.failures import forget_standard_output, tell

        if isinstance(error, OSError):
            forget_standard_output()
        return tell(error)


if __name__ == "__main__":
    sys.exit(main())
