"""Lists of names, shortened only where nothing else is meant by the short form."""

import pytest

from gradscope.analysis.wording import listed


@pytest.mark.parametrize(
    ("names", "others", "words"),
    [
        (["a"], [], "a"),
        (["a", "b", "c", "d"], [], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], [], "a, b, c and 2 more"),
        (["net.0.w", "net.0.b", "net.1.w", "net.1.b"], ["net.0.w", "top.w"], "net.* (4)"),
        (["net.0.w", "net.0.b", "net.1.w", "net.1.b"], ["net.2.w"], "net.0.* (2) and net.1.* (2)"),
        (["net.0.w", "net.1.w", "net.2.w", "net.3.w"], ["net.0.b", "net.1.b"], "net.0.w, net.1.w, net.2.w and net.3.w"),
        (["g.0.w", "g.1.w", "d.0.w", "d.1.w"], [], "g.* (2) and d.* (2)"),
        (["kept['a.w']", "kept['a.b']", "kept['c.w']", "kept['c.b']"], [], "kept[*] (4)"),
        (["g.w", "g.b", "g.w", "g.b", "d.w", "d.b"], [], "g.* (4) and d.* (2)"),
        (["<a.data>", "<a.grad>", "<a.clone()>", "b"], [], "<a.data>, <a.grad>, <a.clone()> and b"),
        (["line 1 by a.b", "line 1 by a.c", "d", "e"], [], "line 1 by a.b, line 1 by a.c, d and e"),
        (["m", "m.w", "m.b", "m.c"], ["m.d"], "m, m.w, m.b and m.c"),
    ],
)
def test_names_in_a_sentence(names: list[str], others: list[str], words: str) -> None:
    assert listed(names, others) == words
