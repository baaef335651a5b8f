"""Which item of an ``nn.Sequential`` a call ran in, also where it raised and no module was noted for it."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE

_CHAIN = "Sequential"


def item_of_chain(index: Index, op: int) -> int:
    """The position in its chain of the module that an op ran in; NONE for none, or none that is known.

    Where none was noted it is the next behind that of the op before of those whose kind was seen to call the function.
    """
    modules, text = index.recording.modules, index.recording.text
    ran_in = dict(index.recording.module_ops)
    noted = ran_in.get(op, ran_in.get(op - 1, NONE))
    parent = modules[noted].parent if noted >= 0 else NONE
    if parent < 0 or text(modules[parent].kind) != _CHAIN or not text(modules[noted].name).isdigit():
        return NONE
    at = int(text(modules[noted].name))
    if op in ran_in:
        return at
    kinds = {modules[module].kind for ran, module in ran_in.items() if index.func(ran) == index.func(op)}
    items = [text(module.name) for module in modules if module.parent == parent and module.kind in kinds]
    return min((int(item) for item in items if item.isdigit() and int(item) > at), default=NONE)
