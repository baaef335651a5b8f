"""What differs between versions of torch: the table is what the running one does, and only what is known is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import hardswish

import gradscope
from gradscope.analysis.facts.derivatives.version_changes import CHANGES, VersionChange, changes_between

_NAN = float("nan")
Probe = tuple[Callable[..., Tensor], list[list[float]]]
BOUNDED = [[0.5, 0.5]], [[0.0, 0.0]], [[0.0, 0.0]]
PROBES: dict[str, list[Probe]] = {
    "the gradient of clamp where the input is on the bound": [
        (lambda x: x.clamp(0, 1), [[0.0, 1.0]]),
        (lambda x: x.clamp_min(0), [[0.0]]),
        (lambda x: x.clamp_max(1), [[1.0]]),
    ],
    "the gradient of clamp with a tensor as bound where both are equal": [
        (lambda x, low: x.clamp(low), [[2.0], [2.0]]),
        (lambda x, low: x.clamp_min(low), [[2.0], [2.0]]),
        (lambda x, high: x.clamp_max(high), [[2.0], [2.0]]),
    ],
    "the gradient of fmax and fmin where both are equal": [
        (torch.fmax, [[2.0], [2.0]]),
        (torch.fmin, [[2.0], [2.0]]),
    ],
    "the gradient of fmax and fmin for an input that is NaN": [(torch.fmax, [[_NAN], [1.0]])],
    "the gradient of atan2 where both are 0": [(torch.atan2, [[0.0], [0.0]])],
    "the gradient of hardswish at -3 and 3": [(hardswish, [[-3.0, 3.0]])],
}
WORDS = {
    "0": [0.0],
    "1": [1.0],
    "NaN": [_NAN],
    "half for each": [0.5, 0.5],
    "1 for the input and 0 for the bound": [1.0, 0.0],
    "1 for the first and 0 for the second": [1.0, 0.0],
    "-0.5 and 1.5": [-0.5, 1.5],
    "0 and 1": [0.0, 1.0],
}
"""Gradients of each value that the table has words for."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.what)
def test_the_table_is_what_this_version_does(change: VersionChange) -> None:
    said = change.under(torch.__version__)
    for function, values in PROBES[change.what]:
        inputs = [torch.tensor(value, requires_grad=True) for value in values]
        result = function(*inputs)
        assert result.grad_fn is not None and result.grad_fn.name() in change.nodes
        given = torch.cat(torch.autograd.grad(result.sum(), inputs)).nan_to_num(nan=-9.0).abs().unique()
        wanted = torch.tensor(WORDS[said]).nan_to_num(nan=-9.0).abs().unique()
        if change.what.endswith("is NaN"):
            given = given[:1]  # the other operand always gets all of it
        assert torch.equal(given, wanted), (said, given)


def test_what_is_said_is_what_differs() -> None:
    (change,) = changes_between("ClampBackward1", "2.13.0+cpu", "2.14.1+cu130")
    assert change.values == ("1", "0") and "parameter" in change.meaning
    assert [one.values for one in changes_between("ClampBackward1", "2.15.0", "2.6.0")] == [("0", "1")]
    assert [one.values for one in changes_between("ClampBackward1", "2.10", "2.99.0")] == [("1", "0")]
    for node, one, other in (
        ("ClampBackward1", "2.6.0", "2.13.0"),
        ("ClampBackward1", "2.5.0", "2.14.1"),  # older than what was measured
        ("Atan2Backward0", "2.6.0", "2.9.0"),  # between two that differ
        ("HardtanhBackward0", "2.13.0", "2.14.1"),
        ("FmaxBackward0", "2.13.0", "2.13.1"),
    ):
        assert not changes_between(node, one, other)


def test_the_page_has_the_table() -> None:
    page = (Path(gradscope.__file__).parent / "docs" / "compare.md").read_text(encoding="utf-8")
    for change in CHANGES:
        values = [f"{value} ({'.'.join(map(str, version))})" for version, value in change.measured]
        assert f"| {change.what.removeprefix('the gradient of ')} | {', '.join(values)} |" in page
