"""The syntax tree of a file's text, parsed once for all who look at it."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from functools import lru_cache

_TRIES = 8
_OPERATORS = {"add": ast.Add, "sub": ast.Sub, "mul": ast.Mult, "div": ast.Div, "matmul": ast.MatMult, "pow": ast.Pow}
"""Functions of ``torch`` that operators call."""
_ALSO_FUNCTIONS = frozenset(("detach", "detach_", "clone"))
"""Methods of tensors that ``torch`` has as functions, and that are looked for as methods."""


@lru_cache(maxsize=16)
def parsed(text: str) -> ast.Module | None:
    """The tree, which nobody changes; None where the text is no Python (a notebook, a file that changed meanwhile).

    ``h: Tensor = net(x)`` stands in it as ``h = net(x)`` does: who asks what is assigned does not ask for its type.
    ``torch.detach(x)`` and ``torch.Tensor.detach(x)`` stand in it as ``x.detach()`` does, ``torch.add(x, y)`` as
    ``x + y``, and ``exp(x)`` as ``torch.exp(x)`` where that is what the file imported.
    """
    tree = _tree(text)
    if tree is not None and "torch" in text:
        with contextlib.suppress(RecursionError):  # an expression too deep for it: what is in it stays as it is written
            _Calls(tree).visit(tree)
    return tree


@lru_cache(maxsize=16)
def as_written(text: str) -> ast.Module | None:
    """The tree in which each call is as it is written, for who changes the text; None where that is no Python."""
    return _tree(text)


def _tree(text: str) -> ast.Module | None:
    tree = fresh_tree(text)
    if tree is not None:
        try:
            _without_annotations(tree)
        except RecursionError:
            return None
    return tree


def fresh_tree(text: str, filename: str = "<unknown>") -> ast.Module | None:
    """The tree of a text, for one who changes it; None where the text is no Python.

    Args:
        text: What is parsed.
        filename: To which Python puts down its warnings.
    """
    try:
        return parse(text, filename)
    except (SyntaxError, ValueError, RecursionError, MemoryError, SystemError):
        return None


def parse(text: str, filename: str) -> ast.Module:
    """As ``ast.parse``, but for what it raises up to CPython 3.11 where two threads parse at once.

    The text has nothing to do with that: it is parsed again.
    """
    for _ in range(_TRIES):
        try:
            return ast.parse(text, filename)
        except SystemError:
            continue
    return ast.parse(text, filename)


def _without_annotations(node: ast.stmt | ast.Module) -> None:
    """Put plain assignments in place of those with an annotation, in all blocks of statements below a node."""
    for block in blocks_of(node):
        for position, part in enumerate(block):
            if isinstance(part, ast.AnnAssign) and part.value is not None:
                block[position] = ast.copy_location(ast.Assign([part.target], part.value), part)
            else:
                _without_annotations(part)


def _modules(tree: ast.Module) -> set[str]:
    """The names that ``torch`` has in a file."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.Import))
    return {one.asname or one.name for node in imports for one in node.names if one.name == "torch"}


def _functions(tree: ast.Module) -> dict[str, str]:
    """The names of functions of torch's that a file imports one by one, and gives nothing else."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "torch"]
    found = {one.asname or one.name: one.name for node in names for one in node.names} if names else {}
    for node in ast.walk(tree) if found else ():
        if isinstance(node, ast.arg):
            found.pop(node.arg, None)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.pop(node.name, None)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.pop(node.id, None)
    return found


class _Calls(ast.NodeTransformer):
    """Puts calls of methods, and operators, in place of those of functions of torch's, where the function's stood."""

    def __init__(self, tree: ast.Module) -> None:
        self._modules = _modules(tree)
        self._functions = _functions(tree)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = node.func
        if not node.args or isinstance(node.args[0], ast.Starred):
            return node
        if isinstance(called, ast.Name) and called.id in self._functions:
            module = ast.copy_location(ast.Name("torch", ast.Load()), called)
            called = node.func = ast.copy_location(
                ast.Attribute(module, self._functions[called.id], ast.Load()), called
            )
        if not isinstance(called, ast.Attribute):
            return node
        of = dotted_name(called.value)
        is_function = of in self._modules or of == "torch"
        is_method = of.removesuffix(".Tensor") in self._modules - {of} and not called.attr.startswith("_")
        if is_method or (is_function and called.attr in _ALSO_FUNCTIONS):
            called.value = node.args.pop(0)
        elif is_function and called.attr in _OPERATORS and len(node.args) == 2 and not node.keywords:
            left, right = node.args
            return ast.copy_location(ast.BinOp(left, _OPERATORS[called.attr](), right), node)
        return node


def blocks_of(statement: ast.stmt | ast.Module) -> Iterator[list[ast.stmt]]:
    """The blocks of a compound statement or a module, those of its handlers and cases too."""
    for name in ("body", "orelse", "finalbody"):
        if block := getattr(statement, name, None):
            yield block
    for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
        yield part.body


def assigned_names(statement: ast.stmt) -> list[str]:
    """The names to which an assignment gives a value; none for any other statement."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [
        part.id
        for target in targets
        for part in ast.walk(target)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    ]


def assigned_pairs(statement: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What an assignment stores to, with its value; of tuples each item with its own."""
    for target in statement.targets:
        if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
            yield from zip(target.elts, statement.value.elts, strict=False)
        else:
            yield target, statement.value


def last_name(node: ast.expr | None) -> str:
    """The last name of a dotted one: ``rows`` of ``self.rows``; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def dotted_name(node: ast.expr) -> str:
    """The source of a name or of an attribute: ``self.rows``; empty for anything else."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def bases_of(tree: ast.Module, node: ast.ClassDef) -> list[str]:
    """The bases of a class as they are written; of one that the file has itself, its own.

    One that was imported under another name has that which it has in its module.
    """
    known = {one.name: one for one in ast.walk(tree) if isinstance(one, ast.ClassDef)}
    imported = {
        alias.asname: alias.name
        for one in ast.walk(tree)
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
        if alias.asname
    }
    found: list[str] = []
    todo, seen = [node], set[str]()
    while todo:
        for base in todo.pop().bases:
            name = dotted_name(base)
            if name in known and name not in seen:
                seen.add(name)
                todo.append(known[name])
            elif name not in known:
                found.append(imported.get(name, name) or ast.unparse(base))
    return found


def innermost(tree: ast.Module, line: int, *kinds: type[ast.stmt]) -> ast.stmt | None:
    """The innermost statement of some kinds around a line; None where there is none."""
    around = (
        node for node in ast.walk(tree) if isinstance(node, kinds) and node.lineno <= line <= (node.end_lineno or 0)
    )
    return max(around, key=lambda node: node.lineno, default=None)


def own_parts(definition: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """What a function's body is made of, without the bodies of functions and classes within it."""
    stack: list[ast.AST] = list(reversed(definition.body))
    while stack:
        node = stack.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(reversed(list(ast.iter_child_nodes(node))))
