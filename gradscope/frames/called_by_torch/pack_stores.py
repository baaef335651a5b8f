"""Where a pack function of saved-tensor hooks stores tensors from which nothing in the source takes them out again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import last_name, parsed

_HOOKS = "saved_tensors_hooks"

_READS = frozenset(("values", "items", "keys", "get", "append", "copy"))
"""Methods by which nothing leaves a dict or a list."""

_COUNTS = frozenset(("len", "sum", "sorted", "list", "bool", "print", "enumerate", "iter", "max", "min"))

_SAME_VALUES = frozenset(
    """
    detach clone cpu cuda to numpy copy contiguous half float double bfloat16 pin_memory type tobytes sign
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Methods that give something of a tensor's size."""

_DEEPEST = 4
"""Calls of functions that are gone back over, to where they are called from."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class PackStore(NamedTuple):
    """A dict or list that only grows."""

    pack: str
    """The function's name."""
    line: int
    """Where it puts a tensor there."""
    store: str
    """As the source has it: ``self.store``."""
    reads: tuple[int, ...]
    """Lines that read single items."""


def growing_stores(text: str) -> list[PackStore]:
    """Those of a file: each item gets a new key, nothing is taken out, and the store is not made anew for each use."""
    tree = parsed(text) if _HOOKS in text else None
    return list(_Source(tree).found()) if tree is not None else []


class _Source:
    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._nodes = list(ast.walk(tree))

    def found(self) -> Iterator[PackStore]:
        for name in dict.fromkeys(self._packs()):
            functions = [one for one in self._nodes if isinstance(one, ast.FunctionDef) and one.name == name]
            if len(functions) == 1:
                yield from self._stores(functions[0])

    def _packs(self) -> Iterator[str]:
        """The names of the functions that are given to the hooks first."""
        for call in self._nodes:
            if not isinstance(call, ast.Call) or not call.args:
                continue
            is_super = ast.unparse(call.func) == "super().__init__" and self._is_hooks_class(self._around(call))
            if last_name(call.func) == _HOOKS or is_super:
                yield last_name(call.args[0])

    def _is_hooks_class(self, function: ast.AST | None) -> bool:
        owner = self._above.get(function) if function is not None else None
        return isinstance(owner, ast.ClassDef) and any(last_name(base) == _HOOKS for base in owner.bases)

    def _stores(self, pack: ast.FunctionDef) -> Iterator[PackStore]:
        own = [one for one in ast.walk(pack) if isinstance(one, ast.Assign | ast.Expr)]
        arguments = [one.arg for one in pack.args.args if one.arg not in ("self", "cls")]
        if len(arguments) != 1:
            return
        tensors, keys = {arguments[0]}, set[str]()
        for one in own:
            if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name):
                if self._is_of(one.value, tensors):
                    tensors.add(one.targets[0].id)
                elif self._is_new_key(one.value):
                    keys.add(one.targets[0].id)
        told = set[str]()
        bound = {one.id for one in ast.walk(pack) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
        for one in own:
            store = self._grown(one, tensors, keys)
            if store is not None and _root(store) not in bound and self._only_grows(store) and self._is_one(store):
                reads = {
                    node.lineno
                    for node in self._nodes
                    if isinstance(node, ast.Subscript)
                    and isinstance(node.ctx, ast.Load)
                    and last_name(node.value) == last_name(store)
                }
                told.add(ast.unparse(store))
                yield PackStore(pack.name, one.lineno, ast.unparse(store), tuple(sorted(reads)))

    def _grown(self, statement: ast.stmt, tensors: set[str], keys: set[str]) -> ast.expr | None:
        """What a statement puts a tensor into, under a key that was not there."""
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
            target = statement.targets[0]
            key = target.slice
            is_new = self._is_new_key(key) or (isinstance(key, ast.Name) and key.id in keys) or self._is_counter(key)
            return target.value if is_new and self._is_of(statement.value, tensors) else None
        call = statement.value if isinstance(statement, ast.Expr) else None
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "append"
            and call.args
        ):
            return call.func.value if self._is_of(call.args[0], tensors) else None
        return None

    def _is_of(self, value: ast.expr, tensors: set[str]) -> bool:
        """Whether a value is a tensor, a copy of it, or a tuple with one."""
        if isinstance(value, ast.Tuple):
            return any(self._is_of(one, tensors) for one in value.elts)
        while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in _SAME_VALUES:
            value = value.func.value
        return isinstance(value, ast.Name) and value.id in tensors

    def _is_new_key(self, value: ast.expr) -> bool:
        """Whether a value is another one each time: of a counter, of a growing store, a random name."""
        calls = [last_name(one.func) for one in ast.walk(value) if isinstance(one, ast.Call)]
        return bool({"next", "len", "uuid4", "uuid1"}.intersection(calls)) or self._is_counter(value)

    def _is_counter(self, value: ast.expr) -> bool:
        """Whether a value is a name that is added to, and set in one place only: where it begins."""
        if not isinstance(value, ast.Name | ast.Attribute):
            return False
        name = last_name(value)
        added = [one for one in self._nodes if isinstance(one, ast.AugAssign) and last_name(one.target) == name]
        return bool(added) and len(self._set(name)) == 1

    def _set(self, name: str) -> list[ast.AST]:
        """The assignments to a name or an attribute."""
        found: list[ast.AST] = []
        for one in self._nodes:
            targets = one.targets if isinstance(one, ast.Assign) else []
            parts = [
                part for target in targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])
            ]
            found += [one for part in parts if isinstance(part, ast.Name | ast.Attribute) and last_name(part) == name]
        return found

    def _only_grows(self, store: ast.expr) -> bool:
        """Whether all that the file does with a store is to put items there and to read them."""
        name = last_name(store)
        for node in self._nodes:
            if (
                not isinstance(node, ast.Name | ast.Attribute)
                or last_name(node) != name
                or isinstance(node.ctx, ast.Store)
            ):
                continue
            above = self._above.get(node)
            if isinstance(above, ast.Attribute) and above.attr in _READS:
                continue
            if isinstance(above, ast.Subscript) and above.value is node and not isinstance(above.ctx, ast.Del):
                continue
            if isinstance(above, ast.Call) and node in above.args and last_name(above.func) in _COUNTS:
                continue
            if isinstance(above, ast.Compare | ast.comprehension | ast.For):
                continue
            return False
        return len(self._set(name)) == 1

    def _is_one(self, store: ast.expr) -> bool:
        """Whether a store is made once: that of a module, or of an object or a call of which there is one."""
        (made,) = self._set(last_name(store))
        return self._runs_once(made, _DEEPEST)

    def _runs_once(self, node: ast.AST, allowed: int) -> bool:
        above = self._above.get(node)
        while above is not None and not isinstance(above, (*_FUNCTIONS, ast.Lambda)):
            if isinstance(above, _LOOPS):
                return False
            above = self._above.get(above)
        if above is None:
            return True
        if isinstance(above, ast.Lambda) or not allowed:
            return False
        owner = self._above.get(above)
        name = owner.name if above.name == "__init__" and isinstance(owner, ast.ClassDef) else above.name
        calls = [one for one in self._nodes if isinstance(one, ast.Call) and last_name(one.func) == name]
        return len(calls) == 1 and self._runs_once(calls[0], allowed - 1)

    def _around(self, node: ast.AST) -> ast.AST | None:
        above = self._above.get(node)
        while above is not None and not isinstance(above, _FUNCTIONS):
            above = self._above.get(above)
        return above


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
