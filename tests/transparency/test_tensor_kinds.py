"""Tensors without storage, version counter or data, and subclasses: their programs run as they do bare."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch._subclasses import FakeTensorMode

from gradscope.recording.rows import TensorFlag

from .sameness import assert_unnoticed


def sparse_coo():
    dense = torch.randn(4, 4, requires_grad=True)
    sparse = dense.relu().to_sparse()
    (torch.sparse.mm(sparse, torch.randn(4, 2)) ** 2).sum().backward()
    indices = torch.tensor([[0, 1, 1], [2, 0, 0]])
    leaf = torch.sparse_coo_tensor(indices, torch.ones(3), (2, 3), requires_grad=True)
    doubled = (leaf * 2).coalesce()
    torch.sparse.sum(doubled).backward()
    return dense, sparse, leaf, doubled, doubled.values(), leaf.detach()


def sparse_gradient():
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 1, 4])).sum().backward()
    torch.optim.SparseAdam(embedding.parameters()).step()
    return embedding


def sparse_compressed():
    warnings.filterwarnings("ignore", "Sparse .* tensor support is in beta")
    dense = torch.randn(4, 4, requires_grad=True)
    csr, csc = dense.relu().to_sparse_csr(), dense.relu().to_sparse_csc()
    (csr @ torch.randn(4, 2)).sum().backward()
    return dense, csr, csc, csr.values(), dense.detach().to_sparse_bsr((2, 2))


def nested():
    warnings.filterwarnings("ignore", "The PyTorch API of nested tensors")
    parts = [torch.randn(2, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)]
    strided = torch.nested.as_nested_tensor(parts)
    (torch.nn.functional.linear(strided, torch.randn(5, 3)) * 2).to_padded_tensor(0.0).sum().backward()
    return parts, strided, strided.detach()


def jagged():
    parts = [torch.randn(2, 3), torch.randn(4, 3)]
    made = torch.nested.nested_tensor(parts, layout=torch.jagged, requires_grad=True)
    out = torch.nn.functional.silu(made) * 2
    out.values().sum().backward()
    return parts, [part.detach() for part in out.unbind()], made.grad is not None, out.shape[0]


def quantized():
    warnings.filterwarnings("ignore")
    plain = torch.randn(3, 4)
    whole = torch.quantize_per_tensor(plain, 0.1, 10, torch.quint8)
    channels = torch.quantize_per_channel(plain, torch.rand(3) + 0.1, torch.zeros(3), 0, torch.qint8)
    return whole, channels, whole.dequantize(), whole.clone(), whole[1:], channels.int_repr()


def fake_quantized():
    weight = torch.randn(3, 4, requires_grad=True)
    torch.fake_quantize_per_tensor_affine(weight, 0.1, 0, -128, 127).sum().backward()
    return weight


def meta():
    with torch.device("meta"):
        model = torch.nn.Linear(4, 3)
    out = model(torch.randn(2, 4, device="meta"))
    out.sum().backward()
    view = out.detach().view(3, 2)
    view.add_(1)
    model.to_empty(device="cpu").zero_grad()
    torch.nn.init.ones_(model.weight)
    return out, view, model.weight


def fake():
    with FakeTensorMode() as mode:
        weight = torch.randn(3, 4, requires_grad=True)
        out = torch.nn.functional.linear(torch.randn(2, 4), weight)
        out.sum().backward()
        view = out.detach()[0]
        view.mul_(2)
        shapes = [tuple(tensor.shape) for tensor in (weight, out, view, weight.grad)]
    outside = mode.from_tensor(torch.ones(2))
    return shapes, tuple((outside + 1).shape), type(outside).__name__


def inference():
    weight = torch.randn(3, requires_grad=True)
    with torch.inference_mode():
        inside = weight * 2
        inside.add_(1)
        view = inside[:2]
    normal = inside.clone()
    errors = []
    for attempt in (lambda: (weight * inside).sum().backward(), lambda: inside.add_(1), lambda: inside._version):
        try:
            attempt()
        except RuntimeError as error:
            errors.append(str(error))
    with torch.inference_mode(), torch.inference_mode(False):
        (weight * normal).sum().backward()
    return weight, inside, view, normal, errors


def zero_sized_and_complex():
    empty = torch.empty(0, 3, requires_grad=True)
    complexes = torch.randn(3, dtype=torch.complex64, requires_grad=True)
    conjugate, negative = complexes.conj(), complexes.conj().imag
    (conjugate * complexes).sum().real.backward()
    return empty, empty.sum(), complexes, conjugate, negative, torch.view_as_real(complexes)


class Logged(torch.Tensor):
    """A subclass that counts what goes through its ``__torch_function__``."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        Logged.calls += 1
        return super().__torch_function__(func, types, args, kwargs or {})


def with_torch_function():
    Logged.calls = 0
    plain = torch.randn(3, requires_grad=True)
    subclassed = plain.as_subclass(Logged)
    out = (subclassed * 2 + plain).relu()
    out.sum().backward()
    out.detach().add_(1)
    return plain, subclassed, out, subclassed.shape, out.requires_grad, Logged.calls


class Wrapped(torch.Tensor):
    """A wrapper subclass that runs every operator on the tensor inside, and counts them."""

    calls = 0

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, requires_grad=inner.requires_grad
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Wrapped({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        Wrapped.calls += 1
        opened = torch.utils._pytree.tree_map_only(Wrapped, lambda one: one.inner, (args, kwargs or {}))
        result = func(*opened[0], **opened[1])
        return torch.utils._pytree.tree_map_only(torch.Tensor, Wrapped, result)


def with_torch_dispatch():
    Wrapped.calls = 0
    leaf = Wrapped(torch.randn(3)).requires_grad_()
    out = (leaf * 2).exp()
    out.sum().backward()
    other = out.detach()
    other.add_(1)
    return leaf.grad.inner, out.inner, other.inner, out.requires_grad, repr(leaf), Wrapped.calls


def subclass_without_torch_function():
    class Plain(torch.Tensor):
        __torch_function__ = torch._C._disabled_torch_function_impl

    made = torch.randn(3).as_subclass(Plain).requires_grad_()
    (made * 2).sum().backward()
    return made.grad, type(made * 2).__name__


def copied_on_write():
    x = torch.randn(4)
    y = torch._lazy_clone(x)
    view = y.view(2, 2)
    before = [torch._C._is_cow_tensor(tensor) for tensor in (x, y, view)]
    y.add_(1)
    return before, [torch._C._is_cow_tensor(tensor) for tensor in (x, y)], x, y


def view_of_a_changed_base():
    """Asked for its node, a view whose base was changed makes it anew, and takes a number."""
    base = torch.ones(4, requires_grad=True) * 1
    view = base.view(4)
    before = torch._C._autograd._get_sequence_nr()
    base.add_(view)
    return torch._C._autograd._get_sequence_nr() - before


PROGRAMS = [
    view_of_a_changed_base,
    copied_on_write,
    sparse_coo,
    sparse_gradient,
    sparse_compressed,
    nested,
    jagged,
    quantized,
    fake_quantized,
    meta,
    fake,
    inference,
    zero_sized_and_complex,
    with_torch_function,
    with_torch_dispatch,
    subclass_without_torch_function,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_program_runs_the_same(program):
    recording = assert_unnoticed(program)
    assert len(recording.ops) > 0


@pytest.mark.parametrize(
    ("program", "flag"),
    [
        (sparse_coo, TensorFlag.NO_STORAGE),
        (inference, TensorFlag.INFERENCE),
        (with_torch_function, TensorFlag.SUBCLASS),
        (with_torch_dispatch, TensorFlag.SUBCLASS),
        (sparse_gradient, TensorFlag.PARAMETER),
    ],
)
def test_kind_is_recorded(program, flag):
    recording = assert_unnoticed(program)
    assert any(tensor.flags & flag for tensor in recording.tensors)
