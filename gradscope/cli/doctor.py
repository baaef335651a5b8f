"""``gradscope doctor``: versions, how gradscope observes here and why, and a self-test."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradscope.errors import ExitCode, MissingTorchError

if TYPE_CHECKING:
    from rich.console import Console

VERSION = 1
"""Of the JSON; keys are only ever added."""


class DoctorFormat(str, Enum):
    """How to show the findings."""

    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    format: Annotated[DoctorFormat, typer.Option("--format", "-f", help="table or json.")] = DoctorFormat.TABLE,
) -> None:
    """Say what gradscope finds here, and test it: exit code 0 fine, 1 the self-test failed, 2 no torch."""
    from gradscope.targets.scenarios import all_scenarios, scenario_folder

    findings: dict[str, Any] = {
        "format": "gradscope-doctor",
        "version": VERSION,
        "outcome": "ok",
        "versions": _versions(),
        "scenarios": {"folder": str(scenario_folder()), "count": len(all_scenarios())},
    }
    try:
        from gradscope.recorder.doctor.capability_report import diagnose
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] == "gradscope":
            raise
        raise MissingTorchError(error) from error
    findings |= diagnose()
    if not all(check["passed"] for check in findings["self_test"]):
        findings["outcome"] = "failed"
    if format is DoctorFormat.JSON:
        import json

        typer.echo(json.dumps(findings, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        _show(findings, Console(highlight=False, markup=False))
    if findings["outcome"] == "failed":
        raise typer.Exit(ExitCode.DIFFERENT)


def _versions() -> dict[str, str | None]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from gradscope.recording.this_machine import platform_name
    from gradscope.version import VERSION

    found: dict[str, str | None] = {"gradscope": VERSION, "python": platform.python_version()}
    for package in ("torch", "rich", "typer"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"platform": platform_name()}


def _show(findings: dict[str, Any], console: Console) -> None:
    """Print the findings as a list of names and values."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(ratio=1)
    for name, value in _rows(findings):
        table.add_row(name, value)
    console.print(table)


def _rows(findings: dict[str, Any]) -> list[tuple[str, str]]:
    mechanism, devices, scenarios = findings["mechanism"], findings["devices"], findings["scenarios"]
    rows = [(name, value or "not installed") for name, value in findings["versions"].items()]
    rows += [
        ("mechanism", f"{mechanism['name']}: {mechanism['why']}"),
        ("core", f"{findings['core']['name']} ({findings['core']['why']})"),
        ("node_creation_hook", mechanism["node_creation_hook"]),
        ("CUDA", _cuda(devices)),
        ("stack limit", _stack(findings["limits"])),
        ("scenarios", f"{scenarios['count']} in {scenarios['folder']}"),
    ]
    points = findings["entry_points"]
    rows.append(("torch's own names", f"{sum(point['exists'] for point in points)} of {len(points)} that are used"))
    for point in points:
        if not point["exists"]:
            rows.append(
                ("  missing", f"{point['name']} ({point['purpose']}): {point['without'] or 'cannot do without'}")
            )
    for check in findings["self_test"]:
        detail = f": {check['detail']}" if check["detail"] else ""
        rows.append(("self-test", f"{'ok' if check['passed'] else 'FAILED'}  {check['name']}{detail}"))
    return rows


def _cuda(devices: dict[str, Any]) -> str:
    if not devices["cuda_available"]:
        return f"built for {devices['cuda_build']}, no device" if devices["cuda_build"] else "not in this torch"
    return f"{devices['cuda_build']}: {', '.join(devices['cuda_devices'])}"


def _stack(limits: dict[str, Any]) -> str:
    from gradscope.analysis.sizes import size

    def limit(number: int | None) -> str:
        return "unlimited" if number is None else size(number)

    before, during = limits["stack_before"]["soft"], limits["stack_while_recording"]["soft"]
    if before == during:
        return f"{limit(before)}, left as it is (graphs of up to a million nodes need {limit(limits['stack_wanted'])})"
    return f"{limit(before)}, raised to {limit(during)} while recording, so that deep graphs can be freed"
