"""Lists that are filled together and emptied apart: ``del self.rewards[:]``, but not ``self.log_probs``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.frames.syntax_trees import assigned_pairs, innermost, last_name, parsed

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FILLING = ("append", "extend", "appendleft")
_MAKERS = ("list", "dict", "set", "deque", "defaultdict")


class PartlyEmptied(NamedTuple):
    """The statement after which others of the lists are empty, and the one in question is not."""

    line: int
    end_line: int
    others: list[str]


def partly_emptied(text: str, line: int, name: str) -> PartlyEmptied | None:
    """Where lists are emptied that the function around a line fills together with one, which is not emptied.

    Args:
        text: The file's.
        line: Of the statement that put something in the list.
        name: The list's last name: ``log_probs`` of ``self.log_probs``.

    None where anything in the text empties it, or where nothing empties another.
    """
    tree = parsed(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)] if tree is not None else []
    around = [one for one in functions if one.lineno <= line <= (one.end_lineno or 0)]
    if tree is None or not around or name not in _names(_filled(inner := max(around, key=lambda one: one.lineno))):
        return None
    together = _names(_filled(inner))
    if owners := {owner for owner, one in _filled(inner) if one == name} - {""}:
        together |= {one for owner, one in _filled(tree) if owner in owners}
    together |= _made_together(tree, line, name)
    found = list[tuple[ast.stmt, set[str]]]()
    for function in functions:
        if function.name == "__init__":  # there they are made
            continue
        emptied = [*_emptied(function)]
        if any(name in names for _, names in emptied):
            return None
        found += [(statement, names & together) for statement, names in emptied if names & together]
    if not found:
        return None
    last = max((statement for statement, _ in found), key=lambda one: one.lineno)
    others = dict.fromkeys(other for _, names in found for other in sorted(names))
    return PartlyEmptied(last.lineno, last.end_lineno or last.lineno, list(others))


def _made_together(tree: ast.Module, line: int, name: str) -> set[str]:
    """The lists that the class around a line makes in ``__init__``, where one is among them."""
    owner = innermost(tree, line, ast.ClassDef)
    inits = [one for one in ast.walk(owner) if isinstance(one, _FUNCTIONS) and one.name == "__init__"] if owner else []
    made = {one for init in inits for _, names in _emptied(init) for one in names}
    return made if name in made else set()


def _filled(tree: ast.AST) -> set[tuple[str, str]]:
    """The lists into which something is put, each with what it belongs to: ``model`` and ``log_probs``."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    holders = [one.value for one in calls if isinstance(one, ast.Attribute) and one.attr in _FILLING]
    return {(last_name(one.value) if isinstance(one, ast.Attribute) else "", last_name(one)) for one in holders}


def _names(lists: set[tuple[str, str]]) -> set[str]:
    return {name for _, name in lists}


def _emptied(function: ast.AST) -> Iterator[tuple[ast.stmt, set[str]]]:
    """The statements of a function that empty lists, each with their names."""
    listed = _listed_names(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Delete):
            names = {last_name(one.value) for one in node.targets if isinstance(one, ast.Subscript) and _is_whole(one)}
        elif isinstance(node, ast.Assign):
            names = {
                last_name(target.value if isinstance(target, ast.Subscript) and _is_whole(target) else target)
                for target, value in assigned_pairs(node)
                if _is_empty(value)
            }
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            names = _emptied_by_call(node.value, listed)
        else:
            continue
        if names - {""}:
            yield node, names - {""}


def _emptied_by_call(call: ast.Call, listed: dict[str, set[str]]) -> set[str]:
    """``rows.clear()``, and of listed names: ``getattr(self, name).clear()``, ``setattr(self, name, [])``."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == "clear" and not call.args:
        whose = call.func.value
        if isinstance(whose, ast.Call) and last_name(whose.func) == "getattr" and len(whose.args) > 1:
            return _names_meant(whose.args[1], listed)
        return {last_name(whose)} | (listed.get(whose.id, set()) if isinstance(whose, ast.Name) else set())
    if last_name(call.func) == "setattr" and len(call.args) == 3 and _is_empty(call.args[2]):
        return _names_meant(call.args[1], listed)
    return set()


def _names_meant(node: ast.expr, listed: dict[str, set[str]]) -> set[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return {node.value}
    return listed.get(node.id, set()) if isinstance(node, ast.Name) else set()


def _listed_names(function: ast.AST) -> dict[str, set[str]]:
    """The variables of loops over names, or over the lists themselves, each with what it stands for."""
    return {
        node.target.id: {
            str(part.value) if isinstance(part, ast.Constant) else last_name(part) for part in node.iter.elts
        }
        for node in ast.walk(function)
        if isinstance(node, ast.For)
        and isinstance(node.target, ast.Name)
        and isinstance(node.iter, ast.Tuple | ast.List)
    }


def _is_whole(node: ast.Subscript) -> bool:
    """``rows[:]``."""
    return isinstance(node.slice, ast.Slice) and node.slice.lower is None and node.slice.upper is None


def _is_empty(value: ast.expr) -> bool:
    """``[]``, ``{}``, ``list()``, ``deque(maxlen=9)``."""
    if isinstance(value, ast.List):
        return not value.elts
    if isinstance(value, ast.Dict):
        return not value.keys
    return isinstance(value, ast.Call) and last_name(value.func) in _MAKERS and not value.args
