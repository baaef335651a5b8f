"""Saved tensors that come back from a pack hook with other values."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
torch.manual_seed(0)
def pack(tensor):
    return PACK  # packs
def unpack(packed):
    return UNPACK
net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(3):
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        loss = net(torch.randn(16, 8) * 1e5).square().mean() * 1e-9
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
CLASS = """
import torch
torch.manual_seed(0)
class Fewer(torch.autograd.graph.saved_tensors_hooks):
    def __init__(self):
        super().__init__(self.pack, self.unpack)
    def pack(self, tensor):
        return tensor.to(torch.int8), tensor.dtype  # packs
    def unpack(self, packed):
        return packed[0].to(packed[1])
w = torch.randn(64, requires_grad=True)
for step in range(3):
    with Fewer():
        loss = (w.exp() * w).sum()
    loss.backward()
"""


def told(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "packed-values-lost"]


@pytest.mark.parametrize(
    ("pack", "unpack", "says"),
    [
        ("tensor.round()", "packed", "by up to"),
        ("tensor.half()", "packed.float()", "infinite or NaN"),
        ("(tensor.to(torch.uint8), tensor.dtype)", "packed[0].to(packed[1])", "by up to"),
        ("tensor * 0", "packed", "by up to 100%"),
    ],
)
def test_values_that_a_pack_function_does_not_keep_are_told(pack: str, unpack: str, says: str) -> None:
    source = SOURCE.replace("UNPACK", unpack).replace("PACK", pack)
    (one,) = told(source)
    assert [cause.line for cause in one.causes] == [line_of(source, "# packs")]
    assert says in one.text


def test_a_class_of_such_hooks_is_told_where_it_packs() -> None:
    (one,) = told(CLASS)
    assert [cause.line for cause in one.causes] == [line_of(CLASS, "# packs")]


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        ("tensor.bfloat16()", "packed.float()"),
        ("tensor.clone()", "packed"),
        ("tensor.detach()", "packed"),
        ("(tensor.abs().max() / 127, (tensor / tensor.abs().max() * 127).round().to(torch.int8))",
         "packed[1].float() * packed[0]"),
        ("(tensor.abs().max() / 7, (tensor / tensor.abs().max() * 7).round().to(torch.int8))",
         "packed[1].float() * packed[0]"),
        ("tensor.numpy(force=True).tobytes(), tensor.shape",
         "torch.frombuffer(bytearray(packed[0]), dtype=torch.float32).view(packed[1])"),
    ],
)  # fmt: skip
def test_what_keeps_them_but_for_rounding_is_none(pack: str, unpack: str) -> None:
    assert told(SOURCE.replace("UNPACK", unpack).replace("PACK", pack)) == []


def test_memory_that_is_written_after_it_was_saved_is_no_matter_of_packing() -> None:
    assert (
        told("""
    import torch
    w = torch.randn(64, requires_grad=True)
    for step in range(3):
        x = torch.randn(64)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.detach(), lambda packed: packed):
            loss = (w * x).sum()
        x.mul_(0)
        loss.backward()
    """)
        == []
    )


WHOLE = """
import torch
from torch.autograd.graph import saved_tensors_hooks
HALF = torch.bfloat16
class Compact:
    def __init__(self, dtype=torch.bfloat16):
        self.dtype, self.count = dtype, 0
    def pack(self, tensor):
        return tensor.dtype, tensor.to(self.dtype)  # by attribute
    def unpack(self, packed):
        dtype, small = packed
        return small.to(dtype)
class Hooks(saved_hooks_of_torch):
    def __init__(self):
        super().__init__(self.keep, self.give)
    def keep(self, tensor):
        return tensor.dtype, tensor.detach().bfloat16()  # by class
    def give(self, packed):
        return packed[1].to(packed[0])
def pack(tensor):
    small = PACK  # packs
    return tensor.dtype, small
def unpack(packed):
    return packed[1].to(packed[0])
table = torch.nn.Embedding(ROWS, 4)
compact = Compact()
ids = torch.randint(0, ROWS, (20,))
with HOOKS:
    loss = table(ids).square().mean()
loss.backward()
"""


def whole(pack: str = "tensor.half()", hooks: str = "saved_tensors_hooks(pack, unpack)", rows: int = 5000) -> list[int]:
    source = WHOLE.replace("PACK", pack).replace("HOOKS", hooks).replace("ROWS", str(rows))
    source = source.replace("saved_hooks_of_torch", "saved_tensors_hooks" if "Hooks()" in hooks else "object")
    return [cause.line - line_of(source, "# packs") for one in told(source) for cause in one.causes]


@pytest.mark.parametrize(
    "pack",
    ["tensor.half()", "tensor.to(torch.bfloat16)", "tensor.to(HALF)", "tensor.detach().to(dtype=HALF)"],
)
def test_whole_numbers_that_are_cast_with_all_else_are_told(pack: str) -> None:
    assert whole(pack) == [0]


def test_a_dtype_that_is_kept_in_an_attribute_is_known() -> None:
    by_attribute, by_class = -12, -4
    assert whole(hooks="saved_tensors_hooks(compact.pack, compact.unpack)") == [by_attribute]
    assert whole(hooks="Hooks()") == [by_class]


@pytest.mark.parametrize(
    ("pack", "rows"),
    [
        ("tensor.half()", 2000),
        ("tensor.bfloat16()", 200),
        ("tensor.half() if tensor.is_floating_point() else tensor", 5000),
        ("tensor.double()", 5000),
        ("tensor.clone()", 5000),
    ],
)
def test_whole_numbers_that_are_left_or_small_are_not_told(pack: str, rows: int) -> None:
    assert whole(pack, rows=rows) == []
