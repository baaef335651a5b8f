"""What is allocated, saved and in use: sums that must hold for any run."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradscope.analysis.facts.keepless_nodes import KEEPLESS
from gradscope.analysis.report_builder import build
from tests.analysis.building import Builder, recorded

operations = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 64), st.integers(0, 10), st.lists(st.integers(0, 30), max_size=3)),
    max_size=30,
)


def build_run(plan: list[tuple[int, int, int, list[int]]]) -> Builder:
    """Each op: line, bytes, after how many ops its memory is gone (0: never), memory blocks that its node saves."""
    builder = Builder()
    for op, (line, nbytes, _, saves) in enumerate(plan):
        node = builder.node(op)
        builder.op(line, nbytes=nbytes, requires_grad=True, node=node)
        for storage in saves:
            if storage <= op:
                builder.save(node, storage, plan[storage][1])
    for op, (_, _, life, _) in enumerate(plan):
        if life and op + life < len(plan):
            builder.die(op, op + life)
    return builder


@given(operations)
def test_each_block_counts_once_in_what_is_saved(plan: list[tuple[int, int, int, list[int]]]) -> None:
    memory = build(build_run(plan).recording).memory
    saved = {storage for op, (_, _, _, saves) in enumerate(plan) for storage in saves if storage <= op}
    assert memory.saved_bytes == sum(plan[storage][1] for storage in saved)
    assert sum(line.saved_bytes for line in memory.lines) == memory.saved_bytes


@given(operations)
def test_lines_and_rows_add_up(plan: list[tuple[int, int, int, list[int]]]) -> None:
    report = build(build_run(plan).recording)
    allocated = sum(nbytes for _, nbytes, _, _ in plan)
    assert report.memory.allocated_bytes == allocated
    assert sum(line.allocated_bytes for line in report.memory.lines) == allocated
    assert sum(row.allocated_bytes for row in report.lines) == allocated
    assert sum(row.saved_bytes for row in report.lines) == report.memory.saved_bytes


@given(operations)
def test_the_peak_is_the_most_that_was_alive_at_once(plan: list[tuple[int, int, int, list[int]]]) -> None:
    def alive(storage: int, at: int) -> bool:
        life = plan[storage][2]
        return not life or storage + life >= len(plan) or at < storage + life

    in_use = [sum(plan[past][1] for past in range(op + 1) if alive(past, op)) for op in range(len(plan))]
    memory = build(build_run(plan).recording).memory
    assert memory.peak_bytes == max(in_use, default=0)
    assert memory.live_bytes == (in_use[-1] if in_use else 0)


def test_a_real_run_counts_what_backward_and_the_step_add() -> None:
    source = """
    import torch
    w = torch.ones(1000, requires_grad=True)
    optimizer = torch.optim.Adam([w])
    (w * w).sum().backward()
    optimizer.step()
    """
    memory = build(recorded(source)).memory
    assert memory.gradient_bytes == 4000
    assert 8000 <= memory.step_bytes < 20_000
    assert memory.saved_bytes == memory.saved_leaf_bytes == 4000


def test_a_sparse_gradient_counts_the_rows_that_are_there() -> None:
    source = """
    import torch
    table = torch.nn.Embedding(10_000, 16, sparse=True)
    table(torch.tensor([1, 5, 5])).sum().backward()
    """
    assert build(recorded(source)).memory.gradient_bytes == 3 * (8 + 16 * 4)


def test_what_was_saved_under_hooks_is_said_not_to_be_counted() -> None:
    source = """
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    x = torch.ones(1000, requires_grad=True)
    with saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        y = x.exp()
        z = y.sin()
    """
    memory = build(recorded(source)).memory
    assert (memory.hooked_ops, memory.saved_bytes) == (2, 0)


def test_what_saves_nothing_is_not_counted_among_what_saved_under_hooks() -> None:
    source = """
    import torch
    from torch.autograd.graph import saved_tensors_hooks
    w = torch.ones(3, 4, requires_grad=True)
    packed = []
    for _ in range(3):
        with saved_tensors_hooks(lambda tensor: packed.append(1) or tensor, lambda tensor: tensor):
            y = (w @ torch.ones(4, 3)).transpose(0, 1) + 1
            z = y.exp().sum().view(1) - w.mean()
        z.backward()
    assert len(packed) == 6, len(packed)
    """
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    assert build(recording).memory.hooked_ops == 6


@pytest.mark.parametrize("name", sorted(KEEPLESS))
def test_torch_keeps_no_tensor_in_these_nodes(name: str) -> None:
    functions = torch._C._functions
    kinds = [getattr(functions, f"{name}Backward{number}", None) for number in range(6)]
    kept = [attr for kind in kinds for attr in dir(kind) if kind is not None and attr.startswith("_raw_saved_")]
    assert kept == []


def test_an_array_taken_back_is_the_memory_that_it_was() -> None:
    report = build(
        recorded("""
        import torch
        a = torch.from_numpy(torch.ones(300).numpy())
        d = torch.zeros(100).numpy()
        b = torch.as_tensor(d)
        c = torch.as_tensor(d, dtype=torch.float64)
        """)
    )
    assert {line.place.line: line.allocated_bytes for line in report.memory.lines} == {2: 1200, 3: 400, 5: 800}
    assert report.memory.live_bytes == 2400


EVALUATED = """
import torch
net, body = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
def run(x):
    first, second = 0.0, 0.0
    for part in x:
        first = first + body(part).exp().mean()
        second = second + net(part).tanh().exp().mean()
    return first, second
total = 0.0
for step in range(9):
    first, second = run(torch.rand(9, 64, 64))
    {}
first, second = run(torch.rand(9, 64, 64))
torch.autograd.grad(first, body.weight)
"""


def test_the_last_of_what_passes_use_up_is_no_leak() -> None:
    answers = build(recorded(EVALUATED.format("(first + second).backward()"))).answers
    assert [one.text for one in answers if one.code == "memory-kept-by-graph"] == []
    answers = build(recorded(EVALUATED.format("first.backward(); total = total + second"))).answers
    assert [one for one in answers if one.code == "memory-kept-by-graph"]
