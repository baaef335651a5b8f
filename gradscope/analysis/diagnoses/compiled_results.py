"""Results of one compiled function: the graph has one node for all of it, and no way from one result to another."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.report_model import Cause
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE

ADVICE = "Take gradients between the two from the uncompiled function, or compile its parts one by one."
_NODE = "CompiledFunctionBackward"


def beside_compiled(sources: Sources, tensor: int, roots: Sequence[int]) -> tuple[str, list[Cause]] | None:
    """Why no gradient of some roots comes to a tensor that the same compiled function gave as what they were made from.

    Args:
        sources: What was recorded.
        tensor: The tensor.
        roots: What was differentiated.

    Returns:
        A clause, and the line that compiles, where the text has one only; None where it is no such tensor.
    """
    index = sources.index
    node, text = index.node_after(tensor), index.recording.text
    if node == NONE or not text(index.recording.nodes.column("name")[node]).startswith(_NODE):
        return None
    starts = [index.node_after(root) for root in roots]
    if node in starts or not any(node in sources.passes.behind(start) for start in starts):
        return None
    compiled = compiled_at(sources)
    where = f", compiled at line {compiled[0].line}, and the" if compiled else ", and its"
    return (
        f"it and what {sources.listed([sources.names.of(root) for root in roots])} was made from are results of one "
        f"compiled function{where} graph has one node for all of it: no way leads from one result to the other",
        compiled,
    )


def compiled_at(sources: Sources) -> list[Cause]:
    """The one place in the user's files that compiles something, as their text says; empty where there are several."""
    recording, places = sources.index.recording, set[tuple[int, int]]()
    for number, file in enumerate(recording.files):
        tree = parsed(file.text) if file.is_user else None
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Attribute) and node.attr == "compile" and ast.unparse(node.value) != "re":
                places.add((number, node.lineno))
    return [sources.cause_of_line("made", file, line, line, "") for file, line in places] if len(places) == 1 else []
