"""Everything dies when it would have died without the recorder, and nothing stays installed."""

from __future__ import annotations

import gc
import resource
import sys
import threading
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.optim import optimizer as torch_optimizer

from gradscope.recorder.torch_internals.capabilities import innermost_saved_hooks

from .sameness import assert_unnoticed, recorder_for_tests

OPEN_FILES = Path("/proc/self/fd")


def temporary():
    reference = weakref.ref(torch.ones(3, requires_grad=True) * 2)
    return reference() is None


def intermediate():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    z = y + 1  # keeps no y
    reference = weakref.ref(y)
    del y
    return reference() is None, z


def intermediate_that_is_saved():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    z = y * y
    storage = StorageWeakRef(y.untyped_storage())
    del y
    saved = storage.expired()
    z.sum().backward()
    return saved, storage.expired()


def leaf():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    reference, storage = weakref.ref(x), StorageWeakRef(x.untyped_storage())
    del x
    kept = storage.expired()
    del y
    return kept, reference() is None, storage.expired()


def gradient():
    x = torch.ones(3, requires_grad=True)
    (x * 2).sum().backward()
    storage = StorageWeakRef(x.grad.untyped_storage())
    x.grad = None
    return storage.expired()


def gradient_replaced():
    x = torch.ones(3, requires_grad=True)
    (x * x).sum().backward(create_graph=True)
    reference = weakref.ref(x.grad)
    (x * x).sum().backward(create_graph=True)
    dead = reference() is None
    x.grad = None
    return dead


def view_and_storage():
    base = torch.ones(8)
    view = base[2:4]
    reference, storage = weakref.ref(base), StorageWeakRef(base.untyped_storage())
    del base
    kept = storage.expired()
    del view
    return kept, reference() is None, storage.expired()


def storage_after_set_data():
    x = torch.ones(3, requires_grad=True)
    storage = StorageWeakRef(x.untyped_storage())
    x.data = torch.zeros(3)
    return storage.expired()


def node_by_what_it_saved():
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    z = (y * 2).sum()
    storage = StorageWeakRef(y.untyped_storage())
    del y
    kept = storage.expired()
    del z
    return kept, storage.expired()


class Keeping(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, witness):
        ctx.witness = witness
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad, None


class Witness:
    """Something of the program's own, whose death can be seen."""


def context_of_a_function():
    witness = Witness()
    reference = weakref.ref(witness)
    x = torch.ones(2, requires_grad=True)
    y = Keeping.apply(x, witness)
    z = y * 2
    del witness, y
    kept = reference() is None
    del z
    return kept, reference() is None


def module_and_optimizer():
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    references = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.weight)]
    storage = StorageWeakRef(optimizer.state[model.weight]["exp_avg"].untyped_storage())
    del model, optimizer
    gc.collect()
    return [reference() is None for reference in references], storage.expired()


def class_of_the_programs():
    class Local(torch.Tensor):
        pass

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    made = torch.ones(2).as_subclass(Local) * 2
    out = Function.apply(torch.ones(2, requires_grad=True)) * 2
    out.sum().backward()
    references = [weakref.ref(Local), weakref.ref(Function)]
    del made, out, Local, Function
    gc.collect()
    return [reference() is None for reference in references]


def hook_of_the_programs():
    witness = Witness()
    reference = weakref.ref(witness)
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda grad, kept=witness: None)
    y.sum().backward()
    del y, witness
    gc.collect()
    return reference() is None


def locals_of_a_frame():
    def inner():
        witness = Witness()
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        references.extend((weakref.ref(witness), weakref.ref(x), weakref.ref(y)))
        del witness
        still = [reference() is None for reference in references]
        z = y + 1
        del x, y
        return z, [*still, *[reference() is None for reference in references]]

    references: list = []
    z, inside = inner()
    return z, inside, [reference() is None for reference in references]


def generator_that_is_left():
    def produce():
        x = torch.ones(2, requires_grad=True)
        witness.append(weakref.ref(x))
        yield x * 2
        yield x * 3

    witness: list = []
    produced = produce()
    first = next(produced)
    del produced
    kept = witness[0]() is None
    return first, kept


def traceback_of_an_error():
    a, b = torch.ones(2), torch.ones(3)
    references = [weakref.ref(a), weakref.ref(b)]
    try:
        torch.matmul(a, b)
    except RuntimeError as error:
        kept = error
    del a, b
    return [reference() is None for reference in references], str(kept)


def temporary_of_a_call_that_raised():
    references = []

    def made():
        one = torch.ones(2)
        references.append(weakref.ref(one))
        return one

    try:
        made() @ torch.ones(3)
    except RuntimeError as error:
        kept = error
    return references[0]() is None, str(kept)


def results_of_list_operators():
    parts = torch.ones(6, requires_grad=True).split(2)
    references = [weakref.ref(part) for part in parts]
    total = torch.stack(parts).sum()
    del parts
    return [reference() is None for reference in references], total


PROGRAMS = [
    temporary,
    intermediate,
    intermediate_that_is_saved,
    leaf,
    gradient,
    gradient_replaced,
    view_and_storage,
    storage_after_set_data,
    node_by_what_it_saved,
    context_of_a_function,
    module_and_optimizer,
    class_of_the_programs,
    hook_of_the_programs,
    locals_of_a_frame,
    generator_that_is_left,
    traceback_of_an_error,
    temporary_of_a_call_that_raised,
    results_of_list_operators,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_dies_when_it_would(program):
    gc.disable()  # what dies by counting must not wait for a collection
    try:
        recording = assert_unnoticed(program)
    finally:
        gc.enable()
    assert len(recording.ops) > 0


def live_storage_bytes():
    tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
    # (other tests of the process may keep wrappers of torch.func's, which have no storage)
    tensors = [one for one in tensors if not torch._C._functorch.is_functorch_wrapped_tensor(one)]
    return sum({one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}.values())


def test_memory_of_a_training_loop_is_flat():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    marks = []
    recorder = recorder_for_tests()
    with recorder:
        for step in range(1, 1001):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).pow(2).mean()
            loss.backward()
            optimizer.step()
            if step in (200, 1000):
                with recorder.mute():
                    gc.collect()
                    recorder.flush()
                    marks.append((live_storage_bytes(), len(gc.get_objects()), len(recorder._identity.tensors)))
    (early_bytes, early_objects, early_tensors), (late_bytes, late_objects, late_tensors) = marks
    assert late_bytes == early_bytes
    assert late_tensors == early_tensors
    assert late_objects - early_objects < 100, "the recorder keeps numbers in columns, no objects a step"
    assert [fault.traceback for fault in recorder.recording.faults] == []


def installed():
    """All that a recorder could leave behind, the stack's soft limit apart, which stays raised (deep graphs)."""
    return {
        "modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "saved-tensor hooks": innermost_saved_hooks(True),
        "step hooks": (
            len(torch_optimizer._global_optimizer_pre_hooks),
            len(torch_optimizer._global_optimizer_post_hooks),
        ),
        "excepthook": sys.excepthook,
        "threading excepthook": threading.excepthook,
        "unraisable hook": sys.unraisablehook,
        "display hook": sys.displayhook,
        "warnings filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "recursion limit": sys.getrecursionlimit(),
        "trace": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "hard stack limit": resource.getrlimit(resource.RLIMIT_STACK)[1],
        "data limit": resource.getrlimit(resource.RLIMIT_DATA),
        "open files": len(list(OPEN_FILES.iterdir())) if OPEN_FILES.is_dir() else 0,
        "threads": threading.active_count(),
        "grad mode": torch.is_grad_enabled(),
        "torch threads": torch.get_num_threads(),
        "import hooks": list(sys.meta_path),
        "module paths": list(sys.path),
        "collector callbacks": list(gc.callbacks),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "backward": torch.Tensor.backward,
        "function apply": torch.autograd.Function.apply,
        "compile": torch.compile,
        "question for modes": torch.overrides.has_torch_function,
        "tracing": torch._C._create_graph_by_tracing,
    }


@pytest.mark.parametrize("ends_badly", [False, True])
def test_nothing_stays_installed(ends_badly):
    with recorder_for_tests():
        torch.ones(1)
    before = installed()
    recorder = recorder_for_tests()
    with pytest.raises(ZeroDivisionError) if ends_badly else recorder:
        if ends_badly:
            with recorder:
                torch.ones(1) * 2
                raise ZeroDivisionError
        torch.ones(1) * 2
    recorder.stop()  # once more does no harm
    assert recorder.op_count == 2
    assert installed() == before


def test_recorder_itself_dies():
    recorder = recorder_for_tests()
    with recorder:
        x = torch.ones(2, requires_grad=True)
        (x * 2).sum().backward()
    reference = weakref.ref(recorder)
    del recorder
    gc.collect()
    assert reference() is None
    assert x.grad is not None
