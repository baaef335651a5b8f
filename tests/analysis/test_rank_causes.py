"""What only the recordings of all ranks together tell: each made in this process, as if the others were there."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from torch import distributed as dist

from gradscope.analysis.comparison.merged_ranks import MergedRanks, RankMerger
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.ranks.collectives import waiting
from gradscope.analysis.facts.ranks.rank_facts import RankFacts, rank_facts
from gradscope.analysis.report_builder import build, gather
from gradscope.frames.blocks.rank_branches import rank_branch_around
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import NONE
from tests.analysis.building import recorded

HEAD = """\
import os, torch, torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore
rank = int(os.environ["AS_RANK"])
dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=2)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
    def forward(self, x, both=True):
        x = torch.tanh(self.one(x))
        if both:
            x = self.two(x)
        return x
def wrapped(**options):
    model = nn.parallel.DistributedDataParallel(Net(), **options)
    model.register_comm_hook(None, as_it_is)  # (the group that only seems to be there has nothing to give)
    return model
def as_it_is(_, bucket):
    done = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done
torch.manual_seed(0)
"""


def facts_of(sources: Sources) -> RankFacts:
    """Of one rank."""
    return rank_facts(sources.index, sources.events, sources.names, sources.passes, sources.cuts)


def merged(program: str, ends: tuple[str, str] = ("ok", "ok")) -> MergedRanks:
    """Both ranks' recordings of a program, as one; the processes only seem to talk to each other."""
    merger = RankMerger()
    for rank, end in enumerate(ends):
        try:
            os.environ["AS_RANK"] = str(rank)  # (their source is the same)
            recording = recorded(HEAD + program)
        finally:
            del os.environ["AS_RANK"]
            dist.destroy_process_group()
        info = recording.info
        assert "INTERNAL" not in info.outcome.message
        info.rank, info.world_size = rank, 2
        info.outcome.kind = end if info.outcome.kind == "ok" else info.outcome.kind
        sources = gather(recording)
        merger.add("", build(recording), facts_of(sources))
    return merger.merged()


def causes(program: str, ends: tuple[str, str] = ("ok", "ok")) -> list[tuple[str, tuple[int, ...], int]]:
    found = merged(program, ends).causes
    return [(one.kind, one.ranks, one.place.line if one.place else 0) for one in found]


WRAPPED = """\
model = wrapped({options})
for step in range(2):
    model(torch.ones(1, 2), {both}).sum().backward()
"""


def test_a_layer_that_one_rank_leaves_out_is_one_cause():
    found = merged(WRAPPED.format(options="", both="rank == 0"))
    (cause,) = found.causes
    assert (cause.kind, cause.ranks) == ("layer-on-some-ranks", (1,))
    assert "model.two.weight and model.two.bias a gradient on rank 0 and none on rank 1" in cause.text
    assert "DistributedDataParallel (line 16)" in cause.text and "Line 13 ran on rank 0 only" in cause.text
    assert not found.answers


@pytest.mark.parametrize(
    ("options", "both"), [("", "True"), ("find_unused_parameters=True", "rank == 0"), ("", "step >= 0")]
)
def test_what_distributed_data_parallel_can_do_is_no_news(options: str, both: str):
    assert causes(WRAPPED.format(options=options, both=both)) == []


def test_a_collective_under_a_question_for_the_rank_is_named_with_the_question():
    program = "x = torch.ones(2)\nif rank == 0:\n    dist.barrier()\ndist.all_reduce(x)"
    (cause,) = merged(program, ("timeout", "timeout")).causes
    assert (cause.kind, cause.ranks, cause.place and cause.place.line) == ("called-by-some-ranks", (0,), 26)
    assert cause.text.startswith("Call 1 in which all ranks must take part is not the same: rank 0 called barrier at")
    assert "rank 1 called all_reduce at line 27. Line 26 is for some ranks only (the if of line 25" in cause.text
    assert causes(program.replace("rank == 0", "True"), ("timeout", "timeout")) == []


def test_what_a_rank_waits_in_that_was_killed_is_told():
    """Its recording ends with the note that a collective began."""
    recording = recorded("import torch\ntorch.ones(1)\n")
    detail = json.dumps({"name": "dist.recv", "shape": "(3,)", "dtype": "float32", "src": 1, "at": 1e9})
    recording.strings += [detail]
    text = len(recording.strings) - 1
    for at in (0, 1):  # the first is over: an op of its thread stands after it
        recording.events.append((at, EventKind.COLLECTIVE_WAITS, 0, 0, NONE, text))
    assert list(waiting((ended := gather(recording)).index, ended.events)) == []  # it went on from there
    recording.info.outcome.kind = "running"
    sources = gather(recording)
    (call,) = waiting(sources.index, sources.events)
    assert (call.text, call.place.line, call.returned, call.began) == ("recv from rank 1", 2, False, 1e9)
    merger = RankMerger()
    merger.add("", build(recording), facts_of(sources))
    assert merger.merged().ranks[0].waits == "recv from rank 1 at line 2"


@pytest.mark.parametrize(("seconds", "is_said"), [(20, True), (1, False)])
def test_a_rank_that_waited_long_for_one_that_was_cut_off_is_told(seconds: int, is_said: bool):
    """Else the other may only have been behind: the program was to run on."""
    merger = RankMerger()
    for rank, name in enumerate(("dist.all_reduce", "")):
        recording = recorded("import torch\ntorch.ones(1)\n")
        info = recording.info
        info.rank, info.world_size, info.outcome.kind, info.duration_ns = rank, 2, "timeout", seconds * 10**9
        info.started_at = "2001-09-09T01:46:40.000+00:00"
        if name:
            detail = {"name": name, "shape": "(3,)", "dtype": "float32", "at": 1e9, "at_end": True}
            recording.strings += [json.dumps(detail)]
            recording.events.append((1, EventKind.COLLECTIVE_WAITS, 0, 0, NONE, len(recording.strings) - 1))
        sources = gather(recording)
        merger.add("", build(recording), facts_of(sources))
    found = merger.merged()
    assert found.ranks[0].waits == f"all_reduce of (3,) float32 at line 2 for {seconds} s"
    text = "rank 0 waits in all_reduce at line 2; rank 1 did not, and stood at line 2. Let all ranks"
    assert [text in one.text for one in found.causes] == [True] * is_said


def test_a_rank_with_more_batches_waits_in_an_averaging():
    program = """\
model = wrapped()
for batch in range({batches}):
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
dist.barrier()
"""
    (cause,) = merged(program.format(batches="3 - rank"), ("timeout", "timeout")).causes
    assert "rank 0 called averaging of gradients (DistributedDataParallel) at line 27" in cause.text
    assert "rank 1 called barrier at line 28" in cause.text
    assert "Line 26, which calls the model, ran 3 times on rank 0, 2 times on rank 1. Give all ranks" in cause.text
    assert causes(program.format(batches="3"), ("timeout", "timeout")) == []
    assert causes(program.format(batches="3 - rank") + "Join = print\nJoin()\n") == []


ROUNDS = """\
model, odd = wrapped(), rank
def mean(value):
    dist.all_reduce(value)
    return value
for batch in range(2 + rank):
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    if rank == 1 and batch == 2:
        raise RuntimeError("gloo")  # (it waits there)
    if {question}:
        continue
    mean(loss.detach().clone())
"""


def test_a_rank_that_leaves_a_round_early_is_named_with_what_let_it():
    """It is a pass ahead of the other, which has no fewer batches."""
    (cause,) = merged(ROUNDS.format(question="loss.item() * 0 + batch * odd == 1"), ("timeout", "ok")).causes
    assert "Line 26 is not run alike by all ranks (what the if of line 33 decides on ran 2 times" in cause.text
    assert "as many batches" not in cause.text


def test_that_a_rank_raised_is_the_cause_and_no_other():
    program = "x = torch.ones(2)\nif rank == 0:\n    dist.barrier()\nelse:\n    raise ValueError"
    assert causes(program, ("timeout", "ok")) == []


SHARDED = """\
from torch.distributed.fsdp import fully_shard
model = Net()
{sharded}
for step in range({steps}):
    model(torch.ones(1, 2), {both}).sum().backward()
torch.ones({after})
"""


@pytest.mark.parametrize(
    ("steps", "both", "after", "found"),
    [
        ("2", "rank == 0", "1)\nif rank: torch.ones(1", [("layer-on-some-ranks", (1,), 13)]),
        ("2", "True", "rank", []),
        ("3 - rank", "True", "1)\nif rank: torch.ones(1", [("layer-on-some-ranks", (0, 1), 11)]),
        ("3 - rank", "True", "1", []),  # rank 1 may have been killed on the way
    ],
)
def test_layers_spread_over_ranks_that_not_all_ranks_run(steps: str, both: str, after: str, found: list[Any]):
    sharded = "fully_shard(model.one), fully_shard(model.two), fully_shard(model)"
    for spread, expected in ((sharded, found), ("", [])):
        program = SHARDED.format(sharded=spread, steps=steps, both=both, after=after)
        assert causes(program, ("timeout", "running")) == expected


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("if rank == 1:\n    model.eval()", [("evaluated-on-some-ranks", (1,), 26)]),
        ("if rank >= 0:\n    model.eval()", []),
        ("if rank == 1:\n    model.eval(), model.train()", []),
        ("if rank == 1:\n    Net().eval()", []),  # it measures something
    ],
)
def test_a_model_that_one_rank_trains_in_evaluation_mode(mode: str, found: list[Any]):
    assert causes(f"model = Net()\n{mode}\nmodel(torch.ones(1, 2)).sum().backward()") == found


STEPS = """\
{seed}
model = {model}
{late}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(2):
    for number, one in enumerate(model.parameters()):
        one.grad = torch.ones_like(one) * (1 + (rank if number in {unlike} else 0))
    if step == 0:
        model(torch.ones(1, 2))
    optimizer.step()
"""
NET, DDP, AROUND = "Net()", "wrapped()", "nn.parallel.DistributedDataParallel(model)"
LATE = "model.module.three = nn.Linear(2, 2)"


@pytest.mark.parametrize(
    ("seed", "model", "late", "unlike", "found"),
    [
        ("torch.manual_seed(rank)", NET, "", (), [("replicas-differ", (0, 1), 33)]),
        ("torch.manual_seed(0)", NET, "", (), []),
        ("torch.manual_seed(rank)", NET, "", range(9), []),  # models of their own are meant
        ("", DDP, LATE, (4, 5), [("gradient-not-averaged", (0, 1), 26)]),
        ("", DDP, LATE, (), []),
        ("", f"Net(); model._ddp_params_and_buffers_to_ignore = ['two.weight']; model = {AROUND}", "", (2,), []),
        ("", DDP, LATE, range(9), []),
        ("", NET, "model.three = nn.Linear(2, 2)", (4, 5), []),  # experts of their own, for all that is known
    ],
)
def test_parameters_and_gradients_that_differ(seed: str, model: str, late: str, unlike: Any, found: list[Any]):
    assert causes(STEPS.format(seed=seed, model=model, late=late, unlike=unlike)) == found


def test_which_questions_ask_for_a_rank():
    text = "if dist.get_rank() == 0:\n    a()\nelse:\n    b()\nif ready:\n    c()\nif trainer.is_main_process: d()\n"
    assert [rank_branch_around(text, line) for line in range(1, 8)] == [0, 1, 1, 1, 0, 0, 7]


BRANCH = """\
model = wrapped({options})
for step in range(3):
    x = torch.ones(1, 2) * (1 + rank)
    loss = model(x).sum()
    if {question}:
        loss = {other}
    loss.backward()
"""


@pytest.mark.parametrize(
    ("question", "other", "found"),
    [
        ("rank == 1", "loss * 2", [("branch-on-some-ranks", "warning", (1,), 28)]),
        ("x[0, 0].item() > 1", "loss * 2", [("branch-on-some-ranks", "note", (1,), 28)]),
        ("rank == 1", "loss + loss.detach() * 2", [("branch-on-some-ranks", "warning", (1,), 28)]),
        ("rank == 1", "loss; print(loss.detach() * 2)", []),  # it is only shown
        ("step == 1", "loss * 2", []),
        ("step == 1", "loss * 2 if rank else loss - 1", [("branch-on-some-ranks", "warning", (1,), 29)]),
        ("step == 1", "loss * 2 if rank < 9 else loss - 1", []),
    ],
)
def test_which_branch_led_one_rank_to_another_loss(question: str, other: str, found: list[Any]):
    program = BRANCH.format(options="", question=question, other=other)
    given = [(one.kind, one.severity, one.ranks, one.place and one.place.line) for one in merged(program).causes]
    assert given == found
    alone = program.replace("wrapped()", "Net()")
    assert causes(alone) == []  # models of their own are meant
    allowed = causes(program.replace("wrapped()", "wrapped(find_unused_parameters=True)"))
    assert allowed == [one[:1] + one[2:] for one in found if one[1] == "warning"]  # that data decide is meant


BUFFERS = """\
class Normed(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))
model = nn.parallel.DistributedDataParallel({model})
for step in range(2):
    if {question}:
        model(torch.ones(1, 2))
    torch.ones(1)
dist.barrier()
"""


@pytest.mark.parametrize("end", ["timeout", "ok"])
def test_a_forward_that_sends_buffers_on_some_ranks_only(end: str):
    (cause,) = merged(BUFFERS.format(model="Normed()", question="rank == 0"), (end, end)).causes
    assert (cause.kind, cause.ranks, cause.place and cause.place.line) == ("called-by-some-ranks", (0,), 31)
    assert "rank 0 called sending of buffers (forward of DistributedDataParallel) at line 31" in cause.text
    assert "Line 31 is for some ranks only (the if of line 30 asks for the rank)" in cause.text
    assert cause.severity == ("warning" if end == "ok" else "problem")
    assert causes(BUFFERS.format(model="Normed()", question="rank >= 0"), (end, end)) == []
    assert causes(BUFFERS.format(model="Net()", question="rank == 0"), (end, end)) == []  # nothing is sent


TRANSFERS = """\
x = torch.ones(2)
if rank == 0:
    dist.send(x, 1)
    {second}
else:
    dist.recv(x, 0)
    {last}
"""


@pytest.mark.parametrize(
    ("second", "last", "found"),
    [
        ("dist.send(x, 1)", "pass", [("send-without-recv", (0,), 27)]),
        ("dist.send(x, 1)", "dist.recv(x, 0)", []),
        ("dist.send(x, 1)", "dist.recv(x)", []),  # from whoever it was
        ("dist.isend(x, 1, tag=4)", "dist.irecv(x, 0, tag=5)", [("send-without-recv", (0,), 27)]),
        ("dist.batch_isend_irecv([dist.P2POp(dist.isend, x, 1)])", "dist.irecv(x, 0)", []),
        ("pass", "dist.recv(x, 0)", [("send-without-recv", (1,), 30)]),
    ],
)
def test_what_was_sent_and_not_received(second: str, last: str, found: list[Any]):
    assert causes(TRANSFERS.format(second=second, last=last)) == found


def test_what_a_send_without_a_recv_is_said_to_be():
    (cause,) = merged(TRANSFERS.format(second="dist.isend(x, 1, tag=4)", last="dist.irecv(x, 0, tag=5)")).causes
    assert cause.severity == "warning"
    assert cause.text.startswith(
        "Line 27: rank 0 called send 1 to rank 1 with tag 4, and that has no recv: rank 1 called recv from rank 0 with "
        "tag 4 never, and ended well"
    )
