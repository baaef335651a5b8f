"""Options behind the target are gradscope's only where the program cannot want them."""

from __future__ import annotations

import pytest

from gradscope.cli.options.trailing_options import options_first

TAKES_VALUE = {"-f": True, "--format": True, "--all": False, "-c": False, "-m": False, "-q": False}


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.py").write_text("import torch\ntorch.ones(1)\n")
    (tmp_path / "reads.py").write_text("import argparse\nargparse.ArgumentParser().parse_args()\n")
    (tmp_path / "imports.py").write_text("import plain\n")
    (tmp_path / "library.py").write_text("import torch\nfrom lightning.pytorch.cli import LightningCLI\n")


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
        ("run missing.py -f json", "run missing.py -f json"),
        ("run -m package -f json", "run -m package -f json"),
        ("run - -f json", "run - -f json"),
        ("run", "run"),
        ("run plain.py", "run plain.py"),
    ],
)
def test_options_behind_the_target(given, parsed):
    assert options_first(given.split(), TAKES_VALUE) == parsed.split()
