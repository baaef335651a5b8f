"""Functional transforms, forward-mode AD, mixed precision, TorchScript and torch.compile under a recorder."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch._dynamo.testing
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from .sameness import assert_unnoticed, recorder_for_tests


def cube(x):
    return (x**3).sum()


def transforms():
    x, batch = torch.randn(3), torch.randn(5, 3)
    return (
        grad(cube)(x),
        vmap(grad(cube))(batch),
        jacrev(torch.sin)(x),
        jacfwd(torch.sin)(x),
        hessian(cube)(x),
        jvp(torch.tanh, (x,), (torch.ones(3),)),
        vjp(torch.tanh, x)[1](torch.ones(3)),
        vmap(lambda row: row.clone().mul_(2).relu())(batch),
    )


def vmap_with_randomness():
    return vmap(lambda row: row + torch.randn(3), randomness="different")(torch.zeros(4, 3))


def transform_of_a_module():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    parameters = dict(model.named_parameters())

    def loss(weights, sample):
        return functional_call(model, weights, (sample,)).sum()

    return vmap(grad(loss), in_dims=(None, 0))(parameters, torch.randn(6, 3)), model


def backward_through_a_transform():
    x = torch.randn(3, requires_grad=True)
    out = grad(cube)(x).sum()
    out.backward()
    return x, out


def forward_mode():
    with forward_ad.dual_level():
        primal = torch.randn(3, requires_grad=True)
        dual = forward_ad.make_dual(primal, torch.ones(3))
        out = (dual.sin() * dual).relu()
        value, tangent = forward_ad.unpack_dual(out)
        dual_view = dual.view(3, 1)
        viewed = forward_ad.unpack_dual(dual_view).tangent.clone()
    value.sum().backward()
    return primal, tangent, viewed


def with_autocast():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    with torch.autocast("cpu", torch.bfloat16):
        inside = model(x)
        with torch.autocast("cpu", enabled=False):
            outside = model(x)
    (inside.float().sum() + outside.sum()).backward()
    return model, inside, outside


def with_grad_scaler():
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    scales = []
    for step in range(4):
        optimizer.zero_grad()
        loss = model(torch.randn(3, 4)).sum() * (float("inf") if step == 2 else 1.0)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return model, optimizer.state_dict(), scales


def scripted():
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    model = torch.jit.script(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
    traced = torch.jit.trace(nn.Linear(3, 2), torch.randn(2, 3))
    x = torch.randn(4, 3, requires_grad=True)
    traced(model(x)).sum().backward()
    return x, dict(model.named_parameters()), dict(traced.named_parameters())


class CountingMode(TorchDispatchMode):
    """Notes every operator that it sees, as a program's own inspector does."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def own_dispatch_mode():
    x = torch.randn(3, requires_grad=True)
    with CountingMode() as mode:
        out = x.exp().sigmoid()
        out.sum().backward()
        view = out.detach()[1:]
        view.add_(1)
    with FlopCounterMode(display=False) as flops:
        (torch.randn(4, 4, requires_grad=True) @ torch.randn(4, 4)).sum().backward()
    return mode.seen, flops.get_total_flops(), x, view


class OwnFunctionMode(torch.overrides.TorchFunctionMode):
    """Doubles what ``torch.ones`` makes, and counts calls."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(getattr(func, "__name__", str(func)))
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is torch.ones else result


def own_function_mode():
    with OwnFunctionMode() as mode:
        ones = torch.ones(3, requires_grad=True)
        (ones * 3).sum().backward()
    with torch.device("meta"):
        elsewhere = torch.zeros(2)
    return mode.seen, ones.detach(), elsewhere.device.type


def evaluated_transformers():
    """torch leaves their fast path while a function mode is on: then bits differ, and what stands at padded places."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    encoder = nn.TransformerEncoder(layer, 2).eval()
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x, padded = torch.randn(3, 5, 8), torch.arange(5) > torch.tensor([[4], [2], [0]])
    with torch.no_grad():
        results = [layer(x), encoder(x, src_key_padding_mask=padded), *attention(x, x, x)]
    with torch.inference_mode():
        results.append(encoder(x) * 1)
    return results, encoder.requires_grad_(False)(x)


def exported_with_a_dynamic_size():
    class Model(nn.Module):
        def forward(self, x):
            return (x.relu().view(-1) * x.shape[0]).sum()

    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(Model(), (torch.randn(5, 4),), dynamic_shapes={"x": {0: batch}}, strict=False)
    return exported.graph_module.code, str(exported.range_constraints), exported.module()(torch.ones(7, 4))


def traced_symbolically():
    def sums(x):
        return (x.sin()[1:] * 2).sum() + x.shape[0]

    return make_fx(sums, tracing_mode="symbolic")(torch.randn(5, 3)).code


def backward_of_a_transformed_function():
    x = torch.tensor(2.0, requires_grad=True)
    grad(lambda value: value**3)(x).backward()
    return x


def gradients_of_dual_tensors():
    x = torch.ones(2, 3, requires_grad=True)
    with forward_ad.dual_level():
        cubed = forward_ad.make_dual(x, torch.ones_like(x)) ** 3
        (gradient,) = torch.autograd.grad(cubed.sum(), x, create_graph=True)
        return x, forward_ad.unpack_dual(gradient).tangent.clone()


def gradients_in_batches():
    x = torch.ones(2, 3, requires_grad=True)
    y = (x * x).sum(0)
    one_by_one = torch._vmap_internals._vmap(lambda v: torch.autograd.grad(y, x, v, retain_graph=True)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(torch.exp, x.detach().double().requires_grad_(), check_batched_grad=True)
    return one_by_one(torch.eye(3)), *torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)


PROGRAMS = [
    gradients_of_dual_tensors,
    gradients_in_batches,
    evaluated_transformers,
    exported_with_a_dynamic_size,
    traced_symbolically,
    backward_of_a_transformed_function,
    transforms,
    vmap_with_randomness,
    transform_of_a_module,
    backward_through_a_transform,
    forward_mode,
    with_autocast,
    with_grad_scaler,
    scripted,
    own_dispatch_mode,
    own_function_mode,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_function_is_the_same_and_has_no_more_graphs(backend):
    torch._dynamo.reset()
    graphs = {}

    def run(kind):
        torch._dynamo.reset()
        counter = torch._dynamo.testing.CompileCounterWithBackend(backend)

        @torch.compile(backend=counter)
        def compiled(x, weight):
            y = torch.relu(x @ weight) * 2
            return y.sin().sum() + (y.detach() * weight.sum()).mean()

        torch.manual_seed(3)
        x, weight = torch.randn(4, 4), torch.randn(4, 4, requires_grad=True)
        for _ in range(3):
            loss = compiled(x, weight)
            loss.backward()
        graphs[kind] = (counter.frame_count, counter.op_count)
        return loss.detach().clone(), weight.grad.clone()

    bare = run("bare")
    with recorder_for_tests() as recorder:
        recorded = run("recorded")
    assert all(torch.equal(one, other) for one, other in zip(bare, recorded, strict=True))
    assert graphs["recorded"] == graphs["bare"]
    assert [fault.traceback for fault in recorder.recording.faults] == []


def test_compiled_before_the_recorder_is_not_compiled_again():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda x: (x * 2).sin().sum(), backend=counter)
    x = torch.randn(4, requires_grad=True)
    compiled(x).backward()
    with recorder_for_tests() as recorder:
        for _ in range(3):
            compiled(x).backward()
    for _ in range(3):
        compiled(x).backward()
    # torch guards compiled code by the modes that are on; the recorder's are off there.
    assert counter.frame_count == 1
    assert [fault.traceback for fault in recorder.recording.faults] == []


def test_a_traced_graph_names_the_programs_lines():
    def traced():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(torch.jit.trace(lambda x: (x * 2).sin(), torch.ones(2)).graph)

    assert_unnoticed(traced)
    assert "test_transforms.py" in traced()


def test_full_graph_compiles_under_a_recorder():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: torch.nn.functional.gelu(x).sum(), backend="eager", fullgraph=True)
    x = torch.randn(4, requires_grad=True)
    with recorder_for_tests() as recorder:
        compiled(x).backward()
    assert x.grad is not None
    assert [fault.traceback for fault in recorder.recording.faults] == []


def _breaking_graphs() -> list[object]:
    """Graph breaks, code that is shielded, an error in the middle, a module, a mode of the program's own."""

    @torch.compiler.disable
    def shielded(x):
        return (x * 3).sum().item()

    @torch.compile(backend="eager")
    def compiled(x, fails=False):
        best = x.max().item()
        print(x.tolist(), float(x.detach().sum()) + best, shielded(x))
        if fails:
            raise ValueError(best)
        return torch.nn.functional.softmax(x, dim=0) * 2 @ x

    def once(fails):
        try:
            return compiled(torch.ones(2), fails)
        except ValueError as error:
            return str(error)

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    x = torch.ones(2, 2, requires_grad=True)
    model = torch.compile(torch.nn.Linear(2, 2), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [compiled(torch.ones(n, requires_grad=True)) for n in (1, 2, 3)]
        results += [once(True), once(False)]
        for _ in range(2):
            model(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.compiler.set_stance("force_eager"):
            results += [compiled(torch.ones(2)), x.grad]
    return [*results, {kind: sum(counts.values()) for kind, counts in torch._dynamo.utils.counters.items()}]


def test_graph_breaks_are_where_they_are_bare(capsys):
    recording = assert_unnoticed(_breaking_graphs)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(printed) // 3] == printed[-(len(printed) // 3) :]
    assert torch._dynamo.eval_frame.set_eval_frame is torch._C._dynamo.eval_frame.set_eval_frame
    assert type(torch._C._dynamo.eval_frame.set_eval_frame) is type(len)
    lines = {(recording.strings[op.func], recording.spans[op.span].line) for op in recording.ops if op.span >= 0}
    shielded = _breaking_graphs.__code__.co_firstlineno + 5
    assert ("Tensor.mul", shielded) in lines or ("Tensor.__mul__", shielded) in lines
