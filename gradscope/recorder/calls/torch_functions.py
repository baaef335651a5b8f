"""What gradscope must know about a torch function before it is called: its name, its kind, whether it may mutate.

Looked up once a function. Mutability comes from torch's own operator schemas; a function without a schema (torch's
Python functions) is taken as one that may mutate, so that its inputs' versions are compared.
"""

from __future__ import annotations

from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import Any, NamedTuple

import torch

from gradscope.recorder.calls.collective_calls import FUNCTIONAL, WRITES, collective_name
from gradscope.recorder.torch_internals.uncounted_writes import UNCOUNTED, Uncounted
from gradscope.recording.rows import OpKind

_METADATA_GETTERS = frozenset(
    """
    shape dtype device requires_grad is_leaf grad_fn _version names ndim layout itemsize nbytes name output_nr is_cuda
    is_cpu is_xpu is_ipu is_xla is_hpu is_mps is_mtia is_maia is_meta is_vulkan is_mkldnn is_quantized is_sparse
    is_sparse_csr is_nested retains_grad volatile _backward_hooks _post_accumulate_grad_hooks _cdata _python_dispatch
    __cuda_array_interface__ grad_dtype
    """.split()  # noqa: SIM905 - a list of eighty quoted names would hide them
)
_METADATA_METHODS = frozenset(
    """
    size stride dim ndimension numel nelement element_size data_ptr storage_offset is_contiguous is_floating_point
    is_complex is_signed is_inference is_conj is_neg is_pinned is_shared is_set_to is_same_size has_names get_device
    untyped_storage _is_view __repr__ __str__ __format__ __hash__ __len__ __dir__
    __reduce_ex__ __reduce__ __setstate__ register_hook register_post_accumulate_grad_hook dim_order is_distributed
    _nnz sparse_dim dense_dim is_coalesced qscheme has_torch_function __torch_dispatch__ is_storage is_tensor
    is_nonzero_ result_type can_cast promote_types set_printoptions
    """.split()  # noqa: SIM905 - a list of eighty quoted names would hide them
)
_EXPORTS = frozenset(
    """
    item tolist numpy __array__ __bool__ __float__ __int__ __index__ __complex__ __contains__ is_nonzero equal
    allclose __dlpack__ _local_scalar_dense
    """.split()  # noqa: SIM905 - a list of eighty quoted names would hide them
)
_SHARING = frozenset(
    """
    Tensor.numpy Tensor.__array__ Tensor.__dlpack__ torch.as_tensor torch.asarray torch.frombuffer torch.from_dlpack
    torch.utils.dlpack.from_dlpack
    """.split()  # noqa: SIM905 - quoted names would hide them
)
"""Functions whose argument or result may share memory with numpy's arrays, or others."""
_PURE_PYTHON = frozenset(
    """
    F.linear F.conv1d F.conv2d F.gelu F.scaled_dot_product_attention F.multi_head_attention_forward F.layer_norm
    F.softmax F.log_softmax F.cross_entropy F.nll_loss F.mse_loss F.binary_cross_entropy_with_logits
    """.split()  # noqa: SIM905 - a list of eighty quoted names would hide them
)
"""Written in Python, with no schema; what they call changes no input."""


class FunctionInfo(NamedTuple):
    """What is known of a torch function before it is called."""

    name: str
    """As written by people: ``Tensor.mul``, ``F.linear``, ``Tensor.requires_grad.__set__``."""
    kind: OpKind
    mutates: bool
    """Its inputs must be looked at before the call: it may change them in place (False only where torch's schemas or
    its Python say that it does not), or it is a backward pass."""
    ignored: bool
    """It reads metadata only: nothing to record."""
    uncounted: Uncounted | None = None
    """What it writes that the version counter does not show."""
    shares: bool = False
    """Its first argument or its result shares memory with what is not torch's."""


class Function:
    """A described function as the hot path wants it: plain numbers, and the name interned."""

    __slots__ = ("asked_by", "code", "ignored", "kind", "mutates", "name", "parameters", "shares", "text", "uncounted")

    def __init__(self, info: FunctionInfo, text: int, func: Any) -> None:
        self.code: CodeType | None = func.__code__ if type(func) is FunctionType else None
        """Of a function that is written in Python."""
        self.asked_by: CodeType | None = None
        """Of a part of torch's that hands this function over, and means it."""
        self.parameters = _parameters_of(self.code)
        self.name = info.name
        self.text = text
        self.kind = int(info.kind)
        self.mutates = info.mutates
        self.ignored = info.ignored
        self.uncounted = info.uncounted
        self.shares = info.shares


class ViewOfItself(Function):
    """``Tensor.view_as``, where torch calls it for a custom Function that returns its input, and no frame says so.

    Since torch 2.14 ``Function.apply`` is no Python. (A class of its own leaves it to the recorder's Python.)
    """

    __slots__ = ()


class DeepCopy(Function):
    """``Tensor.__deepcopy__``: its memo holds what was copied before it, which it is not given to compute with."""

    __slots__ = ()


APPLIES_IN_C = not hasattr(torch.autograd.Function.apply, "__func__")
"""Whether ``Function.apply`` has no frame."""


def _parameters_of(code: CodeType | None) -> int:
    """How many parameters code has; -1 where it takes any number."""
    if code is None or code.co_flags & (CO_VARARGS | CO_VARKEYWORDS):
        return -1
    return code.co_argcount + code.co_kwonlyargcount


_OF_C = frozenset((BuiltinFunctionType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType))
_described: dict[Any, FunctionInfo] = {}
"""torch's own functions that are written in C++, whatever recording met them first."""


def lives_with_torch(func: Any) -> bool:
    """Whether a function is torch's or Python's own; others must not be kept alive."""
    module = getattr(func, "__module__", None) or "torch"
    return bool(module.startswith("torch") or module == "builtins")


def describe(func: Any) -> FunctionInfo:
    """Describe a function as torch hands it to a function mode."""
    if type(func) not in _OF_C or not lives_with_torch(func):
        return _describe(func)
    known = _described.get(func)
    if known is None:
        known = _described[func] = _describe(func)
    return known


def _describe(func: Any) -> FunctionInfo:
    name = _name(func)
    owner, _, last = name.rpartition(".")
    if last in ("__get__", "__set__", "__delete__"):
        return _describe_property(name, owner.rpartition(".")[2], last)
    if name in ("Tensor.backward", "torch.autograd.backward"):
        return FunctionInfo(name, OpKind.BACKWARD, True, False)
    if name == "torch.autograd.grad":
        return FunctionInfo(name, OpKind.GRAD, True, False)
    if last == "_set_grad_enabled":
        return FunctionInfo(name, OpKind.MODE, False, False)
    if last in ("requires_grad_", "retain_grad", "detach_"):
        return FunctionInfo(name, OpKind.SET, True, False)
    if name in _SHARING:
        # (looked at before, too, so that what its memory holds is known before somebody else can write it)
        return FunctionInfo(name, OpKind.EXPORT if last in _EXPORTS else OpKind.CALL, True, False, shares=True)
    if collective := collective_name(name):
        mutates = not name.startswith(FUNCTIONAL) or may_mutate(func, name, last)
        return FunctionInfo(collective, OpKind.COLLECTIVE, mutates, False, WRITES.get(collective))
    if last in _EXPORTS and owner != "torch.nn":
        return FunctionInfo(name, OpKind.EXPORT, False, False)
    uncounted = UNCOUNTED.get(name) or UNCOUNTED.get(name.replace("torch.ops.aten.", "torch."))
    if uncounted is not None:
        return FunctionInfo(name, OpKind.CALL, True, False, uncounted)
    ignored = (last in _METADATA_METHODS and (owner == "torch" or owner.endswith("Tensor"))) or ".profiler." in name
    return FunctionInfo(name, OpKind.CALL, not ignored and may_mutate(func, name, last), ignored)


_SET_UNDER_LOCK = frozenset(("_backward_hooks", "_post_accumulate_grad_hooks"))
"""Attributes that torch's C++ sets while it holds the lock of a view's history: reading ``grad_fn`` then hangs."""


def _describe_property(name: str, attribute: str, access: str) -> FunctionInfo:
    if attribute in _SET_UNDER_LOCK:
        return FunctionInfo(name, OpKind.CALL, False, True)
    if access != "__get__":
        return FunctionInfo(name, OpKind.SET, True, False)
    if attribute in ("grad", "_grad"):
        return FunctionInfo(name, OpKind.READ_GRAD, False, False)
    return FunctionInfo(name, OpKind.CALL, False, attribute in _METADATA_GETTERS)


_OWNERS = {
    "torch": "torch",
    "torch._C": "torch",
    "torch._tensor": "Tensor",
    "torch.functional": "torch",
    "torch.nn.functional": "F",
    "torch._C._nn": "F",
    "torch.nn.init": "nn.init",
    "torch._C._linalg": "torch.linalg",
    "torch._C._fft": "torch.fft",
    "torch._C._special": "torch.special",
    "torch._C._sparse": "torch.sparse",
    "torch._C._nested": "torch.nested",
    "torch._ops.aten": "torch.ops.aten",
}
_RENAMED = {"fft_": "torch.fft", "linalg_": "torch.linalg", "special_": "torch.special"}


def _name(func: Any) -> str:
    """The name people write for it."""
    last = getattr(func, "__name__", None) or type(func).__name__
    descriptor = getattr(func, "__self__", None)
    if last in ("__get__", "__set__", "__delete__") and descriptor is not None:
        attribute = getattr(descriptor, "__name__", None)
        if attribute is None:
            getter = getattr(descriptor, "fget", None)
            attribute = getattr(getter, "__name__", "attribute")
        return f"Tensor.{attribute}.{last}"
    owner = getattr(func, "__objclass__", None)
    if owner is not None:
        return f"Tensor.{last}"
    module = getattr(func, "__module__", None)
    qualified = getattr(func, "__qualname__", last)
    if module is None:
        home = getattr(func, "__self__", None)
        module = getattr(home, "__name__", None) or "torch"
        if "VariableFunctions" in qualified or "VariableFunctions" in module:
            module = "torch"
    for prefix, replacement in _RENAMED.items():
        if last.startswith(prefix) and module.startswith("torch._C"):
            return f"{replacement}.{last[len(prefix) :]}"
    if module == "torch._tensor" and "." not in qualified:
        return f"Tensor.{last}"
    if qualified.startswith("Tensor."):
        return qualified
    return f"{_OWNERS.get(module, module)}.{last}"


def may_mutate(func: Any, name: str, last: str) -> bool:
    """Whether a function can change its inputs, by torch's schemas where it has any."""
    if isinstance(func, torch._ops.OpOverload):
        return bool(func._schema.is_mutable)
    if name in _PURE_PYTHON:
        return False
    if last.startswith("__i") and last.endswith("__") and last not in ("__invert__", "__index__", "__int__"):
        return True
    if last in ("__setitem__", "set_", "resize_"):
        return True
    if isinstance(func, type(describe)):
        return True
    operator = last.strip("_") if last.startswith("__") else last
    operator = operator[1:] if last.startswith("__r") else operator
    schemas: list[Any] = torch._C._jit_get_schemas_for_operator(f"aten::{operator}")
    if not schemas:
        return last not in ("__getitem__",)
    return any(schema.is_mutable for schema in schemas if not _has_out(schema))


def _has_out(schema: Any) -> bool:
    """An ``out=`` overload: a call of it is recognised by its keyword."""
    return any(argument.kwarg_only and argument.is_out for argument in schema.arguments)
