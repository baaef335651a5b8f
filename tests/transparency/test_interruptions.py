"""Code that runs at unexpected moments: collectors, callbacks, interrupts; and copies of watched tensors."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import signal
import time
import warnings
import weakref
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gradscope.recorder import tape
from gradscope.recorder.session import Recorder
from gradscope.recording.file.reader import load
from gradscope.recording.file.writer import RecordingWriter

from .sameness import assert_unnoticed, recorder_for_tests


@pytest.fixture(autouse=True)
def _no_collection_callbacks_of_others():
    """What a signal handler raises while a callback of the collector runs is lost, and hypothesis has such a one."""
    others = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = others


def weakref_callbacks_that_run_torch():
    results = []

    def make():
        x = torch.randn(3, requires_grad=True)
        reference = weakref.ref(x, lambda _: results.append(float(torch.ones(2).sum())))
        return (x * 2).detach(), reference

    kept = [make() for _ in range(3)]
    return results, [tensor for tensor, _ in kept]


class Dying:
    """Runs torch, backward included, when it is collected."""

    results: ClassVar[list[float]] = []

    def __init__(self):
        self.tensor = torch.ones(2, requires_grad=True)
        self.itself = self

    def __del__(self):
        (self.tensor * 3).sum().backward()
        Dying.results.append(float(self.tensor.grad.sum()))


def deletions_that_run_torch():
    Dying.results = []
    for _ in range(3):
        Dying()
    gc.collect()
    return list(Dying.results)


class Collecting(TorchFunctionMode):
    """The garbage collector in the middle of every call."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        gc.collect()
        result = func(*args, **(kwargs or {}))
        gc.collect()
        return result


def collection_in_the_middle():
    x = torch.randn(3, requires_grad=True)
    gc.freeze()  # what is there already need not be visited each time
    with Collecting():
        for _ in range(3):
            cycle = [x * 2]
            cycle.append(cycle)
            y = cycle[0].exp()
            del cycle
        y.sum().backward()
    gc.unfreeze()
    return x, y


def collection_at_every_allocation():
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        x = torch.randn(3, requires_grad=True)
        for _ in range(20):
            (x * 2).exp().sum().backward()
    finally:
        gc.set_threshold(*before)
    return x


def deep_copies():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model(torch.randn(2, 3)).sum().backward()
    other = copy.deepcopy(model)
    leaf = torch.randn(2, requires_grad=True)
    leaf.note = "kept"
    copied = copy.deepcopy(leaf)
    shallow = copy.copy(leaf)
    errors = []
    try:
        copy.deepcopy(leaf * 2)
    except RuntimeError as error:
        errors.append(str(error))
    return model, other, copied, copied.note, shallow, errors


def pickles():
    model = nn.Linear(3, 2)
    (model(torch.randn(1, 3)) ** 2).sum().backward()
    again = pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "leaf": torch.randn(2, requires_grad=True)}, file)
    size = file.tell()
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    return again, loaded, size


def dictionary_of_a_tensor():
    """What hangs on tensors: nothing of ours may be among it."""
    x = torch.randn(2, requires_grad=True)
    y = x * 2
    y.sum().backward()
    return sorted(vars(x)), sorted(vars(y)), x._backward_hooks, y.grad_fn.metadata


def printing():
    x = torch.randn(2, requires_grad=True)
    return repr(x), str(x * 2), f"{x.sum():.3f}", repr(nn.Linear(2, 2)), x.tolist(), bool(x.sum() > 100)


class Interrupted(torch.autograd.Function):
    """Ctrl-C in the middle of a backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        signal.raise_signal(signal.SIGINT)
        return grad


class InterruptedTensor(torch.Tensor):
    """Ctrl-C in the middle of a forward op."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") == "mul":
            raise KeyboardInterrupt
        return super().__torch_function__(func, types, args, kwargs or {})


def interrupted():
    caught = []
    x = torch.ones(2, requires_grad=True)
    for attempt in (lambda: Interrupted.apply(x).sum().backward(), lambda: x.as_subclass(InterruptedTensor) * 2):
        try:
            attempt()
        except KeyboardInterrupt:
            caught.append("interrupt")
    (x * 2).sum().backward()
    return x, caught


class Failing(torch.optim.SGD):
    """A step that raises after it has updated."""

    def step(self, closure=None):
        super().step(closure)
        raise ArithmeticError("step")


def optimizers_that_raise():
    weight = nn.Parameter(torch.ones(2))
    broken = nn.Parameter(torch.ones(2))
    errors = []
    optimizers = [Failing([weight], lr=0.1), torch.optim.Adam([weight, broken], lr=0.1)]
    for optimizer in optimizers:
        weight.grad = torch.ones(2)
        broken.grad = torch.ones(2).to_sparse()
        try:
            optimizer.step()
        except (ArithmeticError, RuntimeError) as error:
            errors.append(str(error))
        (weight * 2).sum().backward()
    return weight, errors


def optimizers():
    results = []
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad):
        torch.manual_seed(1)
        model = nn.Linear(3, 2)
        optimizer = kind(model.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 3)).sum().backward()
            optimizer.step()
            schedule.step()
        results += [model, optimizer.state_dict()]
    closing = torch.optim.LBFGS(model.parameters(), lr=0.1)

    def closure():
        closing.zero_grad()
        loss = (model(torch.ones(1, 3)) ** 2).sum()
        loss.backward()
        return loss

    return results, closing.step(closure), model


def warnings_at_the_programs_lines():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.grad  # noqa: B018 - the read warns
    torch.tensor(y.detach())
    nn.functional.mse_loss(torch.ones(2), torch.ones(2, 1))
    for _ in range(3):
        warnings.warn("the program's own", stacklevel=1)
    nn.functional.softmax(x)
    return x


def warnings_from_inside_passes():
    """Each is put down to the frame some frames above: of a Function, of hooks, of a step."""

    def warn(*_):
        for above in range(1, 6):
            warnings.warn(f"{above} above", stacklevel=above)

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            warn()
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            warn()
            return grad

    class Warner(torch.optim.SGD):
        def step(self, closure=None):
            warn()
            return super().step(closure)

    layer, x = nn.Linear(2, 2), torch.ones(2, requires_grad=True)
    layer.register_forward_pre_hook(warn)
    layer.register_forward_hook(warn)
    layer.register_full_backward_hook(warn)
    layer.weight.register_hook(warn)
    layer.weight.register_post_accumulate_grad_hook(warn)
    layer(torch.ones(2)).sum().backward()  # "Full backward hook is firing …", 5 frames above
    layer(Doubled.apply(x)).sum().backward()
    torch.autograd.grad(Doubled.apply(x).sum(), x)
    optimizer = Warner([x, *layer.parameters()], lr=0.1)
    optimizer.step()
    optimizer.zero_grad()
    return x


class TimeIsUp(Exception):
    pass


def timeouts():
    """A handler that raises at any step of a tight loop: of the recorder's steps too. Each timeout must arrive."""

    def handle(*_):
        raise TimeIsUp

    arrived = 0
    handler, timer = signal.signal(signal.SIGALRM, handle), signal.setitimer(signal.ITIMER_REAL, 0)
    x = torch.ones(2, requires_grad=True)
    for number in range(60):
        end = time.monotonic() + 30  # no collection of a large process's garbage takes so long
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001 + number * 0.00011)
            while time.monotonic() < end:
                y = x * 2
                y.view(1, 2).sum()
        except TimeIsUp:
            arrived += 1
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)
    (x * 3).sum().backward()
    return arrived, x


def steps_of_an_optimizer_over_lazy_parameters():
    model = nn.LazyLinear(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        optimizer.step()
    except Exception as error:
        return type(error).__name__, torch.ones(2) * 2
    return model(torch.ones(1, 3)).shape


PROGRAMS = [
    timeouts,
    steps_of_an_optimizer_over_lazy_parameters,
    weakref_callbacks_that_run_torch,
    deletions_that_run_torch,
    collection_in_the_middle,
    collection_at_every_allocation,
    deep_copies,
    pickles,
    dictionary_of_a_tensor,
    printing,
    interrupted,
    optimizers_that_raise,
    optimizers,
    warnings_at_the_programs_lines,
    warnings_from_inside_passes,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


def test_a_recording_that_was_interrupted_at_any_step_is_whole(tmp_path, monkeypatch):
    for name in ("FIRST_OPS", "FLUSH_OPS"):
        monkeypatch.setattr(tape, name, 1)  # so that most interrupts come while a batch is moved and written
    path = tmp_path / "interrupted.gradscope"
    writer = RecordingWriter(path)
    recorder = Recorder(is_user=lambda filename: filename == __file__, on_flush=writer.append)
    with recorder:
        assert timeouts()[0] == 60
    writer.close(recorder.recording)
    assert len(load(path).ops) == recorder.op_count


@pytest.mark.parametrize("end", [optimizers_that_raise, interrupted])
def test_what_comes_after_is_recorded(end):
    recorder = recorder_for_tests()
    depth = torch._C._len_torch_function_stack()
    with recorder:
        end()
        assert torch._C._len_torch_function_stack() == depth + 1
        count = recorder.op_count
        torch.ones(2) * 2
        assert recorder.op_count == count + 2
    assert torch._C._len_torch_function_stack() == depth
