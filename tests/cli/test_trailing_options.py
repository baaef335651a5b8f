"""Options behind the target are gradscope's only where the program cannot want them."""

from __future__ import annotations

import pytest

from gradscope.cli.options.trailing_options import meant_for_gradscope, options_first, reads_arguments
from tests.cli.command import gradscope

TAKES_VALUE = {"-f": True, "--format": True, "--all": False, "-c": False, "-m": False, "-q": False}


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text("import torch\ntorch.ones(1)\n")
    (tmp_path / "reads.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    (tmp_path / "imports.py").write_text("import plain\n")
    (tmp_path / "library.py").write_text("import torch\nfrom lightning.pytorch.cli import LightningCLI\n")
    (tmp_path / "fires.py").write_text("import torch as t, os\n# neurons fire on a click\nt.ones(1)\n")
    (tmp_path / "several.py").write_text("import os as o, fire\n")


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ("run detach -f json", "run -f json detach"),
        ("run plain.py --format json --all", "run --format json --all plain.py"),
        ("run plain.py --format=json", "run --format=json plain.py"),
        ("run -q plain.py -f json", "run -q -f json plain.py"),
        ("run plain.py::cell -f json", "run -f json plain.py::cell"),
        ("run plain.py -f json data.csv", "run plain.py -f json data.csv"),
        ("run plain.py --epochs 1", "run plain.py --epochs 1"),
        ("run plain.py -- -f json", "run plain.py -- -f json"),
        ("run reads.py -f json", "run reads.py -f json"),
        ("run imports.py -f json", "run imports.py -f json"),
        ("run library.py -f json", "run library.py -f json"),
        ("run fires.py -f json", "run -f json fires.py"),
        ("run several.py -f json", "run several.py -f json"),
        ("run missing.py -f json", "run missing.py -f json"),
        ("run -m package -f json", "run -m package -f json"),
        ("run - -f json", "run - -f json"),
        ("run", "run"),
        ("run plain.py", "run plain.py"),
    ],
)
def test_options_behind_the_target(given, parsed):
    assert options_first(given.split(), TAKES_VALUE) == parsed.split()


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize(
    ("target", "arguments", "meant"),
    [
        ("plain.py", "--formt json", ["--format"]),
        ("plain.py", "--epochs 1", []),
        ("reads.py", "--all", ["--all"]),
        ("reads.py", "--formt json", []),
        ("reads.py", "-- --all", []),
    ],
)
def test_what_went_to_a_program_and_was_meant_for_gradscope(target, arguments, meant):
    program_reads = reads_arguments(target, is_code=False)
    assert meant_for_gradscope(arguments.split(), TAKES_VALUE, program_reads=program_reads) == meant


@pytest.mark.usefixtures("scripts")
def test_a_program_that_refuses_an_option_of_gradscope(tmp_path):
    refused = gradscope("run", "reads.py", "--all", cwd=tmp_path)
    assert refused.returncode == 2
    assert "for gradscope itself: gradscope run --all" in refused.stderr
    (tmp_path / "takes.py").write_text("import sys\nprint(sys.argv)\n")
    assert gradscope("run", "-q", "takes.py", "--all", cwd=tmp_path).stderr == ""
