"""The answer about a line: what was found that leads there, or what it did."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.graphs.ways import Way, Ways
from gradscope.analysis.report_model import Answer
from gradscope.analysis.why.relevance import rows_of
from gradscope.analysis.why.said import Said
from gradscope.analysis.worded_lines import stretch
from gradscope.frames.syntax_trees import parsed
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


def about_line(
    sources: Sources, answers: Sequence[Answer], file: int, lines: tuple[int, int]
) -> tuple[Said, int] | None:
    """What is said about some lines, and the tensor that it is about; None where nothing happened there.

    Answers that name a line as the one to change come before those that are placed on it.
    """
    name = sources.index.recording.files[file].name if file >= 0 else ""
    for leads_there in (_is_cause, _is_place):
        for answer in answers:
            if leads_there(answer, name, lines):
                rows = sorted(rows_of(answer, "tensors"))
                named = [row for row in rows if sources.names.of(row) == answer.tensor]
                return Said.of_answer(answer), (named or rows or [NONE])[0]
    ops = ops_on(sources, file, lines)
    if not ops:
        return None
    return Said(f"Nothing was found that is wrong at {_named(lines)}: {_done(sources, ops)}."), _given(sources, ops)


def about_number(sources: Sources, answers: Sequence[Answer], name: str, file: int) -> tuple[Said, int] | None:
    """What is said about a name that held no tensor, only what a line took out of one; None where none did.

    Of several lines that give the name, the last one that ran.
    """
    index = sources.index
    if file < 0 or not name.isidentifier():
        return None
    kinds = index.recording.ops.column("kind")
    for lines in reversed(_given_at(index.recording.files[file].text, name)):
        exports = [op for op in ops_on(sources, file, lines) if kinds[op] == OpKind.EXPORT]
        if not exports:
            continue
        taken = f"{name} is no tensor: {_named(lines)} ({index.call_name(exports[-1])}) takes it out of one."
        said = about_line(sources, answers, file, lines)
        if said is not None and said[0].severity:
            return said[0]._replace(text=f"{taken} {said[0].text}"), said[1]
        return Said(taken), (*index.uses.of(exports[-1]), NONE)[0]
    return None


def _given_at(source: str, name: str) -> list[tuple[int, int]]:
    """First and last line of each statement of a program that gives a name."""
    tree = parsed(source)
    return [
        (node.lineno, node.end_lineno or node.lineno)
        for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Assign)
        and any(isinstance(one, ast.Name) and one.id == name for target in node.targets for one in ast.walk(target))
    ]


def line_way(sources: Sources, ways: Ways, said: Said, tensor: int) -> Way | None:
    """The way for an answer about a line: to a leaf as for its gradient; None where the usual one is right."""
    if tensor < 0 or said.code:
        return None
    return ways.to(tensor, sources.index.op_count)


def ops_on(sources: Sources, file: int, lines: tuple[int, int]) -> list[int]:
    """The calls of some lines of a file."""
    index = sources.index
    statements = [
        number
        for number, one in enumerate(index.statements)
        if one.file == file and one.line <= lines[1] and one.end_line >= lines[0]
    ]
    wanted = set(statements)
    return [op for op, statement in enumerate(index.op_statement) if statement in wanted]


def _is_cause(answer: Answer, file: str, lines: tuple[int, int]) -> bool:
    return any(cause.file == file and lines[0] <= cause.line <= lines[1] for cause in answer.causes)


def _is_place(answer: Answer, file: str, lines: tuple[int, int]) -> bool:
    place = answer.place
    return place is not None and place.file == file and place.line <= lines[1] and place.end_line >= lines[0]


def _named(lines: tuple[int, int]) -> str:
    return stretch(*lines)


def _done(sources: Sources, ops: list[int]) -> str:
    index = sources.index
    calls = list(dict.fromkeys(index.call_name(op) for op in ops))
    shown = ", ".join(calls[:4]) + (f" and {len(calls) - 4} more" if len(calls) > 4 else "")
    tensor = _given(sources, ops)
    gave = ""
    if tensor >= 0:
        tracked = "which requires grad" if index.requires_grad(tensor, ops[-1] + 1) else "which does not require grad"
        gave = f", and gave {sources.names.at(tensor, ops[-1])}, {tracked}"
    return f"it called {shown}{gave}"


def _given(sources: Sources, ops: list[int]) -> int:
    """The last tensor that some calls made or wrote."""
    index = sources.index
    given = [tensor for op in ops for tensor in (*index.tensors_made(op), *index.results.of(op))]
    return given[-1] if given else NONE
