"""The line table: one row for each statement and tensor, loops as one row."""

import json

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import LineRow, Report
from gradscope.analysis.view import RunView
from gradscope.report.json_values import to_text
from tests.analysis.building import recorded

BASICS = """
import torch
x = torch.tensor([1.0, 2.0], requires_grad=True)
y = x * 2
d = y.detach()
s = y.data
with torch.no_grad():
    n = x * 3
with torch.inference_mode():
    i = x * 4
m = x.argmax()
p = torch.ones(2)
p.requires_grad_()
d[0] = 6
loss = (y ** 2).sum()
loss.backward()
v = y.item() if False else loss.item()
"""


@pytest.fixture(scope="module")
def basics() -> Report:
    return build(recorded(BASICS))


def row(report: Report, name: str, line: int = 0) -> LineRow:
    return next(row for row in report.lines if row.name == name and line in (0, row.line))


def test_a_leaf(basics: Report) -> None:
    x = row(basics, "x")
    assert (x.line, x.kind, x.requires_grad, x.is_leaf, x.grad_fn) == (2, "made", True, True, "")
    assert (x.shape, x.dtype, x.device, x.storage, x.version) == ("(2,)", "float32", "cpu", "A", 0)
    assert x.requires_grad_why == "requires_grad=True"
    assert x.allocated_bytes == 8


def test_a_result_says_from_what(basics: Report) -> None:
    y = row(basics, "y")
    assert (y.grad_fn, y.is_leaf, y.requires_grad_why) == ("MulBackward0", False, "from x")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("d", "Tensor.detach"),
        ("s", ".data"),
        ("n", "no_grad (Tensor.mul)"),
        ("i", "inference_mode (Tensor.mul)"),
        ("m", "Tensor.argmax (an integer or boolean result has no gradient)"),
    ],
)
def test_cuts_say_why(basics: Report, name: str, why: str) -> None:
    found = row(basics, name)
    assert (found.kind, found.requires_grad, found.requires_grad_why) == ("cut", False, why)


def test_an_alias_names_its_base_and_has_the_same_letter(basics: Report) -> None:
    assert row(basics, "d").alias_of == "y"
    assert row(basics, "d").storage == row(basics, "y").storage == row(basics, "s").storage
    assert row(basics, "x").storage != row(basics, "y").storage


def test_a_change_says_what_it_was_before(basics: Report) -> None:
    p = row(basics, "p", 12)
    assert (p.kind, p.requires_grad_before, p.requires_grad) == ("changed", False, True)
    assert p.requires_grad_why == "requires_grad_(True)"
    written = row(basics, "d", 13)
    assert (written.version_before, written.version, written.op) == (0, 1, "Tensor.__setitem__")


def test_an_inference_tensor_has_no_version(basics: Report) -> None:
    assert row(basics, "i").version is None


def test_temporaries_are_counted_with_the_named_result(basics: Report) -> None:
    loss = row(basics, "loss", 14)
    assert loss.temporaries == 1
    assert loss.allocated_bytes >= 12


def test_values_that_left_torch(basics: Report) -> None:
    assert [found.kind for found in basics.lines if found.line == 16] == ["export"]


def test_a_loop_is_one_row_a_statement() -> None:
    source = (
        "import torch\nx = torch.ones(2, requires_grad=True)\nfor i in range(50):\n    y = x * i\n    z = y.exp()\n"
    )
    report = build(recorded(source))
    assert [(found.name, found.executions) for found in report.lines] == [("x", 1), ("y", 50), ("z", 50)]
    assert row(report, "z").allocated_bytes == 50 * 8
    assert report.summary.ops == 101


def test_a_row_tells_of_the_run_that_autograd_followed() -> None:
    source = """
    import torch
    w = torch.ones(2, requires_grad=True)
    def step():
        return w * 2
    for i in range(3):
        a = step()
    with torch.no_grad():
        b = step()
    """
    report = build(recorded(source))
    found = next(found for found in report.lines if found.line == 4)
    assert found.requires_grad is True
    assert found.executions == 4
    assert "requires_grad in 3 of 4 runs" in found.notes


def test_a_step_tells_the_parameters_that_it_changed_from_the_state_that_it_made() -> None:
    source = """
    import torch
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    """
    (step,) = [found for found in build(recorded(source)).lines if found.kind == "step"]
    assert step.notes == ("wrote 2 parameters in place, made 6 tensors of its own",)


def test_what_the_last_step_wrote_is_not_said_of_steps_that_wrote_more() -> None:
    source = """
    import torch
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], 0.1)
    for step in range(3):
        out = a(torch.ones(1, 2)) + (b(torch.ones(1, 2)) if step < 2 else 0)
        optimizer.zero_grad()
        out.sum().backward()
        optimizer.step()
    """
    (step,) = [found for found in build(recorded(source)).lines if found.kind == "step"]
    assert step.notes == ("wrote 2 parameters in place in the last run",)


def test_many_tensors_of_one_statement_are_one_row() -> None:
    names = ", ".join(f"t{number}" for number in range(40))
    report = build(recorded(f"import torch\n{names} = torch.ones(40, 2).unbind()\n"))
    assert [row.name for row in report.lines] == ["40 tensors"]
    assert report.lines[0].allocated_bytes == 320


def test_lines_can_be_restricted() -> None:
    report = build(recorded(BASICS), RunView(lines=(3, 4)))
    assert {found.line for found in report.lines} == {3, 4}


def test_single_ops_are_listed_when_asked_for() -> None:
    report = build(recorded(BASICS), RunView(ops=True, lines=(14, 14)))
    assert [op.func for op in report.ops] == ["Tensor.pow", "Tensor.sum"]
    assert report.ops[1].outputs == ("loss",)
    assert build(recorded(BASICS)).ops == ()


def test_a_report_is_json(basics: Report) -> None:
    assert json.loads(to_text(basics))["summary"]["ops"] == basics.summary.ops


def test_a_write_that_autograd_followed_in_some_runs_tells_of_one_of_those() -> None:
    source = """
    import torch
    w = torch.ones(2, requires_grad=True)
    def run():
        out = torch.zeros(2)
        out.add_(w)
        return out
    for i in range(3):
        a = run()
    with torch.no_grad():
        b = run()
    """
    found = next(found for found in build(recorded(source)).lines if found.line == 5)
    assert (found.kind, found.requires_grad_before, found.requires_grad) == ("changed", False, True)
    assert found.modes == ()
    assert "requires_grad in 3 of 4 runs" in found.notes


def test_a_row_is_about_the_parameter_that_the_line_made() -> None:
    source = """
    import torch
    class M(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(3))
    m = M()
    y = m.w * 2
    """
    found = row(build(recorded(source)), "m.w")
    assert (found.line, found.kind, found.requires_grad, found.is_leaf) == (5, "made", True, True)
    assert found.requires_grad_why == "Parameter"


def test_batches_of_different_sizes_are_runs_of_the_same_rows() -> None:
    report = build(
        recorded(
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            data = TensorDataset(torch.ones(20, 3), torch.ones(20))
            for x, y in DataLoader(data, batch_size=8):
                z = x * 2
            """
        )
    )
    rows = [row for row in report.lines if row.line == 4]
    assert [(row.name, row.executions, row.shape) for row in rows] == [("x", 3, "(4, 3)"), ("y", 3, "(4,)")]
    assert [row.notes for row in rows] == [("x: (8, 3) in the first run",), ("y: (8,) in the first run",)]


def test_each_result_of_an_op_has_the_bytes_of_its_own_memory() -> None:
    report = build(
        recorded("import torch\nx = torch.eye(4)\nq, r = torch.linalg.qr(x)\nmodel = torch.nn.Linear(3, 2)\n")
    )
    assert (row(report, "q").allocated_bytes, row(report, "r").allocated_bytes) == (64, 64)
    assert (row(report, "model.weight").allocated_bytes, row(report, "model.bias").allocated_bytes) == (24, 8)


def test_what_an_epoch_drops_is_no_run_of_its_batches() -> None:
    report = build(
        recorded(
            """
            import torch
            from torch.utils.data import DataLoader, TensorDataset
            loader = DataLoader(TensorDataset(torch.ones(8, 2), torch.ones(8, 1)), batch_size=4, shuffle=True)
            for epoch in range(2):
                for x, y in loader:
                    z = x * y
            """
        )
    )
    rows = [row for row in report.lines if row.line == 5]
    assert [(row.name, row.executions, row.shape, row.notes) for row in rows] == [
        ("x", 4, "(4, 2)", ()),
        ("y", 4, "(4, 1)", ()),
    ]


def test_a_sum_that_starts_as_a_number_is_counted_in_every_run() -> None:
    report = build(
        recorded(
            """
            import torch
            w = torch.ones(2, requires_grad=True)
            for epoch in range(2):
                total = 0
                for i in range(4):
                    total += (w * i).sum()
            """
        )
    )
    assert row(report, "total").executions == 8
    assert [line.executions for line in report.memory.lines if line.place.line == 6] == [8]


def test_a_line_that_ran_in_training_and_evaluation_tells_of_training() -> None:
    report = build(
        recorded(
            """
            import torch
            w = torch.ones(4, requires_grad=True)
            def run(training):
                return w.exp() if training else w.sin()
            for _ in range(3):
                run(True).sum().backward()
            with torch.no_grad():
                run(False)
            """
        )
    )
    (line,) = [row for row in report.lines if row.line == 4]
    assert (line.grad_fn, line.executions, line.saved_bytes) == ("ExpBackward0", 4, 48)


def test_one_row_for_many_tensors_tells_what_all_have_in_common() -> None:
    names = ", ".join(f"t{number}" for number in range(20))
    report = build(recorded(f"import torch\nx = torch.arange(30.0)\n{names} = x.split([1, 2] * 10)\n"))
    made = row(report, "20 tensors")
    assert (made.shape, made.dtype, made.requires_grad, made.is_leaf) == ("", "float32", False, True)
    assert (made.storage, made.alias_of) == ("A", "")


def test_what_batch_norm_keeps_and_allocates_is_of_its_result_and_not_of_the_statistics_that_it_changes() -> None:
    report = build(
        recorded("""
    import torch
    norm = torch.nn.BatchNorm1d(2)
    x = torch.randn(50, 2)
    y = norm(x)
    """)
    )
    result, statistics = row(report, "y"), row(report, "norm.running_var", 4)
    assert result.saved_bytes >= 2 * 50 * 4 <= result.allocated_bytes
    assert (statistics.saved_bytes, statistics.allocated_bytes) == (0, 0)


def test_of_several_results_of_one_call_without_a_name_the_first_is_shown() -> None:
    report = build(
        recorded("""
    import torch
    lstm = torch.nn.LSTM(4, 5, batch_first=True)
    def encoded(x):
        output, _ = lstm(x)
        return output
    def largest(x):
        return torch.topk(x, 2)
    encoded(torch.randn(2, 3, 4)).sum().backward()
    largest(torch.randn(2, 3))
    """)
    )
    shown = [(one.line, one.shape, one.dtype) for one in report.lines if one.function in ("encoded", "largest")]
    assert shown == [(4, "(2, 3, 5)", "float32"), (7, "(2, 2)", "float32")]
