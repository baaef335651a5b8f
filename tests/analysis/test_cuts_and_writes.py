"""Cuts by kind, and writes in place by what they do."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = "import torch\nx = torch.ones(3, requires_grad=True)\ny = x.sigmoid()\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("z = y.detach()", "detach"),
        ("z = y.data", "data"),
        ("y.detach_()", "detach"),
        ("v = y.tolist()", "export"),
        ("z = y > 0", "not_differentiable"),
        ("z = y.long()", "not_differentiable"),
        ("x.requires_grad_(False)", "requires_grad_false"),
        ("x.requires_grad = False", "requires_grad_false"),
        ("z = torch.tensor(y[0])", "new_tensor"),
        ("z = torch.ones(1).new_tensor(y)", "new_tensor"),
        ("with torch.no_grad(): z = y * 2", "no_grad"),
        ("with torch.no_grad(): z = y.view(-1)", "no_grad"),
        ("with torch.inference_mode(): z = y * 2", "inference_mode"),
        ("z = torch.distributions.Normal(y, 1.0).sample() + 1", "no_grad"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_kind_of_a_cut(line: str, kind: str) -> None:
    cuts = build(recorded(HEAD + line)).cuts
    assert [cut.kind for cut in cuts] == [kind]
    assert cuts[0].place.line == 4


@pytest.mark.parametrize(
    "line",
    [
        "z = y * 2",
        "z = torch.zeros_like(y)",
        "z = y.new_zeros(3)",
        "z = y.new_tensor([1.0])",
        "v = y.shape",
        "values, at = y.max(0)",
        "x.grad = None",
        "torch.nn.init.orthogonal_(torch.nn.Parameter(torch.ones(2, 2)))",
        "layer = torch.nn.Linear(3, 3)",
        "layer = torch.nn.Linear(3, 3).double()",
        "dist = torch.distributions.Normal(y, y)",
        "import copy; layer = copy.deepcopy(torch.nn.Linear(3, 3))",
        "torch.optim.LBFGS([x]).step(lambda: x.sigmoid().sum())",
    ],
)
def test_what_is_no_cut(line: str) -> None:
    assert build(recorded(HEAD + line)).cuts == ()


@pytest.mark.parametrize("line", ["x.requires_grad_(False)", "x.requires_grad = False", "z = x.detach()"])
def test_the_input_of_a_cut_is_what_required_grad_before_it(line: str) -> None:
    (cut,) = build(recorded(HEAD + line)).cuts
    assert cut.input == "x"


COPIED = """
import copy
import torch
layer = torch.nn.Linear(3, 3)
with torch.{mode}():
    other = copy.deepcopy(layer)
{used}
"""


@pytest.mark.parametrize("mode", ["no_grad", "enable_grad"])
def test_a_copy_of_leaves_is_cut_off_by_no_mode(mode: str) -> None:
    assert build(recorded(COPIED.format(mode=mode, used="other(torch.ones(3)).sum().backward()"))).cuts == ()


def test_what_a_copy_of_leaves_gives_without_gradients_is_cut_off() -> None:
    (cut,) = build(recorded(COPIED.format(mode="no_grad", used="    y = other(torch.ones(3))"))).cuts
    assert (cut.kind, cut.op, cut.place.line) == ("no_grad", "F.linear", 6)


SEVERAL_CALLS = """
import torch
w = torch.ones(3, requires_grad=True)
for step in range(2):
    with torch.no_grad():
        a = [w.exp() - w.sin() / 2 + w]
        b = w.cos()
    v = [w.sum().item(), w.tolist()]
    c = [w.detach().clone(), w.data.clone()]
"""


def test_the_totals_count_the_lines_that_cut_and_not_their_calls() -> None:
    report = build(recorded(SEVERAL_CALLS))
    cuts = [cut for cut in report.cuts if cut.kind != "export"]
    assert len(cuts) > 3
    assert report.summary.cuts == len({cut.place.line for cut in cuts}) == 3
    assert report.summary.exports == 1


def test_the_totals_count_each_line_that_cuts() -> None:
    source = SEVERAL_CALLS.replace("[w.detach().clone(), w.data.clone()]", "w.detach()\n    d = w.detach()")
    assert build(recorded(source)).summary.cuts == 4


def test_a_flag_that_no_call_was_seen_to_change_is_no_cut_of_a_call() -> None:
    assert build(recorded(HEAD + "with torch._C.DisableTorchFunction():\n    x.requires_grad_(False)")).cuts == ()


FUNCTION = """
import torch
class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(x)
        ctx.save_for_backward(x, s)
        return x * s
    @staticmethod
    def backward(ctx, grad):
        x, s = ctx.saved_tensors
        return grad * (s + x * s * (1 - s))
x = torch.ones(3, requires_grad=True)
y = Swish.apply(x)
y.sum().backward()
"""


def test_the_forward_of_a_function_cuts_nothing() -> None:
    assert build(recorded(FUNCTION)).cuts == ()


def test_what_the_forward_of_a_function_cuts_where_it_turns_grad_mode_on_is_a_cut() -> None:
    source = FUNCTION.replace("s = torch.sigmoid(x)", "with torch.enable_grad(): s = torch.sigmoid(x.detach())")
    assert [(cut.place.line, cut.kind) for cut in build(recorded(source)).cuts] == [(5, "detach")]


@pytest.mark.parametrize(
    ("write", "effect"),
    [
        ("y.detach().zero_()\nz.backward()", "raised"),
        ("y.data.zero_()\nz.backward()", "silently_wrong"),
        ("y.detach().zero_()", "would_raise"),
        ("y.data.zero_()", "would_be_silently_wrong"),
        ("z.backward()\ny.data.zero_()", "none"),
        ("c = y.detach().clone()\nc.zero_()\nz.backward()", "none"),
    ],
)
def test_the_effect_of_a_write(write: str, effect: str) -> None:
    (found,) = build(recorded(HEAD + "z = y.sum()\n" + write)).inplace_writes
    assert found.effect == effect
    if effect != "none":
        assert (found.saved_as, found.saved_line) == ("result of SigmoidBackward0", 3)
        assert found.seen_by == ("y",)


def test_the_write_of_an_optimizer_is_no_trouble() -> None:
    source = """
    import torch
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for step in range(5):
        (w * w).sum().backward()
        optimizer.step()
    """
    writes = build(recorded(source)).inplace_writes
    assert [(write.effect, write.executions) for write in writes] == [("none", 5)]


TWO_LAYERS = """
import torch
from torch import nn
first, second = nn.Linear(2, 2), nn.Linear(2, 1)
optimizer = torch.optim.SGD(second.parameters(), lr=0.1)
out = second(first(torch.ones(3, 2)))
"""


@pytest.mark.parametrize(
    ("write", "name", "effect"),
    [
        (
            "out.sum().backward(retain_graph=True)\noptimizer.step()\nout.sum().backward()",
            "second.weight",
            "raised",
        ),
        ("with torch.no_grad():\n    second.weight.mul_(2)\nout.sum().backward()", "second.weight", "raised"),
        (
            "for p in second.parameters():\n    p.data.mul_(2)\nout.sum().backward()",
            "<p.data>",
            "silently_wrong",
        ),
    ],
)
def test_a_parameter_is_written_between_forward_and_backward(write: str, name: str, effect: str) -> None:
    writes = [one for one in build(recorded(TWO_LAYERS + write)).inplace_writes if one.effect != "none"]
    assert [(one.name, one.effect, one.saved_line) for one in writes] == [(name, effect, 5)]


def test_a_graph_that_is_gone_cannot_fail_any_more() -> None:
    source = """
    import torch
    w = torch.ones(2, requires_grad=True)
    print((w * w).sum().item())
    with torch.no_grad():
        w.add_(1)
    """
    (write,) = build(recorded(source)).inplace_writes
    assert write.effect == "none"


def test_a_write_of_which_torch_may_or_may_not_know_has_an_unknown_effect() -> None:
    """A call that makes views inside keeps one of them; which of its inputs it is of cannot be seen."""
    source = """
    import torch
    x = torch.ones(2, 2, requires_grad=True)
    a = x * 2
    b = a.data
    z = torch.einsum("ij,kj->ik", a, b)
    {}.zero_()
    """
    effects = {name: build(recorded(source.format(name))).inplace_writes[0].effect for name in ("b", "a.detach()")}
    assert effects == {"b": "unknown", "a.detach()": "unknown"}
    (write,) = build(recorded(source.format("b").replace("a.data", "a.detach()"))).inplace_writes
    assert write.effect == "would_raise"


def test_a_write_breaks_a_graph_that_is_not_the_last_to_have_saved_the_memory() -> None:
    source = """
    import torch
    c = torch.ones(3)
    x, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    a, b = (x * c).sum(), (v * c).sum()
    b.backward()
    c.mul_(2)
    a.backward()
    """
    (write,) = build(recorded(source)).inplace_writes
    assert (write.effect, write.backward_line) == ("raised", 7)


def test_no_gradient_is_wrong_where_backward_failed_for_another_reason() -> None:
    source = HEAD + "z = y.sum()\ny.data.zero_()\nz.backward(torch.ones(5))"
    assert [write.effect for write in build(recorded(source)).inplace_writes] == ["none"]


def test_the_last_of_equal_writes_is_described() -> None:
    (write,) = build(recorded("import torch\na = torch.ones(3)\nfor step in range(3):\n    a.add_(1)")).inplace_writes
    assert (write.executions, write.version_before, write.version_after) == (3, 2, 3)


def test_a_flag_that_is_set_of_a_tensor_not_seen_before_is_a_change() -> None:
    found = build(
        recorded(
            """
            import copy, torch
            copied = copy.deepcopy(torch.nn.Linear(2, 2))
            for p in copied.parameters():
                p.requires_grad = False
            """
        )
    )
    changed = [(row.name, row.requires_grad_before, row.requires_grad) for row in found.lines if row.line == 4]
    assert changed == [("copied.weight", True, False), ("copied.bias", True, False)]


def test_a_write_changes_only_tensors_on_its_bytes() -> None:
    found = build(recorded("import torch\nbase = torch.zeros(4)\na, b = base.chunk(2)\na.add_(1)\n"))
    (write,) = [answer.text for answer in found.answers if answer.code == "write-through-alias"]
    assert "also changed base:" in write


HOOKED = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.Linear(3, 3))
x, kept = torch.ones(2, 3), []
def run():
    return net(x)
def keep(module, taken, given):
    kept.append(given.detach().numpy())
run().sum().backward()
{hooks}
with {mode}():
    for _ in range({runs}):
        run()
"""


@pytest.mark.parametrize("runs", [1, 2, 5])
@pytest.mark.parametrize("mode", ["torch.no_grad", "torch.inference_mode"])
@pytest.mark.parametrize(
    "hooks",
    [
        "handles = [layer.register_forward_hook(keep) for layer in net]",
        "for layer in net:\n    layer.register_forward_hook(lambda m, i, o: kept.append(o.detach().numpy()))",
        "for layer in net:\n    layer.register_forward_pre_hook(lambda m, i: (i[0] + 1,))",
        "",
    ],
)
def test_a_run_that_hooks_interrupt_is_one(hooks: str, mode: str, runs: int) -> None:
    source = HOOKED.format(hooks=hooks, mode=mode, runs=runs)
    cuts = [cut for cut in build(recorded(source)).cuts if cut.place.line == line_of(source, "return net(x)")]
    assert [cut.executions for cut in cuts if cut.op == "F.linear"] == [runs]


def test_one_line_cuts_off_several_tensors_by_calls_of_one_function() -> None:
    report = build(recorded(HEAD + "for _ in range(3):\n    z = y.detach() * x.sin().detach() + (x * 2).detach()\n"))
    assert [(cut.input, cut.executions) for cut in report.cuts] == [("y", 3), ("<x.sin()>", 3), ("<x * 2>", 3)]
    assert report.summary.cuts == 1  # lines
    layered = "for h in (x, y, x * 2):\n    z = h.detach()\n"
    assert [(cut.executions) for cut in build(recorded(HEAD + layered)).cuts] == [3]


@pytest.mark.parametrize(
    ("write", "is_news"),
    [
        ("x[0] += 1", False),
        ("x[:2].mul_(2)", False),
        ("row = x[0]\nrow += 1", True),
        ("y[0] += 1", True),
        ("x.view(-1)[0] += 1", True),
    ],
)
def test_that_what_a_line_names_changes_is_no_news(write: str, is_news: bool) -> None:
    source = f"import torch\nx = torch.zeros(3)\ny = x.view(3, 1)\n{write}\n"
    source = source if "y[" in write else source.replace("y = x.view(3, 1)\n", "")
    codes = {one.code for one in build(recorded(source + "print(x.sum())\n")).answers}
    assert codes == ({"write-through-alias"} if is_news else set())
