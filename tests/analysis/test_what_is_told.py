"""What a report says of small programs, statement by statement: each test would miss one fact."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.analysis.wording import listed
from gradscope.recording import NONE, Fault
from gradscope.recording.rows import GradOutcome, OpKind, TensorFlag
from tests.analysis.building import Builder, recorded

HEAD = "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"


def answers(source: str) -> dict[str, object]:
    return {answer.code: answer for answer in build(recorded(HEAD + source)).answers}


def test_a_cut_inside_a_package_is_named_where_it_is():
    source = """
    import torch
    exec(compile("\\ndef stop(t):\\n    return t.detach()\\n", "/x/site-packages/lib.py", "exec"))
    a = torch.ones(2, requires_grad=True)
    b = stop(a)
    """
    (cut,) = build(recorded(source)).cuts
    assert (cut.place.line, cut.op) == (4, "Tensor.detach")
    assert cut.inner is not None
    assert (cut.inner.line, cut.inner.function) == (3, "stop")


LEAK = """
w = torch.ones(1000, requires_grad=True)
total = 0
for step in range(20):
    total = total + (w * torch.rand(1000)).sum()
"""
FEW_KEPT = """
w = torch.ones(1000, requires_grad=True)
kept = []
for step in range(40):
    y = (w * torch.rand(1000)).exp()
    if step % 4 == 0:
        kept.append(y)
"""


def test_memory_that_a_graph_keeps():
    found = answers(LEAK)["memory-kept-by-graph"]
    assert found.severity == "warning"
    assert "Line 8: every run leaves memory behind" in found.text
    assert "the graph of total keeps them" in found.text


def test_a_loop_of_which_little_is_left_is_not_blamed():
    assert "memory-kept-by-graph" not in answers(FEW_KEPT)


def test_saved_in_vain_is_not_said_of_lines_that_were_used():
    source = """
def forward(w):
    return w.exp() * 2
w = torch.ones(1000, 1000, requires_grad=True)
forward(w).sum().backward()
validation = forward(w)
"""
    assert "saved-in-vain" not in answers(source)


def test_a_grad_that_is_read_before_any_backward():
    found = answers("x = torch.ones(3, requires_grad=True)\nprint(x.grad)\n(x * 2).sum().backward()\n")
    assert found["grad-none-no-backward"].text == "x.grad is None at line 5: no backward pass ran before."
    assert found["grad-none-no-backward"].severity == "note"


def test_a_grad_that_is_read_where_only_autograd_grad_was_asked():
    source = "x = torch.ones(3, requires_grad=True)\n(g,) = torch.autograd.grad((x * x).sum(), x)\nprint(x.grad)\n"
    text = answers(source)["grad-none-no-backward"].text
    assert "only autograd.grad ran before (line 5), which returns gradients and fills no .grad" in text


def test_a_leaf_that_nothing_uses_is_a_note():
    found = answers(
        "x = torch.ones(3, requires_grad=True)\nw = torch.ones(3, requires_grad=True)\nx.sum().backward()\n"
    )
    assert found["leaf-unreached"].severity == "note"


def test_a_leaf_that_required_grad_too_late():
    found = answers(
        "w = torch.ones(3)\nh = w * 2\nw.requires_grad_()\nv = torch.ones(3, requires_grad=True)\n"
        "(h * v).sum().backward()\nprint(w.grad)\n"
    )
    assert "it did not require grad when line 5 used it" in found["grad-none-unreached"].text


def test_what_was_left_out_and_faults_are_counted():
    builder = Builder()
    builder.op(1)
    builder.recording.left_out.append((0, builder.text("Tensor.mul"), 7))
    builder.recording.left_out.append((1, builder.text("Tensor.mul"), 5))
    builder.recording.faults.append(Fault("op", "Traceback …\nValueError: ours", 3))
    report = build(builder.recording)
    assert (report.summary.left_out, report.summary.faults) == (12, 3)
    assert len(report.left_out) == 2


def test_a_statement_of_several_lines_is_among_the_lines_that_it_spans():
    source = "import torch\nx = torch.add(\n    torch.ones(2),\n    1,\n)\ny = x + 1\n"
    assert {row.name for row in build(recorded(source), RunView(lines=(4, 4))).lines} == {"x"}


def test_equal_errors_of_a_loop_are_one_with_their_number():
    source = """
    import torch
    for i in range(3):
        try:
            torch.ones(2) + torch.ones(3)
        except RuntimeError:
            pass
    """
    (error,) = build(recorded(source)).errors
    assert (error.executions, error.place.line) == (3, 4)


MODES = """
import torch
x = torch.ones(2, requires_grad=True)
with torch.no_grad():
    a = x * 2
with torch.inference_mode():
    b = x * 3
with torch.autocast("cpu", torch.bfloat16):
    c = x * 4
"""


def test_single_ops_tell_the_modes_in_force():
    ops = {op.outputs[0]: op.modes for op in build(recorded(MODES), RunView(ops=True)).ops if op.outputs}
    assert ops == {"x": (), "a": ("no_grad",), "b": ("inference_mode",), "c": ("autocast",)}


def test_modes_that_torch_sets_for_itself_are_not_the_users():
    source = """
    import torch
    w = torch.ones(2, requires_grad=True)
    (w * w).sum().backward()
    torch.nn.utils.clip_grad_norm_([w], 1.0)
    """
    report = build(recorded(source))
    assert report.modes == ()
    assert [(one.place.line, one.mode) for one in build(recorded(MODES)).modes] == [
        (3, "no_grad"),
        (5, "inference_mode"),
        (8, "autocast"),
    ]


def test_a_write_after_a_backward_is_not_on_the_way_to_it():
    source = """
    import torch
    x = torch.ones(3, requires_grad=True)
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    y.sum().backward()
    with torch.no_grad():
        y.add_(x)
    """
    (one,) = build(recorded(source)).backwards
    (missed,) = [row for row in one.gradients if row.name == "x"]
    assert missed.why == "no call was seen to use it before this backward pass"


HOOKED = """
import torch
x = torch.ones(3, requires_grad=True)
with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
    y = x.exp()
optimizer = torch.optim.SGD([x], lr=0.1)
y.sum().backward()
optimizer.step()
optimizer.zero_grad()
"""


def test_notes():
    notes = {row.line: row.notes for row in build(recorded(HOOKED)).lines}
    assert notes[4] == ("saved-tensor hooks in force: what it saved was not read",)
    assert notes[7] == ("wrote 1 parameter in place",)
    assert notes[8] == ("set .grad of 1 tensor to None",)


def test_two_steps_of_one_line_wrote_what_both_did():
    source = HOOKED.replace("optimizer.step()", "optimizer.step(); torch.optim.SGD([z], lr=0.1).step()")
    source = source.replace("y = x.exp()", "y = x.exp()\nz = torch.ones(2, requires_grad=True)\nz.sum().backward()")
    [notes] = [row.notes for row in build(recorded(source)).lines if "step" in row.source]
    assert notes == ("wrote 2 parameters in place",)


def test_in_use_is_told_of_the_last_run():
    source = "import torch\nkept = []\nfor i in range(4):\n    kept.append(torch.ones(1000))\n"
    (row,) = build(recorded(source)).lines
    assert row.live_bytes == 16_000


def test_a_parameter_is_called_by_the_path_from_outside():
    source = """
    import torch
    from torch import nn
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
        def forward(self, x):
            return x * self.weight
    net, x = Net(), torch.ones(2)
    out = net(x)
    out.sum().backward()
    """
    (one,) = build(recorded(source)).backwards
    assert [row.name for row in one.gradients] == ["net.weight"]


def test_figures_of_an_allocator():
    builder = Builder()
    for op, (allocated, peak) in enumerate([(8, 80), (16, 20), (4, 60)]):
        builder.op(1)
        builder.recording.memory.append((op, builder.text("cuda:0"), allocated, peak))
    (device,) = build(builder.recording).memory.devices
    assert (device.device, device.allocated_bytes, device.peak_bytes) == ("cuda:0", 4, 80)


SEEN = """
import torch
a = torch.ones(3)
b = a[1:]
c = b * 2
del b
a.add_(1)
"""


def test_a_tensor_that_is_gone_sees_no_write():
    (write,) = build(recorded(SEEN)).inplace_writes
    assert (write.name, write.seen_by) == ("a", ())


def test_the_worst_run_of_a_write_is_told():
    source = """
    import torch
    x = torch.ones(3, requires_grad=True)
    for step in range(2):
        y = x.sigmoid()
        z = y.sum()
        y.data.zero_()
        if step == 0:
            z.backward()
    """
    (write,) = build(recorded(source)).inplace_writes
    assert (write.effect, write.executions) == ("silently_wrong", 2)


def test_a_backward_that_failed_for_another_reason_is_not_put_down_to_a_write():
    source = "import torch\nx = torch.ones(3, requires_grad=True)\ny = x.sigmoid()\nz = y.sum()\n"
    source += "y.detach().zero_()\nz.backward(torch.ones(5))\n"
    report = build(recorded(source))
    assert [write.effect for write in report.inplace_writes] == ["none"]
    assert "inplace-error" not in {answer.code for answer in report.answers}


def test_a_write_between_two_passes_over_a_kept_graph():
    source = """
    import torch
    x = torch.ones(3, requires_grad=True)
    y = x.sigmoid()
    z = y.sum()
    z.backward(retain_graph=True)
    y.data.zero_()
    z.backward()
    """
    (write,) = build(recorded(source)).inplace_writes
    assert (write.effect, write.backward_line) == ("silently_wrong", 7)


def test_a_graph_counts_what_it_saves_once():
    source = "import torch\nx = torch.ones(100, requires_grad=True)\ny = x.exp()\nz = (y * y).sum()\nz.backward()\n"
    (graph,) = build(recorded(source)).graphs
    assert graph.saved_bytes == 400


def test_frozen_is_said_of_the_last_pass_only():
    source = """
    import torch
    from torch import nn
    layer = nn.Linear(2, 2)
    for step in range(2):
        layer.bias.requires_grad_(step == 1)
        layer(torch.ones(1, 2)).sum().backward()
    """
    report = build(recorded(source))
    assert "frozen" not in {answer.code for answer in report.answers}


@pytest.mark.parametrize(
    ("line", "kind"),
    [("z = torch.bucketize(y, y)", "not_differentiable"), ("z = torch.histc(y)", "no_gradient_defined")],
)
def test_more_kinds_of_cuts(line, kind):
    source = "import torch\nx = torch.ones(3, requires_grad=True)\ny = x.sigmoid()\n"
    assert [cut.kind for cut in build(recorded(source + line)).cuts] == [kind]


def test_the_cut_that_kept_a_gradient_away_is_marked():
    source = """
    import torch
    x = torch.ones(3, requires_grad=True)
    w = torch.ones(3, requires_grad=True)
    other = w.detach()
    loss = (x.detach() * w).sum()
    loss.backward()
    """
    assert {cut.place.line: cut.on_path for cut in build(recorded(source)).cuts} == {4: False, 5: True}


def test_names_in_a_sentence():
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed(["m.a", "m.b", "m.c", "m.d"]) == "m.* (4)"


def test_a_call_that_changes_what_its_own_statement_made_is_no_further_run():
    rows = build(recorded("import torch\nx = torch.ones(3)\ny = x.add(1).add_(2)\n")).lines
    assert [(row.name, row.executions) for row in rows] == [("x", 1), ("y", 1)]


def test_a_write_into_a_gradient_is_a_call_of_its_line():
    source = "import torch\nw = torch.ones(3, requires_grad=True)\nw.sum().backward()\ng = w.grad\ng.mul_(3)\n"
    assert [row.kind for row in build(recorded(source)).lines if row.line == 5] == ["call"]


def test_a_parameter_on_a_part_of_other_memory_gets_its_gradient():
    source = "flat = torch.ones(4)\np = nn.Parameter(flat[:2])\np.sum().backward()\nprint(p.grad)\n"
    report = build(recorded(HEAD + source))
    assert [row.outcome for one in report.backwards for row in one.gradients] == ["created"]


@pytest.mark.parametrize(("external", "outcomes"), [(0, []), (TensorFlag.EXTERNAL, ["created"])])
def test_only_of_a_view_that_a_call_was_seen_to_make_it_is_known_that_no_gradient_goes_to_it(external, outcomes):
    builder = Builder()
    view = builder.op(1, requires_grad=True)
    builder.recording.tensors.column("flags")[view] |= TensorFlag.VIEW | external
    builder.op(2, "Tensor.backward", (view,), kind=OpKind.BACKWARD)
    builder.recording.backwards.append((1, view, NONE, 0, 0))
    builder.recording.gradients.append((1, view, GradOutcome.CREATED, NONE, 16))
    (one,) = build(builder.recording).backwards
    assert [row.outcome for row in one.gradients] == outcomes


def test_runs_are_told_apart_only_where_each_of_them_was_a_write():
    source = """
    import torch
    for p in [torch.ones(1), torch.ones(1, requires_grad=True)]:
        with torch.no_grad():
            p.mul_(2).requires_grad_()
    """
    assert not [note for row in build(recorded(source)).lines for note in row.notes if "runs" in note]


def test_a_cut_of_another_statement_of_the_loop_is_not_the_lines():
    source = """
    import torch
    x = torch.ones(3, requires_grad=True)
    for step in range(2):
        y = torch.zeros(3)
        z = x.detach()
    """
    assert {row.name: row.kind for row in build(recorded(source)).lines} == {"x": "made", "y": "made", "z": "cut"}


FROZEN = """
    import torch
    from torch import nn
    trunk, head, other = nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(2, 1)
    trunk.requires_grad_(False)
    head(trunk(torch.ones(3, 2))).sum().backward()
    other(torch.ones(3, 2)).sum().backward()
"""


def test_what_was_frozen_is_told_of_the_passes_that_it_had_a_part_in():
    [told] = [one for one in build(recorded(FROZEN)).answers if one.code == "frozen"]
    assert told.text.startswith("Line 5: trunk.weight and trunk.bias did not require grad")


def test_a_layer_that_the_line_trains_before_it_is_over_is_told_as_it_was_made():
    source = """
def trained(layer):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):
        layer(torch.ones(4, 3)).sum().backward()
        optimizer.step()
    return layer
layer = trained(torch.nn.Linear(3, 1))  # made
"""
    rows = [row for row in build(recorded(f"import torch\n{source}")).lines if "# made" in row.source]
    assert {(row.name, row.version) for row in rows} == {("layer.weight", 1), ("layer.bias", 1)}


def test_a_pass_from_several_roots_is_told_with_all_of_them():
    source = """
a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
p, q = (a * 2).sum(), (a * b).sum()
torch.autograd.backward([p, q])  # pass
"""
    rows = [row for row in build(recorded(f"import torch\n{source}")).lines if "# pass" in row.source]
    assert [(row.kind, row.name) for row in rows] == [("backward", "p and q")]
