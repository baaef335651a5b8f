"""Where two runs part: the first call, node or gradient that gave something else, by fingerprints."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from gradscope.analysis.comparison.comparison_model import Parting
from gradscope.analysis.comparison.parting import find_parting
from gradscope.analysis.facts.derivatives import version_changes
from gradscope.analysis.facts.derivatives.version_changes import VersionChange
from gradscope.analysis.report_builder import gather
from gradscope.recorder.state.fingerprints import Fingerprints, _on_device
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.tape import Tape
from gradscope.recording import Recording
from gradscope.recording.rows import FingerprintKind
from gradscope.report.compare.parting_text import parting_sentences
from tests.analysis.building import recorded
from tests.cli.command import gradscope

PROGRAM = """
import torch
torch.manual_seed(0)
class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2
    @staticmethod
    def backward(ctx, grad):
        return grad * 2
layer = torch.nn.Linear(70, 3)
o = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(3):
    x = torch.randn(40, 70)
    h = Doubled.apply(layer(x))
    loss = h.relu().pow(2).mean()
    o.zero_grad()
    loss.backward()
    o.step()
"""


def fingerprinted(old: str = "", new: str = "") -> Recording:
    assert old in PROGRAM
    return recorded(PROGRAM.replace(old, new) if old else PROGRAM, fingerprints=True)


def parting(old: str = "", new: str = "", tolerance: float = 0.0) -> Parting:
    found = find_parting(fingerprinted(), fingerprinted(old, new), tolerance)
    assert found is not None
    return found


def test_equal_runs_part_nowhere():
    found = parting()
    assert (found.first, found.gradient, found.calls) == (None, None, None) and found.compared > 40
    assert list(parting_sentences(found)) == [f"Nowhere: all {found.compared} fingerprints are equal."]


def test_the_first_result_that_differs_is_named():
    found = parting("for step in range(3):", "for step in range(3):\n    step == 1 and torch.manual_seed(9)")
    first = found.first
    assert first is not None and (first.kind, first.name, first.call) == ("result", "x", "torch.randn")
    assert (first.place.line, first.run, first.inputs) == (13, 2, "none")
    assert first.off is not None and 0 < first.off < 0.2
    assert found.gradient is not None and found.gradient.run == 2
    said = list(parting_sentences(found))
    assert said[0].startswith("Line 13, torch.randn, call 2: x is the first that differs, its norm off by 0.")
    assert said[1] == "The call was given no tensor."


def test_a_node_of_the_backward_pass_is_named_by_the_line_of_its_forward():
    found = parting("return grad * 2", "return grad * 2 * (1 if step < 1 else 1.5)")
    first = found.first
    assert first is not None and (first.kind, first.call, first.place.line) == ("node", "DoubledBackward", 14)
    assert (first.run, first.inputs, first.backward and first.backward.line) == (2, "equal", 17)
    assert found.gradient is not None and found.gradient.name == "layer.weight"
    assert "Backward pass 2 (line 17): DoubledBackward, of line 14, is the first" in next(parting_sentences(found))


def test_a_change_in_the_last_bits_counts_unless_it_is_tolerated():
    old, new = "h = Doubled.apply(layer(x))", "h = Doubled.apply(layer(x)).mul(1.0000002 if step else 1.0)"
    assert find_parting(fingerprinted(old, old + ".mul(1.0)"), fingerprinted(old, new)).first.call == "Tensor.mul"
    tolerant = find_parting(fingerprinted(old, old + ".mul(1.0)"), fingerprinted(old, new), 1e-3)
    assert tolerant is not None and tolerant.first is None


def test_where_they_call_something_else_nothing_after_it_is_compared():
    found = parting("h.relu()", "h.abs()")
    assert found.first is None and found.calls_before
    assert found.calls is not None and [place.line for place in found.calls] == [15, 15]
    moved = parting("layer = torch", "\nlayer = torch")
    assert moved.first is None and moved.calls is None


def under(version: str, recording: Recording) -> Recording:
    recording.info.torch = version
    return recording


def test_two_versions_of_torch_are_told_what_is_known_to_have_changed(monkeypatch: pytest.MonkeyPatch):
    change = VersionChange(
        ("DoubledBackward",), "the gradient of doubling", (((2, 1), "1"), ((2, 2), "0")), "So it is."
    )
    monkeypatch.setattr(version_changes, "CHANGES", (change,))
    found = find_parting(under("2.1.0+cpu", fingerprinted()), under("2.2.0", fingerprinted("grad * 2", "grad * 3")))
    assert found is not None
    assert list(parting_sentences(found))[-1] == (
        "What changed between them, as measured: the gradient of doubling is 1 under 2.1.0, 0 under 2.2.0. So it is. "
        "(gradscope explain torch-versions)"
    )
    same = find_parting(under("2.1.0", fingerprinted()), under("2.1.9", fingerprinted("grad * 2", "grad * 3")))
    assert same is not None and same.first is not None and not same.changes


def test_calls_that_torchs_python_makes_under_one_version_only_are_passed_over():
    more = fingerprinted("layer = torch.nn.Linear(70, 3)", "layer = torch.nn.Linear(70, 3); torch.ones(2).neg()")
    strict = find_parting(fingerprinted(), more)
    assert strict is not None and strict.calls is not None and not strict.only_in_one
    found = find_parting(under("2.1.0", fingerprinted()), under("2.2.0", more))
    assert found is not None and (found.first, found.calls, found.only_in_one) == (None, None, 2)
    assert list(parting_sentences(found))[-1] == "2 calls that only one of the versions makes were passed over."


LAYERS = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(6, 4)
run = model
for step in range(2):
    loss = run(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_code_is_passed_over_and_what_comes_out_of_it_compared(backend: str):
    compiled = LAYERS.replace("run = model", f'run = torch.compile(model, backend="{backend}")')
    torch.compiler.reset()
    eager = recorded(LAYERS, fingerprints=True)
    same = find_parting(eager, recorded(compiled, fingerprints=True))
    assert same is not None and (same.first, same.calls, same.compiled) == (None, None, 8)
    assert same.compared > 20 and "of compiled code" in list(parting_sentences(same))[-1]
    torch.compiler.reset()
    other = find_parting(recorded(compiled.replace("pow(2)", "pow(4)"), fingerprints=True), eager)
    assert other is not None and other.first is not None and other.first.call == "Tensor.pow"
    assert (other.gradient and other.gradient.run, other.parameters, other.unlike_at_start) == (1, 4, ())


def test_whether_both_start_from_the_same_parameters_is_said():
    eager = recorded(LAYERS, fingerprints=True)
    later = find_parting(eager, recorded(LAYERS.replace("lr=0.1", "lr=0.2"), fingerprints=True))
    assert later is not None and "Both start from the same parameters (4 compared)." in parting_sentences(later)
    source = LAYERS.replace("x = torch", "torch.nn.init.zeros_(model[2].bias)\nx = torch")
    started = find_parting(eager, recorded(source, fingerprints=True))
    assert started is not None and len(started.unlike_at_start) == 1
    assert any("not start from the same parameters: " in one for one in parting_sentences(started))


def test_another_machine_is_named():
    there = fingerprinted("return grad * 2", "return grad * 3")
    there.info.host, there.info.rank = "elsewhere", 1
    found = find_parting(fingerprinted(), there)
    assert found is not None
    said = list(parting_sentences(found))
    assert said[-2].endswith("the second on elsewhere.") and said[-1] == "The first is rank 0, the second rank 1."


DTYPES = [torch.float32, torch.float16, torch.float64, torch.complex64, torch.int64, torch.int8, torch.bool]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 7, 4100])
def test_each_element_and_its_place_count(dtype: torch.dtype, count: int):
    tape = Tape(Recording())
    digest = partial(_digest, Fingerprints(tape, Identity(tape)))
    values = (torch.arange(count + 2) % 3).to(dtype)[1:-1]
    changed = values.clone()
    changed[count // 2] = 0 if values[count // 2] else 1
    assert digest(values) == digest(values.clone()) != digest(changed)
    flipped = values.flip(0)
    assert (digest(values) == digest(flipped)) == torch.equal(values, flipped)


@pytest.mark.parametrize("count", [64, 8192, 480_000, 2_200_000])
def test_signs_and_order_count_where_they_change_in_a_pattern(count: int):
    tape = Tape(Recording())
    digest = partial(_digest, Fingerprints(tape, Identity(tape)))
    values = torch.arange(1.0, count + 1)
    known = digest(values)
    assert digest(values * torch.tensor([1.0, -1.0]).repeat(count // 2)) != known  # the highest bit of each number
    one = values.clone()
    one[3] *= -1
    assert digest(one) != known
    for parts in (2, 4, 16, 32):
        assert digest(values.view(parts, -1).flip(0)) != known


def test_a_device_and_the_cpu_have_the_same_digest():
    tape = Tape(Recording())
    fingerprints = Fingerprints(tape, Identity(tape))
    values = torch.arange(3 << 20, dtype=torch.float32)
    values[7] = torch.inf
    there = _on_device(values, fingerprints._digests(values, torch.int32), True).tolist()
    assert (len(fingerprints._digests(values, torch.int32)), tuple(there)) == (2, fingerprints.computed(values))


def test_linear_layers_count_forward_and_backward_and_what_passes_on_does_not():
    old = "x = torch.randn(40, 70)\n    h = Doubled.apply(layer(x))"
    run = fingerprinted(old, "x = torch.randn(4, 10, 70)\n    h = (Doubled.apply(layer(x)) + 1).expand(4, 10, 3)")
    index, nodes = gather(run).index, run.nodes.column("name")
    results = {index.func(row.op) for row in run.fingerprints if row.kind == FingerprintKind.RESULT}
    given = {run.text(nodes[row.row]) for row in run.fingerprints if row.kind == FingerprintKind.NODE}
    assert "F.linear" in results and "Tensor.expand" not in results
    assert given == {"AddmmBackward0", "DoubledBackward", "ReluBackward0", "PowBackward0", "MeanBackward0"}


def test_of_a_call_with_several_nodes_those_count_that_lead_out_of_it():
    source = """
    import torch
    torch.manual_seed(0)
    first, second = torch.nn.Linear(6, 4), torch.nn.Linear(4, 3)
    loss = torch.nn.functional.cross_entropy(second(first(torch.randn(5, 6))), torch.arange(5) % 3)
    loss.backward()
    """
    run = recorded(source, fingerprints=True)
    names, made_at = (run.nodes.column(name) for name in ("name", "op"))
    given = [row.row for row in run.fingerprints if row.kind == FingerprintKind.NODE]
    # what the second layer gives to its weight and bias is their gradient, and of the loss's two nodes one leads on
    assert sorted(run.text(names[row]) for row in given) == [*["AddmmBackward0"] * 3, "LogSoftmaxBackward0"]
    calls = [gather(run).index.func(made_at[row]) for row in given]
    assert sorted(calls) == ["F.cross_entropy", *["F.linear"] * 3]
    assert sum(row.kind == FingerprintKind.GRADIENT for row in run.fingerprints) == 4


def test_what_differs_inside_a_call_is_seen_where_it_leaves_the_call():
    old = "loss = h.relu().pow(2).mean()"
    new = "loss = torch.nn.functional.cross_entropy(h, torch.arange(40) % 3{}).detach() + h.relu().mean()"
    same = find_parting(fingerprinted(old, new.format("")), fingerprinted(old, new.format("")))
    assert same is not None and same.first is None
    one, other = (new.format(f", label_smoothing={part}").replace(".detach()", "") for part in (0.0, 0.5))
    found = find_parting(fingerprinted(old, one), fingerprinted(old, other))
    assert found is not None and found.first is not None and found.first.call == "F.cross_entropy"
    assert found.gradient is not None and found.gradient.run == 1


def test_small_tensors_have_the_same_digest_together_as_each_by_itself():
    tape = Tape(Recording())
    fingerprints = Fingerprints(tape, Identity(tape))
    tensors = [torch.randn(count) for count in (2, 64, 128, 2048, 6)]
    tensors += [torch.randn(8, 8), torch.zeros(4), torch.tensor([1.0, torch.nan]), torch.full((2,), 1e30)]
    together = fingerprints._computed_together(tensors)
    for tensor in tensors:
        assert together.get(id(tensor), fingerprints.computed(tensor)) == fingerprints.computed(tensor)
    assert len(together) == len(tensors) - 1
    assert not fingerprints._computed_together(tensors[:3])


def test_what_has_no_plain_memory_has_no_fingerprint():
    tape = Tape(Recording())
    fingerprints = Fingerprints(tape, Identity(tape))
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    for tensor in (nested, torch.eye(3).to_sparse(), torch.ones(2, device="meta"), torch.ones(0)):
        assert fingerprints.computed(tensor) is None


def _digest(fingerprints: Fingerprints, tensor: torch.Tensor) -> int:
    computed = fingerprints.computed(tensor)
    assert isinstance(computed, tuple)
    return computed[0]


def test_recordings_are_compared_by_the_command(tmp_path: Path):
    (tmp_path / "one.py").write_text(PROGRAM)
    (tmp_path / "two.py").write_text(PROGRAM.replace("return grad * 2", "return grad * 3"))
    for name in ("one", "two"):
        gradscope("run", "-q", "--fingerprints", "-o", f"{name}.gradscope", f"{name}.py", cwd=tmp_path)
    shown = gradscope("compare", "one.gradscope", "two.gradscope", "--exit-code", "--width", "200", cwd=tmp_path)
    assert shown.returncode == 1
    assert "Where they part\nBackward pass 1 (line 18): DoubledBackward, of line 15, is the first" in shown.stdout


def test_one_rank_is_compared_with_another(tmp_path: Path):
    (tmp_path / "train.py").write_text(RANKS.format(store=tmp_path / "store"))

    def run(rank: int) -> None:
        environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        gradscope("run", "-q", "--fingerprints", "-o", "run.gradscope", "train.py", cwd=tmp_path, **environment)

    with ThreadPoolExecutor() as both:
        list(both.map(run, range(2)))
    recordings = [f"run.rank{rank}.gradscope" for rank in range(2)]
    shown = gradscope("compare", *recordings, "--width", "200", cwd=tmp_path).stdout
    assert "Line 9, torch.randn: x is the first that differs" in shown
    assert "Both start from the same parameters (2 compared)." in shown
    assert "The first is rank 0, the second rank 1." in shown
    assert "first gradient that differs" not in shown  # it is the mean over both ranks


RANKS = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo", init_method="file://{store}", rank=int(os.environ["RANK"]), world_size=2)
torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(dist.get_rank())
for step in range(2):
    x = torch.randn(8, 4)
    loss = model(x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
dist.destroy_process_group()
"""
