"""The built-in comparison says what torch does: nothing in its table is written down."""

import pytest
import torch

from gradscope.analysis.comparison.comparison_model import Comparison, Row
from gradscope.experiments.compare.comparing import compare


def column(comparison: Comparison, label: str) -> dict[str, object]:
    (row,) = [row for group in comparison.groups for row in group.rows if row.label == label]
    return cells(comparison, row)


def cells(comparison: Comparison, row: Row) -> dict[str, object]:
    return {variant.name: cell.value for variant, cell in zip(comparison.variants, row.cells, strict=True)}


@pytest.fixture(scope="module")
def table() -> Comparison:
    return compare()


def test_what_is_stopped(table: Comparison) -> None:
    stopped = column(table, "what is stopped")
    assert stopped["detach()"] == stopped[".data"] == "tensor"
    assert stopped["no_grad()"] == stopped["inference_mode()"] == "region"
    assert stopped["requires_grad_(False)"] == "leaf"
    assert stopped["nothing"] == stopped["clone()"] == "nothing"


def test_which_way_saves_what(table: Comparison) -> None:
    kept = 3 * 4  # exp keeps its result: three numbers of four bytes
    source = column(table, "source saved")
    assert source["nothing"] == source["detach()"] == source[".data"] == source["clone()"] == kept
    assert source["no_grad()"] == source["requires_grad_(False)"] == source["inference_mode()"] == 0
    in_all = column(table, "saved in all")
    assert {way: in_all[way] for way in source} == {way: 2 * saved for way, saved in source.items()}  # taken twice
    loss = column(table, "loss keeps for backward")
    assert (loss["nothing"], loss["detach()"], loss["clone()"], loss["no_grad()"]) == (kept, 0, kept, 0)


def test_what_is_told_of_a_name_is_told_before_the_write(table: Comparison) -> None:
    functions = column(table, "source grad_fn")
    assert functions["nothing"] == functions["detach()"] == "ExpBackward0" and functions["no_grad()"] == "None"
    told = compare(all_rows=True)
    assert set(column(told, "source version").values()) == {0, "none"}


def test_memory_and_writes(table: Comparison) -> None:
    assert column(table, "result memory")["detach()"] == "source's"
    assert column(table, "result version counter")[".data"] == "own"
    after = column(table, "backward through source after it")
    assert (after["detach()"], after[".data"], after["clone()"]) == ("raises", "silently wrong", "right")


def test_errors_are_results_in_the_words_of_torch(table: Comparison) -> None:
    refused = column(table, "requires_grad_(False) on weight + 1")
    with pytest.raises(RuntimeError) as raised:
        torch.ones(1, requires_grad=True).exp().requires_grad_(False)
    assert refused["requires_grad_(False)"] == str(raised.value)
    assert str(column(table, "result in a product")["inference_mode()"]).startswith("Inference tensors cannot be saved")


def test_another_torch_gives_another_table(table: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "detach", lambda tensor: tensor.clone())
    broken = compare()
    for label in ("what is stopped", "result memory", "result requires_grad", "write to result seen in source"):
        assert column(broken, label)["detach()"] != column(table, label)["detach()"], label
        assert column(broken, label)["no_grad()"] == column(table, label)["no_grad()"], label
