"""What a program does in modes, hooks and traces of its own: the same, whatever is expected or watched in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.check.running import check, parts, verdicts

COUNTING = """
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
seen = []
class Functions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        seen.append(func.__name__)
        return func(*args, **(kwargs or {}))
def pack(t):
    seen.append("packed")
    return t
m = torch.ones(4, 4, requires_grad=True)
with FlopCounterMode(display=False) as counter, Functions(), saved_tensors_hooks(pack, lambda t: t):
    r = m @ m  # expect: (m @ m).exp().sum() < 0
with torch.device("meta"), Functions():
    s = torch.ones(2)  # expect: torch.ones(2).device.type == "cpu"
    t = s.sin()
print(counter.get_total_flops(), seen, torch._C._len_torch_dispatch_stack(), torch.empty(2).device)
"""

TRACING = """
import torch
from torch.fx.experimental.proxy_tensor import make_fx
def f(x):
    y = x * 2  # expect: y.sum() < 0
    return y + 1
a = torch.ones(3)
print(torch.fx.symbolic_trace(f).graph, make_fx(f)(a).graph, torch.jit.trace(f, a).graph)
print(torch.vmap(f)(torch.ones(2, 3)), torch.func.grad(lambda x: f(x).sum())(a))
"""


@pytest.mark.parametrize("source", [COUNTING, TRACING])
@pytest.mark.parametrize("directive", ["expect", "watch"])
def test_the_programs_modes_hooks_and_traces_see_nothing(source: str, directive: str, tmp_path: Path) -> None:
    plain = check(re.sub("  # expect.*", "", source), tmp_path, ["True"])
    done = check(source.replace("expect:", f"{directive}:"), tmp_path, ["True"])
    assert not plain.failure and not done.failure
    assert done.output == plain.output


def test_an_expression_means_the_device_that_the_program_means(tmp_path: Path) -> None:
    result = check(COUNTING, tmp_path)
    assert verdicts(result) == ["fails", "fails"]
    assert parts(result.expectations[1])["torch.ones(2).device.type"] == "'meta'"


def test_another_thread_keeps_its_random_numbers(tmp_path: Path) -> None:
    result = check(
        """
        import random, sys, threading, torch
        sys.setswitchinterval(1e-5)
        drawn, over = [], threading.Event()
        def draw():
            while not over.is_set():
                drawn.append(random.random())
        a = torch.ones(2, requires_grad=True)
        thread = threading.Thread(target=draw)
        thread.start()
        for _ in range(200):
            b = a * 2  # expect: b.requires_grad and reaches(b, a)
        over.set()
        thread.join()
        print(len(drawn) == len(set(drawn)))
        """,
        tmp_path,
    )
    assert (verdicts(result), result.output) == (["holds"], "True\n")


def test_generators_that_nobody_drew_from_are_not_set(tmp_path: Path) -> None:
    result = check(
        """
        import random, numpy, torch
        set_again = []
        for module, name in (random, "setstate"), (numpy.random, "set_state"), (torch, "set_rng_state"):
            put = getattr(module, name)
            setattr(module, name, lambda state, put=put, name=name: (put(state), set_again.append(name)))
        a = torch.ones(2)
        b = a * 2  # expect: len(b.tolist()) == 2
        print(set_again)
        b = a * 3  # expect: len(torch.rand(2)) == 2
        b = a * 4  # expect: random.random() < 2 and numpy.random.rand() < 2
        print(set_again)
        """,
        tmp_path,
    )
    assert verdicts(result) == ["holds"] * 3
    assert result.output == "[]\n['set_rng_state', 'setstate', 'set_state']\n"


def test_torch_without_numpy_can_be_expected_of(tmp_path: Path) -> None:
    result = check(
        "import torch\ntorch.Tensor.numpy = None\nb = torch.ones(2)  # expect: len(b.tolist()) == 2\n", tmp_path
    )
    assert (verdicts(result), result.failure) == (["holds"], "")
