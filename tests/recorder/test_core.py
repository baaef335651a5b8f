"""The core in C records what the Python does: row by row, in loops and in what is left to the Python."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import pytest
import torch

from gradscope.frames.tracebacks import CALL_NAME
from gradscope.recorder import session
from gradscope.recorder.calls import core
from gradscope.recorder.calls.module_looks import ModuleLooks
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.state.backward_passes import ObservedPass
from gradscope.recorder.state.tensors_in import tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recording import Recording
from tests.analysis.building import recorded
from tests.processes import run as run_command

pytestmark = pytest.mark.skipif(core.choice().core is None, reason=core.choice().why)

TRAINING = """
    import torch
    from torch import nn
    import torch.nn.functional as F
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.Dropout(0.1)
    net = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(net.parameters())
    for step in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(torch.randn(2, 1, 4, 4)), torch.tensor([0, 2]), reduction="sum")
        loss.backward()
        optimizer.step()
        total = loss.item()
"""
TENSORS = """
    import torch
    kept = []
    w = torch.ones(3, 4, requires_grad=True)
    for turn in range(3):
        h = (w * 2).exp()
        view, part = h[0], h.view(-1)[2:]
        one, two = torch.split(h.detach(), 2, dim=1)
        one.add_(1)
        h[0, 0] = 5
        out = torch.empty(3, 4)
        torch.mul(one, 2, out=out[:, :2])
        joined = torch.cat([one, two], dim=1).unsqueeze(0)
        values, indices = joined.max(dim=1)
        kept.append(values.sum())
        with torch.no_grad():
            w.mul_(0.5)
        with torch.inference_mode():
            fast = w * 3
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            hooked = w.sin().sum()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = w @ w.t()
        sparse = torch.eye(3).to_sparse() @ w.detach()
        odd = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]) * 2
        meta = torch.ones(2, device="meta") + 1
        made = torch.nn.Parameter(torch.zeros(2)) + 1
        mapped = torch.vmap(lambda x: x * w.sum())(torch.arange(3.0))
        (grown,) = torch.autograd.grad((w ** 2).sum(), w, create_graph=True)
        grown.sum().backward()
        w.grad = None
        h.sum().item(), h.shape, h.tolist()
        lazy = torch._lazy_clone(w.detach()) + 1
        try:
            torch.ones(2) + torch.ones(3)
        except RuntimeError:
            pass
"""
FUNCTIONS = """
    import torch
    from torch.utils.checkpoint import checkpoint
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2
        @staticmethod
        def backward(ctx, grad):
            return grad * 2
    class Sub(torch.Tensor):
        pass
    torch.manual_seed(0)
    w = torch.ones(3, requires_grad=True)
    sub = torch.ones(3).as_subclass(Sub)
    for turn in range(3):
        y = Twice.apply(w) + w.relu()
        z = checkpoint(lambda x: torch.nn.functional.softplus(x).tanh(), y, use_reentrant=False)
        z.register_hook(lambda grad: grad * 1)
        z.sum().backward(retain_graph=turn == 0)
        (sub + 1).mul_(2)
        layer = torch.nn.MultiheadAttention(4, 2, batch_first=True)
        layer(*[torch.ones(1, 2, 4)] * 3)[0].sum().backward()
"""
VIEWS = """
    import torch
    base = torch.arange(12.0)
    w = torch.ones(12, requires_grad=True)
    for turn in range(3):
        view = base.view(3, 4)
        parts = view[1:], view.t(), base[2:5].unsqueeze(0), base.detach()[1:], base.data.view(4, 3)[1], w.view(3, 4)[0]
        first = base[3:]
        again = first.view(9)[1:]
        del first
        later = again[1:]
        joined = torch.stack([w.view(-1)[:4], w[4:8]]).view(8)
        one, two = torch.unbind(w.view(2, 6))
        with torch.no_grad():
            quiet = w.view(4, 3)[1:]
        with torch.inference_mode():
            fast = base.view(4, 3)[0]
        made = torch.nn.Parameter(torch.zeros(4)).view(2, 2)
        base.data = torch.arange(12.0)
        moved = view.view(12)
        ((joined.sum() + one.cumprod(0).sum()) * torch.einsum("ij,jk->ik", w.view(3, 4), w.view(4, 3)).sum()).backward()
"""
PASSES = """
    import torch
    from torch import nn
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()
        @staticmethod
        def backward(ctx, grad):
            raise ValueError("never")
    def attempt(step):
        try:
            step()
        except (RuntimeError, ValueError, TypeError):
            pass
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    frozen = nn.Linear(3, 1).requires_grad_(False)
    kinds = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    optimizers = [kind(net.parameters(), lr=0.01) for kind in kinds]
    optimizers.append(torch.optim.Adam(net.parameters(), lr=0.01, fused=True))
    x, w = torch.randn(6, 3), torch.randn(3, requires_grad=True)
    for turn in range(30):
        optimizer = optimizers[turn % 4]
        loss = (net(x) + frozen(x) * w.sum()).pow(2).mean()
        loss.backward(retain_graph=turn % 3 == 0)
        (w * 2).backward(torch.ones(3))
        kept = w.exp()
        kept.retain_grad()
        kept.sum().backward(create_graph=turn % 5 == 0, inputs=[kept, w] if turn % 2 else None)
        torch.autograd.backward((w * w).sum(), None, turn % 2 == 0)
        torch.autograd.backward([w.sum(), kept.detach().requires_grad_().sum()])
        attempt(lambda: loss.backward())
        attempt(lambda: (w * 2).backward())
        attempt(lambda: Fails.apply(w * 3).sum().backward())
        attempt(lambda: w.detach().sum().backward())
        (w.sum() * (float("nan") if turn == 20 else 1)).backward()
        optimizer.step()
        attempt(lambda: optimizer.step(3))
        (net if turn % 7 == 0 else optimizer).zero_grad()
        optimizer.zero_grad(set_to_none=turn % 6 != 0)
        if turn == 9:
            hook = net[0].weight.register_hook(lambda grad: grad * 2)
            stepped = optimizers[0].register_step_post_hook(lambda *_: None)
        if turn == 17:
            optimizers[0].param_groups[0]["lr"] = 0.0
            optimizers[1].add_param_group({"params": [w]})
            stepped.remove()
        if turn == 23:
            net[2].weight = nn.Parameter(net[2].weight.detach())
            net[0].bias.requires_grad_(False)
        w.grad = None
"""
REPORT = "from gradscope.recorder.doctor.capability_report import diagnose; print(diagnose())"


@pytest.fixture
def every_call(monkeypatch: pytest.MonkeyPatch):
    """The first calls of a site are left to the Python, which looks for names then: let it look at none."""
    make = Site.__init__

    def looked_at(site: Site, *arguments: Any) -> None:
        make(site, *arguments)
        site.seen = (1 << 20) + 1

    monkeypatch.setattr(Site, "__init__", looked_at)
    monkeypatch.setattr(ModuleLooks, "go_on", lambda looks: None)


def _rows(recording: Recording) -> dict[str, list[Any]]:
    """All columns but addresses, and numbers that are given in the whole process."""
    return {
        f"{name}.{column}": list(values)
        for name, table in recording.tables.items()
        for column, values in table.columns.items()
        if (name, column) not in (("storages", "data_ptr"), ("events", "subject"))
    }


def _by_python(source: str, monkeypatch: pytest.MonkeyPatch) -> Recording:
    with monkeypatch.context() as patched:
        patched.setattr(session, "core_of", lambda observer: None)
        return recorded(source)


@pytest.mark.parametrize(
    "program",
    [TRAINING, TENSORS, FUNCTIONS, VIEWS, PASSES],
    ids=["training", "tensors", "functions", "views", "passes"],
)
@pytest.mark.usefixtures("every_call")
def test_every_row_is_what_the_python_records(program: str, monkeypatch: pytest.MonkeyPatch):
    recorded(program)  # (what torch does once in a process only)
    expected, found = _by_python(program, monkeypatch), recorded(program)
    assert found.strings == expected.strings
    assert _rows(found) == _rows(expected)


def test_usual_passes_are_recorded_by_the_core(monkeypatch: pytest.MonkeyPatch):
    """Of 80 passes from a loss those are left to the Python at which something is to be looked at."""
    source = """
        import torch
        w = torch.ones(4, requires_grad=True)
        for turn in range(80):
            (w * 2).sum().backward()
    """
    expected, made, make = _by_python(source, monkeypatch), [], ObservedPass.__init__
    monkeypatch.setattr(ObservedPass, "__init__", lambda self, *given: (made.append(1), make(self, *given))[1])
    found = recorded(source)
    assert _rows(found) == _rows(expected)
    assert len(found.backwards) == 80
    assert 4 < len(made) < 30


def test_a_loop_is_recorded_alike_with_its_names(monkeypatch: pytest.MonkeyPatch):
    source = """
        import torch
        w = torch.ones(4, requires_grad=True)
        for turn in range(80):
            loss = torch.relu(w * 2).sum()
            if turn % 7 == 3:
                late = loss.detach().add_(1)
    """
    calls = []
    observe = Observer.observe
    expected = _by_python(source, monkeypatch)
    monkeypatch.setattr(Observer, "observe", lambda self, *call: (calls.append(1), observe(self, *call))[1])
    found = recorded(source)
    assert _rows(found) == _rows(expected)
    assert len(calls) < len(found.ops) / 2  # it was the core that recorded


@pytest.mark.usefixtures("every_call")
def test_an_error_of_the_programs_has_no_frame_of_ours():
    source = """
        import torch, traceback
        import torch.nn.functional as F
        found = []
        calls = (lambda: torch.ones(2) + torch.ones(3), lambda: F.linear(torch.ones(2), torch.ones(3)),
                 lambda: F.softmax(torch.ones(2), dim=7), lambda: F.dropout(torch.ones(2), p=7.0))
        for call in calls * 2:  # (a function's first call is described by the Python)
            try:
                call()
            except Exception as error:
                found.append([frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)])
        torch.found_by_test = found
    """
    recording = recorded(source)
    lines = vars(torch).pop("found_by_test")
    assert all(name not in ("__torch_function__", CALL_NAME) for names in lines[4:] for name in names)
    assert len(recording.errors) == 8


@pytest.mark.usefixtures("every_call")
def test_a_fault_of_the_recorders_is_kept_and_the_program_goes_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Observer, "_inputs", lambda *_: 1 / 0)
    recorder = session.Recorder(is_user=lambda name: name == __file__)
    with recorder:
        result = torch.stack([torch.ones(2), torch.ones(2)])
    assert result.tolist() == [[1, 1], [1, 1]]
    assert "ZeroDivisionError" in recorder.recording.faults[0].traceback


class TimeIsUp(Exception):
    pass


MOMENTS = [CallSites.new_place, Tape.is_old, tensors_in]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
@pytest.mark.usefixtures("every_call")
def test_what_a_handler_of_signals_raises_while_the_core_asks_the_python_arrives(moment: Any):
    raised = []

    def handle(*_: object) -> None:
        raised.append(1)
        raise TimeIsUp

    def look(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is moment.__code__:
            signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handle)
    recorder = session.Recorder(is_user=lambda name: name == __file__, on_flush=lambda *_: None)
    weight = torch.ones(2, requires_grad=True)
    try:
        with recorder:
            torch.stack([weight * 2, torch.ones(2)])
            sys.setprofile(look)
            with pytest.raises(TimeIsUp):
                (torch.stack([weight * 2, torch.ones(2)]) * 2).add_(1)
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGALRM, before)
    assert raised == [1]


@pytest.mark.usefixtures("every_call")
def test_nothing_is_kept_of_the_calls_that_were_made():
    weight, plain = torch.ones(4, requires_grad=True), torch.ones(4)

    def loop(turns: int) -> None:
        for _ in range(turns):
            result = torch.relu(weight * plain + 1).sum()
            torch.stack([plain, plain], dim=0).mul_(2)
            try:
                plain @ torch.ones(3)
            except RuntimeError:
                traceback.format_exc()
        del result

    recorder = session.Recorder(is_user=lambda name: name == __file__)
    with recorder:
        counts = []
        for turns in (50, 50, 1000):
            loop(turns)
            recorder.flush()
            gc.collect()
            known = recorder._identity
            references = [sys.getrefcount(one) for one in (weight, plain, known, known.tensors, recorder._core)]
            counts.append((len(gc.get_objects()), *references, len(known.tensors), len(known.storages)))
    (_, *first), (objects, *second), (after, *third) = counts
    assert second == third == first
    assert after - objects < 100


def test_nothing_is_kept_of_what_passes_steps_and_zero_grad_looked_at():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Flatten(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(net.parameters())
    counts = []
    with session.Recorder(is_user=lambda filename: filename == __file__, every_op=True) as recorder:
        for turn in range(1, 7):
            for _ in range(200):
                hidden = net[0](torch.ones(2, 3)).view(2, 4)[:1]
                hidden.retain_grad()
                loss = (torch.einsum("ij,kj->ik", hidden, net[2].weight) * 2).sum()
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            recorder.flush()
            gc.collect()
            if turn > 3:
                known = recorder._identity
                references = [sys.getrefcount(one) for one in (*net.parameters(), known, known.leaves, recorder._core)]
                counts.append((len(gc.get_objects()), *references, len(known.tensors), len(known.storages)))
    (_, *first), (objects, *second), (after, *third) = counts
    assert second == third == first
    assert after - objects < 100


def test_what_a_thread_records_beside_another_is_all_there():
    source = """
        import threading, torch
        def work():
            w = torch.ones(4, requires_grad=True)
            for turn in range(60):
                loss = (w * 2).exp().sum()
            loss.backward()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """
    recording = recorded(source)
    names = [recording.text(op.func) for op in recording.ops]
    assert names.count("Tensor.exp") == 180
    assert len(recording.backwards) == 3


@pytest.mark.parametrize(("wanted", "name"), [("python", "python"), ("native", "native"), ("", "native")])
def test_the_environment_chooses_and_doctor_says_so(wanted: str, name: str):
    code = f"import sys; {REPORT}"
    done = run_command([sys.executable, "-c", code], env={**os.environ, "GRADSCOPE_CORE": wanted})
    assert f"'name': '{name}'" in done.stdout, done.stderr
    assert done.stdout.count("'passed': True") == 5


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        ("sys.modules['gradscope.recorder.native._core'] = None", "not built"),
        ("import gradscope.recorder.native._core as c; c.INTERFACE = 0", "another version"),
        ("import gradscope.recorder.tape as t; del t.Tape.op_count", "does not fit"),
    ],
    ids=["not built", "of another version", "does not fit"],
)
def test_without_a_core_that_fits_the_python_records(spoilt: str, why: str):
    code = f"import sys; {spoilt}\n{REPORT}"
    done = run_command([sys.executable, "-c", code])
    assert "'name': 'python'" in done.stdout, done.stderr
    assert why in done.stdout
    assert done.stdout.count("'passed': True") == 5
