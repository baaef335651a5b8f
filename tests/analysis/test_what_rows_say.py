"""What a row says of its line is so of that line: its result, its mode, its versions, and what cut it."""

from textwrap import dedent

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow, Report
from gradscope.analysis.view import RunView
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
"""


def report_of(source: str) -> Report:
    return build(recorded(HEAD + dedent(source)))


def rows_of(report: Report, line: int) -> list[LineRow]:
    return [row for row in report.lines if row.line == line]


NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.body(x)

net = Net()
for step in range(3):
    print(net(torch.ones(4, 3)).sum())
"""


def test_the_row_of_a_line_is_about_what_it_gives_and_not_a_layer_within() -> None:
    source = HEAD + NET
    (row,) = rows_of(report_of(NET), line_of(source, "return self.body(x)"))
    assert (row.name, row.shape, row.grad_fn) == ("<self.body(x)>", "(4, 2)", "AddmmBackward0")


def test_only_the_last_layer_of_a_call_is_called_by_the_calls_source() -> None:
    report = build(recorded(HEAD + NET), RunView(ops=True))
    made = [op.outputs[0] for op in report.ops if op.line == line_of(HEAD + NET, "return self.body(x)")]
    assert made[:3] == ["<F.linear>", "<F.relu>", "<self.body(x)>"]


def test_what_a_library_call_made_on_its_way_is_not_called_its_result() -> None:
    source = """
    w = nn.Parameter(torch.ones(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD([w], lr=0.1)
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    """
    report = report_of(source)
    assert report.backwards[0].roots == ("<scaler.scale(w.sum())>",)
    (row,) = [row for row in rows_of(report, line_of(HEAD + source, "scaler.update()")) if row.kind == "changed"]
    assert row.name == "<made in amp.GradScaler.scale>"


def test_a_batch_normalization_does_not_hide_what_its_line_gives() -> None:
    source = """
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    def run(x):
        return net(x)
    for step in range(3):
        run(torch.ones(4, 3) * step).sum().backward()
    """
    rows = rows_of(report_of(source), line_of(HEAD + source, "return net(x)"))
    assert ("<net(x)>", "(4, 2)") in [(row.name, row.shape) for row in rows]
    assert "net.0.running_mean" in [row.name for row in rows]


CUTS = """
w = torch.ones(3, requires_grad=True)
w.sum().backward()
def looked_at(loss):
    return loss.item(), w.grad.clone()
_, gradient = looked_at((w * 2).sum())
value = torch.tensor([(w * 2).sum().item()])
again = w.detach().requires_grad_()
frozen = torch.ones(3, requires_grad=True)
frozen.requires_grad_(False)
"""


@pytest.mark.parametrize(
    ("line", "kind", "why"),
    [
        ("return loss.item(), w.grad.clone()", "made", ""),
        ("value = torch.tensor", "cut", "Tensor.item (the values left torch)"),
        ("again = w.detach()", "cut", "Tensor.detach, then requires_grad_(True)"),
        ("frozen.requires_grad_(False)", "cut", "requires_grad_(False)"),
    ],
)
def test_a_cut_is_told_of_what_it_cut_and_what_set_the_flag_again_beside_it(line: str, kind: str, why: str) -> None:
    row = rows_of(report_of(CUTS), line_of(HEAD + CUTS, line))[-1]
    assert (row.kind, row.requires_grad_why) == (kind, why)


MODES = """
class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x
    @staticmethod
    def backward(ctx, g):
        return g

def apply(x):
    return Same.apply(x)

w = nn.Parameter(torch.ones(3))
loss = (apply(w * 2) * Same.apply(w)).sum()
loss.backward()
nn.utils.clip_grad_norm_([w], 1.0)
nn.init.zeros_(w)
with torch.no_grad():
    w.mul_(2)
def filled(x):
    x[0] = 0
filled(torch.ones(2))
with torch.no_grad():
    filled(torch.ones(2))
was = torch.is_grad_enabled()
torch.set_grad_enabled(False)
u = w * 2
torch.set_grad_enabled(was)
"""


@pytest.mark.parametrize(
    ("line", "modes"),
    [
        ("return Same.apply(x)", ()),
        ("nn.utils.clip_grad_norm_", ()),
        ("nn.init.zeros_", ()),
        ("w.mul_(2)", ("no_grad",)),
        ("x[0] = 0", ()),
        ("u = w * 2", ("no_grad",)),
    ],
)
def test_a_line_is_under_no_grad_where_the_program_set_it_and_not_a_call_for_itself(
    line: str, modes: tuple[str, ...]
) -> None:
    rows = rows_of(report_of(MODES), line_of(HEAD + MODES, line))
    assert {row.modes for row in rows} == {modes}


def test_what_a_function_returns_at_once_is_no_leaf() -> None:
    (row,) = rows_of(report_of(MODES), line_of(HEAD + MODES, "return Same.apply(x)"))
    assert (row.grad_fn, row.requires_grad) == ("SameBackward", True)


@pytest.mark.parametrize(("line", "note"), [("(False)", "switches grad mode off"), ("(was)", "switches grad mode on")])
def test_set_grad_enabled_tells_which_mode_it_set(line: str, note: str) -> None:
    (row,) = rows_of(report_of(MODES), line_of(HEAD + MODES, f"torch.set_grad_enabled{line}"))
    assert note in row.notes


def test_the_versions_of_a_row_are_those_before_and_after_the_line() -> None:
    source = """
    w = torch.ones(3)
    for step in range(4):
        w.mul_(2).add_(1)
    """
    (row,) = rows_of(report_of(source), line_of(HEAD + source, "w.mul_(2)"))
    assert (row.version_before, row.version) == (6, 8)


def test_all_that_a_loop_goes_through_is_counted() -> None:
    source = """
    x = torch.ones(30, requires_grad=True)
    total = 0
    for one in x.unbind():
        total = total + one * 2
    """
    (row,) = rows_of(report_of(source), line_of(HEAD + source, "for one in"))
    assert row.name == "30 tensors"


@pytest.mark.parametrize("items", [8, 12])
@pytest.mark.parametrize("header", ["for e, R in zip(log, returns):", "for e, R in zip(log, returns.unbind()):"])
def test_what_a_loop_goes_through_in_each_run_is_counted_once(header: str, items: int) -> None:
    source = f"""
    w = torch.ones(1, requires_grad=True)
    def finish(log):
        returns = torch.arange({items}.0)
        total = 0
        {header}
            total = total + (e * (R - w.item())).sum()
        return total
    for episode in range(4):
        finish([w * 2 for _ in range({items})]).backward()
    """
    (row,) = rows_of(report_of(source), line_of(HEAD + dedent(source), header))
    assert row.name == f"{items} tensors" if items > 8 else "tensors" not in row.name


def test_a_shape_of_the_first_run_is_that_of_another_tensor() -> None:
    source = """
    import copy
    x = torch.ones(2, 3)
    shallow = copy.copy(x)
    for size in (2, 5):
        y = torch.ones(size)
    """
    report = report_of(source)
    assert rows_of(report, line_of(HEAD + source, "shallow ="))[0].notes == ()
    assert rows_of(report, line_of(HEAD + source, "y = torch"))[0].notes == ("y: (2,) in the first run",)


def test_a_part_that_is_only_read_is_not_written_through() -> None:
    read = report_of("w = torch.arange(6.0)\nw[3:] = w[:3]")
    assert [(write.name, write.seen_by) for write in read.inplace_writes] == [("w", ())]
    assert not read.answers
    written = report_of("w = torch.arange(6.0)\nhalf = w[3:]\nhalf.copy_(w[:3])")
    assert [(write.name, write.seen_by) for write in written.inplace_writes] == [("half", ("w",))]
    assert [answer.code for answer in written.answers] == ["write-through-alias"]


def test_a_step_tells_how_many_it_wrote() -> None:
    source = """
    net = nn.Linear(3, 2)
    net(torch.ones(1, 3)).sum().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    """
    (write,) = report_of(source).inplace_writes
    assert (write.op, write.tensors) == ("SGD.step", 2)


@pytest.mark.parametrize(
    ("given", "cuts"),
    [("indices.expand_as(x)", []), ("x.detach().expand_as(x)", ["Tensor.detach"])],
)
def test_a_tensor_taken_for_its_shape_is_not_cut(given: str, cuts: list[str]) -> None:
    report = report_of(f"""
    x, indices = torch.ones(3, requires_grad=True), torch.arange(3)
    (x * {given}).sum().backward()
    """)
    assert [cut.op for cut in report.cuts] == cuts


TWO_MODELS = """
a, b = nn.Linear(3, 1), nn.Linear(3, 1)
for model in (a, b):
    for step in range(2):
        model.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
"""


def test_a_pass_that_serves_several_models_tells_in_how_many_runs() -> None:
    (one,) = report_of(TWO_MODELS).backwards
    told = [(row.name, row.received, row.why) for row in one.gradients if row.name.endswith("weight")]
    assert told == [("a.weight", 2, "in 2 of 4 passes here, not in the last"), ("b.weight", 2, "")]


def test_a_pass_whose_root_a_modules_hook_gave_has_its_graph() -> None:
    source = """
    criterion = nn.MSELoss()
    criterion.register_full_backward_hook(lambda module, given, gradients: None)
    w = nn.Parameter(torch.ones(3))
    loss = criterion(w * 2, torch.zeros(3))
    loss.backward()
    w.data.mul_(2)
    """
    report = report_of(source)
    assert [(graph.root, graph.line) for graph in report.graphs] == [
        ("loss", line_of(HEAD + source, "loss.backward()"))
    ]
    assert [write.effect for write in report.inplace_writes] == ["none"]


FREEZES = """
layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(10))

def switch(model, flag):
    for p in model.parameters():
        {switch}

for flag in ({flags}):
    switch(layers, flag)
"""


@pytest.mark.parametrize(
    ("switch", "told"),
    [("p.requires_grad = flag", "requires_grad = False"), ("p.requires_grad_(flag)", "requires_grad_(False)")],
)
def test_a_row_of_many_tensors_that_were_frozen_tells_by_what(switch: str, told: str) -> None:
    source = FREEZES.format(switch=switch, flags="False, True, False")
    (row,) = rows_of(report_of(source), line_of(HEAD + dedent(source), switch))
    assert (row.kind, row.name, row.requires_grad_why) == ("cut", "20 tensors", told)


def test_a_row_of_many_tensors_that_were_cut_off_tells_by_what() -> None:
    source = """
layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(10))
values = [p.data for p in layers.parameters()]
more = [p.detach() for p in layers.parameters()]
"""
    told = [row.requires_grad_why for row in report_of(source).lines if row.kind == "cut"]
    assert told == [".data", "Tensor.detach"]


def test_a_row_of_many_tensors_that_were_unfrozen_last_is_no_cut() -> None:
    source = FREEZES.format(switch="p.requires_grad = flag", flags="False, True")
    rows = rows_of(report_of(source), line_of(HEAD + dedent(source), "p.requires_grad = flag"))
    assert rows
    assert not any(row.kind == "cut" for row in rows)


def test_a_result_that_only_some_runs_still_name_is_one_row() -> None:
    source = """
    import torch
    w, mask = torch.ones(4, requires_grad=True), torch.ones(4)
    def f(x, masked):
        a = x * 2
        a = a + w  # here
        if masked:
            a = a * mask
        return a.sum()
    for i in range(3):
        f(torch.ones(3, 4), i % 2).backward()
    with torch.no_grad():
        f(torch.ones(3, 4), 0)
        f(torch.ones(3, 4), 1)
    """
    (row,) = (row for row in build(recorded(source)).lines if "# here" in row.source)
    assert (row.name, row.executions, row.notes) == ("a", 5, ("requires_grad in 3 of 5 runs",))


def test_whole_numbers_beside_what_a_region_cut_off_are_no_cut() -> None:
    source = """
    import torch
    inp = torch.nn.Linear(2, 3)
    x, lengths = torch.ones(2, 4, 2), torch.tensor([2, 4])
    with torch.no_grad():
        packed = torch.nn.utils.rnn.pack_padded_sequence(inp(x), lengths, batch_first=True, enforce_sorted=False)
        print(packed.data)
    best = (inp(x) * 2).argmax(1).view(-1)
    print(best)
    """
    kinds = {row.name: row.kind for row in build(recorded(source)).lines}
    assert (kinds["packed.data"], kinds["packed.batch_sizes"], kinds["best"]) == ("cut", "made", "cut")
