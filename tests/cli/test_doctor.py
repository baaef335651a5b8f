"""``gradscope doctor``: what it says is what torch says, and its self-test fails when the recorder is wrong."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import gradscope.recorder
from gradscope.cli.app import app
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.doctor.selftest import Check, self_test
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.torch_internals.entry_points import ENTRY_POINTS
from tests.processes import run as run_command


def test_everything_is_fine_here():
    result = CliRunner().invoke(app, ["doctor", "--format", "json"])
    findings = json.loads(result.stdout)
    assert result.exit_code == 0
    assert findings["outcome"] == "ok"
    assert findings["versions"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert findings["versions"]["python"] == sys.version.split()[0]
    assert findings["devices"]["cuda_available"] == torch.cuda.is_available()
    assert len(findings["self_test"]) == 5
    assert findings["scenarios"]["count"] == len(list(Path(findings["scenarios"]["folder"]).glob("*.py")))


def test_the_table_says_it_in_words():
    result = CliRunner().invoke(app, ["doctor"], env={"COLUMNS": "80"})
    assert "function mode" in result.stdout
    assert result.stdout.count("self-test") == 5
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_it_leaves_nothing_installed():
    before = torch._C._len_torch_function_stack()
    self_test()
    assert torch._C._len_torch_function_stack() == before


def test_a_recorder_that_changes_a_result_is_found_out(monkeypatch: pytest.MonkeyPatch):
    def doubling(mode, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is torch.Tensor.mul else result

    monkeypatch.setattr(RecorderMode, "__torch_function__", doubling)
    assert "same results with the recorder on" in _failed(self_test())


def test_a_recorder_that_misses_a_fact_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(GraphNodes, "enter", lambda *_: -1)
    assert "recorded facts are what torch says" in _failed(self_test())
    result = CliRunner().invoke(app, ["doctor", "-f", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["outcome"] == "failed"


def test_a_fault_in_the_recorder_is_found_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(GraphNodes, "enter", lambda *_: 1 / 0)
    assert "no fault of the recorder's own" in _failed(self_test())


def test_without_torch_it_says_so():
    code = "import sys; sys.modules['torch'] = None; from gradscope.__main__ import main; sys.exit(main())"
    done = run_command([sys.executable, "-c", code, "doctor"])
    assert done.returncode == 2
    assert done.stdout == ""
    assert "torch cannot be imported" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_private_name_of_torch_that_the_recorder_uses_is_listed():
    used: set[str] = set()
    for file in Path(gradscope.recorder.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("torch._C."):
                used.add(ast.unparse(node).removeprefix("torch."))
    listed = [point.name for point in ENTRY_POINTS]
    assert {name for name in used if not any(f"{known}.".startswith(f"{name}.") for known in listed)} == set()


def test_a_missing_entry_point_is_seen(monkeypatch: pytest.MonkeyPatch):
    (point,) = [point for point in ENTRY_POINTS if point.name == "_C._len_torch_dispatch_stack"]
    assert point.exists
    monkeypatch.delattr(torch._C, "_len_torch_dispatch_stack")
    assert not point.exists


def _failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]
