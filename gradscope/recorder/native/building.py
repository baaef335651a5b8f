"""Builds the native core where a compiler is: a hook of hatchling's, run when gradscope is built or installed.

Where it cannot be built, gradscope is installed without it, and records with its Python.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = "gradscope/recorder/native"
_FILE = "_core" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")


class NativeCore(BuildHookInterface):  # type: ignore[misc]
    """Adds the core to a wheel, and puts it beside its source for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build it; a wheel that holds it is one for this Python and this system."""
        folder, self._into = Path(self.root, _FOLDER), Path(tempfile.mkdtemp(prefix="gradscope-core-"))
        try:
            built = _build(folder, self._into)
        except BaseException as error:  # compilers raise SystemExit as well
            if isinstance(error, KeyboardInterrupt):
                raise
            self.app.display_warning(f"gradscope is built without its native core: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if version == "editable":
            beside = folder / f"new{_FILE}"
            beside.write_bytes(built.read_bytes())
            beside.replace(folder / _FILE)  # (processes that run have the file that was there in their memory)
        else:
            build_data["force_include"][str(built)] = f"{_FOLDER}/{_FILE}"

    def finalize(self, *_: Any) -> None:
        """Take away what was compiled, which is in the wheel by now."""
        shutil.rmtree(self._into, ignore_errors=True)


def _build(folder: Path, into: Path) -> Path:
    """Compile the core into a folder; the library's path."""
    if sys.implementation.name != "cpython" or os.environ.get("GRADSCOPE_CORE") == "python":
        raise RuntimeError("not asked for, or not for this Python")
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    sources = sorted(str(path) for path in folder.glob("*.c"))
    flags = [] if sys.platform == "win32" else ["-O2", "-g0", "-std=c11", "-fvisibility=hidden"]
    extension = Extension("_core", sources, depends=[str(folder / "core.h")], extra_compile_args=flags)
    command = build_ext(Distribution({"name": "gradscope", "ext_modules": [extension]}))
    command.build_lib = command.build_temp = str(into)
    command.ensure_finalized()
    command.run()
    return into / _FILE
