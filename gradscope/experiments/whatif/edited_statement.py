"""A file's syntax tree with one statement changed, every other where it was: the lines stay the user's."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from gradscope.errors import UsageError
from gradscope.experiments.whatif.asked_statement import AskedStatement, askable, stored_names, value_of
from gradscope.experiments.whatif.line_variants import MODULES, REGIONS, VARIANTS
from gradscope.experiments.whatif.undoing import taken_back
from gradscope.targets.edited import EditedSource

_TORCH = "__import__('torch')"
_CHECKPOINT = "__import__('torch.utils.checkpoint', fromlist=['checkpoint']).checkpoint"
_LONGEST = 240


class Edited(NamedTuple):
    """A variant of a file."""

    name: str
    """Of the variant."""
    source: EditedSource
    shown: str
    """What stands in the statement's place, on one line."""


def edited(name: str, asked: AskedStatement, tree: ast.Module, text: str, kinds: Mapping[str, str]) -> Edited:
    """Change a statement.

    Args:
        name: Of the variant, or an expression.
        asked: The statement in the tree, and what of it.
        tree: The file's; it stays as it is.
        text: The file's source.
        kinds: What names of the statement held when it ran.

    Raises:
        UsageError: The variant is none of this statement.
    """
    places = {node: number for number, node in enumerate(ast.walk(tree))}
    copied = deepcopy(tree)
    nodes: list[Any] = list(ast.walk(copied))
    own = asked._replace(
        statement=nodes[places[asked.statement]],
        expressions=tuple(nodes[places[one]] for one in asked.expressions),
    )
    change = _Change(name, own, kinds, "torch" if _has_torch(tree, asked.statement.lineno) else _TORCH)
    before = own.statement
    statements = change.statements()
    for statement in statements:
        _place(statement, asked.statement)
    _put(copied, before, statements)
    source = _as_text(text, asked.statement, statements)
    if source is None:
        source = EditedSource(text, ast.fix_missing_locations(copied))
    if name == "remove" and asked.what == "region":
        return Edited(name, source, _plain(f"without {', '.join(map(ast.unparse, asked.expressions))}"))
    return Edited(name, source, _shown(statements, asked))


class _Change:
    """One variant of one statement, in a copy of the tree."""

    def __init__(self, name: str, asked: AskedStatement, kinds: Mapping[str, str], torch: str) -> None:
        self._name = name
        self._asked = asked
        self._kinds = kinds
        self._torch = torch

    def statements(self) -> list[ast.stmt]:
        """What stands in the statement's place."""
        asked, name = self._asked, self._name
        kinds: Mapping[str, Callable[[], list[ast.stmt]]] = {
            "region": self._region,
            "decorator": self._decorator,
            "block": self._block,
            "whole": self._whole,
            "stored": lambda: self._behind(asked.names),
        }
        if asked.what in kinds:
            return kinds[asked.what]()
        value = value_of(asked.statement)
        is_whole_value = len(asked.expressions) == 1 and asked.expressions[0] is value
        if name in REGIONS and (is_whole_value or asked.what == "undone"):
            return [self._with(name, self._without_call() if asked.what == "undone" else [asked.statement])]
        modules = self._modules()
        if name == "requires_grad_(False)" and modules:
            return [*_parsed(f"{one}.requires_grad_(False)" for one in modules), asked.statement]
        stored = stored_names(asked.statement)
        if asked.what == "value" and name in VARIANTS and name != "checkpoint":
            if any(self._kinds.get(one) in MODULES for one in stored):
                return self._behind(stored)
            if len(stored) > 1 or any(self._kinds.get(one) == "tuple" for one in stored):
                return self._behind([one for one in stored if self._kinds.get(one) in ("tensor", "leaf")] or stored)
        if name == "retain_grad" and is_whole_value and stored:
            return self._behind(stored)
        for one in asked.expressions:
            self._exchange(one)
        return [asked.statement]

    def _region(self) -> list[ast.stmt]:
        """A ``with`` whose grad mode is another, or without it."""
        statement, name = self._asked.statement, self._name
        items: list[ast.withitem] = statement.items  # type: ignore[attr-defined]
        if name == "remove":
            items[:] = [item for item in items if item.context_expr not in self._asked.expressions]
            body: list[ast.stmt] = statement.body  # type: ignore[attr-defined]
            return [statement] if items else [ast.If(ast.Constant(True), body, [])]
        for item in items:
            if item.context_expr in self._asked.expressions:
                item.context_expr = self._mode()
        return [statement]

    def _decorator(self) -> list[ast.stmt]:
        statement: Any = self._asked.statement
        mode = [] if self._name == "remove" else [self._mode()]
        first = self._asked.expressions[0]
        decorators: list[ast.expr] = []
        for one in statement.decorator_list:
            decorators += mode if one is first else [] if one in self._asked.expressions else [one]
        statement.decorator_list = decorators
        return [statement]

    def _block(self) -> list[ast.stmt]:
        statement: Any = self._asked.statement
        if self._name == "remove":
            raise self._refused("a whole block is not dropped")
        mode = self._mode()
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            statement.decorator_list.insert(0, mode)
            return [statement]
        return [ast.With([ast.withitem(mode, None)], [statement])]

    def _whole(self) -> list[ast.stmt]:
        statement = self._asked.statement
        if self._name == "remove":
            return [ast.Pass()]
        if self._name in REGIONS:
            return [self._with(self._name, [statement])]
        if self._name in VARIANTS or not isinstance(statement, ast.Expr):
            line = statement.lineno
            raise self._refused("the call stands alone", f"what may be asked: {askable(line, [statement])}")
        statement.value = _expression(self._name)
        return [statement]

    def _behind(self, names: Sequence[str]) -> list[ast.stmt]:
        """Names that the statement has stored are stored once more."""
        statement, name = self._asked.statement, self._name
        if name == "remove":
            raise self._refused("there is no call to drop")
        if name in REGIONS:
            return [self._with(name, [statement])]
        if name in ("retain_grad", "requires_grad_(False)"):
            call = "retain_grad()" if name == "retain_grad" else name
            return [statement, *_parsed(f"{one}.{call}" for one in names)]
        template = VARIANTS.get(name, f"({name})")
        if not template:
            raise self._refused("what a name holds cannot be computed again")
        return [statement, *_parsed(f"{one} = {template.replace('_it_', one)}" for one in names)]

    def _without_call(self) -> list[ast.stmt]:
        for one in self._asked.expressions:
            _exchanged(self._asked.statement, one, self._receiver(one))
        return [self._asked.statement]

    def _receiver(self, node: ast.expr) -> ast.expr:
        return taken_back(node) or node

    def _exchange(self, node: ast.expr) -> None:
        """Put the variant of an expression in its place."""
        asked, name = self._asked, self._name
        it = self._receiver(node) if asked.what == "undone" else node
        if name == "remove":
            if asked.what != "undone":
                raise self._refused("there is no call to drop")
            new = it
        elif name == "checkpoint":
            new = self._checkpoint(it)
        elif name in VARIANTS:
            new = _filled(VARIANTS[name], it, self._torch)
        else:
            new = _expression(name)
        _exchanged(asked.statement, node, new)

    def _modules(self) -> list[str]:
        """The modules that are to be frozen: what was named, or what is called."""
        found = []
        for one in self._asked.expressions:
            called = one.func if isinstance(one, ast.Call) else one
            text = ast.unparse(called)
            if self._kinds.get(text) in MODULES:
                found.append(text)
        return found

    def _mode(self) -> ast.expr:
        if self._name in REGIONS:
            return _expression(f"{self._torch}.{self._name}()")
        if self._name in VARIANTS:
            raise self._refused("it is no grad mode")
        return _expression(self._name)

    def _with(self, mode: str, body: list[ast.stmt]) -> ast.stmt:
        return ast.With([ast.withitem(_expression(f"{self._torch}.{mode}()"), None)], body)

    def _checkpoint(self, it: ast.expr) -> ast.expr:
        """A call by ``checkpoint``; of another expression a function of the names that it reads now."""
        if isinstance(it, ast.Call) and not any(isinstance(one, ast.Starred) for one in it.args):
            options = [ast.keyword("use_reentrant", ast.Constant(False)), *it.keywords]
            return ast.Call(_expression(_CHECKPOINT), [it.func, *it.args], options)
        names = {node.id: None for node in ast.walk(it) if isinstance(node, ast.Name)}
        given = [ast.Name(name, ast.Load()) for name in names]
        parameters = ast.arguments([], [ast.arg(name) for name in names], None, [], [], None, [])
        options = [ast.keyword("use_reentrant", ast.Constant(False))]
        return ast.Call(_expression(_CHECKPOINT), [ast.Lambda(parameters, it), *given], options)

    def _refused(self, reason: str, hint: str = "") -> UsageError:
        line = self._asked.statement.lineno
        return UsageError(f"{self._name} is no variant of the statement at line {line}: {reason}", hint)


def _has_torch(tree: ast.Module, line: int) -> bool:
    """Whether the module has imported torch under its own name before a line, and means nothing else by it."""
    imported = any(
        isinstance(node, ast.Import) and any(one.name == "torch" and not one.asname for one in node.names)
        for node in tree.body
        if node.lineno < line
    )
    others = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "torch")
    return imported and all(isinstance(node.ctx, ast.Load) for node in others)


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _parsed(texts: Any) -> list[ast.stmt]:
    return [ast.parse(text).body[0] for text in texts]


class _Filling(ast.NodeTransformer):
    def __init__(self, it: ast.expr) -> None:
        self._it = it

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._it if node.id == "_it_" else node


def _filled(template: str, it: ast.expr, torch: str) -> ast.expr:
    tree: ast.expr = _Filling(it).visit(_expression(template.replace("_torch_", torch)))
    return tree


def _exchanged(root: ast.AST, node: ast.AST, new: ast.AST) -> None:
    """Put a node in another's place, below a root."""
    for parent in ast.walk(root):
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if one is node else one for one in value]


def _put(tree: ast.Module, before: ast.stmt, statements: Sequence[ast.stmt]) -> None:
    """Put statements in the place of one."""
    inside = {id(node) for statement in statements for node in ast.walk(statement)}
    for parent in list(ast.walk(tree)):
        if id(parent) in inside and id(before) in inside and parent is not tree:
            continue
        for _, block in ast.iter_fields(parent):
            if isinstance(block, list) and any(one is before for one in block):
                at = next(number for number, one in enumerate(block) if one is before)
                block[at : at + 1] = statements
                return


def _place(statement: ast.stmt, original: ast.stmt) -> None:
    """New nodes stand where the statement stood; old ones keep their places."""
    first = min([original.lineno, *(one.lineno for one in getattr(original, "decorator_list", []))])
    for node in ast.walk(statement):
        if "lineno" in node._attributes and (getattr(node, "lineno", None) or 0) < first:
            ast.copy_location(node, original)


def _as_text(text: str, original: ast.stmt, statements: Sequence[ast.stmt]) -> EditedSource | None:
    """The file with a simple statement written anew on its first line, and as many lines; None where that cannot be."""
    if getattr(original, "body", None):
        return None
    lines = text.split("\n")
    first, last = original.lineno - 1, (original.end_lineno or original.lineno) - 1
    head = lines[first].encode()[: original.col_offset].decode()
    tail = lines[last].encode()[original.end_col_offset or 0 :].decode().strip()
    written = _on_one_line(statements)
    if head.strip() or not written or (tail and not tail.startswith("#")):
        return None
    lines[first : last + 1] = [f"{head}{written}", *[""] * (last - first)]
    new = "\n".join(lines)
    try:
        ast.parse(new)
    except SyntaxError:
        return None
    return EditedSource(new)


def _on_one_line(statements: Sequence[ast.stmt]) -> str:
    """Simple statements, or a ``with`` around such, on one line; empty where there is no such line."""
    if len(statements) == 1 and isinstance(statements[0], ast.With):
        inner = _on_one_line(statements[0].body)
        if not inner or any(hasattr(one, "body") for one in statements[0].body):
            return ""
        items = ", ".join(ast.unparse(item) for item in statements[0].items)
        return f"with {items}: {inner}"
    if any(hasattr(one, "body") for one in statements):
        return ""
    texts = [ast.unparse(one) for one in statements]
    return "" if any("\n" in text for text in texts) else "; ".join(texts)


def _shown(statements: Sequence[ast.stmt], asked: AskedStatement) -> str:
    """What stands there now, for people: of a block its head."""
    if asked.what == "decorator" or isinstance(statements[0], (ast.FunctionDef, ast.AsyncFunctionDef)):
        decorators = [f"@{ast.unparse(one)}" for one in statements[0].decorator_list]  # type: ignore[attr-defined]
        name = statements[0].name  # type: ignore[attr-defined]
        return _plain(" ".join([*decorators, f"def {name}(…)"]))
    texts = [_on_one_line([one]) or _heads(one) for one in statements]
    return _plain("; ".join(texts))


def _heads(statement: ast.stmt) -> str:
    head = ast.unparse(statement).split("\n")[0]
    body: list[ast.stmt] = getattr(statement, "body", [])
    if isinstance(statement, ast.With) and body and hasattr(body[0], "body"):
        head += " " + ast.unparse(body[0]).split("\n")[0]
    return f"{head} …"


def _plain(text: str) -> str:
    """As somebody would write it who had imported what it uses."""
    text = text.replace(_CHECKPOINT, "checkpoint").replace(_TORCH, "torch")
    text = text.replace("(lambda it: (it.retain_grad(), it)[1])", "retain_grad")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
