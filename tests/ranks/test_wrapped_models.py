"""DistributedDataParallel with a mistake on one of its ranks: what the merged report says."""

from __future__ import annotations

from pathlib import Path

from tests.ranks.jobs import job, merged, screen


def test_a_layer_that_one_rank_leaves_out_is_named_with_that_rank(tmp_path: Path):
    job(
        tmp_path,
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            def forward(self, x):
                return self.two(self.one(x)) if rank == 0 else self.one(x)
        model = nn.parallel.DistributedDataParallel(Net())
        for step in range(2):
            model(torch.ones(2, 4)).sum().backward()
        """,
        "-q",
        timeouts=(90, 90),
    )
    found = merged(tmp_path)
    (cause,) = found["causes"]
    assert (cause["kind"], cause["ranks"], cause["names"]) == (
        "layer-on-some-ranks",
        [1],
        ["model.two.weight", "model.two.bias"],
    )
    assert not found["answers"]  # what rank 1 alone says of it is a part of that
    assert (found["stopped_first"], "rank 1 stopped first: it raised RuntimeError at line 14" in screen(tmp_path)) == (
        1,
        True,
    )
    differing = {(one["section"], one["subject"]) for one in found["differences"]}
    assert ("gradients", "model.two.weight") in differing and ("gradients", "model.one.weight") not in differing
