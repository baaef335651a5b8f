"""Parameters that a module does not know: the line that keeps them so."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.modules.unregistered import unregistered
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
        {}
    def forward(self, x):
        return self.first(x) * {}
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""
ONE = "nn.Parameter(torch.ones(2))"


@pytest.mark.parametrize(
    ("kept", "used", "how"),
    [
        (f"self.kept = [{ONE}]", "self.kept[0]", "in a plain list"),
        (f"self.kept = {{'a': {ONE}}}", "self.kept['a']", "in a plain dict"),
        ("self.kept = torch.ones(2, requires_grad=True)", "self.kept", "as a plain tensor"),
        (f"self.kept = {ONE}.double()", "self.kept", "as the result of a call on a parameter"),
        ("self.register_buffer('kept', torch.ones(2, requires_grad=True))", "self.kept", "as a buffer"),
    ],
)
def test_the_line_that_keeps_it_is_the_cause(kept: str, used: str, how: str) -> None:
    (answer,) = [one for one in build(recorded(PROGRAM.format(kept, used))).answers if one.code == "never-stepped"]
    assert f"line 7 keeps self.kept {how}" in answer.text
    assert [cause.line for cause in answer.causes] == [7]


@pytest.mark.parametrize(
    ("kept", "used"),
    [
        (f"self.kept = nn.ParameterList([{ONE}])", "self.kept[0]"),
        ("self.kept = torch.ones(2, requires_grad=True).detach()", "self.kept"),
    ],
)
def test_what_the_module_knows_or_does_not_train_is_none(kept: str, used: str) -> None:
    assert [one for one in build(recorded(PROGRAM.format(kept, used))).answers if one.code == "never-stepped"] == []


INIT = "class A:\n    def __init__(self):\n        {}\n"


@pytest.mark.parametrize(
    ("body", "line", "kept"),
    [
        ("self.a = [Linear()]", 3, 3),
        ("self.a = []; self.a.append(Linear())", 3, 3),
        ("layers = []\n        layers.append(Linear())\n        self.a = layers", 4, 5),
        ("self.a = {}\n        for k in 'xy':\n            self.a[k] = Linear()", 5, 3),
        ("self.a = [B()]\nclass B:\n    def __init__(self):\n        self.b = Linear()", 6, 3),
        ("self.a = ModuleList([Linear()])", 3, None),
        ("layers = [Linear()]\n        self.a = Sequential(*layers)", 3, None),
        ("layers = [Linear()]\n        self.a = layers\n        self.b = Sequential(*layers)", 3, None),
        ("self.a = Linear()", 3, None),
        ("self.a = Parameter(x, requires_grad=True)", 3, None),
    ],
)
def test_what_the_text_says(body: str, line: int, kept: int | None) -> None:
    found = unregistered(INIT.format(body), line)
    assert (found and found.line) == kept


STORES = "class Net:\n    def __init__(self, parts):\n        {}\n"


@pytest.mark.parametrize(
    ("text", "line", "kept"),
    [
        ("def part():\n    return Linear()\n" + INIT.format("self.a = {k: part() for k in 'xy'}"), 2, 5),
        ("def part():\n    return Linear()\n" + INIT.format("self.a = ModuleList(part() for k in 'xy')"), 2, None),
        ("def part():\n    return Linear()\n" + INIT.format("self.a = [part()]") + "part()\n", 2, None),
        (STORES.format("self.parts = parts") + "net = Net([Linear()])", 4, 3),
        (STORES.format("self.parts = list(parts)") + "made = [Linear()]\nnet = Net(made)", 4, 3),
        (STORES.format("self.parts = ModuleList(parts)") + "net = Net([Linear()])", 4, None),
        (STORES.format("self.parts = parts; use(parts)") + "net = Net([Linear()])", 4, None),
    ],
)
def test_functions_and_arguments_are_followed_to_the_line_that_keeps(text: str, line: int, kept: int | None) -> None:
    found = unregistered(text, line)
    assert (found and found.line) == kept


def test_a_container_of_any_method_is_followed_to_where_it_is_made() -> None:
    pool = "class Pool:\n    def __init__(self):\n        self.kept = {}\n"
    text = pool + "    def add(self):\n        self.kept['a'] = X()\n"
    found = unregistered(text, 5)
    assert found is not None and (found.line, found.held_as) == (3, "dict")
    assert unregistered(text.replace("{}", "nn.ModuleDict()"), 5) is None


OF_CLASS = """
import torch
from torch import nn
class Net(nn.Module):
    kept = {}
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
    def forward(self, x):
        return self.first(x) * {}
net = Net()
optimizer = torch.optim.SGD({}, lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("kept", "used"),
    [
        (ONE, "self.kept"),
        ("torch.ones(2, requires_grad=True)", "Net.kept"),
        (f"[{ONE}, {ONE}]", "self.kept[1]"),
        ("nn.Linear(1, 2)", "self.kept(torch.ones(1))"),
    ],
)
def test_what_the_body_of_a_class_makes_is_the_cause(kept: str, used: str) -> None:
    program = OF_CLASS.format(kept, used, "net.parameters()")
    (answer,) = [one for one in build(recorded(program)).answers if one.code == "never-stepped"]
    assert "line 4 keeps Net.kept as an attribute of the class" in answer.text
    assert [cause.line for cause in answer.causes] == [4]


def test_an_attribute_of_a_class_that_the_optimizer_is_given_is_fine() -> None:
    program = OF_CLASS.format(ONE, "self.kept", "[*net.parameters(), Net.kept]")
    assert [one for one in build(recorded(program)).answers if one.code == "never-stepped"] == []


CACHED = """
import functools
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2)
    {}
    def head(self):
        made = nn.Linear(2, 1)
        return made
    def forward(self, x):
        return self.head{}(self.first(x))
net = Net()
net(torch.ones(3, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("decorator", "call"), [("@functools.cached_property", ""), ("@functools.lru_cache", "()")])
def test_what_functools_caches_is_told_of_by_the_decorator(decorator: str, call: str) -> None:
    source = CACHED.format(decorator, call)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    assert "keeps head in a cache of functools" in answer.text
    assert [cause.line for cause in answer.causes] == [8]


def test_another_decorator_caches_nothing() -> None:
    assert unregistered(CACHED.format("@property", ""), 10) is None


MERGED = """
import torch
from torch import nn
class Part(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner = nn.Linear(2, width)
    def forward(self, x):
        return self.inner(x)
class Merge(nn.Module):
    def __init__(self, {takes}):
        super().__init__()
        self.parts = {stored}
    def forward(self, x):
        return torch.cat([part(x) for part in {read}], -1)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.merge = Merge({given})
        self.last = nn.Linear(4, 1)
        {also}
    def forward(self, x):
        return self.last(self.merge(x))
net = Net()
optimizer = torch.optim.SGD(net.{stepped}parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""
PLAIN = {"takes": "parts", "read": "self.parts", "given": "[Part(2) for _ in range(2)]", "also": "", "stepped": ""}
BY_NAME = {"takes": "**parts", "read": "self.parts.values()", "given": "a=Part(2), b=Part(2)"}


def _never_stepped(source: str) -> list[str]:
    answers = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    assert all([cause.line for cause in one.causes] == [12] for one in answers if "keeps" in one.text)
    return [one.text for one in answers]


@pytest.mark.parametrize(
    ("changed", "how"),
    [
        ({"stored": "[part for part in parts]"}, "in a plain list"),
        ({"stored": "sorted(parts, key=str)"}, "in a list or dict of Python's own"),
        ({"stored": "parts", "takes": "*parts", "given": "Part(2), Part(2)"}, "in a list or dict of Python's own"),
        (
            {
                "stored": "dict(**parts)",
                "takes": "**parts",
                "given": "a=Part(2), b=Part(2)",
                "read": "self.parts.values()",
            },
            "in a plain dict",
        ),
    ],
)
def test_a_container_is_known_by_the_names_that_were_seen_where_the_text_does_not_lead_to_it(
    changed: dict[str, str], how: str
) -> None:
    (text,) = _never_stepped(MERGED.format_map(PLAIN | changed))
    assert f"line 12 keeps self.parts {how}" in text


LOOP = """        found = []
        for number, part in enumerate(self.parts):
            found.append(part(x))
        return torch.cat(found, -1)"""


@pytest.mark.parametrize(
    ("stored", "is_told"), [("[one for one in parts]", True), ("tuple(parts)", True), ("nn.ModuleList(parts)", False)]
)
def test_a_container_is_known_by_the_loop_that_goes_through_it(stored: str, is_told: bool) -> None:
    source = MERGED.format_map(PLAIN | {"stored": stored, "stepped": "last."})
    read = "        return torch.cat([part(x) for part in self.parts], -1)"
    assert read in source
    (text,) = _never_stepped(source.replace(read, LOOP))
    assert ("line 12 keeps self.parts in a plain list" in text) == is_told


@pytest.mark.parametrize(
    "changed",
    [
        {"stored": "nn.ModuleList(parts)", "stepped": "last."},
        {"stored": "[*parts]", "also": "self.known = nn.ModuleList(self.merge.parts)", "stepped": "last."},
        {"stored": "[*parts]", "also": "self.a, self.b = self.merge.parts", "stepped": "last."},
    ],
)
def test_what_is_registered_too_is_left_out_for_another_reason(changed: dict[str, str]) -> None:
    (text,) = _never_stepped(MERGED.format_map(PLAIN | changed))
    assert "keeps" not in text


def test_what_is_registered_and_stepped_is_fine() -> None:
    changed = {"stored": "[*parts]", "also": "self.known = nn.ModuleList(self.merge.parts)"}
    assert _never_stepped(MERGED.format_map(PLAIN | changed)) == []


CONVERTED = """
import numpy, torch
from torch import nn
def flat(parameter):
    return parameter.view(2).float()
class Net(nn.Module):
    def __init__(self, start=numpy.ones(2)):
        super().__init__()
        self.first = nn.Linear(2, 2)
        {}
        {}
    def forward(self, x):
        return self.first(x) * self.kept
net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(3, 2)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("made", "stored", "lines"),
    [
        ("pass", "self.kept = nn.Parameter(torch.from_numpy(start)).to(torch.float32)", [10]),
        ("pass", "self.kept = nn.Parameter(torch.from_numpy(start)).float().expand(2)", [10]),
        ("pass", "self.kept = flat(nn.Parameter(torch.ones(2)))", [10, 4]),
        ("made = nn.Parameter(torch.ones(2)).double()", "self.kept = made.float()", [10, 9]),
    ],
)
def test_what_calls_gave_for_a_parameter_is_told_of_by_the_line_that_keeps_it(
    made: str, stored: str, lines: list[int]
) -> None:
    answers = build(recorded(CONVERTED.format(made, stored))).answers
    (answer,) = [one for one in answers if one.code == "never-stepped"]
    assert "line 10 keeps self.kept as the result of a call on a parameter" in answer.text
    assert answer.text.startswith(("Backward gave what self.kept was made of gradients", "Backward gave parameter gra"))
    assert [cause.line for cause in answer.causes] == lines


@pytest.mark.parametrize(
    "stored", ["self.kept = nn.Parameter(torch.from_numpy(start).float())", "self.kept = made * 2"]
)
def test_what_is_made_of_a_parameter_that_is_registered_or_of_none_is_fine(stored: str) -> None:
    source = CONVERTED.format("made = torch.ones(2)", stored)
    assert [one for one in build(recorded(source)).answers if one.code == "never-stepped"] == []
