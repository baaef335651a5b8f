"""Which statement decided that processes did not run a line equally often."""

from __future__ import annotations

import pytest

from gradscope.frames.blocks.deciding_branches import Counts, DecidingStatements

LOOP = "for x in data:\n    a(x)\n    if x.item() > 1:\n        b(x)\n        c(x)\n    d(x)\n"
LEAVES = "for x in data:\n    a(x)\n    if x.item() > 1:\n        continue\n    d(x)\n"
CHAIN = "a()\nif p:\n    b()\nelif q:\n    c()\nelse:\n    d()\n"
CALLED = "def f():\n    if p:\n        b()\n    c()\na()\nif rank == 0:\n    f()\nd()\n"


@pytest.mark.parametrize(
    ("text", "line", "counts", "found"),
    [
        (LOOP, 5, {2: (3, 3), 4: (1, 0), 5: (1, 0), 6: (3, 3)}, (3, "if", (1, 0))),
        (LOOP, 6, {2: (3, 2), 4: (1, 1), 6: (3, 2)}, (1, "for", (3, 2))),
        (LOOP, 5, {5: (1, 0)}, None),  # how often the loop went round is not known
        (LEAVES, 5, {2: (3, 3), 5: (2, 3)}, (3, "if", (2, 3))),
        (LEAVES, 5, {5: (2, 3)}, None),
        (LEAVES, 5, {2: (2, 3), 3: (2, 2), 5: (2, 1)}, (3, "if", (2, 1))),  # one is a round ahead
        (LOOP, 4, {2: (2, 3), 3: (2, 2), 4: (1, 0)}, (3, "if", (1, 0))),
        (CALLED, 4, {4: (1, 0), 5: (1, 1), 8: (1, 1)}, (6, "if", (1, 0))),
        (CALLED, 4, {2: (2, 1), 4: (1, 1), 5: (1, 1)}, (6, "if", (2, 1))),  # one is yet on the way to the line
        (CALLED + "f()\n", 4, {4: (2, 1), 5: (1, 1), 8: (1, 1)}, None),  # which of its calls it was is not known
        (
            "a()\nif p:\n    b()\nelif q:\n    c()\nelse:\n    d()\n",
            7,
            {1: (1, 1), 5: (1, 0), 7: (0, 1)},
            (4, "if", (0, 1)),
        ),
        ("with a:\n    b()\n    while p:\n        c()\n", 4, {4: (1, 0)}, (3, "while", (1, 0))),
        ("if p:\n    a(\n", 2, {2: (1, 0)}, None),
    ],
)
def test_what_is_exactly_known_is_named(
    text: str, line: int, counts: dict[int, Counts], found: tuple[int, str, Counts] | None
):
    decided = DecidingStatements(text, counts.get).of(line)
    assert (None if decided is None else (decided.line, decided.keyword, decided.ran)) == found


def test_whether_a_rank_is_asked_for_and_what_runs_behind_it():
    decided = DecidingStatements(CALLED, {4: (1, 0), 5: (1, 1)}.get).of(4)
    assert decided is not None
    assert (decided.asks_for_rank, decided.header, decided.behind) == (True, "if rank == 0:", (8,))
    decided = DecidingStatements(LOOP, {2: (2, 2), 5: (1, 0)}.get).of(5)
    assert decided is not None
    assert (decided.asks_for_rank, decided.begun, decided.end_line, decided.until) == (False, (2, 2), 5, 6)
