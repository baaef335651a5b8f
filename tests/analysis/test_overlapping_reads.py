"""Writes in place that read what they have written already: told of those whose result is another than of a copy."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch

from gradscope.analysis.facts.memory_writes.order_of_writes import Laid, blocks, part_of, reads_written
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from gradscope.frames.values.literal_indices import literal_indices
from tests.analysis.building import line_of, recorded

CODE = "reads-what-it-writes"


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded("import torch\n" + source)).answers if answer.code == CODE]


OVERWRITTEN = {
    "a column, by an operator": "x = torch.rand(4, 6) + 1\nx -= x[:, :1]  # writes\nprint(x)\n",
    "the first step of each path, by a method": """
def centred(paths):
    first = paths[:, 0].unsqueeze(1)
    return paths.sub_(first)  # writes
print(centred(torch.rand(3, 5, 2)))
""",
    "the column before": "x = torch.rand(4, 6)\nx[:, 1:] += x[:, :-1]  # writes\nprint(x)\n",
    "its transpose": "x = torch.rand(3, 5)[:, :3]\nx.add_(x.t())  # writes\nprint(x)\n",
    "as out": "x = torch.rand(4, 6) + 1\ntorch.div(x, x[:, :1], out=x)  # writes\nprint(x)\n",
    "a copy": "x = torch.rand(4, 6)\nx[:, 1:].copy_(x[:, :-1])  # writes\nprint(x)\n",
    "set by an index": "x = torch.rand(4, 6)\nx[:, 1:] = x[:, :-1]  # writes\nprint(x)\n",
    "set by the last index": "x = torch.rand(3, 4, 6)\nx[1:, ..., 2:] = x[1:, :, :-2]  # writes\nprint(x)\n",
    "in a loop": "x = torch.rand(4, 6) + 1\nfor _ in range(3):\n    x *= x[:, :1]  # writes\nprint(x)\n",
}


@pytest.mark.parametrize("case", OVERWRITTEN)
def test_the_line_that_writes_is_the_cause(case: str) -> None:
    source = "import torch\n" + OVERWRITTEN[case]
    (answer,) = found(OVERWRITTEN[case])
    assert [cause.line for cause in answer.causes] == [line_of(source, "# writes")]


RIGHT = {
    "the very same elements": "x = torch.rand(4, 6)\nx += x\nx.mul_(x.view(4, 6))\n",
    "a new tensor": "x = torch.rand(4, 6)\nx = x - x[:, :1]\n",
    "a copy of it": "x = torch.rand(4, 6)\nx -= x[:, :1].clone()\n",
    "a number of its own": "x = torch.rand(4, 6)\nx /= x.amax(dim=1, keepdim=True).view(4, 1)\n",
    "the last column, which is written last": "x = torch.rand(4, 6)\nx /= x[:, -1:]\n",
    "what comes after": "x = torch.rand(4, 6)\nx[:, :-1] += x[:, 1:]\nx[:, :-1].copy_(x[:, 1:])\n",
    "set from what comes after": "x = torch.rand(4, 6)\nx[:, :-1] = x[:, 1:]\nx[0] = x[1]\nx[..., -1] = x[:, 0]\n",
    "set by what is unknown": "x = torch.rand(4, 6)\nk = 1\nx[:, k:] = x[:, :-k].clone()\nx[:] = x\n",
    "added to itself": "x = torch.rand(4, 6)\nx[:, 1:] += 1\nx[:, :3] *= x[:, 3:]\n",
    "another column": "x = torch.rand(4, 6)\nx[:, 1:] -= x[:, :1]\nx[:, ::2] += x[:, 1::2]\n",
    "whole blocks": "x = torch.rand(4, 64)\nx -= x[:, :1]\n",
    "truth values": "x = (torch.rand(4, 6) > 0.5).float()\nx *= x[:, :1]\n",
    "onto itself": "x = torch.rand(4, 6)\nx.copy_(x[:, :1])\n",
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_read_before_it_is_written_is_no_matter(case: str) -> None:
    assert found(RIGHT[case] + "print(x)\n") == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("columns", [2, 6, 17, 20, 33, 40, 64, 70])
@pytest.mark.parametrize("is_view", [False, True])
def test_whatever_is_told_is_so(dtype: torch.dtype, columns: int, is_view: bool) -> None:
    makers: tuple[Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]], ...] = (
        lambda x: (x, x[:, :1]),
        lambda x: (x, x[:, -1:]),
        lambda x: (x[:, 1:], x[:, :-1]),
        lambda x: (x[:, :-1], x[:, 1:]),
        lambda x: (x.t(), x[:, 0]),
        lambda x: (x[:, : len(x)], x[:, : len(x)].t()),
    )
    told = 0
    for make in makers if columns > 8 else makers[:-1]:
        base = torch.arange(9 * (columns + is_view)).view(9, columns + is_view).mul(7).remainder(31).add(2).to(dtype)
        written, read = make(base[:, is_view:])
        expected = written.clone().sub_(read.clone())
        one, other = (Laid(tuple(each.shape), each.stride(), each.storage_offset()) for each in (written, read))
        says = reads_written(one, other, blocks(platform.machine(), base.element_size()))
        try:
            written.sub_(read)
        except RuntimeError:
            continue  # torch saw the overlap
        assert not says or not torch.equal(written, expected)
        told += says
    assert told


@pytest.mark.parametrize("index", ["1", "-1", ":, 1:", "..., -2:", "0, ..., ::2", "1:, :, 1", "2:1", "-3:, 1:-1"])
def test_the_part_that_an_index_writes_is_torchs(index: str) -> None:
    base = torch.zeros(3, 4, 6)[1:].transpose(0, 2)
    indices = literal_indices(f"x[{index}]")
    assert indices is not None
    part = base[indices]
    laid = part_of(Laid(tuple(base.shape), base.stride(), base.storage_offset()), indices)
    assert laid == Laid(tuple(part.shape), part.stride(), part.storage_offset())


@pytest.mark.parametrize(
    "text", ["x[k:]", "x[None]", "x[True]", "x[[0, 1]]", "x[..., ...]", "x", "x[1:] = y", "x[mask]"]
)
def test_other_indices_are_not_known(text: str) -> None:
    assert literal_indices(text) is None
