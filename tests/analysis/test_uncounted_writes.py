"""What is said of writes past the version counter, and of healthy programs that make them."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recorder.torch_internals import uncounted_writes
from tests.analysis.building import recorded

TWO_LAYERS = """
import torch
from torch import nn
m = nn.Linear(3, 3)
optimizer = torch.optim.{optimizer}
loss = m(m(torch.ones(2, 3))).sum()
loss.backward(retain_graph=True)
optimizer.step({closure})
loss.backward()
"""


def found(source: str) -> list[tuple[str, str]]:
    """Code and text of each problem and warning of a program."""
    answers = build(recorded(source)).answers
    return [(answer.code, answer.text) for answer in answers if answer.severity in ("problem", "warning")]


@pytest.mark.parametrize("closure", ["", "lambda: None"])
@pytest.mark.parametrize("optimizer", ["SGD(m.parameters(), fused=True)", "AdamW(m.parameters(), fused=True)"])
def test_a_second_backward_after_a_fused_step(optimizer: str, closure: str) -> None:
    ((code, text),) = found(TWO_LAYERS.format(optimizer=optimizer, closure=closure))
    assert code == "gradient-silently-wrong"
    assert "m.weight changed memory that line 5 had saved for backward (mat2 of AddmmBackward0)" in text
    assert "the gradient of the backward at line 8 was computed from the changed values, without an error" in text


def test_a_second_backward_after_a_step_that_is_counted_fails() -> None:
    ((code, text),) = found(TWO_LAYERS.format(optimizer="SGD(m.parameters())", closure="lambda: None"))
    assert code == "inplace-error"
    assert text.startswith("Line 7: optim.SGD.step wrote into m.weight")


def test_running_statistics_that_an_evaluation_had_saved() -> None:
    ((code, text),) = found("""
import torch
norm = torch.nn.BatchNorm1d(3).eval()
x = torch.rand(4, 3)
out = norm(x)
norm.train()
norm(x * 3)
out.sum().backward()
""")
    assert code == "gradient-silently-wrong"
    assert "F.batch_norm through norm.running_mean and norm.running_var changed memory that line 4 had saved" in text


@pytest.mark.parametrize(
    ("line", "is_wrong"),
    [
        ("x.data = torch.zeros(3)", True),
        ("x.data = x.data * 2", True),
        ("nn.utils.vector_to_parameters(torch.zeros(3), [x])", True),
        ("x.data = x.data.clone()", False),
        ("x.data = x.detach().cpu().contiguous().clone()", False),
        ("other = nn.Parameter(torch.zeros(3)); other.data = torch.ones(3)", False),
    ],
)
def test_a_tensor_on_other_memory(line: str, is_wrong: bool) -> None:
    codes = found(f"""
import torch
from torch import nn
x = torch.ones(3, requires_grad=True)
loss = (x * x).sum()
{line}
loss.backward()
""")
    assert [code for code, _ in codes] == ["gradient-silently-wrong"] * is_wrong
    assert all("put x on other memory after line 4 had saved it for backward (self of Mul" in text for _, text in codes)


OPTIMIZERS = [
    f"torch.optim.{name}({arguments})"
    for name, extra in {
        "SGD": "lr=0.01, momentum=0.9",
        "Adam": "",
        "AdamW": "amsgrad=True",
        "NAdam": "",
        "RAdam": "",
        "Adamax": "",
        "Adagrad": "",
        "Adadelta": "",
        "RMSprop": "",
        "Rprop": "",
        "ASGD": "",
        "Adafactor": "",
        "LBFGS": "",
    }.items()
    for arguments in (
        [f"p, {extra}"]
        + [f"p, foreach={foreach}, {extra}" for foreach in (True, False) if name != "LBFGS"]
        + [f"p, fused=True, {extra}" for _ in range(name in ("SGD", "Adam", "AdamW", "Adagrad"))]
    )
]
OWN = """
class Own(torch.optim.Optimizer):
    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})
    def step(self, closure=None):
        loss = closure() if closure else None
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    WRITE
        return loss
"""
WRITES = ["w.data.add_(w.grad, alpha=-group['lr'])", "w.data = w.data - group['lr'] * w.grad"]
LOOP = """
import torch
from torch import nn
OWN
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
average = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
average.load_state_dict(model.state_dict())
p = list(model.parameters())
optimizer = OPTIMIZER
def closure():
    optimizer.zero_grad()
    loss = model(torch.rand(5, 3)).square().mean() + model(torch.rand(5, 3)).mean()
    loss.backward()
    return loss
for step in range(4):
    STEP
    with torch.no_grad():
        for kept, w in zip(average.parameters(), model.parameters()):
            kept.lerp_(w, 0.1)
"""


def loop(optimizer: str, step: str, own: str = "") -> str:
    """A healthy training loop with running statistics and an average of the weights."""
    return LOOP.replace("OWN", own).replace("OPTIMIZER", optimizer).replace("STEP", step)


@pytest.mark.parametrize("step", ["closure(); optimizer.step()", "optimizer.step(closure)"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_healthy_loop(optimizer: str, step: str) -> None:
    if "LBFGS" not in optimizer or "(closure)" in step:
        assert found(loop(optimizer, step)) == []


@pytest.mark.parametrize("write", WRITES)
def test_a_healthy_loop_with_an_optimizer_of_the_programs_own(write: str) -> None:
    assert found(loop("Own(p, lr=0.1)", "closure(); optimizer.step()", OWN.replace("WRITE", write))) == []


@pytest.mark.parametrize("write", WRITES)
def test_what_another_optimizer_writes_by_data_was_stepped(write: str) -> None:
    optimizer = "torch.optim.SGD(p[2:], lr=0.1, fused=True); own = Own(p[:2], lr=0.1)"
    source = loop(optimizer, "closure(); optimizer.step(); own.step(); own.zero_grad()", OWN.replace("WRITE", write))
    assert found(source) == []
    assert [code for code, _ in found(source.replace("; own.step(); own.zero_grad()", ""))] == ["never-stepped"]


@pytest.mark.parametrize("fused", ["True", "False"])
@pytest.mark.parametrize("unscale", ["", "scaler.unscale_(optimizer); nn.utils.clip_grad_norm_(p, 1.0); "])
def test_a_healthy_loop_with_grad_scaler(fused: str, unscale: str) -> None:
    optimizer = f"torch.optim.AdamW(p, fused={fused}); scaler = torch.amp.GradScaler('cpu', init_scale=8.0)"
    source = loop(optimizer, f"closure(); {unscale}scaler.step(optimizer); scaler.update()")
    assert found(source.replace("loss.backward()", "scaler.scale(loss).backward()")) == []


def test_gradients_that_a_fused_step_applied_again() -> None:
    source = loop("torch.optim.AdamW(p, fused=True)", "closure(); optimizer.step()")
    assert [code for code, _ in found(source.replace("optimizer.zero_grad()", "pass"))] == ["gradients-applied-again"]


MOVED = """
import torch
from torch import nn
m = nn.Linear(3, 3)
optimizer = torch.optim.SGD(m.parameters(), lr=0.1, fused=True)
m.to(torch.float64)
x = torch.ones(2, 3, dtype=torch.float64)
"""


def test_a_second_backward_after_a_fused_step_of_a_model_that_was_moved() -> None:
    source = "loss = m(m(x)).sum()\nloss.backward(retain_graph=True)\noptimizer.step()\nloss.backward()\n"
    assert [code for code, _ in found(MOVED + source)] == ["gradient-silently-wrong"]


def test_what_was_kept_of_a_model_that_was_moved() -> None:
    source = "kept = dict(m.state_dict())\nm(x).sum().backward()\noptimizer.step()\nprint(kept['weight'].sum())\n"
    assert [code for code, _ in found(MOVED + source)] == ["snapshot-shares-memory"]


def test_what_is_stepped_by_data_after_it_was_moved() -> None:
    source = """
head = nn.Linear(3, 1).double()
for step in range(4):
    optimizer.zero_grad()
    head.zero_grad()
    head(m(x)).sum().backward()
    optimizer.step()
    for p in head.parameters():
        p.data.sub_(p.grad, alpha=0.1)
"""
    assert found(MOVED + source) == []


def test_a_step_of_which_the_device_alone_knows_whether_it_took_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncounted_writes, "took_place", lambda found_inf: uncounted_writes.MAYBE)
    assert found(TWO_LAYERS.format(optimizer="SGD(m.parameters(), fused=True)", closure="")) == []
    source = loop("torch.optim.AdamW(p, fused=True)", "closure(); optimizer.step()")
    assert found(source) == []  # neither "never stepped" nor anything that rests on a step
    notes = [note for row in build(recorded(source)).lines for note in row.notes]
    assert any(note.startswith("wrote 6 parameters in place unless GradScaler skipped it") for note in notes)
