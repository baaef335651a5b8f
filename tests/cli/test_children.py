"""Processes that a program starts: counted, or recorded each for itself; they end as they would."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from gradscope.recording.file.store import load
from tests.cli.command import gradscope

TRAINS = textwrap.dedent("""
    import sys, torch, torch.multiprocessing as mp

    def train(rank, w, v):
        for step in range(2):
            loss = (w * (v.detach() if rank else v)).sum()
            loss.backward()
        if rank:
            raise ValueError("of rank one")

    if __name__ == "__main__":
        mp.set_start_method(sys.argv[1])
        w, v = (torch.ones(2).share_memory_().requires_grad_() for _ in range(2))
        started = [mp.Process(target=train, args=(rank, w, v)) for rank in range(2)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        print([process.exitcode for process in started], w.grad)
""")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_each_process_is_recorded_for_itself(tmp_path: Path, method: str):
    (tmp_path / "trains.py").write_text(TRAINS)
    done = gradscope("run", "-o", "run.gradscope", "--children", "follow", "trains.py", method, cwd=tmp_path)
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "[0, 1] None")
    assert done.stderr.count("ValueError: of rank one") == 1 and "gradscope" not in done.stderr
    under = "1." if method == "forkserver" else ""  # the server is the first, and starts the others
    first, second = (load(tmp_path / f"run.child{under}{number}.gradscope") for number in (1, 2))
    assert (first.info.outcome.kind, len(first.backwards), first.faults) == ("ok", 2, [])
    assert (second.info.outcome.kind, second.info.outcome.line, second.faults) == ("exception", 9, [])
    assert [answer.causes[0].line for answer in second.answers if answer.code == "leaf-unreached"] == [6]
    assert not first.answers
    own = load(tmp_path / "run.gradscope").info
    assert (own.children, own.child, first.info.child) == (1 if under else 2, "", f"{under}1")

    merged = json.loads(gradscope("report", "-f", "json", str(tmp_path), cwd=tmp_path).stdout)
    assert [row["name"] for row in merged["ranks"]] == ["program", f"child {under}1", f"child {under}2"]
    assert [answer["ranks"] for answer in merged["answers"] if answer["answer"]["code"] == "leaf-unreached"] == [[2]]
    found = {(one["section"], one["place"]["line"], one["subject"]) for one in merged["differences"]}
    assert ("gradients", 7, "v") in found and ("gradients", 7, "w") not in found


ENDS = textwrap.dedent("""
    import os, signal, time, torch
    w = torch.ones(2, requires_grad=True)
    for ending in ("returns", "exits", "is ended"):
        child = os.fork()
        if child:
            if ending == "is ended":
                while not os.path.exists("ready"):
                    time.sleep(0.01)
                os.kill(child, signal.SIGTERM)
            print(ending, os.waitpid(child, 0)[1])
            continue
        (w * 2).sum().backward()
        if ending == "exits":
            os._exit(3)
        if ending == "is ended":
            open("ready", "w").close()
            time.sleep(600)
        break
""")


def test_forks_end_as_they_would_and_leave_recordings(tmp_path: Path):
    (tmp_path / "ends.py").write_text(ENDS)
    done = gradscope("run", "-q", "-o", "run.gradscope", "--children", "follow", "ends.py", cwd=tmp_path)
    assert done.stdout == f"returns 0\nexits {3 << 8}\nis ended 15\n", done.stderr
    outcomes = [load(tmp_path / f"run.child{number}.gradscope").info.outcome for number in (1, 2, 3)]
    assert [(one.kind, one.exit_code) for one in outcomes] == [("ok", 0), ("exit", 3), ("signal", 143)]


def test_what_is_not_recorded_is_counted_and_nothing_is_said_of_it(tmp_path: Path):
    (tmp_path / "trains.py").write_text(TRAINS)
    shown = gradscope("run", "--width", "200", "trains.py", "spawn", cwd=tmp_path).stdout
    assert "2 processes were started from here and not recorded" in shown
    assert "no backward pass ran before in this process; it starts 2 others, and gradients stay" in shown
    assert not list(tmp_path.glob("*.gradscope"))
    assert "started from" not in gradscope("run", "--children", "off", "trains.py", "spawn", cwd=tmp_path).stdout
    alone = "import torch\nw = torch.ones(2, requires_grad=True)\nprint(w.grad)\n"
    shown = gradscope("run", "--width", "200", "-c", alone, cwd=tmp_path).stdout
    assert "no backward pass ran before." in shown and "started from here" not in shown


def test_without_a_file_for_them_they_cannot_be_recorded(tmp_path: Path):
    refused = gradscope("run", "--children", "follow", "-c", "print(1)", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "add -o run.gradscope" in refused.stderr
