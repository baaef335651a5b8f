"""Why a backward pass gave a tensor no gradient: each row says it, or that it was not looked into."""

from __future__ import annotations

import pytest

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching import unreached
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer, Report
from tests.analysis.building import line_of, recorded

PLACES = 24
MANY_PLACES = (
    "import torch\nw, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)\n"
    + "(w.detach() * v).sum().backward()\n" * PLACES
    + "print(w.grad)\n"
)


def reasons(report: Report, name: str) -> list[str]:
    """Why each place with backward passes gave a tensor no gradient, as its rows say."""
    return [row.why for one in report.backwards for row in one.gradients if row.name == name]


def test_each_of_many_places_says_why() -> None:
    report = build(recorded(MANY_PLACES))
    assert reasons(report, "w") == [f"cut at line {line} by Tensor.detach" for line in range(3, 3 + PLACES)]
    (none,) = [answer for answer in report.answers if answer.code == "grad-none-unreached"]
    assert f"cut at line {2 + PLACES} by Tensor.detach" in none.text


def test_what_would_cost_too_much_is_said_not_to_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreached, "WALKED_IN_ALL", 12)
    report = build(recorded(MANY_PLACES.replace("print(w.grad)\n", "")))
    why = reasons(report, "w")
    assert why[0] == "cut at line 3 by Tensor.detach"
    assert len(why) == PLACES
    assert why[-1].startswith("not looked into")
    assert not any("not looked into" in answer.text for answer in report.answers)


def test_no_pass_is_walked_when_the_allowance_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreached, "WALKED_IN_ALL", 12)
    index = Index(recorded(MANY_PLACES))
    names, flow = BestNames(index), Flow(index, StorageGroups(index, BestNames(index)))
    gradients = Gradients(index, names, Cuts(index), flow, Passes(index))
    explained = len(gradients.unreached)
    assert 0 < explained < PLACES
    assert flow.walked < 24


def test_a_row_that_costs_too_much_is_left_out_in_the_middle_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Following one leaf may cost as much as a pass: what values that left torch were made from, above all."""
    monkeypatch.setattr(unreached, "WALKED_IN_ALL", 12)
    source = """
    import torch
    a, b, c, v = (torch.ones(1, requires_grad=True) for _ in range(4))
    print((a.exp().exp().exp() + b.exp().exp().exp() + c.exp().exp().exp()).item())
    (v * torch.tensor([1.0])).sum().backward()
    """
    (one,) = build(recorded(source)).backwards
    why = [row.why for row in one.gradients if row.name in ("a", "b", "c")]
    assert [text.startswith("not looked into") for text in (why[0], why[-1])] == [False, True]


LOGGED = """
import torch
w, x, kept = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True), 1.0
{}
x.sum().backward()
{}
loss = (x * torch.tensor([kept, 2.0, 3.0])).sum()
{}
loss.backward()
"""
CAME_BACK = "cut at line {} by Tensor.item (the values left torch); loss was built from plain values at line 6"
LOG = "kept = (w * 2).sum().item()"


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((LOG, "", ""), "used at line {}, but no way from there to loss was seen"),
        (
            ("", LOG, ""),
            CAME_BACK,
        ),
        (("", "", LOG), "used at line {}, but no way from there to loss was seen"),
        (("", LOG.replace("kept", "other"), ""), "used at line {}, but no way from there to loss was seen"),
    ],
    ids=["before the pass before", "in between", "after the tensor was built", "under another name"],
)
def test_values_came_back_only_if_they_left_after_the_pass_before(lines: tuple[str, str, str], why: str) -> None:
    source = LOGGED.format(*lines)
    last = build(recorded(source)).backwards[-1]
    (missed,) = [row.why for row in last.gradients if row.name == "w"]
    assert missed == why.format(line_of(source, "item"))


@pytest.mark.parametrize("like", ["torch.zeros_like(w)", "w.new_ones(3)", "w.new_tensor([1.0])"])
def test_nothing_is_made_from_a_tensor_that_only_gave_its_shape_or_dtype(like: str) -> None:
    source = f"""
    import torch
    w, x = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    loss = (x * {like}).sum()
    loss.backward()
    """
    assert reasons(build(recorded(source)), "w") == ["used at line 3, but no way from there to loss was seen"]


FUNCTION = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        return x * w
    @staticmethod
    def backward(ctx, grad):
        return grad, grad
x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
y = {}
y.sum().backward(inputs=[x])
"""


@pytest.mark.parametrize("product", ["x * w", "Product.apply(x, w)"])
def test_a_leaf_that_was_not_asked_for_is_no_more_than_a_note(product: str) -> None:
    report = build(recorded(FUNCTION.format(product)))
    assert reasons(report, "w") == ["the pass was asked for the gradient of x only (inputs=)"]
    assert {answer.severity for answer in report.answers} == {"note"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_copy_of_a_tensor_was_not_built_from_values_that_had_left_torch() -> None:
    source = """
    import torch
    w, x, data = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True), torch.ones(3)
    print((w * 2).sum().item())
    loss = (x * torch.tensor(data)).sum()
    loss.backward()
    """
    assert reasons(build(recorded(source)), "w") == ["used at line 3, but no way from there to loss was seen"]


THROUGH_NUMPY = """
import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
for step in range(2):
    codes = torch.tanh(w)
    rows = codes.detach().numpy()
    smooth = {}
    (smooth * v).sum().backward()
"""


@pytest.mark.parametrize(
    ("smooth", "why"),
    [
        ("torch.from_numpy(rows * 2).float()", "cut at line 5 by Tensor.detach; "),
        ("torch.ones(3)", "used at line 4, but no way from there to "),
    ],
)
def test_values_that_went_through_numpy_are_followed_to_where_a_tensor_is_built_from_some(
    smooth: str, why: str
) -> None:
    report = build(recorded(THROUGH_NUMPY.format(smooth)))
    assert reasons(report, "w")[0].startswith(why)


LEFT_TORCH = """
import torch
w, v = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
o = torch.optim.SGD([v, w], lr=0.1)
for step in range(3):
    scale = {}
    loss = (v * scale).sum()
    o.zero_grad()
    loss.backward()
    o.step()
"""


@pytest.mark.parametrize(
    ("scale", "severity"),
    [
        ("float(w.exp().sum())", "warning"),
        ("w.detach().numpy().sum()", "warning"),
        ("float(w.exp().sum()) + 0 * w.tanh()", ""),
        ("0 * (w * 2).abs().max().item() + len([w.tanh()])", "note"),  # (one of its ends is a tensor that is left over)
    ],
)
def test_what_all_left_torch_is_told_of_a_leaf_that_an_optimizer_has(scale: str, severity: str) -> None:
    source = LEFT_TORCH.format(scale)
    answers = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [one.severity for one in answers] == ([severity] if severity else [])
    if severity == "warning":
        assert [cause.line for cause in answers[0].causes] == [line_of(source, "scale =")]
    others = build(recorded(source.replace("[v, w]", "[v]"))).answers
    assert "warning" not in [one.severity for one in others]


GENERATED = """
import torch
from torch import nn
from torch.nn import functional as F
class Generated(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.bias = nn.Parameter(torch.zeros(2))
    def load(self, flat):
        {load}
    def forward(self, x):
        return F.linear(x, self.weight, self.bias)
hyper, layer = nn.Linear(4, 8), Generated()
optimizer = torch.optim.SGD({trained}.parameters(), lr=0.1)
for step in range(2):
    layer.load(hyper(torch.ones(4)))
    optimizer.zero_grad()
    layer(torch.ones(5, 3)).sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "load",
    [
        "self.bias = nn.Parameter(flat[6:])",
        "bias = flat[6:]; self.bias = nn.Parameter(bias)",
        "self.weight = nn.Parameter(flat[:6].view(2, 3)); self.bias = nn.Parameter(flat[6:])",
        "self.register_parameter('bias', nn.Parameter(flat[6:]))",
        "flat = flat[6:] * 2; setattr(self, 'bias', nn.Parameter(flat))",
    ],
)
def test_the_line_that_wraps_what_was_generated_in_a_parameter_is_the_cause(load: str) -> None:
    source = GENERATED.format(load=load.replace("; ", "\n        "), trained="hyper")
    wrap = line_of(source, "        " + load.rpartition("; ")[2])
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert answer.severity == "warning"
    assert [cause.line for cause in answer.causes] == [wrap]
    assert f"line {wrap} makes a new leaf, self.bias" in answer.text


def test_what_generates_is_no_more_than_noted_where_no_optimizer_holds_it() -> None:
    load = "self.bias = nn.Parameter(flat[6:])"
    source = GENERATED.format(load=load, trained="layer").replace(
        "for step", "layer.load(hyper(torch.ones(4)))\nfor step"
    )
    found = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [one.severity for one in found] == ["note"]


def test_generated_weights_that_are_used_as_they_are_get_gradients() -> None:
    load = "self._parameters.pop('bias', None)\n        self.bias = flat[6:]"
    found = build(recorded(GENERATED.format(load=load, trained="hyper"))).answers
    assert [one for one in found if one.code == "leaf-unreached"] == []


DISTILLED = """
import torch
from torch import nn
class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
    def forward(self, x):
        hidden = self.inner(x)
        return hidden.relu()
teacher, student, head = Encoder(), {student}, nn.Linear(4, 1)
{before}
optimizer = torch.optim.SGD([*student.parameters(), *head.parameters()], lr=0.1)
for step in range(2):
    x = torch.ones(5, 3)
    with torch.no_grad():  # opens
        aim = {first}
        found = student(x)  # runs
    loss = (head(found) - aim).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def distilled(
    student: str = "nn.Sequential(nn.Linear(3, 4), nn.ReLU())", before: str = "", first: str = "teacher(x)"
) -> str:
    return DISTILLED.format(student=student, before=before, first=first)


FITTED = """
first = torch.optim.SGD(teacher.parameters(), lr=0.1)
teacher(torch.ones(5, 3)).sum().backward()
first.step()
"""


def unreached_leaves(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "leaf-unreached" and one.severity != "note"]


@pytest.mark.parametrize("student", ["nn.Sequential(nn.Linear(3, 4), nn.ReLU())", "Encoder()"])
@pytest.mark.parametrize("before", ["", "teacher.requires_grad_(False)", FITTED])
def test_the_statement_of_a_teachers_block_that_runs_the_student_is_named(student: str, before: str) -> None:
    source = distilled(student, before)
    (answer,) = unreached_leaves(source)
    runs, opens = line_of(source, "# runs"), line_of(source, "# opens")
    assert [cause.line for cause in answer.causes] == [runs, opens]
    assert f"cut at line {runs}, which runs it inside the no_grad of line {opens}" in answer.text


def test_the_statement_is_named_too_where_nothing_is_left_to_be_trained() -> None:
    source = (
        distilled(before="teacher.requires_grad_(False)")
        .replace("head(found)", "found")
        .replace(", *head.parameters()", "")
    )
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "backward-no-grad"]
    runs, opens = line_of(source, "# runs"), line_of(source, "# opens")
    assert [cause.line for cause in answer.causes] == [runs, opens]
    assert f"cut at line {runs}, inside the no_grad of line {opens}" in answer.text
    alone = source.replace("aim = teacher(x)", "aim = x.sum()")
    (answer,) = [one for one in build(recorded(alone)).answers if one.code == "backward-no-grad"]
    assert [cause.line for cause in answer.causes] == [opens]


@pytest.mark.parametrize(
    "source",
    [
        distilled(first="x.sum()"),
        distilled(first="student(x * 2)"),
        distilled().replace("        aim = teacher(x)\n", "").replace("(found) - aim", "(found)"),
    ],
)
def test_a_block_without_a_teacher_is_named_itself(source: str) -> None:
    (answer,) = unreached_leaves(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# opens")]


def test_a_student_beside_the_teachers_block_is_reached() -> None:
    source = distilled().replace("        found = student", "    found = student")
    assert unreached_leaves(source) == []


def test_what_was_only_wrapped_was_not_used(tmp_path) -> None:
    source = f"""
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=0, world_size=1)
net, used, w = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3), torch.ones(3, requires_grad=True)
model, other = DistributedDataParallel(net), DistributedDataParallel(used)
print(other(torch.ones(1, 3)))
(w * 2).sum().backward()
dist.destroy_process_group()
"""
    report = build(recorded(source))
    whys = [row.why for row in report.backwards[0].gradients if row.name.endswith("weight")]
    assert whys == [
        "no call was seen to use it before this backward pass, only to hold it (line 6)",
        "used at line 7, but no way from there to <(w * 2).sum()> was seen",
    ]


TAPPED = """
import torch
from torch import nn
body, head, kept = nn.Linear(3, 4), nn.Linear(4, 1), {}
class Tap:
    def save(self, module, inputs, output):
        self.seen = output.detach()
        return self.seen  # returns
def scaled(module, inputs):
    seen = inputs[0].detach() * 2
    return (seen,)  # before
body.register_forward_hook(Tap().save)
model = nn.Sequential(body, head)
for _ in range(3):
    model(torch.ones(2, 3)).sum().backward()
print(body.weight.grad)
"""


@pytest.mark.parametrize(
    ("registers", "returns"),
    [
        ("body.register_forward_hook(Tap().save)", "# returns"),
        ("head.register_forward_pre_hook(scaled)", "# before"),
        ("body.register_forward_hook(lambda module, inputs, output: output.detach())  # lambda", "# lambda"),
    ],
)
def test_what_a_hook_returns_is_the_cause_as_it_takes_the_place_of_the_output(registers: str, returns: str) -> None:
    source = TAPPED.replace("body.register_forward_hook(Tap().save)", registers)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "grad-none-unreached"]
    assert answer.causes[0].line == line_of(source, returns)


@pytest.mark.parametrize("line", ["pass", "kept['seen'] = self.seen", "return None"])
def test_a_hook_that_returns_nothing_cuts_nothing(line: str) -> None:
    source = TAPPED.replace("return self.seen  # returns", line)
    assert [one for one in build(recorded(source)).answers if one.code.startswith("grad-none")] == []


LEARNED_RATE = """
import copy
import torch
base, rate = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.tensor(0.1))
optimizer = torch.optim.Adam([*base.parameters(), rate], lr=0.01)
for _ in range(3):
    fast = copy.deepcopy(base)
    gradients = torch.autograd.grad(fast(torch.ones(2, 3)).sum(), list(fast.parameters()))
    for w, g in zip(fast.parameters(), gradients):
        w.data = w.data - rate * g  # written
    loss = fast(torch.ones(2, 3)).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(rate.grad)
"""


@pytest.mark.parametrize("write", ["w.data = w.data - rate * g", "w.data.sub_(rate * g)", "w.data -= rate.abs() * g"])
@pytest.mark.parametrize("reads", [True, False])
def test_what_is_written_into_the_data_of_a_weight_is_the_cause_for_the_rate(write: str, reads: bool) -> None:
    source = LEARNED_RATE.replace("w.data = w.data - rate * g", write)
    source = source if reads else source.replace("print(rate.grad)\n", "")
    code = "grad-none-unreached" if reads else "leaf-unreached"
    answers = [one for one in build(recorded(source)).answers if one.code == code and "rate" in one.subject]
    assert [[cause.line for cause in one.causes] for one in answers] == [[line_of(source, "# written")]]
    assert answers[0].severity != "note"


def test_fast_weights_that_are_made_of_the_rate_give_it_a_gradient() -> None:
    made = "w, b = (w - rate * g for w, g in zip(fast.parameters(), gradients))"
    source = LEARNED_RATE.replace("w.data = w.data - rate * g  # written", "pass")
    source = source.replace("loss = fast(torch.ones(2, 3))", f"{made}\n    loss = (torch.ones(2, 3) @ w.T + b)")
    codes = ("grad-none-unreached", "leaf-unreached")
    assert [one for one in build(recorded(source)).answers if one.code in codes and "rate" in one.subject] == []


CODES = """
import torch
from torch import nn
class Coded(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3))
        self.scale = None
        {}
    def calibrate(self):
        with torch.no_grad():
            self.scale = self.weight.abs().max()
    def forward(self, x):
        {}
        codes = (self.weight / self.scale).{}
        return x @ (codes * self.scale)
layer, head = Coded(), nn.Linear(3, 1)
{}
optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.1)
for step in range({}):
    head(layer(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize("coded", ["round().to(torch.int8)", "round().detach()"])
@pytest.mark.parametrize(
    ("made", "used", "before", "passes"),
    [
        ("self.scale = nn.Parameter(self.weight.detach().abs().max())", "", "", 3),
        ("self.scale = nn.Parameter(self.weight.detach().abs().max())", "", "", 1),
        ("self.scale = self.weight.detach().abs().max()", "", "", 1),
        ("", "", "layer.calibrate()", 3),
        ("", "if self.scale is None: self.calibrate()", "", 3),
    ],
    ids=["a parameter", "in one pass", "a plain attribute", "before the training", "in the first round"],
)
def test_the_cut_of_each_round_is_named_not_that_of_a_set_up(
    coded: str, made: str, used: str, before: str, passes: int
) -> None:
    source = CODES.format(made, used, coded, before, passes)
    why = reasons(build(recorded(source)), "layer.weight")
    assert all(one.startswith(f"cut at line {line_of(source, 'codes = ')} by ") for one in why)
    assert why


def test_a_cut_before_the_rounds_is_named_where_no_other_is_on_the_way() -> None:
    source = CODES.format("self.scale = self.weight.detach().abs().max()", "", "round().detach()", "", 3)
    source = source.replace("(self.weight / self.scale).round().detach()", "self.scale.expand(3, 3)")
    why = reasons(build(recorded(source)), "layer.weight")
    assert why == [f"cut at line {line_of(source, 'weight.detach()')} by Tensor.detach"]


USED_AS_WELL = """
import copy
import torch
source = torch.nn.Linear(3, 3)
trained = copy.deepcopy(source)
optimizer = torch.optim.SGD([*trained.parameters(), *source.parameters()], lr=0.1)
x = torch.ones(2, 3)
for step in range(2):
    with torch.no_grad():
        h = source(x)
    loss = trained(torch.from_numpy(h.numpy())).sum()
    loss.backward()
    optimizer.step()
"""


def test_of_what_was_used_itself_the_copy_is_not_said_to_be_all_that_was() -> None:
    used, copied = USED_AS_WELL, USED_AS_WELL.replace("h = source(x)", "h = x * 2")
    whys = [
        {row.why for row in build(recorded(source)).backwards[0].gradients if row.name.startswith("source")}
        for source in (used, copied)
    ]
    assert whys[0] and not any("only the copy" in why for why in whys[0])
    assert whys[1] == {"only the copy that line 4 made of it was used"}


BALANCED = """
import torch
w, codes = (torch.ones(3, requires_grad=True) for _ in range(2))
out = w * 2 + codes.detach()
penalty = (codes - out.detach()).pow(2).sum()
(grad,) = torch.autograd.grad({}, [out], allow_unused=True)
out.sum().backward()
"""


@pytest.mark.parametrize(("asked", "line"), [("penalty", "autograd.grad"), ("out.sum()", "codes.detach()")])
def test_a_term_that_is_asked_for_the_gradient_of_what_it_was_not_made_from(asked: str, line: str) -> None:
    source = BALANCED.format(asked)
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "leaf-unreached")
    assert [cause.line for cause in answer.causes] == [line_of(source, line)], answer.text


RAISING = BALANCED.replace("(grad,) = ", "try: ").replace(", allow_unused=True)", ")\nexcept RuntimeError: pass")
OF_OTHERS = BALANCED.replace("[out]", "[other]").replace(
    "penalty =", "other = torch.ones(3, requires_grad=True)\npenalty ="
)
BESIDE_IT = BALANCED.replace("[out]", "[w]").replace("codes - out.detach()", "codes * 2")
ANOTHERS = BALANCED.replace("[out]", "[aside]").replace("penalty =", "aside = w * codes.data\npenalty =")
LATER = BALANCED.replace("out.sum().backward()\n", "").replace(
    "(grad,)", "out.sum().backward(retain_graph=True)\n(grad,)"
)


@pytest.mark.parametrize(
    "program",
    [RAISING, OF_OTHERS, BESIDE_IT, ANOTHERS, LATER],
    ids=["it raised", "of others", "beside the cut", "of no part", "asked later"],
)
def test_a_call_that_asked_for_something_else_is_not_why_a_pass_was_cut(program: str) -> None:
    answers = build(recorded(f"{program.format('penalty')}print(codes.grad)\n")).answers
    (answer,) = [one for one in answers if one.code == "grad-none-unreached"]
    assert [cause.line for cause in answer.causes] == [line_of(program, "codes.detach()")], answer.text


def test_a_call_that_raised_is_not_said_to_have_given_none() -> None:
    source = """
import torch
a, c = (torch.ones(3, requires_grad=True) for _ in range(2))
try:
    torch.autograd.grad((a * 2).sum(), [c])
except RuntimeError as error:
    print(error)
(torch.nn.Linear(3, 1)(a.detach())).backward()
print(a.grad)
"""
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "grad-none-unreached"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "a.detach()")]
    assert "asks" not in answer.text


def test_what_a_call_makes_beside_its_result_is_not_taken_for_made_of_what_that_came_from() -> None:
    source = """
import torch
first, second = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
optimizers = [torch.optim.SGD(net.parameters(), lr=0.1) for net in (first, second)]
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(2):
    scaler.scale(first(torch.ones(2, 4)).sum()).backward()
    scaler.scale(second(torch.ones(2, 4)).sum()).backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
"""
    whys = reasons(build(recorded(source)), "first.weight")
    assert not [why for why in whys if "cut" in why], whys


HYPERGRADIENT = """
import torch
w, rate = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([rate], lr=0.1)
for _ in range(2):
    (w * rate.detach()).sum().backward()
    rate.grad = torch.autograd.grad((w * rate).sum(), rate)[0]
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize(("asked", "found"), [("rate.grad =", 0), ("unused =", 1)])
def test_a_leaf_whose_gradient_the_program_sets_itself_wants_none_of_a_pass(asked: str, found: int) -> None:
    answers = build(recorded(HYPERGRADIENT.replace("rate.grad =", asked))).answers
    assert len([one for one in answers if one.code == "leaf-unreached"]) == found


ATTACK = """
    import torch
    net = torch.nn.Linear(4, 3)
    opt = torch.optim.SGD(net.parameters(), 0.1)
    for it in range(3):
        x, y = torch.rand(8, 4), torch.randint(0, 3, (8,))
        delta = torch.zeros_like(x).requires_grad_()
        grad = torch.autograd.grad(torch.nn.functional.cross_entropy(net(x + delta), y), delta)[0]
        loss = torch.nn.functional.cross_entropy(net((x + delta.detach() + 0.1 * grad.sign()).clamp(0, 1)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
"""


def test_a_leaf_whose_gradient_was_asked_for_wants_none_of_the_pass_of_a_loss() -> None:
    assert not build(recorded(ATTACK)).answers
    held = ATTACK.replace("opt.step()", "torch.optim.SGD([delta], 0.1).step()\n        opt.step()")
    assert "leaf-unreached" in {answer.code for answer in build(recorded(held)).answers}


ENSEMBLE = """
import torch
from torch import nn
net, member = nn.Linear(3, 2), nn.Linear(3, 2)
x = torch.ones(4, 3)
{before}
opt = torch.optim.SGD({trained}, lr=0.1)
for _ in range(3):
    opt.zero_grad()
    loss = net(x).pow(2).mean()
    loss.backward()
    opt.step()
"""
EVALUATED = "with torch.no_grad():\n    probabilities = member(x).softmax(1)"


@pytest.mark.parametrize(
    ("before", "trained", "found"),
    [
        (EVALUATED, "net.parameters()", 0),
        (EVALUATED.replace("no_grad", "inference_mode"), "net.parameters()", 0),
        (EVALUATED, "[*net.parameters(), *member.parameters()]", 1),
        (EVALUATED.replace("with torch.no_grad()", "if True"), "net.parameters()", 1),
    ],
)
def test_what_is_only_evaluated_and_held_by_no_optimizer_wants_no_gradient(
    before: str, trained: str, found: int
) -> None:
    report = build(recorded(ENSEMBLE.format(before=before, trained=trained)))
    assert [answer.code for answer in report.answers].count("leaf-unreached") == found


COPIED = """
import copy, torch
from torch import nn
server = nn.Linear(2, 1)
def client(model):
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(3, 2)).sum().backward()
        optimizer.step()
client(server){}
"""


@pytest.mark.parametrize(
    ("after", "why"),
    [
        ("", "only the copy that line 5 made of it was used"),
        ("\nclient(server)\nserver(torch.ones(3, 2)).sum()", "only the copy that line 5 made of it was used"),
    ],
)
def test_who_is_held_by_no_optimizer_is_said(after: str, why: str) -> None:
    (answer,) = [one for one in build(recorded(COPIED.format(after))).answers if one.code == "leaf-unreached"]
    assert answer.text.endswith(f"no gradient: {why}, and no optimizer holds it itself.")
    assert answer.severity == "note"


def test_a_copy_is_no_use_of_what_a_module_holds_and_all_of_a_snapshot_is_said_at_once() -> None:
    source = """
    import copy, torch
    from torch import nn
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    snapshot = copy.deepcopy(model).eval()
    model(torch.randn(4, 3)).sum().backward()
    """
    answers = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert [one.text for one in answers] == [
        f"Line {line_of(source, '.backward')}: backward gave snapshot.* (6) no gradient: no call was seen to use it "
        "before this backward pass."
    ]
