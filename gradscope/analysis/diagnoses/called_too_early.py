"""The call by which a program writes, between a forward pass and its backward, what the forward pass had used.

What the called function writes may be right: it puts weights back, or takes new entries into a memory. That it is
called before backward is not.
"""

from __future__ import annotations

from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.inplace_writes import JudgedWrite
from gradscope.analysis.report_model import Cause
from gradscope.frames.calls.reached_functions import reached_functions
from gradscope.frames.calls.sole_callers import CallSite, all_calls, function_around, name_of
from gradscope.recording import NONE

_DEPTH = 4
"""How many functions may stand between."""
_ANYWHERE = ("", "forward")
"""Names of which calls do not tell the function."""


def called_too_early(sources: Sources, write: JudgedWrite) -> tuple[str, Cause] | None:
    """What is called, as written, and its line as a cause; None where it is not sure which call it was.

    It stands in the innermost function that takes part in the pass: one whose own lines compute what the pass comes
    through, or call backward. None where the function that writes does so itself, and where what is written was
    computed on the way: then the write is to be another one, wherever it stands.
    """
    index, saved = sources.index, sources.index.recording.saved[write.effect.saved_row]
    file, begun = index.statements[index.op_statement[write.op]].file, index.recording.nodes.column("op")[saved.node]
    if file < 0 or not _is_kept(sources, write):
        return None
    last = write.effect.backward_op
    callers = _Callers(sources, file, _functions_of_pass(sources, last, file), set(range(begun, last + 1)))
    sites = callers.of(function_around(index.recording.files[file].text, int(index.op_line(write.op))))
    if sites is None or len(sites) != 1:
        return None
    return sites[0].called, sources.cause_of_line("used", file, sites[0].line, sites[0].end_line, "")


def when_called(early: tuple[str, Cause] | None) -> str:
    """What a sentence adds of such a call."""
    return "" if early is None else f"{early[0]} (line {early[1].line}) has that done before backward"


def _is_kept(sources: Sources, write: JudgedWrite) -> bool:
    """Whether what is written has no graph of its own: a parameter, a buffer, a memory that a program keeps."""
    index, recording = sources.index, sources.index.recording
    storage = index.storage_at(write.tensor, write.op)
    first = next((row for row, one in enumerate(recording.tensors.column("storage")) if one == storage), NONE)
    return first >= 0 and index.is_leaf(first) and index.is_leaf(write.tensor)


def _functions_of_pass(sources: Sources, backward: int, file: int) -> set[int]:
    """The first lines of the functions of a file that call a pass, or whose own lines made what it came through."""
    index, made_at = sources.index, sources.index.recording.nodes.column("op")
    nodes = (node for root in index.root_nodes(backward) for node in sources.passes.behind(root))
    ops = {backward, *(made_at[node] for node in nodes)}
    return _functions_of(sources, file, ops)


def _functions_of(sources: Sources, file: int, ops: set[int]) -> set[int]:
    index = sources.index
    statements = {index.op_statement[op] for op in ops if 0 <= op < index.op_count}
    lines = {int(index.statements[one].line) for one in statements if index.statements[one].file == file}
    text = index.recording.files[file].text
    return {function_around(text, line) for line in lines}


class _Callers:
    """Finds the calls, in functions that take part in a pass, by which the program comes to another function."""

    def __init__(self, sources: Sources, file: int, of_pass: set[int], between: set[int]) -> None:
        self._sources, self._file, self._of_pass = sources, file, of_pass
        self._text = sources.index.recording.files[file].text
        self._at_work = _functions_of(sources, file, between)
        self._with_ops = _functions_of(sources, file, set(range(sources.index.op_count)))
        self._names = {name for one in of_pass for name in [name_of(self._text, one)] if name not in _ANYWHERE}

    def of(self, function: int, depth: int = _DEPTH) -> list[CallSite] | None:
        """Them; None where it is not sure that there are no others."""
        if not function or function in self._of_pass or not depth:
            return None
        sites, found = all_calls(self._text, function), list[CallSite]()
        if sites is None:
            return None
        for site in sites:
            if _is_of_torch(self._sources, self._file, site):
                continue
            if site.caller in self._of_pass:
                found.append(site)
            elif site.caller in self._with_ops:
                if not site.caller or site.caller in self._at_work or self._may_call_them(site.caller):
                    return None
            elif (others := self.of(site.caller, depth - 1)) is not None:
                found += others
            else:
                return None
        return found

    def _may_call_them(self, function: int) -> bool:
        return not self._names.isdisjoint(reached_functions(self._text, function))


def _is_of_torch(sources: Sources, file: int, site: CallSite) -> bool:
    """Whether a call was one of torch itself, under the same name: ``optimizer.step()``."""
    index, name = sources.index, site.called.rpartition(".")[2]
    ops = index.calls_of(lambda func: func.rpartition(".")[2] == name)
    return any(index.statements[index.op_statement[op]].file == file and index.op_line(op) == site.line for op in ops)
