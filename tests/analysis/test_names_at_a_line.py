"""A name is what the frame of the line in question holds: matched by identity, at that time, by the shortest path."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Report
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
"""


def report_of(source: str) -> Report:
    return build(recorded(HEAD + source))


def gradient_names(report: Report) -> list[str]:
    return [row.name for row in report.backwards[0].gradients]


LEAVES = """
a = torch.ones(2, requires_grad=True)
b = torch.ones(3, requires_grad=True)
(a * 2).sum().backward()
"""


def test_after_a_swap_the_names_follow_the_tensors() -> None:
    swapped = report_of(LEAVES + "a, b = b, a\nprint(a.grad, b.grad)")
    assert [answer.subject for answer in swapped.answers] == ["a"]
    assert sorted(gradient_names(swapped)) == ["a", "b"]
    assert [row.why for row in swapped.backwards[0].gradients if row.name == "a"] == [""]  # the first a, before it
    kept = report_of(LEAVES + "print(a.grad, b.grad)")
    assert [answer.subject for answer in kept.answers] == ["b"]


def test_a_tensor_whose_name_is_another_ones_by_now_is_called_by_its_other_name() -> None:
    report = report_of(
        """
        w = torch.ones(2, requires_grad=True)
        old = w
        w = torch.zeros(3, requires_grad=True)
        (w * 2).sum().backward()
        print(old.grad, w.grad)
        """.replace("\n        ", "\n")
    )
    assert sorted(gradient_names(report)) == ["old", "w"]
    assert [row.name for row in report.lines if row.is_leaf] == ["w", "w"]
    assert report.lines[0].names == ("w", "old")
    assert [answer.subject for answer in report.answers] == ["old"]


FUNCTIONS = """
def scale(inner):
    return inner * 2  # scale
def outer(values):
    total = values.sum()  # total
    return scale(total)
x = torch.ones(3, requires_grad=True)
outer(x * 3).backward()  # outer
"""


def test_an_argument_of_an_inner_function_is_no_name_of_the_line_that_calls_it() -> None:
    report = report_of(FUNCTIONS)
    named = {
        row.source.partition("# ")[2]: row.name for row in report.lines if row.kind == "made" and "#" in row.source
    }
    assert named == {"scale": "<inner * 2>", "total": "total"}
    (row,) = [row for row in report.lines if row.line == line_of(HEAD + FUNCTIONS, "# outer")]
    assert (row.kind, row.name) == ("backward", "<inner * 2>")
    assert [row.tensor for row in report.graphs[0].rows] == ["", "total", "", "x"]


WRAPPED = """
class Monitor(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
model = nn.Linear(2, 1)
x = torch.ones(2)
model(x).sum().backward()
"""


def test_the_shortest_path_from_the_line_wins_and_the_row_has_every_name() -> None:
    report = report_of(WRAPPED + "monitor = Monitor(model)\nmonitor.model(x)\n")
    assert gradient_names(report) == ["model.weight", "model.bias"]
    (row,) = [row for row in report.lines if row.name == "model.weight"]
    assert "monitor.model.weight" in row.names


def test_a_line_in_a_function_has_the_names_of_that_function() -> None:
    source = """
def train(net):
    net(torch.ones(2)).sum().backward()
def main():
    model = nn.Linear(2, 1)
    train(model)
    print(model.weight.requires_grad, model.bias.grad.sum())
main()
"""
    report = report_of(source)
    assert gradient_names(report) == ["net.weight", "net.bias"]
    made = [row for row in report.lines if row.line == line_of(HEAD + source, "model = nn")]
    assert [row.name for row in made] == ["model.weight", "model.bias"]


def test_modules_in_a_list_are_items_of_the_list_and_no_loop_variables() -> None:
    source = "blocks = [nn.Linear(2, 2) for _ in range(2)]\nh = torch.ones(2)\n"
    source += "for block in blocks:\n    h = block(h)\nh.sum().backward()\n"
    assert gradient_names(report_of(source)) == [
        "blocks[0].weight",
        "blocks[0].bias",
        "blocks[1].weight",
        "blocks[1].bias",
    ]


def test_a_parameter_in_a_graph_stands_at_the_line_that_made_it() -> None:
    source = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_parameter("scale", nn.Parameter(torch.ones(2)))
    def forward(self, x):
        return use(x, self.scale)
def use(x, scale):
    return x * scale
given = nn.Parameter(torch.ones(2))
net = Net()
(net(torch.ones(2)) * use(given, 1)).sum().backward()
"""
    leaves = {row.tensor: row.line for row in report_of(source).graphs[0].rows if row.is_leaf}
    made = line_of(HEAD + source, "register_parameter")
    assert leaves == {"net.scale": made, "given": line_of(HEAD + source, "given = ")}


def test_names_that_later_runs_of_a_loop_were_not_matched_with_are_the_same() -> None:
    source = """
def made(x):
    return x * w
def used(argument):
    argument.sum()
    return argument
def train(x):
    for _ in range(40):
        loss = used(made(x)).sum()
        loss.backward()
        loss.item()
w = torch.ones(2, requires_grad=True)
train(torch.ones(2))
for _ in range(40):
    batch = torch.ones(2) * 2, torch.zeros(2) + 1
    train(batch[0])
"""
    report = report_of(source)
    assert report.backwards[0].roots == ("loss",)
    (row,) = [row for row in report.lines if "def" not in row.source and "return" in row.source]
    assert row.name == "<x * w>"
    rows = [row.name for row in report.lines if "batch =" in row.source]
    assert rows == ["batch[0]", "batch[1]"]


def test_parameters_of_a_function_that_makes_them_have_their_names_from_elsewhere() -> None:
    source = """
def network():
    return nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1))
first, second = network(), network()
second(torch.ones(2)).sum().backward()
"""
    rows = [row.name for row in report_of(source).lines if "nn.Sequential" in row.source]
    assert rows == ["second.0.weight", "second.0.bias", "second.1.weight", "second.1.bias"]


def test_what_functional_call_puts_into_a_module_has_not_the_modules_names() -> None:
    report = build(
        recorded("""
        import torch
        weight, bias, h = torch.ones(3, 3, requires_grad=True), torch.ones(3), torch.ones(2, 3)
        layer = torch.nn.Linear(3, 3)
        h = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (h,))
        h.sum().backward()
        """)
    )
    assert not {name for row in report.lines if row.line == 2 for name in row.names if name.startswith("layer.")}
    (one,) = report.backwards
    assert [row.name for row in one.gradients if row.outcome == "created"] == ["weight"]


def test_a_comprehensions_variable_is_no_better_name_than_the_parameters_path() -> None:
    report = build(
        recorded("""
        import torch
        net = torch.nn.Linear(2, 2, bias=False)
        fast = {name: value * 2 for name, value in net.named_parameters()}
        fast["weight"].sum().backward()
        """)
    )
    assert [row.name for one in report.backwards for row in one.gradients] == ["net.weight"]


def test_names_that_changed_hands_unseen_are_those_of_the_end() -> None:
    source = """
    import torch
    from torch import nn
    x = torch.ones(2, 3)
    one, other = nn.Linear(3, 3), nn.Linear(3, 3)
    one, other = other, one
    for step in range(17):
        h = torch.func.vmap(lambda row: row.sin())(x)
        (h + one(x)).sum().backward()
    """
    rows = build(recorded(source)).backwards[0].gradients
    received = {row.name: row.received for row in rows if row.name.endswith("weight")}
    assert received["one.weight"] == 17
    assert not received.get("other.weight")


STORED_LAST = """
import torch
from torch import nn
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        {last}
    def forward(self, x):
        return self.last(self.body(x))
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = Head()
    def norm(self):
        layer = self.head.last.weight
        return layer.norm()
net = Net()
net.norm().backward()
net.head(torch.ones(2, 3)).sum().backward()
"""


@pytest.mark.parametrize(
    ("last", "names"),
    [
        ("self.last = nn.Linear(3, 3)", {"self.last.weight", "self.last.bias"}),
        ("last = self.last = nn.Linear(3, 3)", None),
    ],
)
def test_what_the_last_statement_of_an_init_makes_has_the_name_that_it_stores(last: str, names: set[str]) -> None:
    report = build(recorded(STORED_LAST.format(last=last)))
    made = {row.name for row in report.lines if last in row.source}
    assert made == names if names is not None else "self.last.weight" not in made


TWO_PARAMETERS = (
    "a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3))\n{then}\n(a.sum() + b.sum()).backward()\n"
)


@pytest.mark.parametrize("then", ["pass", "a, b = b, a", "(a * 2).sum(); torch.utils.swap_tensors(a, b)"])
def test_each_parameter_that_a_line_makes_has_a_row_and_the_name_that_it_got_there(then: str) -> None:
    rows = [row for row in report_of(TWO_PARAMETERS.format(then=then)).lines if "ones" in row.source]
    assert [(row.name, row.shape, row.allocated_bytes) for row in rows] == [("a", "(2,)", 8), ("b", "(3,)", 12)]


def test_a_name_that_swapping_gave_a_tensor_is_not_that_of_the_lines_before() -> None:
    pair = "a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(3))\n"
    passes = "(a * 2).sum().backward()\n"
    report = report_of(f"{pair}{passes}torch.utils.swap_tensors(a, b)\n{passes}")
    named = [[(row.name, row.shape) for row in one.gradients if row.outcome == "created"] for one in report.backwards]
    assert named == [[("a", "(2,)")], [("a", "(3,)")]]
    assert [graph.leaves for graph in report.graphs] == [("a",), ("a",)]
