"""The tools: what each is called with, which command does it, and what is given back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from gradscope.cli.assistants.allowed import Allowed, Named
from gradscope.cli.assistants.bounded import fitting, page, tail
from gradscope.cli.assistants.command_process import Ended, run_command
from gradscope.errors import GradscopeError, TargetError, UsageError

Arguments = Mapping[str, Any]

_PRINTED = 2_000
"""Characters of a program's output that are given back."""
_LARGEST_RESULT = 256 * 1024 * 1024
"""Bytes of JSON that are read; more would take gigabytes of memory."""
_RECORDINGS = 8
"""Recordings of the session that are kept, the last ones."""
_RESERVED = 500
"""Characters of an answer for what stands around the rows."""

PARTS = (
    "answers",
    "lines",
    "ops",
    "alias_groups",
    "graphs",
    "backwards",
    "gradient_norms",
    "cuts",
    "inplace_writes",
    "modes",
    "watches",
    "errors",
    "suppressed",
)
"""Lists of the JSON of a run that may be asked for."""
_OVERVIEW = ("outcome", "run", "summary", "answers", "errors", "left_out", "remarks")

_TARGET = {
    "type": "string",
    "description": "A Python file, notebook, Markdown page or REPL transcript, file.py::cell, or a built-in scenario.",
}
_ARGUMENTS = {"type": "array", "items": {"type": "string"}, "description": "The program's own arguments."}
_LINES = {"type": "string", "pattern": r"^\d+(-\d+)?$", "description": "Only these lines: 12 or 10-20."}


class Limits(NamedTuple):
    """What the user allows each call."""

    seconds: float
    characters: int


class Tool(NamedTuple):
    """One tool, as clients are told of it."""

    name: str
    title: str
    description: str
    properties: Mapping[str, Any]
    required: tuple[str, ...]
    runs_code: bool
    call: Callable[[Tools, Arguments], Awaitable[dict[str, Any]]]

    @property
    def schema(self) -> dict[str, Any]:
        """What its arguments must be."""
        return {
            "type": "object",
            "properties": dict(self.properties),
            "required": list(self.required),
            "additionalProperties": False,
        }


class Tools:
    """Does what the tools are asked to.

    Args:
        allowed: What may be named.
        limits: Of each call.
        folder: For recordings and results; the caller removes it.
    """

    def __init__(self, allowed: Allowed, limits: Limits, folder: Path) -> None:
        self._allowed = allowed
        self._limits = limits
        self._folder = folder
        self._runs = 0
        self._results = 0
        self._one_at_a_time = anyio.Lock()
        """Programs take memory and processors; and one that is timed shall be alone."""

    async def run(self, arguments: Arguments) -> dict[str, Any]:
        """Run a program and give the answers."""
        self._runs += 1
        name = f"run-{self._runs}"
        recording = self._recording(name)
        what, target = self._program(arguments)
        options = [f"--import={one}" for one in arguments.get("imports", ())]
        options += ["--nan"] if arguments.get("nan") else []
        command = ["run", "-q", *options, "-o", str(recording), *_behind_options(what), *arguments.get("arguments", ())]
        async with self._one_at_a_time:
            ended = await run_command(command, target.folder, self._limits.seconds)
        if not recording.exists():
            raise self._failure(ended)
        self._runs_forgotten()
        report = await self._result(["report", "-f", "json", str(recording)], target.folder)
        memory = {key: value for key, value in report["memory"].items() if key != "lines"}
        found = {key: report[key] for key in _OVERVIEW} | {"memory": memory}
        found |= {"printed": tail(ended.printed, _PRINTED), "recording": name}
        if ended.took_too_long:
            found["ended"] = f"after {self._limits.seconds:g} s, since it took longer: all is as it was until then"
        return fitting(found, self._limits.characters)

    async def report(self, arguments: Arguments) -> dict[str, Any]:
        """Give rows of a recording."""
        wanted = arguments["recording"]
        recording = self._recording(wanted)
        if not (wanted.startswith("run-") and recording.exists()):
            recording = self._allowed.file(wanted)
        part = arguments.get("part", "answers")
        options = {"ops": ["--ops"], "gradient_norms": ["--gradients"], "graphs": ["--graph"]}.get(part, [])
        options += ["--line", arguments["lines"]] if "lines" in arguments else []
        report = await self._result(["report", "-f", "json", "--all", *options, str(recording)], self._folder)
        rows = report[part]
        if "containing" in arguments:
            rows = [row for row in rows if arguments["containing"] in json.dumps(row, ensure_ascii=False)]
        return {"part": part, **page(rows, arguments.get("first", 0), self._limits.characters - _RESERVED)}

    async def why(self, arguments: Arguments) -> dict[str, Any]:
        """Answer one question about a run."""
        what, target = self._program(arguments)
        question = self._allowed.expression(arguments.get("question", ""))
        options = ["--at", str(arguments["at"])] if "at" in arguments else []
        options += ["--line", arguments["lines"]] if "lines" in arguments else []
        command = ["why", "-f", "json", *options, *_behind_options(what), question, *arguments.get("arguments", ())]
        async with self._one_at_a_time:
            return fitting(await self._result(command, target.folder), self._limits.characters)

    async def compare(self, arguments: Arguments) -> dict[str, Any]:
        """Compare variants, versions or recordings."""
        named = [self._allowed.target(target) for target in arguments.get("targets", ())]
        folder = named[0].folder if named else self._allowed.folders[0]
        targets = [str(one.folder / one.name) if one.folder != folder else one.name for one in named]
        options = [f"--only={name}" for name in arguments.get("only", ())]
        options += [f"--group={name}" for name in arguments.get("groups", ())]
        seconds = str(self._limits.seconds * 0.8)  # so that a variant that hangs is a result like any other
        async with self._one_at_a_time:
            found = await self._result(
                ["compare", "-f", "json", "--timeout", seconds, *options, "--", *targets], folder
            )
        return fitting(_narrow(found), self._limits.characters)

    async def explain(self, arguments: Arguments) -> dict[str, Any]:
        """Explain a code, or list all."""
        code = arguments.get("code", "")
        found = await self._result(["explain", "-f", "json", "--no-run", *([code] if code else [])], self._folder)
        if code:
            return fitting(found[0], self._limits.characters)
        rows = [{key: one[key] for key in ("code", "severity", "title")} for one in found]
        return page(rows, arguments.get("first", 0), self._limits.characters - _RESERVED)

    def _program(self, arguments: Arguments) -> tuple[list[str], Named]:
        """What names a program on the command line, and where it is run."""
        if "code" in arguments:
            if "target" in arguments:
                raise UsageError("target and code cannot be given together")
            if not self._allowed.any_code:
                raise UsageError(
                    "code as text is not allowed here", "gradscope mcp --allow-code allows it; name a file"
                )
            return ["-c", arguments["code"]], Named(self._allowed.folders[0], "-c")
        if "target" not in arguments:
            raise UsageError("nothing to run", "give a target")
        named = self._allowed.target(arguments["target"])
        return [named.name], named

    def _recording(self, name: str) -> Path:
        return self._folder / f"{Path(name).name}.gradscope"

    def _runs_forgotten(self) -> None:
        """Remove the recordings that are too many."""
        self._recording(f"run-{self._runs - _RECORDINGS}").unlink(missing_ok=True)

    async def _result(self, command: list[str], folder: Path) -> Any:
        """The JSON that a command prints.

        Raises:
            GradscopeError: It took too long, or what it says instead.
        """
        self._results += 1
        file = self._folder / f"result-{self._results}.json"
        try:
            ended = await run_command(command, folder, self._limits.seconds, file)
            if file.stat().st_size > _LARGEST_RESULT:
                raise UsageError("the result is too large to be read", "ask for some lines only: lines, containing")
            try:
                return json.loads(file.read_bytes())
            except ValueError:
                raise self._failure(ended) from None
        finally:
            file.unlink(missing_ok=True)

    def _failure(self, ended: Ended) -> GradscopeError:
        """What a command said instead of a result."""
        if ended.took_too_long:
            return UsageError(
                f"it took longer than {self._limits.seconds:g} s, and was ended", tail(ended.printed, _PRINTED)
            )
        said = tail(ended.printed.strip(), _PRINTED)
        return TargetError(said.removeprefix("gradscope: ") or f"gradscope ended with {ended.exit_code}")


def _behind_options(what: list[str]) -> list[str]:
    """What names a program, so that neither it nor what follows is taken for an option."""
    return [*what[:-1], "--", what[-1]]


def _narrow(comparison: dict[str, Any]) -> dict[str, Any]:
    """A comparison with a value for each cell, without what only a screen needs."""
    groups = [
        {
            "title": group["title"],
            "rows": [
                {
                    "fact": row["fact"],
                    "name": row["label"] or row["name"],
                    "values": [_cell(one) for one in row["cells"]],
                }
                for row in group["rows"]
            ],
        }
        for group in comparison["groups"]
    ]
    variants = [{key: value for key, value in one.items() if value not in ("", 0)} for one in comparison["variants"]]
    return comparison | {"variants": variants, "groups": groups}


def _cell(cell: dict[str, Any]) -> Any:
    return cell["value"] if cell["kind"] == "value" else {cell["kind"]: cell["value"]}


_CODE = {"type": "string", "description": "Python code instead of a target, where the user allowed it."}

TOOLS: tuple[Tool, ...] = (
    Tool(
        "run",
        "Run a program under gradscope",
        "Runs a PyTorch program and says what autograd did: answers (code, sentence, lines to change under causes), "
        "counts, memory. The program's files are not changed by gradscope; the program itself does what it does. "
        "The recording's name that comes back may be given to report.",
        {
            "target": _TARGET,
            "code": _CODE,
            "arguments": _ARGUMENTS,
            "imports": {"type": "array", "items": {"type": "string"}, "description": "Import first: 'numpy as np'."},
            "nan": {"type": "boolean", "description": "Look at every value: where was a NaN born? Slower."},
        },
        (),
        True,
        Tools.run,
    ),
    Tool(
        "why",
        "Why is a gradient None, zero or NaN?",
        "Runs a PyTorch program and answers one question about a tensor: x.grad, 'model.fc.weight.grad is zero', h; "
        "or about lines; without any, its first problem. Gives the sentence, the way from the loss, what to change.",
        {
            "target": _TARGET,
            "code": _CODE,
            "question": {"type": "string", "description": "The tensor, and what is asked of it."},
            "at": {"type": "integer", "minimum": 1, "description": "Evaluate it after this line; else at the end."},
            "lines": _LINES,
            "arguments": _ARGUMENTS,
        },
        (),
        True,
        Tools.why,
    ),
    Tool(
        "compare",
        "Compare variants of a program",
        "Runs the cells (# %% name) of a file, or several files, and says in what autograd differs; recordings "
        "(*.gradscope) are compared without a run. Without targets: nine ways to stop a gradient.",
        {
            "targets": {"type": "array", "items": {"type": "string"}},
            "only": {"type": "array", "items": {"type": "string"}, "description": "Names of cells."},
            "groups": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Groups of facts: storage, memory …",
            },
        },
        (),
        True,
        Tools.compare,
    ),
    Tool(
        "report",
        "Look into a recording",
        "Gives rows of a recording that run made, or of a *.gradscope file; runs nothing. Where there are more rows "
        "than fit, next is the position to go on from.",
        {
            "recording": {"type": "string", "description": "The name that run gave, or a *.gradscope file."},
            "part": {"enum": list(PARTS), "description": "Which rows; answers unless said otherwise."},
            "lines": _LINES,
            "containing": {
                "type": "string",
                "description": "Only rows in whose JSON this text occurs: a tensor's name.",
            },
            "first": {"type": "integer", "minimum": 0, "description": "The position to begin at."},
        },
        ("recording",),
        False,
        Tools.report,
    ),
    Tool(
        "explain",
        "Explain a diagnosis",
        "Says what the code of an answer means, why torch behaves so, and how to mend it, with an example; runs "
        "nothing of the user's. Without a code: all codes with their titles.",
        {"code": {"type": "string"}, "first": {"type": "integer", "minimum": 0}},
        (),
        False,
        Tools.explain,
    ),
)
