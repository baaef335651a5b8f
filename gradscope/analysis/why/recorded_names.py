"""A tensor by a name that the recording saw: one of a function that has returned, or of what is gone by now."""

from __future__ import annotations

import ast
import re
from difflib import get_close_matches
from typing import NamedTuple

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.why.asked import Question

_POSITION = re.compile(r"\[(\d+)\]")


class NamedTensor(NamedTuple):
    """What a name held last, in the functions that were meant."""

    tensor: int
    name: str
    function: str
    """The function whose name it is; empty for the module."""
    remarks: tuple[str, ...]


def find_named(sources: Sources, question: Question) -> NamedTensor | None:
    """The tensor that was last seen under the name that a question has; None where none was.

    ``h`` is a name of any function, ``forward.h`` of one called so.
    """
    recording = sources.index.recording
    written = _as_written(question.tensor)
    wanted = {written, _of_module(written)}
    found: dict[str, tuple[int, int]] = {}
    functions = recording.spans.column("function")
    bindings = recording.bindings
    columns = (bindings.column(name) for name in ("name", "tensor", "op", "span"))
    for name, tensor, op, span in zip(*columns, strict=True):
        function = recording.text(functions[span]) if span >= 0 else ""
        is_meant = any(_means(one, recording.text(name), function) for one in wanted)
        if is_meant and op >= found.get(function, (-1, 0))[0]:
            found[function] = (op, tensor)
    if not found:
        return None
    function = max(found, key=lambda one: found[one][0])
    others = [f"{_short(one)}.{question.tensor}" for one in found if one not in (function, "", "<module>")]
    remarks = (f"other functions have a name like that: ask for {', '.join(others)}",) if others else ()
    return NamedTensor(found[function][1], question.tensor, "" if function == "<module>" else function, remarks)


def near_names(sources: Sources, question: Question) -> list[str]:
    """Names of tensors that are spelled nearly so."""
    bindings = sources.index.recording.bindings
    names = {sources.index.recording.text(name) for name in set(bindings.column("name"))}
    return get_close_matches(question.tensor, sorted(names), n=2, cutoff=0.7)


def _as_written(expression: str) -> str:
    """As the recorder writes names: ``batch['x']``."""
    return ast.unparse(ast.parse(expression, mode="eval").body)


def _of_module(name: str) -> str:
    """As a module names what it holds: ``net.2.weight`` for ``net[2].weight``."""
    return _POSITION.sub(r".\1", name)


def _means(wanted: str, name: str, function: str) -> bool:
    if wanted == name:
        return True
    if not wanted.endswith(f".{name}"):
        return False
    scope = wanted.removesuffix(f".{name}")
    plain = function.replace(".<locals>", "")
    return plain == scope or plain.endswith(f".{scope}")


def _short(function: str) -> str:
    return function.replace(".<locals>", "").rpartition(".")[2]
