"""Whether something is made anew before each walk through the same batches: what the loops around it tell."""

from __future__ import annotations

import ast
import re

from gradscope.frames.syntax_trees import innermost, last_name, parsed

_CODE = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_EPOCH = re.compile(r"_+|e|ep|(i_)?epochs?(_?\w+)?")
"""How the variable of a loop over epochs is called, which may be handed to anything (to print it)."""
_TELLS = frozenset(("print", "write", "info", "debug", "append", "set_description", "log"))


def is_before_batches(text: str, made: int, step: int) -> bool:
    """Whether a line that makes an optimizer runs once in each round of a counted loop, before a loop over batches.

    The batches are the same in all rounds: what the inner loop goes through comes from outside the outer one. A loop
    that counts its own rounds (``for _ in range(20):``) may solve another problem each time, and is none over batches.

    Args:
        text: Source of the file.
        made: The line that makes it; or that calls the function which does.
        step: A line that steps with it.
    """
    tree = parsed(text)
    function = innermost(tree, made, *_CODE) if tree is not None else None
    if tree is None or function is not innermost(tree, step, *_CODE):
        return False
    inner = [loop for loop in _loops(tree, function, step) if not _has(loop, made)]
    if len(inner) != 1 or not isinstance(inner[0], ast.For) or not _is_over_batches(inner[0].iter):
        return False
    read, at, around = _names(inner[0].iter), made, _loops(tree, function, made)
    if not around and isinstance(function, _CODE):
        calls = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and last_name(node.func) == function.name
        ]
        if len(calls) != 1 or _assigned(function) & read:
            return False
        read, at = _passed(function, calls[0], read), calls[0].lineno
        around = _loops(tree, innermost(tree, at, *_CODE), at)
    return bool(around) and _is_of_epochs(max(around, key=lambda loop: loop.lineno), read)


def _loops(tree: ast.Module, function: ast.stmt | None, line: int) -> list[ast.stmt]:
    """The loops around a line in its own function."""
    start = function.lineno if function is not None else 0
    return [node for node in ast.walk(tree) if isinstance(node, _LOOPS) and node.lineno > start and _has(node, line)]


def _has(node: ast.stmt, line: int) -> bool:
    return node.lineno < line <= (node.end_lineno or 0)


def _is_over_batches(loops_over: ast.expr) -> bool:
    """Whether a loop goes through something; of numbers only those that jump from batch to batch."""
    called = last_name(loops_over.func) if isinstance(loops_over, ast.Call) else ""
    if called in ("range", "trange", "count"):
        return isinstance(loops_over, ast.Call) and len(loops_over.args) == 3
    inside = [node for node in ast.walk(loops_over) if isinstance(node, ast.Call) and node is not loops_over]
    return all(_is_over_batches(node) for node in inside if last_name(node.func) in ("range", "trange", "count"))


def _is_of_epochs(loop: ast.stmt, read: set[str]) -> bool:
    """Whether the rounds of a loop are counted and differ in nothing that the inner loop goes through."""
    if isinstance(loop, ast.While):
        return not _assigned(loop) & read
    counts = isinstance(loop, ast.For) and isinstance(loop.iter, ast.Call)
    if not isinstance(loop, ast.For) or not counts or not _counts_rounds(loop.iter):
        return False
    variables = {node.id for node in ast.walk(loop.target) if isinstance(node, ast.Name)}
    if (variables | _assigned(loop)) & read:
        return False
    return all(map(_EPOCH.fullmatch, variables)) or not _use(loop, variables)


def _counts_rounds(loops_over: ast.expr) -> bool:
    """``range(10)``, also in what shows its progress: ``tqdm(range(10))``."""
    calls = (node for node in ast.walk(loops_over) if isinstance(node, ast.Call))
    return any(last_name(node.func) in ("range", "trange", "count") for node in calls)


def _use(loop: ast.For, variables: set[str]) -> bool:
    """Whether a loop uses its variable for more than a condition or to tell it."""
    told = {
        part
        for node in ast.walk(loop)
        for part in ast.walk(node.test if isinstance(node, ast.If) else node)
        if isinstance(node, ast.If) or (isinstance(node, ast.Call) and last_name(node.func) in _TELLS)
    }
    names = (node for statement in loop.body for node in ast.walk(statement) if isinstance(node, ast.Name))
    return any(name.id in variables and name not in told for name in names)


def _assigned(around: ast.stmt) -> set[str]:
    """The names, and the last names of attributes, that get a value in a statement, but for its loops' variables."""
    body = getattr(around, "body", [])
    targets = [
        target
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {name for target in targets for name in _names(target)}


def _passed(function: ast.stmt, call: ast.Call, read: set[str]) -> set[str]:
    """The names behind those that a function reads: of its arguments what a call passes for them."""
    assert isinstance(function, _CODE)
    names = [one.arg for one in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] in (["self"], ["cls"]) and isinstance(call.func, ast.Attribute):
        names = names[1:]
    given = {**dict(zip(names, call.args, strict=False)), **{one.arg: one.value for one in call.keywords if one.arg}}
    return {name for one in read for name in (_names(given[one]) if one in given else {one})}


def _names(value: ast.expr) -> set[str]:
    """The names in an expression, and the last names of attributes (``.loader``); not what is called."""
    called = {node.func for node in ast.walk(value) if isinstance(node, ast.Call)}
    nodes = [node for node in ast.walk(value) if node not in called]
    names = {node.id for node in nodes if isinstance(node, ast.Name)} - {"self"}
    return names | {f".{node.attr}" for node in nodes if isinstance(node, ast.Attribute)}
