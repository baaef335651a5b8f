"""What the screen of ``fix`` says of a proof, in words."""

from __future__ import annotations

import pytest

from gradscope.experiments.fix.fix_model import Fix, FixReport, GradientsChanged, Measure, Proof
from gradscope.report.fix.fix_formats import as_text

NONE = Measure(None, None)


def shown(changed: GradientsChanged) -> str:
    proof = Proof(True, (), (), False, (), "", "", NONE, NONE, NONE, changed, NONE, NONE, NONE)
    fix = Fix("an edit", (), "a.py", "a.py", (), "", True, proof)
    return " ".join(as_text(FixReport("a.py", 1, (), (fix,), None, "", 2, ()), 100).split())


@pytest.mark.parametrize(
    ("other", "furthest", "said"),
    [
        (("a", "b", "c", "d", "e", "f"), 3.9, "changed for a, b and 4 more (norms by up to 390%)"),
        (("a",), 0.0012, "changed for a (norms by up to 0.12%)"),
        (("a",), None, "changed for a"),
    ],
)
def test_how_far_gradients_are_off(other: tuple[str, ...], furthest: float | None, said: str) -> None:
    changed = GradientsChanged(same=2, other=other, gained=("g",), lost=("l",), furthest=furthest)
    assert f"after the first pass: 2 the same; {said}; new for g; none any more for l memory" in shown(changed)
