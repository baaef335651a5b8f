"""Hooks, custom functions, double backward, in-place on views, parameters re-assigned: the same recorded and bare."""

from __future__ import annotations

import re
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from tests.processes import run as run_command

from .sameness import assert_unnoticed, recorder_for_tests, see


def tensor_hooks():
    calls = []
    x = torch.randn(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda grad: calls.append(("y", grad.tolist())) or grad * 3)
    x.register_hook(lambda grad: calls.append(("x", grad.tolist())))
    x.register_post_accumulate_grad_hook(lambda leaf: calls.append(("after", leaf.grad.tolist())))
    removed = y.register_hook(lambda grad: calls.append("never"))
    removed.remove()
    (y * y).sum().backward()
    return x, y, calls


def node_hooks():
    calls = []
    x = torch.randn(3, requires_grad=True)
    y = (x * 2).exp()
    y.grad_fn.register_prehook(lambda grads: calls.append(("before", len(grads))))
    y.grad_fn.register_hook(lambda inputs, outputs: calls.append(("after", len(inputs), len(outputs))))
    y.sum().backward()
    return x, calls, y.grad_fn.name(), [str(node) and node.name() for node, _ in y.grad_fn.next_functions]


def several_tensors_hook():
    calls = []
    x, y = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    a, b = x * 2, y * 3
    torch.autograd.graph.register_multi_grad_hook((a, b), lambda grads: calls.append(len(grads)))
    (a * b).sum().backward()
    return x, y, calls


def module_hooks():
    calls = []
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    model[0].register_forward_pre_hook(lambda module, args: calls.append("before"))
    model[1].register_forward_hook(lambda module, args, out: out * 2)
    model.register_full_backward_hook(lambda module, into, out: calls.append(("backward", len(into), len(out))))
    x = torch.randn(2, 3, requires_grad=True)
    model(x).sum().backward()
    return x, model, calls


def hook_that_raises():
    x = torch.randn(3, requires_grad=True)
    y = x * 2

    def refuse(grad):
        raise ValueError("not this gradient")

    y.register_hook(refuse)
    y.sum().backward()


def module_hook_that_raises():
    model = nn.Linear(2, 2)

    def refuse(module, args):
        raise KeyError("no forward")

    model.register_forward_pre_hook(refuse)
    model(torch.ones(2))


def hook_that_changes_the_gradient_in_place():
    x = torch.randn(3, requires_grad=True)
    x.register_post_accumulate_grad_hook(lambda leaf: leaf.grad.mul_(2))
    (x * 3).sum().backward()
    return x, x.grad._version


def retained_gradients():
    x = torch.randn(3, requires_grad=True)
    y = x * 2
    y.retain_grad()
    z = y.exp()
    z.sum().backward(retain_graph=True)
    first = y.grad.clone()
    z.sum().backward()
    return x, y, first, z.retains_grad, y.retains_grad


def grad_of_a_non_leaf():
    x = torch.randn(3, requires_grad=True)
    y = x * 2
    y.sum().backward()
    return y.grad


def double_backward():
    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    second.sum().backward()
    return x, first, second


def gradient_arguments():
    x, unused = torch.randn(3, requires_grad=True), torch.randn(3, requires_grad=True)
    y = x * torch.arange(3.0)
    a = torch.autograd.grad(y, (x, unused), grad_outputs=torch.ones(3), allow_unused=True, retain_graph=True)
    b = torch.autograd.grad(outputs=y, inputs=x, grad_outputs=torch.eye(3), is_grads_batched=True, retain_graph=True)
    torch.autograd.backward([y, y], [torch.ones(3), torch.ones(3)], inputs=[x])
    return a, b, x, unused


def accumulation():
    x = torch.randn(3, requires_grad=True)
    for _ in range(3):
        (x * 2).sum().backward()
    same, version = x.grad, x.grad._version
    x.grad = None
    (x * 5).sum().backward()
    x.grad.zero_()
    return x, same, version


def copy_slices():
    x = torch.randn(4, requires_grad=True)
    base = x * 1
    view = base[1:3]
    view.mul_(2)
    base[0] = 7
    other = base.view(2, 2)
    other[0].add_(1)
    (base * other.reshape(4)).sum().backward()
    names = [base.grad_fn.name(), view.grad_fn.name(), other.grad_fn.name()]
    return x, base, view, other, names


def views_made_under_no_grad():
    x = torch.randn(4, requires_grad=True)
    base = x * 1
    with torch.no_grad():
        view = base[:2]
        pieces = base.unbind()
    base.mul_(2)
    errors = []
    for look in (lambda: view.grad_fn, lambda: view.add_(1), lambda: pieces[0].grad_fn, lambda: pieces[1].mul_(2)):
        try:
            look()
        except RuntimeError as error:
            errors.append(str(error))
    base.sum().backward()
    return x, base, errors


def parameters_assigned_anew():
    model = nn.Linear(3, 2)
    first = model.weight
    model(torch.randn(1, 3)).sum().backward()
    model.weight = nn.Parameter(torch.ones(2, 3))
    model.bias.data = torch.zeros(2)
    model.bias.grad = None
    model(torch.randn(1, 3)).sum().backward()
    del model.bias
    model.register_parameter("bias", None)
    model.register_buffer("extra", torch.zeros(1))
    model.weight.requires_grad_(False)
    return first, model, model(torch.randn(1, 3))


class Everything(torch.autograd.Function):
    """Uses every option of ``ctx``."""

    @staticmethod
    def forward(ctx, x, changed, weight, power):
        changed.add_(1)
        ctx.mark_dirty(changed)
        mask = x > 0
        ctx.mark_non_differentiable(mask)
        ctx.save_for_backward(x, weight, None)
        ctx.set_materialize_grads(False)
        ctx.power, ctx.kept = power, x.detach().clone()
        return (x * weight) ** power, changed, mask

    @staticmethod
    def backward(ctx, grad, grad_changed, grad_mask):
        x, weight, nothing = ctx.saved_tensors
        assert nothing is None and grad_mask is None
        needed = ctx.needs_input_grad
        outer = ctx.power * (x * weight) ** (ctx.power - 1) * grad
        return outer * weight, grad_changed, (outer * x if needed[2] else None), None


class WithContext(torch.autograd.Function):
    """The newer form, with forward mode and vmap."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin(), x.cos()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, of_sin, of_cos):
        (x,) = ctx.saved_tensors
        return of_sin * x.cos() - of_cos * x.sin()

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return tangent * x.cos(), -tangent * x.sin()


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


def custom_function():
    x, weight = torch.randn(3, requires_grad=True), torch.randn(3)
    changed = torch.randn(3, requires_grad=True) * 1
    out, dirty, mask = Everything.apply(x, changed, weight, 3)
    (out.sum() + (dirty * 2).sum()).backward()
    return x, out, dirty, mask, dirty is changed, out.grad_fn.name()


def custom_function_with_setup_context():
    x = torch.randn(3, requires_grad=True)
    sin, cos = WithContext.apply(x)
    (sin * cos).sum().backward()
    batched = torch.func.vmap(lambda row: WithContext.apply(row)[0])(torch.randn(2, 3))
    forward = torch.func.jvp(lambda value: WithContext.apply(value)[0], (torch.ones(3),), (torch.ones(3),))
    return x, sin, batched, forward


def once_differentiable_twice():
    x = torch.randn(3, requires_grad=True)
    (first,) = torch.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    first.sum().backward()


def anomaly_mode():
    x = torch.zeros(1, requires_grad=True)
    with torch.autograd.detect_anomaly():
        torch.sqrt(x - 1).sum().backward()


VIEW_CHANGED_INSIDE_A_FUNCTION = """
    import torch
    from gradscope.recorder.session import Recorder

    class AddInPlace(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, other):
            x.add_(other)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, grad):
            return grad, grad

    with Recorder(is_user=lambda filename: filename == "<string>") as recorder:
        x = torch.ones(4, requires_grad=True)
        AddInPlace.apply((x * 1).view(2, 2), torch.ones(2, 2)).sum().backward()
    assert [fault.traceback for fault in recorder.recording.faults] == []
    print(x.grad.tolist())
"""


def grad_of_a_non_leaf_is_set():
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.grad = torch.ones(2)
    y.grad = None
    return x


PROGRAMS = [
    grad_of_a_non_leaf_is_set,
    tensor_hooks,
    node_hooks,
    several_tensors_hook,
    module_hooks,
    hook_that_changes_the_gradient_in_place,
    retained_gradients,
    grad_of_a_non_leaf,
    double_backward,
    gradient_arguments,
    accumulation,
    copy_slices,
    views_made_under_no_grad,
    parameters_assigned_anew,
    custom_function,
    custom_function_with_setup_context,
]
FAILING = [hook_that_raises, module_hook_that_raises, once_differentiable_twice]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


@pytest.mark.parametrize("program", FAILING, ids=lambda program: program.__name__)
def test_program_fails_the_same(program):
    with pytest.raises(Exception, match=r".") as raised:
        program()
    assert str(raised.value)
    assert_unnoticed(program)


def test_a_history_that_torch_makes_anew_is_not_looked_at():
    # torch clears the hooks of the view while it holds the lock of its history: looking at that would hang for good.
    command = [sys.executable, "-c", textwrap.dedent(VIEW_CHANGED_INSIDE_A_FUNCTION)]
    finished = run_command(command)
    assert (finished.stdout, finished.returncode) == ("[1.0, 1.0, 1.0, 1.0]\n", 0), finished.stderr


def test_anomaly_mode_names_the_same_forward_call():
    recorder = recorder_for_tests()
    bare, recorded = see(anomaly_mode, None), see(anomaly_mode, recorder)
    assert recorded.error == bare.error
    assert "SqrtBackward0" in str(bare.error)
    # The traceback is taken while the recorder calls torch: its frames are in the text, between the program's.
    frames = [re.findall(r'File "([^"]+)", line (\d+), in anomaly_mode', warned[0]) for warned in bare.warned]
    assert any(frames)
    assert frames == [
        re.findall(r'File "([^"]+)", line (\d+), in anomaly_mode', warned[0]) for warned in recorded.warned
    ]
