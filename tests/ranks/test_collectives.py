"""Collectives: rows of their own, writes that autograd does not see, and where ranks do not call the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch.distributed import distributed_c10d

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.ranks.collectives import collectives
from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from gradscope.recording.rows import OpKind
from tests.analysis.building import recorded
from tests.ranks.jobs import job, merged, screen

ALONE = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
w, x = torch.ones(2, requires_grad=True), torch.ones(2)
y = w * x
dist.all_reduce({written})
work = dist.broadcast(torch.ones(2), src=0, async_op=True)
parts = [torch.empty(2)]
dist.all_gather(parts, x)
y.sum().backward()
dist.all_reduce(w.grad, op=dist.ReduceOp.MAX)
everything = [None]
dist.all_gather_object(everything, 3)
work.wait()
dist.destroy_process_group()
"""


def test_each_is_an_op_of_its_own_kind_with_what_is_special_of_it():
    recording = recorded(ALONE.format(written="torch.ones(2)"))
    found = [recording.text(op.func) for op in recording.ops if op.kind == OpKind.COLLECTIVE]
    assert found[:4] == ["dist.all_reduce", "dist.broadcast", "dist.all_gather", "dist.all_reduce"]
    assert found[4:] == ["torch.all_gather_object"]
    assert not recording.faults
    report = build(recording)
    assert not report.answers
    notes = {row.line: row.notes for row in report.lines if row.notes}
    assert notes[5] == ("all_reduce with all ranks",)
    assert notes[6] == ("broadcast with all ranks from rank 0, goes on meanwhile",)
    assert notes[10][-1] == "all_reduce with all ranks max"
    assert {row.place.line for row in report.inplace_writes} >= {5, 8, 10}


def test_a_write_that_autograd_does_not_see_is_known():
    answers = build(recorded(ALONE.format(written="x"))).answers
    assert [(one.code, one.causes[0].line) for one in answers] == [("gradient-silently-wrong", 5)]


WITHOUT_TENSORS = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
torch.ones(1)
dist.barrier()
dist.monitored_barrier()
everything = [None]
dist.all_gather_object(everything, 3)
dist.broadcast_object_list(everything, src=0)
dist.destroy_process_group()
dist.barrier()
"""


def test_a_barrier_and_what_sends_objects_are_in_the_order_that_is_compared():
    recording = recorded(WITHOUT_TENSORS)
    assert [recording.text(op.func) for op in recording.ops if op.kind == OpKind.COLLECTIVE] == [
        "dist.barrier",
        "dist.monitored_barrier",
        "torch.all_gather_object",
        "torch.broadcast_object_list",
        "dist.barrier",
    ]
    index = Index(recording)
    called = [(one.text, one.place.line, one.returned) for one in collectives(index, Events(index))]
    assert called[0] == ("barrier", 4, True)
    assert called[-1] == ("barrier", 10, False)
    assert [text for text, _, _ in called][2:4] == ["all_gather_object", "broadcast_object_list from rank 0"]
    assert dist.barrier is distributed_c10d.barrier


SENT = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
w, b = torch.nn.Parameter(torch.ones(2)), torch.ones(2)
dist.broadcast(w.data, 0)
part = b[:1]
{written}
dist.destroy_process_group()
"""


@pytest.mark.parametrize(
    ("written", "codes"), [("dist.all_reduce(part)", []), ("part.add_(1)", ["write-through-alias"])]
)
def test_what_is_sent_through_an_alias_is_meant(written: str, codes: list[str]):
    assert [one.code for one in build(recorded(SENT.format(written=written))).answers] == codes


def test_torch_still_counts_none_of_these_writes():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        x = torch.ones(2)
        dist.all_reduce(x)
        dist.broadcast(x, 0)
        assert x._version == 0
    finally:
        dist.destroy_process_group()


def test_a_rank_that_waits_in_vain_is_ended_and_where_the_ranks_part_is_named(tmp_path: Path):
    ended = job(
        tmp_path,
        """
        pair = dist.new_group([0, 1])
        dist.all_reduce(torch.ones(2), group=pair)
        if rank == 0:
            dist.all_reduce(torch.ones(3))
        dist.broadcast(torch.ones(3), 1)
        """,
        "-q",
        timeouts=(20, 100),
    )
    assert [one.returncode for one in ended] == [124, 1], ended
    told = "rank 0 of 2: the program was ended after 20 seconds (--timeout) at job.py:9: dist.all_reduce(torch.ones(3))"
    assert f"gradscope: {told}\n" in ended[0].stderr
    assert merged(tmp_path)["stopped_first"] == 0
    (parting,) = merged(tmp_path)["collectives"]
    assert (parting["number"], parting["group"]) == (2, [])
    assert [(one["text"], one["place"]["line"], one["returned"], one["ranks"]) for one in parting["values"]] == [
        ("all_reduce of (3,) float32", 9, False, [0]),
        ("broadcast from rank 1 of (3,) float32", 10, False, [1]),
    ]
    shown = " ".join(screen(tmp_path).split())
    waits = "was ended after 20 seconds (--timeout) in all_reduce of (3,) float32 at line 9 for "
    assert f"rank 0 stopped first: it {waits}" in shown
    assert "rank 0 waits in all_reduce at line 9; rank 1 waits in broadcast from rank 1 at line 10" in shown
    assert "Line 9 is for some ranks only (the if of line 8 asks for the rank)" in shown


ONE_OF_TWO = """\
import torch, torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
torch.ones(1)
dist.destroy_process_group()
"""


def test_without_a_launcher_the_process_group_says_which_rank_it_is():
    info = recorded(ONE_OF_TWO).info
    assert (info.rank, info.local_rank, info.world_size) == (1, 1, 2)
    assert recorded(WITHOUT_TENSORS.rpartition("dist.barrier")[0]).info.world_size == 1
