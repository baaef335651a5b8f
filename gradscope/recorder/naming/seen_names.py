"""Names in the user's code that hold tensors, matched by identity and never guessed.

The names that a statement reads are looked up in its frame right after the op; those that it stores, at the next op of
that frame or when the run ends. In loops the first executions of a call site are matched, then ever fewer.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import FrameType, MappingProxyType
from typing import Any
from weakref import ref

from torch import Tensor, nn
from torch._C import DisableTorchFunctionSubclass
from torch.nn.utils import stateless

from gradscope.frames.frame_locals import reading_locals
from gradscope.frames.statements import END, SourceStatement, is_stored_by
from gradscope.recorder.naming.declared_fields import declared_fields
from gradscope.recorder.naming.instance_attributes import is_one_of
from gradscope.recorder.naming.last_statements import Call, LastStatements, calls_to
from gradscope.recorder.naming.wrappers import behind_wrappers, wrapped_name
from gradscope.recorder.places.call_sites import Site, SourceFiles
from gradscope.recorder.state.identity import Identity
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import BindingKind, TensorFlag
from gradscope.recording.tables import NONE

FULL_MATCHES = 16
"""Executions of a call site whose names are matched each time; after that only every power of two."""

MEMBERS = 256
"""Items of a list or dict that are named at most."""

_FUNCTIONAL_CALL = stateless._functional_call.__code__
_ROOT = re.compile(r"[.\[]")
_DICTS = (dict, OrderedDict)
_CONTAINERS = (list, tuple, *_DICTS)
"""Types whose items are read without running the program's code; a ``state_dict()`` is the last."""


class SeenNames:
    """Matches names with tensors."""

    def __init__(self, tape: Tape, identity: Identity, sources: SourceFiles) -> None:
        self._tape = tape
        self._identity = identity
        self._sources = sources
        self._rows = tape.pending["bindings"]
        self._waiting = LastStatements()
        self._last: dict[tuple[int, str], int] = {}
        self._stored_anew: tuple[str, ...] = ()
        self._modules: dict[tuple[int, str, str], ref[nn.Module]] = {}

    def move(self, moves: Moves) -> None:
        """Know ops and tensors by their new rows."""
        self._waiting.move(moves)
        self._last = {key: moves["tensors"](row) for key, row in self._last.items()}

    def stored_since(self, call: Call, site: Site) -> tuple[Site, int] | None:
        """The last statement of a call and its last op, when the call has gone on to another statement."""
        waiting = self._waiting.of(call)
        if waiting is None or waiting[0].statement is site.statement:
            return None
        self._waiting.forget(call)
        return waiting if self._may_lead_to(waiting[0], site) else None

    def forget_ended(self, innermost: Call) -> None:
        """A call of the program's goes on: what it had called is over, with all that was to be looked at of that."""
        self._waiting.forget_ended(innermost)

    def begin_thread(self) -> None:
        """The calling thread has just begun."""
        self._waiting.begin_thread()

    def _may_lead_to(self, earlier: Site, later: Site) -> bool:
        return self._sources.parsed(earlier.file).may_lead_to(earlier.statement, later.statement)

    def match_stored(self, stored_by: Site, op: int, frame: FrameType, site: Site) -> None:
        """Match what a statement stored, and what was stored anew before the frame's next op, at a site."""
        anew = self._sources.parsed(stored_by.file).stored_between(stored_by.statement, site.statement)
        with reading_locals(frame) as names:
            self._match_stored(stored_by, op, anew, site.statement, names, frame.f_globals)
            if anew:
                self._match(site, anew, names, frame.f_globals, self._tape.op_count, BindingKind.LOAD)

    def match_made(self, name: str, tensor: Any, op: int, span: int, function: str) -> None:
        """Match a name with what a call that no op was seen of made for it, at the call's span."""
        self._bind(name, tensor, op, span, BindingKind.STORE, function)

    def _match_stored(
        self,
        stored_by: Site,
        op: int,
        anew: tuple[str, ...],
        now_at: SourceStatement,
        names: Mapping[str, Any],
        others: Mapping[str, Any],
    ) -> None:
        """Match what a statement stored with what is held now, at another; some names were stored anew in between."""
        parsed = self._sources.parsed(stored_by.file)
        self._forget_modules(stored_by.statement.stores, anew)
        self._stored_anew = anew
        for name in stored_by.statement.stores:
            now_named = parsed.found_under(name, stored_by.statement, now_at) if anew else name
            value = look_up(now_named, names, others) if now_named else None
            if value is not None:
                self._stored_anew = anew if now_named == name else ()
                self._bind(name, value, op, stored_by.span, BindingKind.STORE, stored_by.function)
        self._stored_anew = ()
        self._forget_modules((), anew)

    def _forget_modules(self, stored: tuple[str, ...], anew: tuple[str, ...]) -> None:
        """Bind anew what modules hold of which a part was stored, or that got their name without a call."""
        roots = {_root(name) for name in stored if not name.isidentifier()}
        roots.update(map(_root, anew))
        for key in [key for key in self._modules if _root(key[1]) in roots] if roots else ():
            del self._modules[key]

    def match_loaded(self, site: Site, frame: FrameType, op: int, call: Call | None = None) -> None:
        """Match what the op's statement reads, and remember what it stores.

        A statement that comes again, with no op of another in between, still has under its names what it stored last.
        """
        call = call or calls_to(frame)[id(frame)]
        waiting = self._waiting.of(call)
        with reading_locals(frame) as names:
            if waiting is not None and waiting[0].statement is site.statement and self._may_lead_to(site, site):
                self._match_stored_again(site, waiting[1], names, frame.f_globals)
            self._match(site, site.statement.loads, names, frame.f_globals, op, BindingKind.LOAD)
        self.wait_for_stored(site, op, call)

    def _match_stored_again(self, site: Site, op: int, names: Mapping[str, Any], others: Mapping[str, Any]) -> None:
        anew = self._sources.parsed(site.file).stored_between(site.statement, site.statement)
        kept = tuple(name for name in site.statement.stores if not any(is_stored_by(name, one) for one in anew))
        self._match(site, kept, names, others, op, BindingKind.STORE)

    def wait_for_stored(self, site: Site, op: int, call: Call) -> None:
        """Remember what the op's statement stores, to be looked at when the frame has gone on.

        One that stores nothing is remembered for what is stored after it, unless another one is still to be looked at.
        """
        if site.statement.stores or self._waiting.of(call) is None:
            self._waiting.note(call, site, op)

    def finish(self, namespace: Mapping[str, Any]) -> None:
        """Match every name of a namespace: the module's globals when the run ends."""
        op = self._tape.op_count
        for site, at in self._waiting:
            if site.function == "<module>":
                anew = self._sources.parsed(site.file).stored_between(site.statement, END)
                self._match_stored(site, at, anew, END, namespace, namespace)
        self._waiting.clear()
        self._modules.clear()
        for name, value in list(namespace.items()):
            if is_user_name(name):
                self._bind(name, value, op, NONE, BindingKind.STORE, "")

    def bind_held(self, held: Iterable[tuple[str, Any]]) -> None:
        """Bind what objects of the program hold when the run ends, as far as it has no such name yet."""
        for name, tensor in held:
            if id(tensor) in self._identity.tensors:
                self._bind(name, tensor, self._tape.op_count, NONE, BindingKind.MEMBER, "")

    def _match(
        self,
        site: Site,
        wanted: tuple[str, ...],
        names: Mapping[str, Any],
        others: Mapping[str, Any],
        op: int,
        kind: BindingKind,
    ) -> None:
        for name in wanted:
            value = look_up(name, names, others)
            if value is not None:
                self._bind(name, value, op, site.span, kind, site.function)

    def _bind(self, name: str, value: Any, op: int, span: int, kind: BindingKind, function: str) -> None:
        if self._stored_anew and any(is_stored_by(name, one) for one in self._stored_anew):
            return
        seen = self._identity.tensors.get(id(value))
        if seen is not None:
            key = (span, name)
            if self._last.get(key) != seen.row:
                self._last[key] = seen.row
                self._rows += (self._tape.text(name), seen.row, op, span, kind)
        elif issubclass(type(value), nn.Module):
            self._bind_module(name, value, op, span, function)
        elif is_one_of(type(value), _CONTAINERS):
            self._bind_items(name, value, op, span, function)
        else:
            for field, part in declared_fields(value):
                self._bind_part(f"{name}.{field}", part, op, span, function)

    def _bind_module(self, name: str, module: nn.Module, op: int, span: int, function: str) -> None:
        """Bind what a module holds, once for each name that it has in a function."""
        key = (id(module), name, function)
        known = self._modules.get(key)
        if (known is not None and known() is module) or _is_in_functional_call():
            return
        self._modules[key] = ref(module)
        for inner, tensor in _module_tensors(module):
            if id(tensor) not in self._identity.tensors:
                with DisableTorchFunctionSubclass():
                    if _plain_leaf(tensor):
                        flags = TensorFlag.LEAF | TensorFlag.EXTERNAL
                        if tensor.requires_grad:
                            flags |= TensorFlag.REQUIRES_GRAD
                        self._identity.add(tensor, op, NONE, flags, ())
            self._bind(f"{name}.{inner}", tensor, op, span, BindingKind.MEMBER, function)

    def _bind_items(self, name: str, items: Any, op: int, span: int, function: str) -> None:
        pairs = items.items() if type(items) in _DICTS else enumerate(items)
        for position, (key, value) in enumerate(pairs):
            if position >= MEMBERS:
                return
            if type(key) in (str, int):
                self._bind_part(f"{name}[{key!r}]", value, op, span, function)

    def _bind_part(self, name: str, value: Any, op: int, span: int, function: str) -> None:
        if issubclass(type(value), nn.Module):
            self._bind_module(name, value, op, span, function)
        elif issubclass(type(value), Tensor) and id(value) in self._identity.tensors:
            self._bind(name, value, op, span, BindingKind.MEMBER, function)


def _root(name: str) -> str:
    return _ROOT.split(name, maxsplit=1)[0]


def is_user_name(name: str) -> bool:
    """Whether a name of a module's is the program's own, and not Python's (``__name__``)."""
    return not (name.startswith("__") and name.endswith("__"))


def look_up(name: str, names: Mapping[str, Any], others: Mapping[str, Any]) -> Any:
    """What a name or dotted name holds in a frame's locals or globals, or None."""
    root, _, rest = name.partition(".")
    value = names.get(root, others.get(root))
    return _member(value, rest) if rest else value


def _member(value: Any, path: str) -> Any:
    """Follow attributes without running the program's code: instance dictionaries and modules' own tables only."""
    for name in path.split("."):
        attributes = _attributes_of(value)
        if attributes is None or issubclass(type(value), Tensor):
            return None
        if issubclass(type(value), nn.Module) and name not in attributes:
            module = value
            value = _of_module(attributes, name)
            if value is None and wrapped_name(module):
                value = _member(behind_wrappers(module), name)
        else:
            value = attributes.get(name)
        if value is None:
            return None
    return value


def _of_module(attributes: Any, name: str) -> Any:
    """A parameter, buffer or module of a module's own tables."""
    tables = (attributes.get("_parameters"), attributes.get("_buffers"), attributes.get("_modules"))
    return next((table[name] for table in tables if table and name in table), None)


def _attributes_of(value: Any) -> Any:
    """The instance dictionary, as object itself would give it: no property and no ``__getattribute__`` is run."""
    try:
        reader = type if issubclass(type(value), type) else object
        found = reader.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return found if type(found) in (dict, MappingProxyType) else None


def _module_tensors(module: nn.Module) -> list[tuple[str, Any]]:
    """Parameters and buffers by dotted name, read from the modules' own tables so that no override runs.

    Of a module that stands for another the parts of the other have the names that they have there.
    """
    found: list[tuple[str, Any]] = []
    visited: set[int] = set()
    todo: list[tuple[str, nn.Module]] = [("", module)]
    while todo:
        prefix, current = todo.pop()
        if id(current) in visited:
            continue
        visited.add(id(current))
        tables = vars(current)
        for table in ("_parameters", "_buffers"):
            tensors = tables.get(table, {}).items()
            found.extend((prefix + name, tensor) for name, tensor in tensors if tensor is not None)
        wrapped, children = wrapped_name(current), tables.get("_modules", {}).items()
        inner = [
            (prefix if name == wrapped else f"{prefix}{name}.", child) for name, child in children if child is not None
        ]
        todo.extend(reversed(inner))
    return found


def _is_in_functional_call() -> bool:
    """Whether ``functional_call`` is running: what it put into a module is not what the program's names lead to."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _FUNCTIONAL_CALL:
        frame = frame.f_back
    return frame is not None


def _plain_leaf(tensor: Any) -> bool:
    return issubclass(type(tensor), Tensor) and not nn.parameter.is_lazy(tensor) and tensor.is_leaf
