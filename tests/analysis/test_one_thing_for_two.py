"""Gradients, weights and arrays that are one thing where two were meant; and those that are meant to be."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.frames.modules.tied_weights import replaced, ties
from gradscope.frames.values.gradient_keeping import keeps_gradient, names_one_twice, stored_later
from tests.analysis.building import line_of, recorded


def causes(source: str, code: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == code]


GRADIENTS = """
import torch
w = torch.ones(3, requires_grad=True)
def of(x):
    if w.grad is not None: w.grad.{}
    (w * x).sum().backward()
    return [{}]
for step in range(3):
    first, second = of(torch.randn(3)), of(torch.randn(3))
    print(torch.dot(first[0], second[0]))
"""


def test_a_gradient_that_is_kept_without_a_copy() -> None:
    assert causes(GRADIENTS.format("zero_()", "w.grad"), "gradient-kept-by-reference") == [[6]]
    assert causes(GRADIENTS.format("zero_()", "w.grad.clone()"), "gradient-kept-by-reference") == []


KEPT_IN_STATE = """
import torch
w, state = torch.ones(3, requires_grad=True), {{"before": torch.zeros(3)}}
for step in range(4):
    if w.grad is not None: w.grad.zero_()
    (w * torch.randn(3)).sum().backward()
    grad = w.grad
    print((state["before"] - grad).norm())
    state["before"] = {}
"""


def test_the_line_that_stores_what_another_named() -> None:
    assert causes(KEPT_IN_STATE.format("grad"), "gradient-kept-by-reference") == [[8]]
    assert causes(KEPT_IN_STATE.format("grad.clone()"), "gradient-kept-by-reference") == []


SUMMED = """
import torch
w = torch.ones(3, requires_grad=True)
for round in range(3):
    total = {{}}
    for client in range(3):
        if w.grad is not None: w.grad.{clear}
        (w * torch.randn(3)).sum().backward()
        if "w" not in total:
            total["w"] = {kept}
        else:
            total["w"] += w.grad
"""


@pytest.mark.parametrize(
    ("clear", "kept", "lines"),
    [("zero_()", "w.grad", [[9]]), ("zero_()", "w.grad.clone()", []), ("detach().zero_()", "w.grad", [[9]])],
)
def test_the_line_that_keeps_is_named_and_not_the_one_that_adds_to_it(clear: str, kept: str, lines: list[list[int]]):
    assert causes(SUMMED.format(clear=clear, kept=kept), "gradient-kept-by-reference") == lines


TWO_LISTS = """
import torch
ws = [torch.ones(3, requires_grad=True), torch.ones(2, requires_grad=True)]
def of(scale):
    for w in ws:
        if w.grad is not None: w.grad.zero_()
    sum((w * torch.randn_like(w) * scale).sum() for w in ws).backward()
    return [{} for w in ws]
for epoch in range(2):
    full = of(2.0)
    for step in range(2):
        new = of(1.0)
        {}
"""


def test_a_list_of_gradients_that_a_later_pass_writes_into_is_told_where_a_statement_reads_both() -> None:
    both = "for w, b, m in zip(ws, new, full):\n            print((w.detach() - b) * 2 + m)"
    assert causes(TWO_LISTS.format("w.grad", both), "gradient-kept-by-reference") == [[7]]
    assert causes(TWO_LISTS.format("w.grad.clone()", both), "gradient-kept-by-reference") == []


@pytest.mark.parametrize(
    "use",
    [
        "for b in new:\n            print(b * 2 + b.sum())",
        "for b in new:\n            for m in new:\n                print(b.sum() * 2 + m.sum())",
        "for w, b in zip(ws, new):\n            print(b * 2 + w.grad)",
    ],
)
def test_one_list_of_gradients_is_silent(use: str) -> None:
    assert causes(TWO_LISTS.format("w.grad", use), "gradient-kept-by-reference") == []


@pytest.mark.parametrize(
    ("stores", "line"),
    [
        ("self.before = g", 3),
        ("kept.append(g)", 3),
        ("state['before'] = g.clone()", 0),
        ("before = g", 0),
        ("a.x = g; b.x = g", 0),
        ("p.grad = other", 0),
    ],
)
def test_where_a_named_gradient_is_stored(stores: str, line: int) -> None:
    found = stored_later(f"def step(self, p):\n    g = p.grad\n    {stores}\n", 2)
    assert found == ((line, line) if line else None)


@pytest.mark.parametrize(
    ("source", "keeps"),
    [
        ("g = p.grad", True),
        ("kept.append([p.grad for p in ps])", True),
        ("kept = {n: p.grad for n, p in named}", True),
        ("g = p.grad.clone()", False),
        ("flat = torch.cat([p.grad for p in ps])", False),
        ("norm = p.grad.norm()", False),
        ("total[n] += p.grad", False),
        ("grads += [p.grad]", True),
    ],
)
def test_whether_a_statement_keeps_a_gradient(source: str, keeps: bool) -> None:
    assert keeps_gradient(source, 1) == keeps


@pytest.mark.parametrize(
    ("source", "twice"), [("x = (g * g).sum()", True), ("x = g.dot(g)", True), ("x = a - b", False)]
)
def test_whether_a_statement_takes_one_thing_twice_by_its_text(source: str, twice: bool) -> None:
    assert names_one_twice(source, 1) == twice


TIED = """class M:
    def __init__(self):
        self.embed, self.head = Embedding(), Linear()
        self.head.weight = self.embed.weight
    def load(self, table):
        {}
"""


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ("self.embed.weight = Parameter(table)", [6]),
        ("self.embed = Embedding.from_pretrained(table)", [6]),
        ("self.embed, self.head = Embedding(5, 3), Linear(3, 5)", [6, 6]),
        ("self.embed.weight.data.copy_(table)", []),
        ("self.other.weight = Parameter(table)", []),
        ("self.head.weight = self.embed.weight", []),
    ],
)
def test_what_replaces_one_side_of_a_tie(statement: str, lines: list[int]) -> None:
    text = TIED.format(statement)
    assert [found.line for found in replaced(text, ties(text)[0])] == lines


RESIZED = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight
    def resize(self, size):
        self.embed = nn.Embedding(size, 3)
        self.head = nn.Linear(3, size, bias=False)
        {}
model = Model()
model.resize(6)
for step in range(3): model.head(model.embed(torch.arange(6))).logsumexp(1).sum().backward()
"""


def test_a_tie_of_which_both_sides_are_made_anew() -> None:
    assert causes(RESIZED.format("pass"), "tie-broken") == [[9, 10, 13]]
    assert causes(RESIZED.format("self.head.weight = self.embed.weight"), "tie-broken") == []


def test_a_tie_of_a_model_that_only_a_function_knows() -> None:
    last = """
class Trainer:
    def __init__(self):
        self.model = Model()
        self.model.embed.weight = nn.Parameter(torch.randn(5, 3))
    def fit(self):
        for step in range(3):
            self.model.head(self.model.embed(torch.arange(5))).logsumexp(1).sum().backward()
Trainer().fit()
"""
    made = "self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)"
    apart = "self.embed = nn.Embedding(5, 3)\n        self.head = nn.Linear(3, 5, bias=False)"
    source = RESIZED.partition("    def resize")[0].replace(made, apart) + last
    assert [one[0] for one in causes(source, "tie-broken")] == [line_of(source, "= nn.Parameter")]
    assert causes(source.replace("self.model.embed.weight = nn.Parameter", "self.kept = "), "tie-broken") == []


LOADED = """
import torch
from torch import nn
class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.tie()
    def tie(self):
        self.head.weight = self.embed.weight
state = {name: value.clone() for name, value in Tiny().state_dict().items()}
model = Tiny()
model.load_state_dict(state, assign=True)  # unties
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model.head(model.embed(torch.arange(5))).sum().backward()
    optimizer.step()
"""


def test_a_load_that_assigns_unties() -> None:
    def lines(source: str) -> list[int]:
        answers = [one for one in build(recorded(source)).answers if one.code == "tie-broken"]
        return [cause.line for one in answers for cause in one.causes]

    assert lines(LOADED) == [line_of(LOADED, "# unties")]
    assert lines(LOADED.replace(", assign=True", "")) == []
    assert lines(LOADED.replace("# unties", "\nmodel.tie()")) == []


ARRAY = """
import numpy as np
import torch
array, layer = np.zeros((4, 3), dtype=np.float32), torch.nn.Linear(3, 2)
def read(value):
    array[:] = value
    return torch.from_numpy(array){}
for step in range(2):
    first, second = layer(read(1.0)), layer(read(2.0))
    (first - second).pow(2).sum().backward()
"""


def test_an_array_that_is_written_between_forward_and_backward() -> None:
    assert causes(ARRAY.format(""), "gradient-silently-wrong") == [[6, 8]]
    assert causes(ARRAY.format(".clone()"), "gradient-silently-wrong") == []


KEYS = """
import torch
sums = {}
for step in range(3):
    for name in ("a", "b"): sums[name] += torch.ones(2)
"""


def test_a_dict_with_one_tensor_under_all_keys() -> None:
    assert causes(KEYS.format("dict.fromkeys(('a', 'b'), torch.zeros(2))"), "one-tensor-two-names") == [[2]]
    assert causes(KEYS.format("{name: torch.zeros(2) for name in ('a', 'b')}"), "one-tensor-two-names") == []
