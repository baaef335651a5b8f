"""Which assignments give an attribute what a call made of it."""

from __future__ import annotations

import pytest

from gradscope.frames.calls.carried_attributes import carried_attributes

FUNCTION = "def run(self, x):\n    {}\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("y, self.h = self.model(x, self.h)", [("h", 2, 2)]),
        ("self.h, self.c = self.cell(x, (self.h, self.c))", [("h", 2, 2), ("c", 2, 2)]),
        ("y, new = self.model(x, self.h)\n    self.h = new", [("h", 3, 3)]),
        ("y, (h, c) = self.model(x, self.state)\n    self.state = (h, c)", [("state", 3, 3)]),
        ("h, c = self.cell(x, (self.h, self.c))\n    self.h, self.c = h, c", [("h", 3, 3), ("c", 3, 3)]),
        ("h, c = self.cell(x, (self.h, self.c))\n    self.h = h\n    self.c = c", [("h", 3, 3), ("c", 4, 4)]),
        ("old = self.h\n    y, self.h = self.model(x, old)", [("h", 3, 3)]),
        ("h, c = self.state\n    y, (h, c) = self.model(x, (h, c))\n    self.state = (h, c)", [("state", 4, 4)]),
        ("h = self.h\n    y, h = self.model(x, h)\n    self.h = h", [("h", 4, 4)]),
        ("old = self.h.detach()\n    y, self.h = self.model(x, old)", []),
        ("old = self.h\n    old = x\n    y, self.h = self.model(x, old)", []),
        ("old = self.other\n    y, self.h = self.model(x, old)", []),
        ("y, new = self.model(x, self.h)\n    self.h = new.detach()", []),
        ("y, new = self.model(x, self.h.detach())\n    self.h = new", []),
        ("y, new = self.model(x)\n    self.h = new", []),
        ("self.h = new\n    y, new = self.model(x, self.h)", []),
        ("y, new = self.model(x, self.h)\n    self.h = y2", []),
        ("(", []),
    ],
)
def test_attributes_that_are_carried(body: str, found: list[tuple[str, int, int]]) -> None:
    assert list(carried_attributes(FUNCTION.format(body))) == found
