"""The modules that were at work as trees: what each, with those below it, keeps, has and was given.

What a module's calls saved and allocated is that of one pass through the model: the longest one in which every call was
looked at. Modules that a wrapper only stands for (DDP's ``module``) are one with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import ModuleRow, Place
from gradscope.recording import NONE
from gradscope.recording.flags import REQUIRES_GRAD, REQUIRES_GRAD_FIELD
from gradscope.recording.rows import GradOutcome

_RECEIVED = (int(GradOutcome.CREATED), int(GradOutcome.ACCUMULATED))


class _Own(NamedTuple):
    """What is of a module alone, or of all below it as well."""

    parameters: frozenset[int]
    saved: int
    allocated: int
    calls: int
    """Ops."""


class ModuleTrees:
    """The modules of a recording."""

    def __init__(self, index: Index, names: BestNames, use: MemoryUse) -> None:
        self._index = index
        self._names = names
        self._use = use
        self._modules = index.recording.modules
        self._strings = index.recording.strings

    @cached_property
    def _stands_for(self) -> list[int]:
        """The module that each is one with: itself, or the wrapper around it."""
        found: dict[int, int] = {}

        def of(module: int) -> int:
            if module not in found:
                row = self._modules[module]
                found[module] = of(row.parent) if row.parent != NONE and not self._strings[row.name] else module
            return found[module]

        return [of(module) for module in range(len(self._modules))]

    @cached_property
    def _parents(self) -> list[int]:
        """Of each module that stands for itself the one that it is part of, or NONE."""
        parents = self._modules.column("parent")
        return [NONE if (up := parents[one]) == NONE else self._stands_for[up] for one in range(len(self._modules))]

    @cached_property
    def _children(self) -> dict[int, list[int]]:
        children: dict[int, list[int]] = {}
        for module, parent in enumerate(self._parents):
            if self._stands_for[module] == module:
                children.setdefault(parent, []).append(module)
        return children

    @cached_property
    def _roots(self) -> list[int]:
        """The outermost module that each is part of."""
        found: list[int] = []
        for module in range(len(self._modules)):
            current = self._stands_for[module]
            while self._parents[current] != NONE:
                current = self._parents[current]
            found.append(current)
        return found

    @cached_property
    def _one_with(self) -> dict[int, list[int]]:
        """By module that stands for itself: it, and those that are one with it."""
        found: dict[int, list[int]] = {}
        for module, stands in enumerate(self._stands_for):
            found.setdefault(stands, []).append(module)
        return found

    @cached_property
    def passes(self) -> dict[int, list[tuple[int, int]]]:
        """By outermost module the longest pass through it: op and module, in order.

        A pass ends where an op ran that is in no part of it, or was not looked at.
        """
        found: dict[int, list[tuple[int, int]]] = {}
        current: list[tuple[int, int]] = []
        last, last_root = -2, NONE
        for op, inner in self._index.recording.module_ops:
            module = self._stands_for[inner]
            root = self._roots[module]
            if op != last + 1 or root != last_root:
                current = []
            current.append((op, module))
            if len(current) > len(found.get(root, ())):
                found[root] = current
            last, last_root = op, root
        return found

    @cached_property
    def _own(self) -> list[_Own]:
        parameters: list[set[int]] = [set() for _ in range(len(self._modules))]
        for module, tensor, _ in self._index.recording.module_tensors:
            parameters[self._stands_for[module]].add(tensor)
        sums = [[0, 0, 0] for _ in range(len(self._modules))]
        for ops in self.passes.values():
            for op, module in ops:
                one = sums[module]
                one[0] += self._use.saved[op]
                one[1] += self._use.allocated[op]
                one[2] += 1
        return [_Own(frozenset(held), *one) for held, one in zip(parameters, sums, strict=True)]

    @cached_property
    def _whole(self) -> dict[int, _Own]:
        """What each module has with all below it."""
        found: dict[int, _Own] = {}

        def of(module: int) -> _Own:
            parts = [self._own[module], *map(of, self._children.get(module, ()))]
            held = frozenset().union(*(part.parameters for part in parts))
            sums = (sum(getattr(part, name) for part in parts) for name in ("saved", "allocated", "calls"))
            found[module] = _Own(held, *sums)
            return found[module]

        for root in self._children.get(NONE, ()):
            of(root)
        return found

    @cached_property
    def _trainable(self) -> set[int]:
        """Tensors that required grad when the run was over."""
        flags = self._index.recording.tensors.column("flags")
        found = {tensor for tensor, flag in enumerate(flags) if flag & REQUIRES_GRAD}
        for change in self._index.recording.changes:
            if change.field == REQUIRES_GRAD_FIELD:
                (found.add if change.after else found.discard)(change.tensor)
        return found

    @cached_property
    def _received(self) -> dict[int, int]:
        """Tensors that a backward pass gave a gradient, and the bytes of it."""
        found: dict[int, int] = {}
        for row in self._index.recording.gradients:
            if row.outcome in _RECEIVED:
                found[row.tensor] = max(found.get(row.tensor, 0), row.nbytes)
        return found

    def _size(self, tensor: int) -> tuple[int, int]:
        """Elements and bytes of a tensor."""
        layout = self._index.recording.layouts[self._index.layout_at(tensor, self._index.op_count)]
        shape = self._strings[layout.shape].strip("()").split(",")
        sides = [part.strip() for part in shape if part.strip()]
        return math.prod(int(side) for side in sides) if all(map(str.isdecimal, sides)) else 0, layout.nbytes

    def unit(self, module: int) -> int:
        """The part of the model that a module is in, or is: the outermost module within it that was called; or NONE."""
        spans, found, current = self._modules.column("span"), NONE, self._stands_for[module]
        while self._parents[current] != NONE:
            if found == NONE or any(spans[one] != NONE for one in self._one_with[current]):
                found = current
            current = self._parents[current]
        return found

    def full_name(self, module: int) -> str:
        """What the program calls a module, and its class: ``model.blocks.0 (Block)``."""
        root = self._roots[module]
        names = self._modules.column("name")
        last = self._strings[names[module]]
        path = "" if module == root else "." + self._path(self._parents[module], root, last)
        return f"{self._name_of_root(root)}{path} ({self._kind(module)})"

    def _name_of_root(self, root: int) -> str:
        """What the program calls an outermost module; its class where no name was seen."""
        seen: Counter[str] = Counter()
        for module, tensor, leaf in self._index.recording.module_tensors:
            if self._roots[module] == root:
                name, path = self._names.of(tensor), self._path(module, root, self._strings[leaf])
                if name.endswith(f".{path}"):
                    seen[name.removesuffix(f".{path}")] += 1
        kind = self._strings[self._modules.column("kind")[root]]
        return seen.most_common(1)[0][0] if seen else f"<{kind}>"

    def _path(self, module: int, root: int, last: str) -> str:
        parts = [last]
        module = self._stands_for[module]
        while module != root:
            parts.append(self._strings[self._modules.column("name")[module]])
            module = self._parents[module]
        return ".".join(reversed(parts))

    def _kind(self, module: int) -> str:
        """The class, of a wrapper with what it stands for: ``DistributedDataParallel(Net)``."""
        kinds = self._modules.column("kind")
        texts = [self._strings[kinds[one]] for one in self._one_with[module]]
        return "(".join(texts) + ")" * (len(texts) - 1)

    def rows(self) -> tuple[ModuleRow, ...]:
        """The trees, siblings that are alike as one row; empty where no module was at work."""
        roots = [root for root in self._children.get(NONE, ()) if self._whole[root].calls]
        return tuple(row for root in roots for row in self._rows([root], self._name_of_root(root), 0))

    def _rows(self, alike: list[int], name: str, depth: int) -> Iterator[ModuleRow]:
        yield self._row(alike, name, depth)
        for _, several in groupby(zip(*(self._children.get(one, ()) for one in alike), strict=True), self._likeness):
            columns = list(several)
            members = [module for column in columns for module in column]
            kinds = self._modules.column("name")
            first, last = (self._strings[kinds[column[0]]] for column in (columns[0], columns[-1]))
            yield from self._rows(members, first if len(columns) == 1 else f"{first}-{last}", depth + 1)

    def _likeness(self, column: Sequence[int]) -> object:
        """Equal for siblings that are shown as one: those of one structure, all numbered, treated alike."""
        module = column[0]
        name = self._strings[self._modules.column("name")[module]]
        return self._structure(module) if name.isdecimal() else (name, module)

    def _structure(self, module: int) -> object:
        own = self._own[module]
        shapes = sorted((self._size(one), one in self._trainable, one in self._received) for one in own.parameters)
        below = [
            (self._strings[self._modules.column("name")[one]], self._structure(one))
            for one in self._children.get(module, ())
        ]
        return self._kind(module), tuple(shapes), bool(own.calls), tuple(below)

    def _row(self, alike: list[int], name: str, depth: int) -> ModuleRow:
        whole = [self._whole[one] for one in alike]
        parameters = frozenset().union(*(one.parameters for one in whole))
        trainable = [one for one in parameters if one in self._trainable]
        sizes = {one: self._size(one) for one in parameters}
        return ModuleRow(
            depth=depth,
            name=name,
            kind=self._kind(alike[0]),
            modules=len(alike),
            places=self._places(alike),
            calls=sum(one.calls for one in whole),
            trainable=sum(sizes[one][0] for one in trainable),
            frozen=sum(sizes[one][0] for one in parameters) - sum(sizes[one][0] for one in trainable),
            trainable_tensors=len(trainable),
            with_gradient=sum(one in self._received for one in trainable),
            parameter_bytes=sum(size for _, size in sizes.values()),
            gradient_bytes=sum(self._received.get(one, 0) for one in parameters),
            saved_bytes=sum(one.saved for one in whole),
            allocated_bytes=sum(one.allocated for one in whole),
        )

    def _places(self, alike: list[int]) -> tuple[Place, ...]:
        """The user's lines that called them."""
        spans = self._modules.column("span")
        members = [one for module in alike for one in self._one_with[module]]
        statements = {self._index.statement_of_span[spans[one]] for one in members if spans[one] != NONE}
        return tuple(self._index.place(one) for one in sorted(statements))

    @cached_property
    def of_ops(self) -> dict[int, int]:
        """The module of each op of the passes that are shown."""
        return {op: module for ops in self.passes.values() for op, module in ops}
