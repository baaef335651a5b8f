"""Which item of an ``nn.Sequential`` a call ran in, also where it raised and no module was noted for it."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE

_CHAIN = "Sequential"


def item_behind(index: Index, op: int) -> int:
    """The position in its chain of the module that an op ran in, the next of its kind behind the op before; or NONE.

    A module's kind is told by the modules that were seen to call the same function.
    """
    modules, text = index.recording.modules, index.recording.text
    ran_in = dict(index.recording.module_ops)
    before = ran_in.get(op - 1, NONE)
    parent = modules[before].parent if before >= 0 else NONE
    if parent < 0 or text(modules[parent].kind) != _CHAIN:
        return NONE
    kinds = {modules[module].kind for at, module in ran_in.items() if index.func(at) == index.func(op)}
    first = int(text(modules[before].name)) + 1 if text(modules[before].name).isdigit() else 0
    items = [text(module.name) for module in modules if module.parent == parent and module.kind in kinds]
    return min((int(item) for item in items if item.isdigit() and int(item) >= first), default=NONE)
