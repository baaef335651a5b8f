#!/usr/bin/env bash
# torch 2.15.0 against 2.13.0, Python 3.11: what stands for a function under @torch.no_grad(), @torch.inference_mode() and
# other context managers that decorate has, in 2.15, a code object of its own for each decorated function, and that is
# called as the context manager is (``no_grad``), in profiles and tracebacks too. Up to then one code object, called
# ``decorate_context``, served all of them. A tool that looks for that code among the constants of the module, by identity
# or by equality, or for its name, finds no decorated function any more; its file and first line are what is left the
# same. A good guess would have been that a wrapper made in one place has one code object, as closures have, and keeps its
# name. (Only torch/utils/_contextlib.py is taken out of the packages: it needs nothing else of torch.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
export PIP_CONSTRAINT="$work/none" # the versions are those below, whatever else is constrained
touch "$PIP_CONSTRAINT"
"$work/venv/bin/pip" install --quiet typing_extensions==4.15.0
for version in 2.13.0 2.15.0; do
    "$work/venv/bin/pip" download --quiet --no-deps --dest "$work/$version" "torch==$version"
done
"$work/venv/bin/python" - "$work" <<'P'
import pathlib
import sys
import types
import zipfile


def decorators_of(version):
    (wheel,) = pathlib.Path(sys.argv[1], version).glob("torch-*.whl")
    module = types.ModuleType(f"contextlib of {version}")
    exec(compile(zipfile.ZipFile(wheel).read("torch/utils/_contextlib.py"), "_contextlib.py", "exec"), vars(module))
    return module


def look(version):
    module = decorators_of(version)

    class no_grad(module._DecoratorContextManager):
        def __enter__(self): ...

        def __exit__(self, *_): ...

    one, other = no_grad()(lambda: 1), no_grad()(lambda: 2)
    codes = one.__code__, other.__code__
    constants = module.context_decorator.__code__.co_consts
    return (
        codes[0].co_name,
        codes[0] is codes[1],
        any(codes[0] == constant for constant in constants),
        len({(code.co_filename, code.co_firstlineno) for code in codes}) == 1,
    )


found = {version: look(version) for version in ("2.13.0", "2.15.0")}
for version, (name, is_one, is_constant, is_one_place) in found.items():
    print(f"{version}: called {name}, one for both: {is_one}, among the constants: {is_constant}, one place: {is_one_place}")
assert found["2.13.0"] == ("decorate_context", True, True, True), found
assert found["2.15.0"] == ("no_grad", False, False, True), found
P
