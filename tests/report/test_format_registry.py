"""The one list of formats: what it names is there, and a suffix stands for one format of a result."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gradscope.errors import UsageError
from gradscope.report.formats import FORMATS, ResultKind, format_named, format_of_file, formats_of


@pytest.mark.parametrize("result", get_args(ResultKind))
def test_every_format_is_found_by_its_name_and_its_suffixes(result: ResultKind) -> None:
    for known in formats_of(result):
        assert callable(known.writer(result))
        assert format_named(known.name, result) is known
        for suffix in known.suffixes:
            assert format_of_file(Path(f"out{suffix.upper()}"), result) is known


def test_a_format_is_for_the_results_that_it_can_show() -> None:
    assert all(set(known.writers) <= set(get_args(ResultKind)) for known in FORMATS)
    assert format_of_file(Path("run.gradscope"), "run") is None
    with pytest.raises(UsageError, match=r"cannot tell a format from run\.gradscope"):
        format_of_file(Path("run.gradscope"), "compare")
    with pytest.raises(UsageError, match="there is no format 'picture'"):
        format_named("picture", "run")
