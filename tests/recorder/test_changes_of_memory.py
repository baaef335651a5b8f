"""What a tensor is after its memory was exchanged or has grown, or its gradient was deleted."""

from __future__ import annotations

from gradscope.recording import NONE
from gradscope.recording.rows import Field
from tests.analysis.building import recorded
from tests.recorder.reading import changes_of, functions, op_named, tensor_called


def test_set_is_seen() -> None:
    recording = recorded("import torch\ns, z = torch.ones(2), torch.zeros(3)\ns.set_(z)\nprint(s.shape)")
    assert functions(recording)[-1] == "Tensor.set_"
    s, z = tensor_called(recording, "s"), tensor_called(recording, "z")
    shapes = [recording.text(recording.layouts[row].shape) for row in changes_of(recording, s, Field.LAYOUT)[0]]
    assert shapes == ["(2,)", "(3,)"]
    assert changes_of(recording, s, Field.STORAGE)[0][1] == recording.tensors[z].storage


def test_memory_that_grows_is_another_block_for_all_that_is_on_it() -> None:
    recording = recorded("import torch\nu = torch.ones(4)\nv = u[:2]\nu.resize_(2)\nu.resize_(200)\nprint(v)")
    old, grown = recording.storages
    op, _ = op_named(recording, "Tensor.resize_", 1)
    assert (old.nbytes, old.died, grown.nbytes, grown.op) == (16, op, 800, op)
    for name in ("u", "v"):
        assert changes_of(recording, tensor_called(recording, name), Field.STORAGE) == [(0, 1)]


def test_a_deleted_gradient_is_recorded() -> None:
    recording = recorded("import torch\nw = torch.ones(2, requires_grad=True)\nw.sum().backward()\ndel w.grad\nw.grad")
    ((before, after),) = changes_of(recording, tensor_called(recording, "w"), Field.GRAD)
    assert before == recording.gradients[0].grad and after == NONE
