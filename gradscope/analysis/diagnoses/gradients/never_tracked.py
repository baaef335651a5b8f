"""Why a leaf does not require grad: the lines that made it so, for the rules about such leaves."""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.modules.frozen_embeddings import frozen_embeddings
from gradscope.recording.flags import EXTERNAL, PARAMETER

_LOOKS_UP = ("F.embedding", "F.embedding_bag", "torch.embedding", "torch.embedding_bag")


def why_untracked(sources: Sources, tensor: int, before: int) -> tuple[str, list[Cause]]:
    """Why a leaf does not require grad, in words, and the lines to change; both empty where that is not known.

    Args:
        sources: What was recorded.
        tensor: The leaf.
        before: The op before which it is looked at.
    """
    return (
        frozen_by_default(sources, tensor, before)
        or _turned_off(sources, tensor, before)
        or _made_without(sources, tensor)
        or ("", [])
    )


def frozen_by_default(sources: Sources, tensor: int, before: int) -> tuple[str, list[Cause]] | None:
    """That ``Embedding.from_pretrained`` made a table and said nothing of ``freeze``; None where it is no such table.

    The call is known from the text: by the name that it gives the table, or as the only one of the program.
    """
    index = sources.index
    if not index.recording.tensors.column("flags")[tensor] & PARAMETER or was_set(sources, tensor):
        return None
    if not any(index.func(op) in _LOOKS_UP for op in index.users.of(tensor)):
        return None
    parts = sources.names.at(tensor, before).split(".")
    calls = [(file, call) for file, one in enumerate(index.recording.files) for call in frozen_embeddings(one.text)]
    named = [one for one in calls if len(parts) > 1 and parts[-2] in one[1].attributes]
    found = named or [one for one in calls if not one[1].attributes]
    if len(found) != 1:
        return None
    file, call = found[0]
    line = index.line(file, call.line)
    why = f"line {line}: Embedding.from_pretrained freezes what it is given, unless freeze=False is"
    return why, [sources.cause_of_line("made", file, call.line, call.end_line, "")]


def was_set(sources: Sources, tensor: int) -> bool:
    """Whether ``requires_grad`` of a tensor was set otherwise than by ``from_pretrained``, which may set it itself."""
    index = sources.index
    ops = [index.recording.changes[row].op for row in index.changed_ops.get(tensor, ())]
    return any(not index.func(op).endswith(".from_pretrained") for op in ops)


def _turned_off(sources: Sources, tensor: int, before: int) -> tuple[str, list[Cause]] | None:
    """That a line set ``requires_grad`` of a leaf to False; None where none was seen to."""
    index = sources.index
    changes = [index.recording.changes[row] for row in index.changed_ops.get(tensor, ())]
    last = next((row for row in reversed(changes) if row.op < before), None)
    if not index.is_leaf(tensor) or last is None or last.after:
        return None
    line, call = index.op_line(last.op), index.call_name(last.op)
    return f"line {line} ({call}) had turned that off", sources.cause("set", last.op)


def _made_without(sources: Sources, tensor: int) -> tuple[str, list[Cause]] | None:
    """The call that made it a plain tensor, where the program's own code did."""
    index, flags = sources.index, sources.index.recording.tensors.column("flags")[tensor]
    op = index.recording.tensors.column("op")[tensor]
    if flags & (EXTERNAL | PARAMETER) or op >= index.op_count or sources.cuts.is_cut[op]:
        return None
    causes = sources.cause("made", op)
    return (f"line {causes[0].line} made it a plain tensor", causes) if causes else None
