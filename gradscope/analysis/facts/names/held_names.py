"""Which names the frame of an op held, and what under each: those that its line or its function was seen to use.

A name is matched with tensors by identity when an op runs, and again when it holds another one there. So what a name
held at some op is what it was last seen to hold before: by that statement itself where it reads the name, else anywhere
in the function. A name of the module's is held by every function.
"""

from __future__ import annotations

import ast
import re
from array import array
from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.statement_blocks import parse_blocks
from gradscope.frames.statements import ITEM, is_stored_by, parse_source
from gradscope.frames.syntax_trees import parsed
from gradscope.recording.rows import BindingKind

_INNER = re.compile(r"(\.<locals>)?\.?<(listcomp|setcomp|dictcomp|genexpr)>$")
"""Of the name of a comprehension's own frame: its code is that of the function around it."""
_EXCHANGES = "swap_tensors"
MODULE = 0
"""The scope of the program's module."""


class HeldName(NamedTuple):
    """A name that was seen to hold a tensor."""

    name: int
    op: int
    statement: int
    stored: bool
    scope: int


class HeldNames:
    """Names by the frames that held them."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._strings = index.recording.strings

    @cached_property
    def scopes(self) -> list[int]:
        """For each statement a number that it shares with the others of its function; 0 for those of a module."""
        numbers: dict[tuple[int, str], int] = {}
        scopes = []
        for statement in self._index.statements:
            function = _INNER.sub("", self._strings[statement.function]) if statement.function >= 0 else ""
            is_module = function in ("<module>", "") or statement.file < 0
            scopes.append(MODULE if is_module else numbers.setdefault((statement.file, function), len(numbers) + 1))
        return scopes

    @cached_property
    def of_tensor(self) -> dict[int, list[HeldName]]:
        """The names of each tensor, in the order in which they were seen."""
        found: dict[int, list[HeldName]] = {}
        bindings, statements, scopes = self._index.recording.bindings, self._index.statement_of_span, self.scopes
        columns = (bindings.column(name) for name in ("name", "tensor", "op", "span", "kind"))
        for name, tensor, op, span, kind in zip(*columns, strict=True):
            statement = statements[span]
            binding = HeldName(name, op, statement, kind == BindingKind.STORE, scopes[statement])
            found.setdefault(tensor, []).append(binding)
        return found

    @cached_property
    def _seen(self) -> dict[tuple[int, int, int], tuple[array[int], array[int]]]:
        """By scope, name and 0, or by -1, name and statement: when it was seen, and what it held then.

        A time is twice an op, for what was read by it; and one more for what was stored once it was done.
        """
        seen: dict[tuple[int, int, int], tuple[array[int], array[int]]] = {}
        rows = [(binding, tensor) for tensor, several in self.of_tensor.items() for binding in several]
        rows.sort(key=lambda row: (row[0].op, row[0].stored))
        for binding, tensor in rows:
            keys = [(binding.scope, binding.name, 0)]
            if not binding.stored and binding.statement != NOWHERE:
                keys.append((-1, binding.name, binding.statement))
            for key in keys:
                ops, tensors = seen.setdefault(key, (array("i"), array("i")))
                ops.append(2 * binding.op + binding.stored)
                tensors.append(tensor)
        return seen

    def is_steady(self, scope: int, name: int) -> bool:
        """Whether a name of a scope was seen to hold one tensor only: no loop's name."""
        return len(set(self._seen[scope, name, 0][1])) == 1

    def holds(self, scope: int, name: int) -> bool:
        """Whether a function was seen to hold anything under a name of its own."""
        return (scope, name, 0) in self._seen

    def is_of_loop(self, name: int) -> bool:
        """Whether a name is that of a loop's variable (a comprehension's too), or of a part of one, in any file."""
        return self._root(name) in self._loops

    @cached_property
    def _loops(self) -> frozenset[str]:
        trees = (parsed(file.text) for file in self._index.recording.files if file.is_user)
        nodes = (node for tree in trees if tree is not None for node in ast.walk(tree))
        targets = (node.target for node in nodes if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)))
        return frozenset(one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))

    def _is_behind_its_loop(self, binding: HeldName, statement: int) -> bool:
        """Whether a name was seen in a loop that gives it its values, and a statement of the same file is in none."""
        there, here = self._index.statements[binding.statement], self._index.statements[statement]
        if binding.statement == NOWHERE or there.file != here.file or there.file < 0:
            return False
        loops = self._ranges[there.file].get(self._root(binding.name), ())
        return any(there.line in one for one in loops) and all(here.line not in one for one in loops)

    @cached_property
    def _ranges(self) -> list[dict[str, list[range]]]:
        """For each file the lines of the loops that give each name its values."""
        found: list[dict[str, list[range]]] = []
        for file in self._index.recording.files:
            tree, lines = parsed(file.text) if file.is_user else None, dict[str, list[range]]()
            for node in ast.walk(tree) if tree is not None else ():
                if isinstance(node, (ast.For, ast.AsyncFor)):
                    for one in ast.walk(node.target):
                        if isinstance(one, ast.Name):
                            lines.setdefault(one.id, []).append(range(node.lineno, (node.end_lineno or 0) + 1))
            found.append(lines)
        return found

    def varies_at(self, statement: int, name: int) -> bool:
        """Whether a statement was seen to read more than one tensor under a name."""
        _, tensors = self._seen.get((-1, name, statement), (array("i"), array("i")))
        return len(set(tensors)) > 1

    def has_own(self, statement: int, name: int) -> bool:
        """Whether the function of a statement was seen to hold something of its own under a name's first part."""
        return (self.scopes[statement], self._root(name)) in self._roots

    @cached_property
    def _roots(self) -> set[tuple[int, str]]:
        return {(scope, self._root(name)) for scope, name, _ in self._seen if scope > MODULE}

    def _root(self, name: int) -> str:
        return self._strings[name].partition(".")[0].partition("[")[0]

    @cached_property
    def _of_comprehensions(self) -> frozenset[str]:
        """Names that the program gives in comprehensions only: they are gone after them."""
        trees = (parsed(file.text) for file in self._index.recording.files if file.is_user)
        nodes = [node for tree in trees if tree is not None for node in ast.walk(tree)]
        inner = {id(one) for node in nodes if isinstance(node, ast.comprehension) for one in ast.walk(node.target)}
        given = [node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        others = {node.id for node in given if id(node) not in inner} | {
            node.arg for node in nodes if isinstance(node, ast.arg)
        }
        return frozenset(node.id for node in given if id(node) in inner) - others

    def is_held(self, binding: HeldName, tensor: int, op: int, statement: int) -> bool:
        """Whether a name still held a tensor, or did already, when an op of a statement ran."""
        if binding.statement != statement and self._root(binding.name) in self._of_comprehensions:
            return False
        if binding.statement == statement and binding.stored:
            return binding.op >= op or self._last((binding.scope, binding.name, 0), op) == tensor
        own = self._last((-1, binding.name, statement), op)
        if own is not None:
            return own == tensor
        if self._is_behind_its_loop(binding, statement):
            return False  # (what it holds there is the last item, which need not have been looked at)
        last = self._last((binding.scope, binding.name, 0), op)
        if last is not None:
            return last == tensor or self._is_kept_to_the_end(binding, statement)
        # It was seen later only: that it was this tensor's before follows where it had been stored, and only once.
        is_steady = self.is_steady(binding.scope, binding.name) and self._is_stored_once(binding, statement)
        return is_steady and not any(op < at <= binding.op for at in self._exchanged.get(tensor, ()))

    @cached_property
    def _exchanged(self) -> dict[int, list[int]]:
        """For each tensor the ops at which ``swap_tensors`` gave it another's names."""
        found: dict[int, list[int]] = {}
        for op, tensor in zip(self._index.uses.keys, self._index.uses.values, strict=True):
            if self._index.func(op) == _EXCHANGES:
                found.setdefault(tensor, []).append(op)
        return found

    def _is_stored_once(self, binding: HeldName, statement: int) -> bool:
        """Whether no two statements store a name (or what it is a part of), and none that comes after another one."""
        file, line, *_ = self._index.statements[statement]
        stored = self._stores[file] if file >= 0 else {}
        parts = self._strings[binding.name].split(".")
        name = self._strings[binding.name]
        lines = [stored.get(".".join(parts[: end + 1]), []) for end in range(len(parts))]
        lines += [at for one, at in stored.items() if ITEM in one and is_stored_by(name, one)]
        return all(len(several) <= 1 and all(one <= line for one in several) for several in lines)

    @cached_property
    def _stores(self) -> list[dict[str, list[int]]]:
        """For each file the lines of the statements that store each name or dotted name."""
        found: list[dict[str, list[int]]] = []
        for file in self._index.recording.files:
            lines: dict[str, list[int]] = {}
            for one in parse_source(file.text if file.is_user else "").statements:
                for name in one.stores:
                    lines.setdefault(name, []).append(one.line)
            found.append(lines)
        return found

    def _is_kept_to_the_end(self, binding: HeldName, statement: int) -> bool:
        """Whether what a name of the module held at the end was there already: it was stored before, and in no loop."""
        now = self._index.statements[statement]
        if binding.statement != NOWHERE or binding.scope != MODULE or self.scopes[statement] != MODULE or now.file < 0:
            return False
        root, stores, once = self._root(binding.name), self._stores[now.file], self._once[now.file]
        if any(name.startswith((f"{root}.", f"{root}[")) for name in stores):  # a part of it may be another by then
            return False
        return bool(stores.get(root)) and all(line < now.line and line in once for line in stores[root])

    @cached_property
    def _once(self) -> list[frozenset[int]]:
        """For each file the lines of statements outside of loops and functions."""
        return [parse_blocks(file.text if file.is_user else "").once for file in self._index.recording.files]

    def is_stored_between(self, binding: HeldName, statement: int) -> bool:
        """Whether what a name begins with is stored between the line at which it was seen and that of a statement."""
        seen_at, now = self._index.statements[binding.statement], self._index.statements[statement]
        if binding.statement == NOWHERE or seen_at.file != now.file or seen_at.line >= now.line:
            return False
        return any(seen_at.line < line < now.line for line in self._stores[now.file].get(self._root(binding.name), ()))

    def lines_that_store(self, binding: HeldName) -> list[int]:
        """The lines of its file that store a name."""
        file = self._index.statements[binding.statement].file
        return self._stores[file].get(self._strings[binding.name], []) if file >= 0 else []

    def as_stored(self, tensor: int, statement: int) -> str:
        """The name that a tensor has by the statement which made it: the attribute that this stores, and the path on.

        ``self.last = nn.Linear(3, 3)`` makes ``self.last.weight``, which other frames were seen to hold as
        ``decoder.last.weight``. Empty where the statement stores anything else, or names do not agree about the path.
        """
        place = self._index.statements[statement]
        stored = self._stored_at[place.file].get(place.line, ()) if place.file >= 0 else ()
        if len(stored) != 1 or "." not in stored[0] or ITEM in stored[0]:
            return ""
        within = re.compile(rf".*\.{re.escape(stored[0].rpartition('.')[2])}((?:[.\[].*)?)")
        names = {self._strings[binding.name] for binding in self.of_tensor.get(tensor, ())}
        paths = {found[1] for found in map(within.fullmatch, names) if found is not None}
        return stored[0] + paths.pop() if len(paths) == 1 else ""

    @cached_property
    def _stored_at(self) -> list[dict[int, tuple[str, ...]]]:
        """For each file what the statement at each line stores; nothing where there are several."""
        found: list[dict[int, tuple[str, ...]]] = []
        for file in self._index.recording.files:
            lines: dict[int, tuple[str, ...]] = {}
            for one in parse_source(file.text if file.is_user else "").statements:
                lines[one.line] = () if one.line in lines else one.stores
            found.append(lines)
        return found

    def is_taken(self, name: int, since: int, op: int) -> bool:
        """Whether a name of the module was seen to hold another tensor after one op and up to another.

        Of a function's names nothing is known for sure: another call of it may have had them.
        """
        times, _ = self._seen.get((MODULE, name, 0), (array("i"), array("i")))
        return bisect_right(times, self._time(op)) > bisect_right(times, 2 * since + 1)

    def _last(self, key: tuple[int, int, int], op: int) -> int | None:
        times, tensors = self._seen.get(key, (array("i"), array("i")))
        at = bisect_right(times, self._time(op))
        return tensors[at - 1] if at else None

    def _time(self, op: int) -> int:
        """When an op ran; what was stored by then is what was before it, and at the end of the run all."""
        return 2 * op + (op >= self._index.op_count)
