"""``python -m tests.benchmarks``: what recording costs, measured now, on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.competitors import competitors, quiet
from tests.benchmarks.forward import measure_forward
from tests.benchmarks.ladder import Step, climb
from tests.benchmarks.measure import Timings, best, best_plain, interleave
from tests.benchmarks.scale import measure_scale
from tests.benchmarks.startup import BUDGETS, COMMANDS, measure_startup
from tests.benchmarks.workloads import LADDERS, WORKLOADS, Workload

PARTS = (*WORKLOADS, "forward", "scale", "startup", "ladder")
NOTE = (
    "CPU time of the process. Ratios: best of {rounds} rounds to best bare (in brackets: median of the ratios to bare "
    "right before and after). Machine shared with others: the ratios move by some hundredths"
)


def main() -> None:
    """Measure what was asked for, and print it."""
    options = _options()
    rounds = options.rounds or (3 if options.quick else 9)
    console = Console(stderr=options.json)
    results: dict[str, Any] = {"torch": str(torch.__version__), "python": sys.version.split()[0], "rounds": rounds}
    console.print(NOTE.format(rounds=rounds), style="dim")
    chosen = options.only or PARTS
    for threads in {1: None} if options.quick else {1: None, torch.get_num_threads(): None}:
        torch.set_num_threads(threads)
        for name in WORKLOADS:
            if name in chosen:
                timings = _time(name, rounds)
                results.setdefault(f"threads={threads}", {})[name] = _ratios(timings)
                console.print(_workload_table(WORKLOADS[name].title, threads, timings, WORKLOADS[name].budget))
    torch.set_num_threads(1)
    if "forward" in chosen:
        timings = measure_forward(rounds)
        results["forward"] = _ratios(timings)
        console.print(_workload_table("small transformer's forward pass", 1, timings))
    if "scale" in chosen:
        results["scale"] = asdict(measure_scale(100_000 if options.quick else 1_000_000))
        console.print(_scale_table(results["scale"]))
    if "startup" in chosen:
        startup = measure_startup(rounds)
        results["startup"] = {name: asdict(each.ratios()) for name, each in startup.items()}
        console.print(_startup_table(startup))
    if "ladder" in chosen:
        results["ladder"] = {}
        for workload in LADDERS:
            steps = climb(workload, rounds)
            results["ladder"][workload.title] = [asdict(step) for step in steps]
            console.print(_ladder_table(workload, steps))
    if options.json:
        json.dump(results, sys.stdout, indent=2)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="a part to measure; repeatable")
    parser.add_argument("--rounds", type=int, help="rounds to take the best of (default 9; quick: 3)")
    parser.add_argument("--quick", action="store_true", help="few rounds, one thread, 100,000 ops")
    parser.add_argument("--json", action="store_true", help="JSON on standard output, tables on standard error")
    return parser.parse_args()


def _time(name: str, rounds: int) -> dict[str, Timings]:
    workload = WORKLOADS[name]
    torch.manual_seed(0)
    with quiet():
        return interleave(workload.prepare(), competitors(), rounds, workload.calls)


def _ratios(timings: dict[str, Timings]) -> dict[str, Any]:
    return {"bare_ms": best_plain(timings).cpu * 1e3} | {name: asdict(each.ratios()) for name, each in timings.items()}


def _workload_table(title: str, threads: int, timings: dict[str, Timings], limit: float | None = None) -> Table:
    bare = best_plain(timings)
    table = Table(title=f"{title}, {threads} thread{'s' if threads > 1 else ''}", title_justify="left")
    for column in ("", "CPU", "wall", "budget"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("bare", f"{bare.cpu * 1e3:.2f} ms", f"{bare.wall * 1e3:.2f} ms", "")
    for tool, each in timings.items():
        ratios = each.ratios()
        budget = f"{limit:.2f}x" if limit and tool == "gradscope" else ""
        cpu = f"{ratios.best_cpu:.2f}x ({ratios.median_cpu:.2f})"
        wall = f"{ratios.best_wall:.2f}x ({ratios.median_wall:.2f})"
        table.add_row(tool, cpu, wall, budget, style="bold" if tool == "gradscope" else "")
    return table


def _scale_table(scale: dict[str, Any]) -> Table:
    table = Table(title=f"{scale['ops']:,} ops", title_justify="left", show_header=False)
    for name, label in (("recording_bytes", "recording"), ("resident_growth", "process grew"), ("file_bytes", "file")):
        table.add_row(label, f"{scale[name] / 1e6:.0f} MB", f"{scale[name] / scale['ops']:.0f} bytes an op")
    for stage, seconds in scale["seconds"].items():
        table.add_row(stage, f"{seconds:.2f} s", f"{seconds / scale['ops'] * 1e6:.2f} µs an op")
    return table


def _startup_table(timings: dict[str, Timings]) -> Table:
    table = Table("gradscope", "CPU", "against", "ratio", "budget", title="Start-up", title_justify="left")
    for name, each in timings.items():
        ratios, plain = each.ratios(), COMMANDS[name]
        against = f"{best(each.plain).cpu * 1e3:.0f} ms: {'python snippet.py' if plain == 'snippet' else plain}"
        budget = f"{BUDGETS[name]:.2f}x" if name in BUDGETS else ""
        ratio = f"{ratios.best_cpu:.2f}x ({ratios.median_cpu:.2f})"
        table.add_row(name, f"{best(each.own).cpu * 1e3:.0f} ms", against, ratio, budget)
    return table


def _ladder_table(workload: Workload, steps: list[Step]) -> Table:
    title = f"Function modes that record one fact more each: {workload.title}"
    table = Table(title=title, title_justify="left")
    table.add_column("what is recorded")
    for column in ("ratio to bare", "ms over bare", "ms more"):
        table.add_column(column, justify="right")
    before = 0.0
    for step in steps:
        over_bare = step.over_bare * 1e3
        table.add_row(step.records, f"{step.ratio:.2f}x", f"{over_bare:.2f}", f"{over_bare - before:+.2f}")
        before = over_bare
    return table


if __name__ == "__main__":
    main()
