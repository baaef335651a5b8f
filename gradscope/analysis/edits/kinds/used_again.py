"""A graph that two passes use: it is kept for the second, or computed anew for it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradscope.analysis.edits.cause_nodes import cause_nodes, inside, method_call
from gradscope.analysis.edits.edit_model import Edit, EditSources
from gradscope.analysis.edits.span_changes import add_keyword, append, move_before
from gradscope.analysis.report_model import Answer

_HANDED_ON = re.compile(r"([\w.]+)(?:\[[^]]*\])* \(used at line ")
"""In an answer: what was handed to a pass that was for other parameters than those behind it."""


def handed_on_detached(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What a generator made is handed to the discriminator's step without its graph: ``D(fake.detach())``.

    The answer names a use so only where a step followed that wrote none of the parameters behind it.
    """
    names = set(_HANDED_ON.findall(answer.text))
    for at in cause_nodes(answer, sources, ("used",)):
        given = [
            argument
            for node in ast.walk(at.statement)
            if isinstance(node, ast.Call)
            for argument in (*node.args, *(keyword.value for keyword in node.keywords))
            if at.source.code(argument) in names
        ]
        if given:
            changes = tuple(change for one in given for change in append(at.source, one, ".detach()"))
            yield Edit(f"hand on {at.source.code(given[0])} without its graph", at.file, changes)


def edits(answer: Answer, sources: EditSources) -> Iterator[Edit]:
    """What stands before a loop is moved into it; of two passes in one block the first keeps the graph."""
    place = answer.place
    for at in cause_nodes(answer, sources, ("made", "saved")):
        source, made = at.source, at.statement
        block = source.block(made)
        if made in block and isinstance(made, ast.Assign):
            position = block.index(made)
            for loop in block[position + 1 :]:
                if isinstance(loop, (ast.For, ast.While)) and _has_pass(loop):
                    changes = move_before(source, made, loop.body[0])
                    if changes:
                        yield Edit("compute it anew in each run of the loop", at.file, changes)
                    break
        value = getattr(made, "value", None)
        if isinstance(made, ast.Assign) and isinstance(value, (ast.ListComp, ast.GeneratorExp)):
            yield Edit("keep the values without their graph", at.file, append(source, value.elt, ".detach()"))
        elif at.cause.role == "saved" and isinstance(made, ast.Assign) and value is not None:
            yield Edit("keep the values without their graph", at.file, append(source, value, ".detach()"))
    text = sources.text(place.file) if place is not None else None
    if place is None or text is None:
        return
    for statement in text.statements(place.line)[:1]:
        block = text.block(statement)
        earlier = block[: block.index(statement)] if statement in block else []
        passes = [node for one in earlier for node in inside(one) if method_call(node, "backward")]
        for call in passes:
            if isinstance(call, ast.Call) and not any(one.arg == "retain_graph" for one in call.keywords):
                changes = add_keyword(text, call, "retain_graph=True")
                if changes:
                    yield Edit("keep the graph for the second pass", place.file, changes)


def _has_pass(loop: ast.stmt) -> bool:
    return any(method_call(node, "backward") for node in ast.walk(loop))
