"""``gradscope mcp`` with the protocol's own client over standard input and output."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import gradscope as package
from gradscope.cli.assistants.bounded import as_text, fitting, page

mcp = pytest.importorskip("mcp")
anyio = pytest.importorskip("anyio")

PROGRAM = "import torch\nw = torch.ones(2, requires_grad=True)\nh = w * 2\nh.sum().backward()\nprint(h.grad)\n"
HANGS = """
import os, pathlib, subprocess, sys, time, torch
w = torch.ones(2, requires_grad=True)
h = w * 2
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(6000)"])
pathlib.Path("pids").write_text(f"{os.getppid()} {os.getpid()} {child.pid}")
time.sleep(6000)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the user allows, with a file beside it that is not allowed."""
    outside = tmp_path_factory.mktemp("outside")
    folder = outside / "allowed"
    (folder / "gradscope").mkdir(parents=True)
    (folder / "gradscope" / "__init__.py").write_text("raise SystemExit('taken for gradscope')\n")
    (folder / "program.py").write_text(PROGRAM)
    (folder / "hangs.py").write_text(HANGS)
    (folder / "syntax.py").write_text("import torch\nw = = 1\n")
    (outside / "secret.py").write_text("open('secret', 'w')\n")
    (folder / "link.py").symlink_to(outside / "secret.py")
    return folder


def session(folder: Path, use: Callable[[Any], Awaitable[Any]], *options: str, mode: str = "auto") -> Any:
    """What a client's session with a server of its own gives."""
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=[str(Path(package.__file__).with_name("__main__.py")), "mcp", *options],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )

    async def main() -> Any:
        async with mcp.Client(mcp.stdio_client(server), mode=mode) as client:
            return await use(client)

    return anyio.run(main)


def given(result: Any) -> Any:
    """The object that a tool gave, the same as text."""
    assert not result.is_error, result.content[0].text
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


def refused(result: Any) -> str:
    assert result.is_error
    return str(result.content[0].text)


def test_a_session_runs_looks_into_the_recording_asks_and_explains(folder: Path):
    async def use(client: Any) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["run", "why", "compare", "report", "explain"]
        assert [tool.annotations.read_only_hint for tool in tools] == [False, False, False, True, True]
        ran = given(await client.call_tool("run", {"target": "program.py"}))
        (answer,) = ran["answers"]
        assert answer["code"] == "grad-none-non-leaf" and [cause["line"] for cause in answer["causes"]] == [3]
        assert ran["outcome"] == "ok" and "None" in ran["printed"] and ran["recording"] == "run-1"
        lines = given(await client.call_tool("report", {"recording": "run-1", "part": "lines", "lines": "3"}))
        assert [(row["line"], row["name"]) for row in lines["shown"]] == [(3, "h")]
        lines = given(
            await client.call_tool("report", {"recording": "run-1", "part": "lines", "containing": "MulBack"})
        )
        assert [row["line"] for row in lines["shown"]] == [3]
        why = given(await client.call_tool("why", {"target": "program.py", "question": "w.grad"}))
        assert why["found"] and why["tensor"] == "w"
        explained = given(await client.call_tool("explain", {"code": "grad-none-non-leaf"}))
        assert explained["remedy"]

    session(folder, use)


def test_wrong_input_is_refused_in_words_and_runs_nothing(folder: Path):
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("run", {}, "nothing to run"),
        ("run", {"target": "program.py", "epochs": 1}, "'epochs' was unexpected"),
        ("run", {"target": ["program.py"]}, "target: ['program.py'] is not of type 'string'"),
        ("run", {"target": "progam.py"}, "no such file or built-in scenario: progam.py"),
        ("run", {"target": "../secret.py"}, "lies outside of what was allowed"),
        ("run", {"target": "link.py"}, "lies outside of what was allowed"),
        ("run", {"target": "a\0b"}, "no such file"),
        ("run", {"target": "--help"}, "no such file"),
        ("run", {"target": "syntax.py"}, "SyntaxError"),
        ("run", {"code": "import os"}, "--allow-code allows it"),
        ("why", {"target": "program.py", "question": "open('written', 'w')"}, "more than the name of a tensor"),
        ("why", {"target": "program.py", "question": "w +"}, "is no Python expression"),
        ("compare", {"targets": ["program.py", "../secret.py"]}, "lies outside"),
        ("report", {"recording": "program.py"}, "is not a gradscope recording"),
        ("report", {"recording": "../../run-1"}, "no such file"),
        ("report", {"recording": "run-1", "part": "secrets"}, "part: 'secrets' is not one of"),
        ("explain", {"code": "grad-none-nonleaf"}, "grad-none-non-leaf"),
        ("delete", {}, "there is no tool 'delete'"),
    ]

    async def use(client: Any) -> list[str]:
        return [refused(await client.call_tool(name, arguments)) for name, arguments, _ in asked]

    for said, (name, arguments, expected) in zip(session(folder, use), asked, strict=True):
        assert expected in said, (name, arguments, said)
    assert not [path for path in folder.parent.rglob("*") if path.name in ("secret", "written")]


def test_what_only_reads_offers_nothing_that_runs_a_program_also_to_a_client_of_earlier_protocols(folder: Path):
    async def use(client: Any) -> str:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["report", "explain"]
        codes = given(await client.call_tool("explain", {}))
        assert codes["rows"] > 50 and codes["shown"][0].keys() == {"code", "severity", "title"}
        return refused(await client.call_tool("run", {"target": "program.py"}))

    assert "there is no tool 'run'" in session(folder, use, "--read-only", mode="legacy")


def test_code_as_text_where_it_is_allowed_and_answers_of_bounded_size(folder: Path):
    long = "import torch\nw = torch.ones(2, requires_grad=True)\n" + "".join(
        f"h{n} = w * {n}\nh{n}.sum().backward()\nprint(h{n}.grad)\n" for n in range(30)
    )

    async def use(client: Any) -> None:
        ran = await client.call_tool("run", {"code": long})
        assert len(ran.content[0].text) <= 15_000 and "shortened" in given(ran)
        seen, first = 0, 0
        while first is not None:
            part = await client.call_tool("report", {"recording": "run-1", "part": "lines", "first": first})
            assert len(part.content[0].text) <= 15_000
            rows = given(part)
            seen, first = seen + len(rows["shown"]), rows.get("next")
        assert seen == rows["rows"] > 50

    session(folder, use, "--allow-code", "--max-chars", "15000")


def test_a_program_that_hangs_is_ended_and_answered_and_leaves_no_process(folder: Path):
    async def use(client: Any) -> Any:
        return await client.call_tool("run", {"target": "hangs.py"})

    (folder / "pids").unlink(missing_ok=True)
    ran = session(folder, use, "--timeout", "12")
    assert "took longer" in ran.content[0].text
    if (folder / "pids").exists():  # else the machine was too slow for it to begin
        assert given(ran)["summary"]["ops"] == 2
        assert not _alive(folder)


@pytest.mark.parametrize("how", ["cancelled", "closed", "terminated"])
def test_what_is_called_off_is_ended(folder: Path, how: str):
    (folder / "pids").unlink(missing_ok=True)

    async def use(client: Any) -> None:
        with anyio.move_on_after(600) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "run", {"target": "hangs.py"})
                while not (folder / "pids").exists() or not (folder / "pids").read_text():
                    await anyio.sleep(0.05)
                if how == "terminated":
                    os.kill(int((folder / "pids").read_text().split()[0]), signal.SIGTERM)
                if how != "cancelled":
                    scope.cancel()
                group.cancel_scope.cancel()
        if how == "cancelled":
            assert given(await client.call_tool("explain", {"code": "no-derivative"}))
            _wait_until(lambda: not _alive(folder))

    session(folder, use)
    _wait_until(lambda: not _alive(folder))


def _alive(folder: Path) -> list[str]:
    found = (folder / "pids").read_text().split()[1:]
    return [pid for pid in found if Path(f"/proc/{pid}").exists() and "State:\tZ" not in _status(pid)]


def _status(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def _wait_until(holds: Callable[[], bool]) -> None:
    while not holds():  # pytest's limit ends it
        time.sleep(0.05)


def test_rows_are_given_page_by_page_and_what_is_too_long_is_shortened():
    rows = [{"line": number, "source": "x" * number} for number in range(300)]
    first, seen = 0, []
    while first is not None:
        part = page(rows, first, 2_000)
        assert len(as_text(part["shown"])) <= 2_001 and part["shown"]
        seen += part["shown"]
        first = part.get("next")
    assert seen == rows
    long = {"outcome": "ok", "lines": ["y" * 5_000] * 1_000, "deep": {"names": list(range(10_000))}}
    short = fitting(long, 1_000)
    assert len(as_text(short)) <= 1_000 and short["outcome"] == "ok" and "more" in short["lines"][-1]
    assert fitting({"a": 1}, 1_000) == {"a": 1}
    assert len(as_text(page([long], 0, 1_000)["shown"])) <= 1_002
