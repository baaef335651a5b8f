"""Which conditional expression gave processes different parts."""

from __future__ import annotations

import pytest

from gradscope.frames.blocks.deciding_choices import Range, deciding_choice

TEXT = "y = f(g(x) if rank == 0 else h(x))\nz = k(x)\n"
F, G, H, K = (1, 4, 1, 34), (1, 6, 1, 10), (1, 29, 1, 33), (2, 4, 2, 8)


@pytest.mark.parametrize(
    ("ran", "took"),
    [
        ([{F, G}, {F, H}], ("g(x)", "h(x)")),
        ([{F, G}, {F, G}], None),
        ([{F, G, H}, {F, H}], None),  # both, one after the other
        ([{F, G}, {F}], None),  # nothing that was seen of the other
        ([{(1, -1, 1, -1)}, {F, H}], None),  # no columns, as before Python 3.11
    ],
)
def test_what_each_process_took_of_it(ran: list[set[Range]], took: tuple[str, ...] | None):
    found = deciding_choice(TEXT, 1, 1, ran)
    assert (found and found.took) == took
    if found is not None:
        assert (found.line, found.question, found.asks_for_rank) == (1, "rank == 0", True)


def test_only_what_stands_on_the_lines_is_looked_at():
    assert deciding_choice(TEXT, 2, 2, [{G}, {H}]) is None
