"""A small recording with something in every table."""

from gradscope.recording import Fault, Recording, SourceFile
from gradscope.recording.rows import FingerprintKind

TEXT = "x = ones(2)\ny = x * 2\ny.sum().backward()\n"


def sample() -> Recording:
    """Three lines: a leaf, a product, a backward pass."""
    recording = Recording()
    recording.info.target = "x.py"
    recording.info.gradscope = "0.1.0"
    recording.info.outcome.kind = "ok"
    recording.strings += ["torch.ones", "Tensor.mul", "Tensor.backward", "x", "y", "(2,)", "(1,)", "float32", "cpu"]
    recording.strings += ["Tensor", "strided", "MulBackward0", "AccumulateGrad", "other", "<module>"]
    text = {value: at for at, value in enumerate(recording.strings)}
    recording.files.append(SourceFile("x.py", "x.py", TEXT))
    recording.threads.append("MainThread")
    recording.faults.append(Fault("op", "Traceback …"))
    for line in (1, 2, 3):
        recording.spans.append((0, line, line, 0, 5, line, line, text["<module>"]))
        kind = 1 if line == 3 else 0
        recording.ops.append((line, kind, line - 1, -1, 0, 1, 1))
    recording.layouts.append(
        (text["(2,)"], text["(1,)"], text["float32"], text["cpu"], text["Tensor"], text["strided"], 8)
    )
    for op, flags in ((0, 3), (1, 1)):
        recording.storages.append((op, 8, 2**63 + op, -1, 0))
        recording.tensors.append((op, op, 0, 0 if op else -1, flags, -1))
        recording.bindings.append((text["xy"[op]], op, op, op, 1))
    recording.uses.extend([(1, 0), (2, 1)])
    recording.results.append((1, 1))
    recording.aliases.append((1, 1, 0, 1))
    recording.nodes.extend([(1, text["MulBackward0"], -1), (1, text["AccumulateGrad"], 0)])
    recording.edges.extend([(0, 1), (0, -1)])
    recording.saved.append((0, text["other"], 0, 0, 8))
    recording.changes.append((1, 1, 0, 0, 1))
    recording.backwards.append((2, 1, 0, 0, 0))
    recording.gradients.append((2, 0, 0, -1, 8))
    recording.events.append((1, 0, 0, 0, 0, text["x"]))
    recording.event_tensors.append((0, 0))
    recording.errors.append((2, text["x"], text["y"]))
    recording.values.append((1, 1, text["x"]))
    recording.watches.append((text["x"], 1, 2, 0, text["y"], -1, 0))
    recording.memory.append((1, text["cpu"], 8, 8))
    recording.fingerprints.append((0, FingerprintKind.RESULT, 0, -(1 << 62), 1 << 61, 2))
    recording.left_out.append((0, text["Tensor.mul"], 3))
    recording.alike.append((1, 3))
    recording.alike_storages.append((0, 3))
    recording.modules.append((1, -1, text["x"], text["other"], 1))
    recording.module_tensors.append((0, 0, text["x"]))
    recording.module_ops.append((1, 0))
    return recording
