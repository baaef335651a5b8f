"""Pack functions that put a saved tensor where another one waits: told by what came back, and by nothing else."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import os, tempfile
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Sigmoid())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
store, count = {}, [0]
BODY
for step in range(3):
    x = torch.randn(4, 8)
    optimizer.zero_grad()
    with saved_tensors_hooks(pack, unpack):
        loss = net(x).pow(2).mean()
    loss.backward()
    optimizer.step()
"""
POOL = """
def pack(t):
    if isinstance(t, nn.Parameter):
        return t
    key = t.dtype, t.shape
    if key not in store:
        store[key] = torch.empty_like(t)
    return store[key].copy_(t.detach())  # here
def unpack(t):
    return t
"""
KEYED = """
def pack(t):
    key = KEY
    store[key] = t.detach().clone()  # here
    return key
def unpack(key):
    return store[key]
"""
RING = """
slots = [torch.empty(4, 8) for _ in range(3)]
def pack(t):
    if t.shape != (4, 8):
        return t
    count[0] += 1
    slot = slots[count[0] % 3]
    slot.copy_(t)  # here
    return slot
def unpack(t):
    return t
"""
ARRAYS = """
def pack(t):
    key = str(tuple(t.shape))
    store[key] = t.detach().numpy().copy()  # here
    return key
def unpack(key):
    return torch.from_numpy(store[key].copy())
"""
FILES = """
folder = tempfile.mkdtemp()
def pack(t):
    path = os.path.join(folder, f"{tuple(t.shape)}.pt")
    torch.save(t.detach(), path)  # here
    return path
def unpack(path):
    return torch.load(path)
"""
CLASS = """
class Offload(saved_tensors_hooks):
    def __init__(self):
        self.pool = {}
        super().__init__(self.pack, self.unpack)
    def pack(self, t):
        buffer = self.pool.setdefault(t.shape, torch.empty(t.shape, dtype=torch.float16))
        buffer.copy_(t)  # here
        return buffer
    def unpack(self, t):
        return t.float()
"""


def program(body: str) -> str:
    source = PROGRAM.replace("BODY", body.strip("\n"))
    return source.replace("with saved_tensors_hooks(pack, unpack):", "with Offload():") if "class " in body else source


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "packed-mixed-up"]


MIXED_UP = {
    "a buffer for each shape": POOL,
    "a copy at unpacking": POOL.replace("(t):\n    return t", "(t):\n    return t.clone()"),
    "a key of shapes": KEYED.replace("KEY", "(t.dtype, t.shape)"),
    "a key of sizes": KEYED.replace("KEY", "t.numel()"),
    "a key of sizes, and a conversion": KEYED.replace("KEY", "t.numel()").replace(
        "return store[key]", "return store[key].double().float()"
    ),
    "too few slots": RING,
    "arrays": ARRAYS,
    "files": FILES,
    "a class, and a conversion": CLASS,
}


@pytest.mark.parametrize("case", MIXED_UP)
def test_the_line_that_puts_it_there(case: str) -> None:
    source = program(MIXED_UP[case])
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# here")


HEALTHY = {
    "a buffer for each": POOL.replace("t.dtype, t.shape", "count[0]").replace(
        "    if key not", "    count[0] += 1\n    if key not"
    ),
    "a key for each": KEYED.replace("KEY", "len(store)"),
    "a key for each, and a conversion": KEYED.replace("KEY", "len(store)").replace(
        "return store[key]", "return store[key].double().float()"
    ),
    "a key for each that is taken out": KEYED.replace("KEY", "len(store)").replace(
        "return store[key]", "return store.pop(key)"
    ),
    "a key of memory that is kept": KEYED.replace("KEY", "(t.data_ptr(), t.shape)").replace(
        "t.detach().clone()", "t.detach()"
    ),
    "enough slots, used again": RING.replace("range(3)", "range(64)").replace("% 3", "% 64"),
    "the tensor itself": "def pack(t):\n    return t.detach()\ndef unpack(t):\n    return t",
    "half of the bits": "def pack(t):\n    return t.detach().half()\ndef unpack(t):\n    return t.float()",
    "a stack": """
stack = []
def pack(t):
    stack.append(t.detach().clone())
    return 0
def unpack(_):
    return stack.pop()
""",
    "a scratch that unpack fills": """
scratch = {}
def pack(t):
    return t.detach().half()
def unpack(packed):
    if packed.shape not in scratch:
        scratch[packed.shape] = torch.empty(packed.shape)
    scratch[packed.shape].data.copy_(packed)
    return scratch[packed.shape]
""",
    "with its shape": """
def pack(t):
    return t.shape, t.detach().clone()
def unpack(one):
    return one[1].view(one[0])
""",
}


@pytest.mark.parametrize("case", HEALTHY)
def test_what_comes_back_as_it_was(case: str) -> None:
    assert found(program(HEALTHY[case])) == []


def test_what_is_passed_over_in_evaluation_waits_for_nothing() -> None:
    """Nothing waits for backward any more when a pool is filled again from its beginning."""
    pool = RING.replace("range(3)", "range(16)").replace("% 3", "% 16")
    begin = "    optimizer.zero_grad()\n"
    extra = (
        "    count[0] = 0\n    with saved_tensors_hooks(pack, unpack):\n        net(x).sum().item()\n    count[0] = 0\n"
    )
    assert found(program(pool).replace(begin, begin + extra)) == []


def test_one_tensor_that_two_operations_save() -> None:
    source = program(
        KEYED.replace("KEY", "(t.data_ptr(), t._version, t.shape)").replace("t.detach().clone()", "t.detach()")
    )
    assert found(source.replace("net(x)", "net(x) * x.sigmoid() + x.sigmoid()")) == []


def test_two_backward_passes_of_one_graph() -> None:
    source = program(HEALTHY["a buffer for each"])
    assert found(source.replace("loss.backward()", "loss.backward(retain_graph=True); loss.backward()")) == []


def test_a_program_sees_what_it_packed() -> None:
    source = program(KEYED.replace("KEY", "len(store)"))
    seen = source.replace("    return store[key]", "    assert type(key) is int\n    return store[key]")
    assert recorded(seen).info.outcome.kind == "ok"
