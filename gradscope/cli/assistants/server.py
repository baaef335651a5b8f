"""The server: the tools over standard input and output, until the client closes it."""

from __future__ import annotations

import importlib.util
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from gradscope.errors import ExitCode, GradscopeError, UsageError
from gradscope.version import VERSION

INSTRUCTIONS = (
    "gradscope shows what PyTorch's autograd does in a program, line by line. Use run for a script that trains badly, "
    "why for one tensor, compare for detach, no_grad and the like side by side, report for rows of a recording, and "
    "explain for the code of an answer. The lines to change stand under causes (run) and changes (why)."
)


def check_installed() -> None:
    """See whether the protocol's package is there.

    Raises:
        UsageError: It is not, or an older one.
    """
    if importlib.util.find_spec("mcp") is None:
        raise UsageError(
            "gradscope mcp needs the package of the Model Context Protocol, which is not installed",
            f"from a checkout of gradscope: {sys.executable} -m pip install '.[mcp]', or: pip install 'mcp>=2'",
        )
    if importlib.util.find_spec("mcp_types") is None:
        raise UsageError("gradscope mcp needs mcp 2 or later", f"{sys.executable} -m pip install -U 'mcp>=2'")


def serve(folders: tuple[Path, ...], *, any_code: bool, only_reads: bool, seconds: float, characters: int) -> ExitCode:
    """Serve one client, until it closes standard input or a signal ends the process.

    Args:
        folders: What lies below them may be named.
        any_code: Whether code may be given as text.
        only_reads: Leave out the tools that run programs.
        seconds: How long a command may take.
        characters: How long an answer may be.
    """
    import anyio

    from gradscope.cli.assistants.allowed import Allowed
    from gradscope.cli.assistants.tools import TOOLS, Limits, Tools

    offered = [tool for tool in TOOLS if not (only_reads and tool.runs_code)]
    with tempfile.TemporaryDirectory(prefix="gradscope-mcp-") as folder:
        tools = Tools(Allowed(folders, any_code=any_code), Limits(seconds, characters), Path(folder))
        anyio.run(_serve, _server(tools, offered))
    return ExitCode.OK


def _server(tools: Any, offered: list[Any]) -> Any:
    import mcp_types as types
    from jsonschema import Draft202012Validator
    from mcp.server.lowlevel import Server

    from gradscope.cli.assistants.bounded import as_text

    known = {tool.name: tool for tool in offered}

    async def list_tools(*_: Any) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=tool.name,
                    title=tool.title,
                    description=tool.description,
                    input_schema=tool.schema,
                    annotations=types.ToolAnnotations(
                        read_only_hint=not tool.runs_code,
                        destructive_hint=tool.runs_code,  # as far as the program is
                        open_world_hint=tool.runs_code,
                    ),
                )
                for tool in offered
            ]
        )

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        tool = known.get(asked.name)
        if tool is None:
            return _refusal(f"there is no tool {asked.name!r}: there are {', '.join(known)}")
        arguments = asked.arguments or {}
        for wrong in Draft202012Validator(tool.schema).iter_errors(arguments):
            where = ".".join(map(str, wrong.absolute_path))
            return _refusal(f"{where}: {wrong.message}" if where else wrong.message)
        try:
            found = await tool.call(tools, arguments)
        except GradscopeError as error:
            return _refusal(f"{error.message}\n{error.hint}".strip())
        return types.CallToolResult(content=[types.TextContent(text=as_text(found))], structured_content=found)

    def _refusal(text: str) -> types.CallToolResult:
        return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)

    return Server(
        "gradscope",
        version=VERSION,
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _serve(server: Any) -> None:
    import anyio
    from mcp.server.stdio import stdio_server

    async def end_at_signals(scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for _ in signals:
                scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(end_at_signals, group.cancel_scope)
        async with stdio_server() as (received, sent):
            await server.run(received, sent, server.create_initialization_options())
        group.cancel_scope.cancel()
