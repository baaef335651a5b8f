"""How often a function is called in a run of a statement that calls it, where not all of its runs do.

``nn.MultiheadAttention`` calls other functions while a model is trained than while it is evaluated: as often as a
statement calls a function on average, over all of its runs, is not how often one that calls it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from gradscope.analysis.index import Index
from gradscope.recording.rows import Span

Call = tuple[Span, str]
"""A call in the source, and the function that was called, without the underscore at its end."""


class CallsARun:
    """Calls in those runs of statements that make them.

    Args:
        index: The recording.
        statements: The statements that will be asked for.
    """

    def __init__(self, index: Index, statements: Iterable[int]) -> None:
        self._index = index
        self._stretches = Counter[int]()
        """For each statement how often it called something after another of its function had."""
        self._stretches_with = Counter[tuple[int, Call]]()
        self._count(frozenset(statements))

    def of(self, statement: int, call: Call, runs: int, before: int, again: int) -> float:
        """How often one run makes a call.

        Args:
            statement: The statement.
            call: The call.
            runs: How often the statement ran outside of backward passes.
            before: How often the call was made there.
            again: How often it was made inside of them: there, too, whole runs made it.
        """
        all_of_them, with_it = self._stretches[statement], self._stretches_with[statement, call]
        a_run = max(before / (runs * with_it / all_of_them if with_it else runs), 1.0)
        if a_run.is_integer():
            return a_run
        # (Where nothing parts the runs: it is a whole number, if runs do not differ in it.)
        whole = (times for times in range(int(a_run) + 1, int(2 * a_run) + 1) if not before % times + again % times)
        return next(whole, a_run)

    def _count(self, wanted: frozenset[int]) -> None:
        index = self._index
        functions = [(one.file, one.function) for one in index.statements]
        asked = {functions[at] for at in wanted}
        places, weights = list(index.recording.spans), index.weights
        last: dict[tuple[int, int], int] = {}
        seen: dict[int, set[Call]] = {}
        columns = (index.recording.ops.column(name) for name in ("span", "func"))
        for op, (at, span, func) in enumerate(zip(index.op_statement, *columns, strict=True)):
            if functions[at] not in asked:
                continue
            if last.get(functions[at]) != at:
                last[functions[at]], seen[at] = at, set()
                self._stretches[at] += weights[op]
            if at in wanted and span >= 0 and (call := (places[span], index.twin(func))) not in seen[at]:
                seen[at].add(call)
                self._stretches_with[at, call] += weights[op]
